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
    lake::{QUERIES, publish},
};

/// All of them, checked, in the order of the configuration.
pub(crate) type Queries = Arc<Vec<Arc<QueryCard>>>;

/// Checks every query and publishes those that can be called as macros. `new_connection` gives connections on which
/// names mean what they mean to clients.
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
        let connection = new_connection()?;
        for query in queries {
            let card = check::check(query, &connection)?;
            match query.input {
                None => macros::create(query, &card, &connection)?,
                Some(_) => macros::create_refusal(query, &card, &connection)?,
            }
            cards.push(Arc::new(card));
        }
        Ok(())
    })?;
    Ok(Arc::new(cards))
}

/// Checks them once more, now that not everything may be read.
///
/// # Errors
/// [`Error::Setup`], which names the query.
pub(super) fn check_again(
    queries: &[NamedQuery],
    new_connection: impl Fn() -> Result<Connection>,
) -> Result<()> {
    let connection = new_connection()?;
    queries.iter().try_for_each(|query| check::check(query, &connection).map(drop))
}

fn wrong(query: &NamedQuery, reason: impl Into<String>) -> Error {
    Error::Setup { what: format!("query {}", query.name), reason: reason.into() }
}
