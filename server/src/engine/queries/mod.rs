//! Named queries: SQL that the configuration gives a name, with typed parameters and a known result.
//!
//! Each is checked when the database is opened. It is called as a macro, `FROM queries.NAME(parameter := 1)`, by any
//! client, and by its name with the values of its parameters, in which case the SQL runs as it is, with its
//! parameters bound.

mod call;
mod casts;
mod check;
mod definition;
mod listing;
mod macros;
mod values;
mod whole;

use std::sync::Arc;

pub(crate) use call::excerpt;
pub use call::{Arguments, Page, add_argument, arguments_of, counted, page_of, total_of};
pub use check::QueryCard;
pub use definition::{Input, NamedQuery, Parameter};
pub(crate) use listing::{listing, listing_schema};
pub(super) use macros::without_unused;
pub(super) use whole::{refusal, whole_type};

use super::{
    Error, Result,
    ffi::Connection,
    lake::{QUERIES, publish, unless_missed},
};

/// All of them, checked, in the order of the configuration.
pub(crate) type Queries = Arc<Vec<Arc<QueryCard>>>;

/// Checks every query and publishes each as a macro, of which some only say how to call the query, or that it cannot be.
/// `new_connection` gives connections on which names mean what they mean to clients.
///
/// # Errors
/// [`Error::Setup`], which names the query and the reason; [`Error::NameClash`].
pub(super) fn open(
    queries: &[NamedQuery],
    connection: &Connection,
    new_connection: impl Fn() -> Result<Connection>,
) -> Result<Queries> {
    if queries.is_empty() {
        return Ok(Queries::default());
    }
    let mut cards = Vec::with_capacity(queries.len());
    publish(connection, QUERIES, || {
        // Earlier queries may be used by later ones, as the macros that they are.
        let mut connection = new_connection()?;
        for query in queries {
            if let Some(card) = or_missed(query, check_and_create(query, &connection))? {
                cards.push(Arc::new(card));
                continue;
            }
            // What it has left behind is not for the next one to find.
            connection = new_connection()?;
            macros::create_missing(query, &connection)?;
        }
        Ok(())
    })?;
    Ok(Arc::new(cards))
}

fn check_and_create(query: &NamedQuery, connection: &Connection) -> Result<QueryCard> {
    let card = check::check(query, connection)?;
    macros::create_callable(query, &card, connection)?;
    Ok(card)
}

/// What came of a query: where it is not required and cannot be answered, it is missed in the log.
fn or_missed<T>(query: &NamedQuery, checked: Result<T>) -> Result<Option<T>> {
    unless_missed(query.required, checked, |reason| {
        tracing::warn!(query = query.name, %reason, "a query cannot be answered");
    })
}

/// Checks those that can be answered once more, now that not everything may be read, and gives those that still can.
///
/// # Errors
/// [`Error::Setup`], which names the query.
pub(super) fn check_again(
    queries: &[NamedQuery],
    cards: &Queries,
    new_connection: impl Fn() -> Result<Connection>,
) -> Result<Queries> {
    let connection = new_connection()?;
    let mut left = Vec::with_capacity(cards.len());
    for card in cards.iter() {
        let query = queries.iter().find(|query| query.name == card.name);
        let answered = query.map_or(Ok(None), |query| or_missed(query, check::check(query, &connection)))?;
        left.extend(answered.map(|_| Arc::clone(card)));
    }
    Ok(Arc::new(left))
}

fn wrong(query: &NamedQuery, reason: impl Into<String>) -> Error {
    Error::Setup { what: format!("query {}", query.name), reason: reason.into() }
}
