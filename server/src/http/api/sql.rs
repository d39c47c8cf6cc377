//! `POST /v1/sql`: one statement, with parameters.

use axum::{
    Extension,
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{accept, address, answer, body, door::Visit, parameters::Parameters, problem::Problem};
use crate::{engine::Statement, failure::Kind};

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
    let statement = statement(&head.headers, &body::read(&visit, body).await?.bytes)?;
    answer::to_statement(visit, statement, format).await
}

fn statement(headers: &HeaderMap, body: &[u8]) -> Result<Statement, Problem> {
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
            let parameters = asked.parameters.map(Parameters::read).transpose()?;
            parameters.unwrap_or_default().of(asked.sql)
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
