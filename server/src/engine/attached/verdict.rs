//! What an error of an attached catalog means.

use crate::engine::{
    CatalogKind, Class, Error,
    writer::{Failure, commit_error},
};

/// How DuckLake and PostgreSQL say that somebody else's commit came first.
const CONFLICTS: [&str; 4] =
    ["Transaction conflict", "maximum retry count", "could not serialize", "database is locked"];
/// How extensions say that a server, or a file of it, is out of reach.
const OUT_OF_REACH: [&str; 6] = [
    "Unable to connect",
    "server closed the connection",
    "connection to server",
    "Connection error",
    "HTTP Error",
    "terminating connection",
];

fn has_any(message: &str, words: &[&str]) -> bool {
    words.iter().any(|word| message.contains(word))
}

/// A failure before COMMIT: nothing is written.
pub(super) fn of_work(catalog: &str, failure: Failure) -> Failure {
    let Error::Duck { class, message } = &failure.error else { return failure };
    if has_any(message, &CONFLICTS) {
        return Failure { error: conflict(message.clone()), ..failure };
    }
    if *class == Class::Io || has_any(message, &OUT_OF_REACH) {
        // What it says may name hosts and paths, which are not for clients.
        tracing::warn!(catalog, error = message, "a catalog cannot be reached");
        return Failure::whole(Error::CatalogDown(catalog.to_owned()));
    }
    failure
}

/// A failed COMMIT: somebody else came first, a constraint forbids it, or nobody knows.
pub(super) fn of_commit(kind: &CatalogKind, error: Error) -> Error {
    match error {
        error if *kind == CatalogKind::DuckDb => commit_error(error),
        Error::Duck { message, .. } if message.contains("violates") => {
            Error::Duck { class: Class::Constraint, message }
        }
        Error::Duck { message, .. } if has_any(&message, &CONFLICTS) => conflict(message),
        Error::Duck { message, .. } => Error::CommitUnknown(message),
        other => other,
    }
}

fn conflict(message: String) -> Error {
    Error::Duck { class: Class::Conflict, message }
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
    fn a_commit_that_breaks_off_is_in_doubt() {
        let message = "TransactionContext Error: Failed to commit: Failed to execute query \"ROLLBACK\": ";
        assert!(matches!(of_commit(&LAKE, duck(Class::Conflict, message)), Error::CommitUnknown(_)));
    }

    #[test]
    fn what_is_out_of_reach_names_no_host() {
        let message = "IO Error: Failed to query most recent snapshot for DuckLake: Unable to connect to Postgres \
                       at \"host=db\": connection refused";
        let told = of_work("lake", Failure::whole(duck(Class::Io, message)));
        assert!(matches!(&told.error, Error::CatalogDown(name) if name == "lake"));
        assert!(!told.error.to_string().contains("db"));
    }
}
