//! Transactions over several commands, which there are none of: each command is a session of its own.

use merganser::{Client, Error};

/// The slug of a COMMIT or ROLLBACK without a transaction.
const NONE_IS_OPEN: &str = "TRANSACTION_STATE";

/// Refuses SQL that has left its transaction open: it would end with the command, and all that was done in it would be lost
/// without a word.
///
/// # Errors
/// [`Error::Usage`]; those of the connection.
pub(super) async fn refuse(client: &Client, sql: &str) -> Result<(), Error> {
    if !may_begin(sql) {
        return Ok(());
    }
    match client.execute("ROLLBACK").await {
        Ok(_) => Err(Error::Usage(
            "the SQL leaves its transaction open, which is rolled back now: nothing of it is stored. End it with COMMIT, or \
             leave BEGIN out: merganser execute runs a script as one transaction"
                .into(),
        )),
        Err(error) if error.slug() == Some(NONE_IS_OPEN) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Says where the transaction went that an earlier command has begun.
pub(super) fn explained(error: Error) -> Error {
    match error {
        Error::Server { code, slug, message, retry_after } if slug == NONE_IS_OPEN => {
            let message = format!(
                "{message}; each command is a session of its own, so put BEGIN and COMMIT into one script"
            );
            Error::Server { code, slug, message, retry_after }
        }
        error => error,
    }
}

/// Whether a text has one of the words with which a transaction begins, be it in a comment.
fn may_begin(sql: &str) -> bool {
    let mut words = sql.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| word.eq_ignore_ascii_case("begin") || word.eq_ignore_ascii_case("start"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_begin_a_transaction_is_seen() {
        for sql in ["BEGIN", "select 1;begin transaction", "/* x */Start Transaction"] {
            assert!(may_begin(sql), "{sql}");
        }
        assert!(!may_begin("SELECT begin_at, startled FROM t"));
    }
}
