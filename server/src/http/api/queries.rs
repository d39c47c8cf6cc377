//! `/v1/queries`: what named queries there are; `/v1/queries/{name}`: the answer of one.
//!
//! Parameters come in the address. A query that answers from rows takes these as the body; another one takes a JSON
//! object of parameters.

use axum::{
    Extension,
    extract::{Path, Request, rejection::PathRejection},
    http::{HeaderValue, Method, StatusCode, Uri, header::ALLOW},
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    accept,
    address::{self, bad_text},
    answer, body,
    cursors::{Cursor, PageOf, page_limit},
    door::Visit,
    nested,
    once::Once,
    parameters,
    problem::Problem,
    rows,
};
use crate::{
    engine::{
        Arguments, BatchStream, Error, OptionValue, Outcome, Page, Parameter, Posted, QueryCard, Statement,
        add_argument, counted, page_of, total_of, type_name,
    },
    failure::{Failure, Kind},
    http::format::{Encode, Format},
    session::SessionError,
    statement_log::Entry,
};

/// Where an answer tells how many rows there are in all.
const TOTAL: &str = "x-total-count";
/// Where an answer tells how to get its next page.
const NEXT: &str = "x-next-cursor";

#[derive(Serialize)]
struct Listing<'a> {
    queries: Vec<Card<'a>>,
}

#[derive(Serialize)]
struct Card<'a> {
    name: &'a str,
    description: Option<&'a str>,
    parameters: Vec<ParameterCard<'a>>,
    columns: Vec<Column<'a>>,
    /// The rows that it answers from, where it takes some.
    input: Option<InputCard<'a>>,
}

#[derive(Serialize)]
struct ParameterCard<'a> {
    name: &'a str,
    r#type: &'a str,
    required: bool,
    default: Option<Value>,
    description: Option<&'a str>,
}

#[derive(Serialize)]
struct Column<'a> {
    name: &'a str,
    r#type: String,
}

#[derive(Serialize)]
struct InputCard<'a> {
    name: &'a str,
    /// Names and types, in the order of the relation.
    #[serde(serialize_with = "as_object")]
    columns: &'a [(String, String)],
}

fn as_object<S: Serializer>(columns: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(columns.iter().map(|(name, data_type)| (name, data_type)))
}

/// Lists all queries.
pub(super) async fn list(Extension(visit): Extension<Visit>, uri: Uri) -> Result<Response, Problem> {
    address::only(&uri, &[])?;
    answer::json(&Listing { queries: visit.api.engine.queries().iter().map(|card| Card::of(card)).collect() })
}

impl<'a> Card<'a> {
    fn of(card: &'a QueryCard) -> Self {
        let columns = card.schema.fields().iter();
        Self {
            name: &card.name,
            description: card.description.as_deref(),
            parameters: card.parameters.iter().map(ParameterCard::of).collect(),
            columns: columns.map(|field| Column { name: field.name(), r#type: type_name(field) }).collect(),
            input: card.input.as_ref().map(|input| InputCard { name: &input.name, columns: &input.columns }),
        }
    }
}

impl<'a> ParameterCard<'a> {
    fn of(parameter: &'a Parameter) -> Self {
        Self {
            name: &parameter.name,
            r#type: &parameter.data_type,
            required: parameter.is_required(),
            default: parameter.default.as_ref().map(json_of),
            description: parameter.description.as_deref(),
        }
    }
}

/// A default as JSON.
pub(super) fn json_of(value: &OptionValue) -> Value {
    match value {
        OptionValue::Boolean(value) => (*value).into(),
        OptionValue::Integer(value) => (*value).into(),
        OptionValue::Float(value) => (*value).into(),
        OptionValue::Text(value) => value.as_str().into(),
        OptionValue::List(values) => values.iter().map(json_of).collect(),
        OptionValue::Struct(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), json_of(value))).collect())
        }
    }
}

/// Answers a query.
pub(super) async fn call(
    Extension(visit): Extension<Visit>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Path(name) = path.map_err(|_| bad_text("the name of the query"))?;
    let format = accept::format(request.uri(), request.headers())?;
    let mut asked = Asked::of(request.uri().query().unwrap_or_default())?;
    let (head, body) = request.into_parts();
    if head.method == Method::HEAD && asked.cursor.is_some() {
        let text = "a HEAD would use the page up without its rows; GET it";
        return Ok(other_method("METHOD_NOT_ALLOWED", text, "GET, POST"));
    }
    if let Some(token) = asked.cursor.take_if(|token| !token.is_empty()) {
        let limit = asked.limit_alone()?;
        if !is_blank(&body::read(&visit, body).await?.bytes) {
            return Err(Problem::bad_request(
                "BAD_PARAMETER",
                "a next page takes its cursor and limit; send no body",
            ));
        }
        let (cursor, encoder) = visit.api.cursors.take(&token, &name, visit.session.principal(), format)?;
        let entry = visit.api.log.begin(&visit.session, "query", cursor.name());
        return page(visit, cursor, encoder, limit, format, entry).await;
    }
    let engine = visit.api.engine.clone();
    let card = engine.query(&name)?;
    let posted = match &card.input {
        Some(_) if head.method != Method::POST => {
            let text = "this query answers from rows that are sent with it; send them by POST";
            return Ok(other_method("ROWS_WANTED", text, "POST"));
        }
        Some(_) => {
            let body = body::read_rows(&visit, body).await?;
            Some(rows::read(card, &head.headers, body).await?)
        }
        None => {
            asked.add_body(card, &body::read(&visit, body).await?.bytes)?;
            None
        }
    };
    answer_call(visit, card, asked, posted, format).await
}

async fn answer_call(
    visit: Visit,
    card: &QueryCard,
    mut asked: Asked,
    posted: Option<Posted>,
    format: Format,
) -> Result<Response, Problem> {
    let page_asked = page_of(&mut asked.arguments)?;
    let wants_total = total_of(&mut asked.arguments)?;
    let begins_cursor = asked.cursor.is_some();
    let limit = if begins_cursor { page_limit(page_asked.limit)? } else { 0 };
    let page_wanted = if begins_cursor { Page { limit: None, ..page_asked } } else { page_asked };
    let statement = visit.api.engine.call(card, asked.arguments.clone(), page_wanted).await?;
    let total = match wants_total {
        true => Some(count(&visit, card, asked.arguments, posted.clone()).await?),
        false => None,
    };
    let mut entry = visit.api.log.begin(&visit.session, "query", &card.name);
    let rows = entry.run(run(&visit, statement, posted)).await?;
    let answer = if begins_cursor {
        let cursor = Cursor::new(rows, card, visit.session.principal());
        let encoder = cursor.encoder(format).inspect_err(|failure| entry.failed(&failure.text()))?;
        page(visit, cursor, encoder, limit, format, entry).await?
    } else {
        answer::respond(rows, format, entry, visit.open).await?
    };
    with_total(answer, total)
}

/// One page of a cursor, and where the next one is. What writes it is there before its rows are taken, so that they are
/// not lost where they have no such form.
async fn page(
    visit: Visit,
    cursor: Cursor,
    encoder: Box<dyn Encode>,
    limit: u64,
    format: Format,
    mut entry: Entry,
) -> Result<Response, Problem> {
    let page = entry.run(cursor.page(limit)).await?;
    let PageOf { rows, rest } = page;
    let mut response = answer::respond_by(encoder, rows, format, entry, visit.open).await?;
    if let Some(rest) = rest {
        let token = visit.api.cursors.keep(rest)?;
        let token = HeaderValue::from_str(&token).map_err(|error| Failure::internal(&error))?;
        response.headers_mut().insert(NEXT, token);
    }
    Ok(response)
}

/// The rows of a statement that was found to read when the server started.
async fn run(
    visit: &Visit,
    statement: Statement,
    posted: Option<Posted>,
) -> Result<BatchStream, SessionError> {
    if let Some(posted) = posted {
        return visit.session.read_posted(statement, posted).await;
    }
    match visit.session.run_once(statement).await? {
        Outcome::Rows(rows) => Ok(rows),
        Outcome::Changed(_) => Err(Error::Refused("a named query reads, and nothing else".into()).into()),
    }
}

/// How many rows a call has in all: a query of its own, over the same posted rows.
async fn count(
    visit: &Visit,
    card: &QueryCard,
    arguments: Arguments,
    posted: Option<Posted>,
) -> Result<i64, Problem> {
    let statement = card.count_statement(arguments)?;
    let mut entry = visit.api.log.begin(&visit.session, "query", &card.name);
    let counting = async { Ok::<_, SessionError>(counted(run(visit, statement, posted).await?).await?) };
    let total = entry.run(counting).await?;
    entry.done();
    Ok(total)
}

fn with_total(mut response: Response, total: Option<i64>) -> Result<Response, Problem> {
    if let Some(total) = total {
        response.headers_mut().insert(TOTAL, total.into());
    }
    Ok(response)
}

fn other_method(slug: &'static str, text: &str, allowed: &'static str) -> Response {
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, Kind::BadRequest, slug, text);
    let mut response = problem.into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// What the address asks for.
#[derive(Default)]
struct Asked {
    arguments: Arguments,
    /// Present, and empty, where a cursor is to begin.
    cursor: Option<String>,
}

impl Asked {
    fn of(query: &str) -> Result<Self, Problem> {
        let mut asked = Self::default();
        for pair in address::pairs(query) {
            let (name, value) = pair?;
            match &*name {
                // Of the form the accepting has seen to.
                "format" => {}
                "cursor" if asked.cursor.is_some() => return Err(address::twice(&name)),
                "cursor" => asked.cursor = Some(value),
                _ => add_argument(&mut asked.arguments, &name, Some(value))?,
            }
        }
        Ok(asked)
    }

    /// The rows of a next page, for which nothing else can be said any more.
    fn limit_alone(&mut self) -> Result<u64, Problem> {
        if let Some(other) = self.arguments.keys().find(|name| *name != "limit") {
            let text = format!("a next page takes its cursor and limit; {other:?} was said with the first");
            return Err(Problem::bad_request("BAD_PARAMETER", &text));
        }
        Ok(page_limit(page_of(&mut self.arguments)?.limit)?)
    }

    /// The parameters of a query in a body, a JSON object.
    fn add_body(&mut self, card: &QueryCard, body: &[u8]) -> Result<(), Problem> {
        if is_blank(body) {
            return Ok(());
        }
        let malformed = |error: serde_json::Error| {
            let text = format!("the body is no JSON object of parameters: {error}");
            Problem::bad_request("BAD_BODY", &text)
        };
        let Once(object) =
            serde_json::from_slice::<Once<&serde_json::value::RawValue>>(body).map_err(malformed)?;
        for (name, value) in object.ok_or_else(parameters::too_many)? {
            let value = match value.get() {
                "null" => None,
                text if text.starts_with('"') => Some(serde_json::from_str(text).map_err(malformed)?),
                text => Some(match card.parameter(&name) {
                    Some(parameter) => nested::text_for(parameter, value)?,
                    None => text.to_owned(),
                }),
            };
            add_argument(&mut self.arguments, &name, value)?;
        }
        Ok(())
    }
}

fn is_blank(body: &[u8]) -> bool {
    body.iter().all(u8::is_ascii_whitespace)
}
