//! What an error of an attached catalog means.

use crate::engine::{
    CatalogKind, Class, Error,
    ffi::{behind_query, tells_of_faster},
    writer::{Failure, commit_error},
};

/// How a store of files says that it is in trouble.
const OF_STORAGE: &str = "HTTP Error";

/// A failure before COMMIT: nothing is written.
pub(super) fn of_work(catalog: &str, failure: Failure) -> Failure {
    let Error::Duck { class, message } = &failure.error else { return failure };
    // Such a text may quote a client's own, whatever words are in it.
    if quotes_values(*class) {
        return failure;
    }
    if tells_of_faster(message) {
        return Failure { error: Error::conflict(message.clone()), ..failure };
    }
    if is_outage(*class, message) {
        return Failure::whole(down(catalog, message));
    }
    failure
}

/// A failure of a read.
pub(super) fn of_reading(catalog: &str, error: Error) -> Error {
    match &error {
        Error::Duck { class, message } if is_outage(*class, message) => down(catalog, message),
        _ => error,
    }
}

/// Whether the catalog cannot be reached, or it is only told that something has failed before. The server itself stops at the
/// first error of a transaction, so that the first one was not told: it met the extension's own connection to the catalog,
/// which an outage has broken.
fn is_outage(class: Class, message: &str) -> bool {
    is_out_of_reach(class, message) || class == Class::Aborted
}

fn quotes_values(class: Class) -> bool {
    matches!(
        class,
        Class::Syntax
            | Class::NotFound
            | Class::AlreadyExists
            | Class::Binder
            | Class::Conversion
            | Class::OutOfRange
            | Class::Constraint
    )
}

fn is_out_of_reach(class: Class, message: &str) -> bool {
    matches!(class, Class::Unreachable | Class::Storage) || message.contains(OF_STORAGE)
}

fn down(catalog: &str, message: &str) -> Error {
    // What it says may name hosts and paths, which are not for clients.
    tracing::warn!(catalog, error = message, "a catalog cannot be reached");
    Error::CatalogDown(catalog.to_owned())
}

/// A failed COMMIT: somebody else came first, a constraint forbids it, or nobody knows.
pub(super) fn of_commit(kind: &CatalogKind, error: Error) -> Error {
    match error {
        error if *kind == CatalogKind::DuckDb => commit_error(error),
        Error::Duck { message, .. } if tells_of_faster(&message) => Error::conflict(message),
        Error::Duck { message, .. } if behind_query(&message).contains("violates") => {
            Error::Duck { class: Class::Constraint, message }
        }
        Error::Duck { message, .. } => Error::CommitUnknown(message),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAKE: CatalogKind = CatalogKind::DuckLake { data_path: None };

    fn duck(class: Class, message: &str) -> Error {
        Error::Duck { class, message: message.into() }
    }

    #[test]
    fn a_commit_that_others_came_before_can_be_tried_again() {
        let message = "TransactionContext Error: Failed to commit: Failed to commit DuckLake transaction.\n\
                       Transaction conflict - attempting to insert into table with index \"4\" - but another \
                       transaction has deleted inlined data from it";
        let told = of_commit(&LAKE, duck(Class::Other, message));
        assert!(matches!(told, Error::Duck { class: Class::Conflict, .. }), "{told:?}");
    }

    #[test]
    fn a_commit_that_postgres_ends_for_another_can_be_tried_again() {
        let message = "TransactionContext Error: Failed to commit: Failed to commit DuckLake transaction.\nFailed to \
                       execute query \"INSERT INTO t VALUES ('x')\": ERROR:  deadlock detected\nDETAIL:  Process 1 \
                       waits for ShareLock";
        let told = of_commit(&LAKE, duck(Class::Other, message));
        assert!(matches!(told, Error::Duck { class: Class::Conflict, .. }), "{told:?}");
    }

    #[test]
    fn a_commit_that_breaks_off_is_in_doubt() {
        for message in [
            "TransactionContext Error: Failed to commit: Failed to execute query \"ROLLBACK\": ",
            "Failed to execute query \"INSERT INTO t VALUES ('\": deadlock detected')\": SSL connection has been closed",
            "Failed to execute query \"INSERT INTO t VALUES ('violates')\": could not receive data",
        ] {
            let told = of_commit(&LAKE, duck(Class::Conflict, message));
            assert!(matches!(told, Error::CommitUnknown(_)), "{message}: {told:?}");
        }
    }

    #[test]
    fn what_only_tells_of_an_error_before_it_is_an_outage() {
        let message = "TransactionContext Error: Current transaction is aborted (please ROLLBACK)";
        let told = of_work("lake", Failure::whole(duck(Class::Aborted, message))).error;
        assert!(matches!(&told, Error::CatalogDown(name) if name == "lake"), "{told:?}");
        let told = of_reading("lake", duck(Class::Aborted, message));
        assert!(matches!(&told, Error::CatalogDown(name) if name == "lake"), "{told:?}");
        let told = of_reading("lake", duck(Class::Binder, message));
        assert!(matches!(told, Error::Duck { class: Class::Binder, .. }), "{told:?}");
    }

    #[test]
    fn what_is_out_of_reach_names_no_host() {
        let message = "IO Error: Failed to query most recent snapshot for DuckLake: Unable to connect to Postgres \
                       at \"host=db\": connection refused";
        let told = of_work("lake", Failure::whole(duck(Class::Unreachable, message)));
        assert!(matches!(&told.error, Error::CatalogDown(name) if name == "lake"));
        assert!(!told.error.to_string().contains("db"));
    }
}
