//! What an operation can answer, for the document: rows, and the problems by their status. No status is left to
//! "default", so that a client can tell which to expect, and a test which is wrong.

use serde_json::{Map, Value, json};

/// With these any request may be refused: at the door, or for what has become of the server.
const ANY: &[u16] = &[400, 401, 403, 415, 429, 500, 501, 503, 505];
/// And one that asks the database.
const DATABASE: &[u16] = &[404, 409, 504];
/// One whose body is read.
const BODY: &[u16] = &[408, 413];
/// One that answers rows in a form.
const FORM: &[u16] = &[406];
/// One that may go on with a cursor.
const CURSOR: &[u16] = &[410];

/// What an operation does, as far as its problems go.
#[derive(Clone, Copy)]
pub(super) enum Does {
    /// Tells what the server knows itself.
    Tell,
    /// Asks the database for what there is.
    List,
    /// Runs a statement.
    Run,
    /// Answers a named query.
    Call,
}

impl Does {
    fn statuses(self) -> impl Iterator<Item = u16> {
        let kinds: &[&[u16]] = match self {
            Self::Tell => &[ANY],
            Self::List => &[ANY, DATABASE],
            Self::Run => &[ANY, DATABASE, BODY, FORM],
            Self::Call => &[ANY, DATABASE, BODY, FORM, CURSOR],
        };
        kinds.iter().flat_map(|statuses| statuses.iter().copied())
    }
}

/// The responses of an operation.
pub(super) fn of(does: Does, well: Value) -> Value {
    let mut responses = Map::from_iter([("200".to_owned(), well)]);
    for status in does.statuses() {
        let place = format!("#/components/responses/{}", name(status));
        responses.insert(status.to_string(), json!({ "$ref": place }));
    }
    Value::Object(responses)
}

/// All problems, to which those of the operations refer.
pub(super) fn problems() -> Value {
    let all = Does::Call.statuses().map(|status| {
        let schema = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
        let content = json!({ "application/problem+json": schema });
        (name(status), json!({ "description": description(status), "content": content }))
    });
    Value::Object(all.collect())
}

fn name(status: u16) -> String {
    format!("problem-{status}")
}

fn description(status: u16) -> &'static str {
    match status {
        400 => "The request makes no sense.",
        401 => "Nobody knows who asks.",
        403 => "It is not allowed.",
        404 => "Something that it names is not there.",
        406 => "There is no such form of an answer.",
        408 => "The body did not come in time.",
        409 => "Something is there already, or in the way.",
        410 => "The cursor was there, and is no more.",
        413 => "The body is too large.",
        415 => "The body is of a kind that is not understood.",
        429 => "Something is used up for the moment.",
        501 => "The server cannot do that at all.",
        503 => "The server cannot do that just now.",
        504 => "It took too long.",
        505 => "HTTP/1.1 is wanted.",
        _ => "The server has failed.",
    }
}
