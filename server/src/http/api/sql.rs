//! `POST /v1/sql`: one statement, with parameters.

use axum::{
    Extension,
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    accept, address, answer,
    body::{self, Whole},
    door::Visit,
    parameters::Parameters,
    problem::Problem,
};
use crate::{
    engine::{Reservation, Statement},
    failure::Kind,
};

/// The body where it is JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked<'a> {
    sql: String,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
}

/// Runs a statement and answers its rows, or how many it has changed.
pub(super) async fn run(Extension(visit): Extension<Visit>, request: Request) -> Result<Response, Problem> {
    address::only(request.uri(), &["format"])?;
    let format = accept::format(request.uri(), request.headers())?;
    let (head, body) = request.into_parts();
    let Whole { bytes, mut room } = body::read(&visit, body).await?;
    let statement = statement(&head.headers, &bytes, &mut room).await?;
    drop(bytes);
    let answer = answer::to_statement(visit, statement, format).await;
    // Its parameters have taken the place of the body.
    drop(room);
    answer
}

/// What a body asks for, as soon as there is room for its parameters.
async fn statement(headers: &HeaderMap, body: &[u8], room: &mut Reservation) -> Result<Statement, Problem> {
    match body::media_type(headers).as_str() {
        "" | "text/plain" | "application/sql" => match std::str::from_utf8(body) {
            Ok(sql) => Ok(Statement::new(sql)),
            Err(_) => Err(Problem::bad_request("BAD_BODY", "the SQL text is not UTF-8")),
        },
        json if json == "application/json" || json.ends_with("+json") => {
            let asked: Asked<'_> = serde_json::from_slice(body).map_err(|error| {
                let text = format!(
                    "the body is not what is expected, {{\"sql\": \"...\", \"parameters\": ...}}: {error}"
                );
                Problem::bad_request("BAD_BODY", &text)
            })?;
            let parameters = asked.parameters.map(Parameters::find).transpose()?.unwrap_or_default();
            room.hold(parameters.bytes()).await?;
            parameters.of(asked.sql)
        }
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::BadRequest,
            "UNSUPPORTED_MEDIA_TYPE",
            &format!(
                "a body of {other} is not understood; send application/json or application/sql: with curl, add -H 'content-type: \
                 application/sql'"
            ),
        )),
    }
}
