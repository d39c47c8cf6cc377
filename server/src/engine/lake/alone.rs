//! Commits to a lake that nobody else's may come before.
//!
//! DuckLake lets a transaction drop or replace a table into which another server has stored rows meanwhile, and those rows
//! are gone with it (DuckDB 1.5.5). Each commit takes the next number of a snapshot, and one that finds its number taken looks
//! for conflicts and tries again. One that may not try again fails where anybody has committed to the lake since its
//! transaction began, whatever that was: DuckLake has nothing finer that would do.

use super::{Connection, catalog::COMMIT_TRIES};
use crate::{
    engine::{
        Error,
        ffi::{DuckError, behind_query},
    },
    sql::{Exclusion, mentions, taken_away},
};

const SETTING: &str = "SET SESSION ducklake_max_retry_count";

/// While this is there, a COMMIT on the connection is tried once.
pub(crate) struct Alone<'a>(&'a Connection);

impl<'a> Alone<'a> {
    pub(in crate::engine) fn on(connection: &'a Connection) -> Result<Self, DuckError> {
        connection.execute(&format!("{SETTING} = 0"))?;
        Ok(Self(connection))
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Where this fails, its next commits are tried once, too.
        if let Err(error) = self.0.execute(&format!("{SETTING} = {COMMIT_TRIES}")) {
            tracing::debug!(%error, "the commits of a connection are still tried once");
        }
    }
}

/// Whether a text takes tables away from under their names.
pub(in crate::engine) fn takes_away(text: &str) -> bool {
    taken_away(text) != Exclusion::nothing()
}

/// Whether a text that is one statement may do so with rows that it has read before. What only drops or renames has read none,
/// so that it is as if it had come after all the others.
pub(in crate::engine) fn replaces(text: &str) -> bool {
    takes_away(text) && mentions(text, "replace")
}

/// What the failure of such a commit means where tables were taken away or rows matched.
pub(in crate::engine) fn explain(error: Error) -> Error {
    const WHY: &str = "somebody else has committed to the lake since the transaction began, in which a table was dropped, \
                       replaced or renamed, or rows were matched by key, so that rows might have been lost or doubled; \
                       nothing was changed. Run it again";
    if lost_race(&error) { Error::conflict(WHY) } else { error }
}

/// Whether such a commit has failed because somebody else's came before.
pub(in crate::engine) fn lost_race(error: &Error) -> bool {
    matches!(error, Error::Duck { message, .. } if was_late(message))
}

/// Whether the number of the snapshot was taken. DuckLake tells of tries that are used up whatever the reason was.
fn was_late(message: &str) -> bool {
    const TAKEN: [&str; 4] = ["uplicate key", "UNIQUE constraint", "onflict", "could not serialize access"];
    let told = message.split("Failed to execute query \"").next().unwrap_or_default();
    told.contains("Exceeded the maximum retry count of 0")
        && TAKEN.iter().any(|text| behind_query(message).contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Class;

    const SPENT: &str = "TransactionContext Error: Failed to commit: Failed to commit DuckLake transaction.\nExceeded the \
                         maximum retry count of 0 set by the ducklake_max_retry_count setting.\n";

    fn explained(message: String) -> Error {
        explain(Error::Duck { class: Class::Conflict, message })
    }

    #[test]
    fn a_number_that_was_taken_is_a_conflict_without_the_text_of_metadata() {
        for reason in [
            "Failed to append: Duplicate key \"snapshot_id: 4\" violates primary key constraint.",
            "Failed to execute query \"INSERT INTO x VALUES ('\": a')\": ERROR:  duplicate key value violates",
        ] {
            let told = explained(format!("{SPENT}{reason}"));
            assert!(matches!(&told, Error::Duck { class: Class::Conflict, .. }), "{told:?}");
            assert!(
                told.to_string().contains("Run it again") && !told.to_string().contains("INSERT"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_connection_that_broke_off_is_none() {
        for reason in [
            "Failed to execute query \"INSERT INTO x VALUES ('duplicate key')\": server closed the connection",
            "Failed to execute query \"COMMIT\": SSL connection has been closed",
        ] {
            let message = format!("{SPENT}{reason}");
            assert!(
                matches!(explained(message.clone()), Error::Duck { message: told, .. } if told == message)
            );
        }
    }

    #[test]
    fn what_drops_alone_has_read_nothing() {
        assert!(takes_away("DROP TABLE lake.t") && !replaces("DROP TABLE lake.t"));
        assert!(replaces("CREATE OR REPLACE TABLE lake.t AS FROM lake.t"));
        assert!(!takes_away("CREATE TABLE lake.t AS SELECT replace('a', 'b', 'c')"));
        assert!(!takes_away("INSERT INTO lake.t VALUES (1)"));
    }
}
