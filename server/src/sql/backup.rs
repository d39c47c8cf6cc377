//! `BACKUP DATABASE TO 'FILE'`: a statement of this server's own, which DuckDB does not know.

use super::{
    Refusal,
    lexer::{Token, spanned},
};

/// The file of a text that is one BACKUP statement; `None` where it is another statement.
///
/// # Errors
/// [`Refusal::Malformed`] where it begins as a backup and goes on as something else.
pub(crate) fn backup(text: &str) -> Option<Result<String, Refusal>> {
    let mut tokens = spanned(text);
    let mut is = |expected: &str| match tokens.next() {
        Some((Token::Word(word), end)) if word == expected => Some(end),
        _ => None,
    };
    is("backup")?;
    is("database")?;
    let file = is("to").and_then(|start| {
        let end = match tokens.next()? {
            (Token::Literal, end) => end,
            _ => return None,
        };
        let at_end = tokens.all(|(token, _)| token == Token::Punctuation(';'));
        unquoted(&text[start..end]).filter(|_| at_end)
    });
    Some(file.ok_or_else(|| {
        Refusal::Malformed(
            "a backup is one statement, BACKUP DATABASE TO 'FILE', with an absolute path on the server's machine"
                .into(),
        )
    }))
}

/// What a text in single quotes says, unless it is in several parts.
pub(super) fn unquoted(literal: &str) -> Option<String> {
    let inside = literal.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    let is_whole = inside.split("''").all(|part| !part.contains('\''));
    is_whole.then(|| inside.replace("''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_recognised() {
        for (text, file) in [
            ("BACKUP DATABASE TO '/b/x.db'", "/b/x.db"),
            (" backup /* now */ database\nto '/b/it''s.db' ; ", "/b/it's.db"),
        ] {
            assert_eq!(backup(text), Some(Ok(file.into())), "{text}");
        }
    }

    #[test]
    fn other_statements_are_not() {
        for text in ["SELECT 'BACKUP DATABASE TO'", "backup", "FROM backup", "\"backup\" database to 'x'", ""]
        {
            assert_eq!(backup(text), None, "{text}");
        }
    }

    #[test]
    fn half_a_backup_is_refused() {
        for text in [
            "BACKUP DATABASE",
            "BACKUP DATABASE TO ?",
            "BACKUP DATABASE TO 7",
            "BACKUP DATABASE TO '/x",
            "BACKUP DATABASE TO '/x'; DROP TABLE t",
            "BACKUP DATABASE TO $$/x$$",
        ] {
            assert!(matches!(backup(text), Some(Err(Refusal::Malformed(_)))), "{text}");
        }
    }
}
