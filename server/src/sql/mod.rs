//! What is asked: pure functions over SQL text. DuckDB's parser has the last word; what stands here has
//! to be known before that parser may see the text, because extracting statements already evaluates
//! PRAGMA arguments, and preparing `a; b` runs `a`.

mod at_clause;
mod backup;
mod bits;
mod copy;
mod ending;
mod exclusion;
mod explained;
mod gate;
mod job;
mod kept;
mod lexer;
mod named_by_text;
mod placeholder;
mod plain_insert;
mod references;
mod state;
mod view;

pub(crate) use at_clause::{has_parameter_at, write_at};
pub(crate) use backup::backup;
pub(crate) use bits::cast_to_bits;
pub(crate) use copy::{Export, Piece, is_export, pieces, split_query};
pub(crate) use ending::{Ending, ending};
pub(crate) use exclusion::{Exclusion, exclusion, taken_away, written};
pub(crate) use gate::{MAX_SQL_BYTES, gate};
pub(crate) use job::{Job, job};
pub(crate) use kept::{Existing, Kept};
use lexer::{Token, ranged, tokens};
pub(crate) use placeholder::{as_subquery, placeholders, replace_placeholders, unnamed_placeholder};
pub(crate) use plain_insert::parameters_inserted;
pub(crate) use references::{References, Spelled};
pub(crate) use state::{Control, changes_names, controls, is_use, keeps_state, leaves_state, localise};
pub(crate) use view::view_parts;

/// What begins so is the server's own (how uploads enter) and not for clients.
pub(crate) const INTERNAL_PREFIX: &str = "__merganser";

/// The catalogs of the server's own that clients see.
pub(crate) const OWN_CATALOGS: [&str; 2] = ["sources", "queries"];

/// Why a text is not passed on to DuckDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no SQL that any parser should see.
    Malformed(String),
    /// It is SQL that this server does not run.
    NotAllowed(String),
}

/// True for a statement of this server's own, which DuckDB does not know.
pub(crate) fn is_own(text: &str) -> bool {
    backup(text).is_some() || job(text).is_some() || ending(text).is_some()
}

/// How many statements a text holds, as separated by semicolons.
pub(crate) fn statement_count(text: &str) -> usize {
    statements(&tokens(text)).count()
}

/// True when a text may hold a password or a key, so that no log shows it. Those of connections stand in texts.
pub(crate) fn may_hold_secrets(text: &str) -> bool {
    const SIGNS: [&str; 4] = ["secret", "attach", "password", "key_id"];
    text.len() > MAX_SQL_BYTES
        || ranged(text).any(|(token, place)| match token {
            Token::Word(word) | Token::Quoted(word) => SIGNS.contains(&word.as_str()),
            Token::Literal => text[place].to_lowercase().contains("password"),
            Token::Punctuation(_) => false,
        })
}

/// True when a write asks for the rows that it wrote.
pub(crate) fn has_returning(text: &str) -> bool {
    tokens(text).iter().any(|token| matches!(token, Token::Word(word) if word == "returning"))
}

/// True when a text has a word outside of texts and comments; `word` is in lower case.
pub(crate) fn mentions(text: &str, word: &str) -> bool {
    mentions_any(text, &[word])
}

/// The same of any of several words.
pub(crate) fn mentions_any(text: &str, words: &[&str]) -> bool {
    tokens(text).iter().filter_map(Token::name).any(|found| words.contains(&found))
}

/// True when DuckDB may make types of the values of a query, and several statements of it.
pub(crate) fn pivots(text: &str) -> bool {
    mentions_any(text, &["pivot", "pivot_wider", "unpivot", "pivot_longer"])
}

/// True when the first statement of a text may be planned by the statistics of data: its plan has to run in the
/// very snapshot that it was made over.
pub(crate) fn plans_over_data(text: &str) -> bool {
    const WORDS: [&str; 9] =
        ["insert", "update", "delete", "merge", "with", "from", "create", "copy", "execute"];
    matches!(tokens(text).first(), Some(Token::Word(word)) if WORDS.contains(&word.as_str()))
}

/// True when a statement of a text is a CHECKPOINT. Nothing else makes one: calls of the function are refused.
pub(crate) fn checkpoints(text: &str) -> bool {
    const WORD: &str = "checkpoint";
    // Every query is asked, and hardly one has the word.
    let has_word = text.as_bytes().windows(WORD.len()).any(|part| part.eq_ignore_ascii_case(WORD.as_bytes()));
    has_word
        && statements(&tokens(text))
            .any(|statement| matches!(statement.first(), Some(Token::Word(word)) if word == WORD))
}

/// True when every statement of a text takes away from the database, or from its log.
pub(crate) fn makes_room(text: &str) -> bool {
    const WORDS: [&str; 9] =
        ["delete", "drop", "truncate", "checkpoint", "begin", "start", "commit", "end", "rollback"];
    statements(&tokens(text)).all(
        |statement| matches!(statement.first(), Some(Token::Word(word)) if WORDS.contains(&word.as_str())),
    )
}

/// An identifier in double quotes, safe for any text without NUL.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A text inside the text of a list, a struct or a map, as DuckDB's casts read it: a backslash takes its meaning from what
/// could end it.
pub(crate) fn quote_nested(inside: &str) -> String {
    format!("\"{}\"", inside.replace('\\', r"\\").replace('"', r#"\""#))
}

fn statements(tokens: &[Token]) -> impl Iterator<Item = &[Token]> {
    tokens.split(|token| *token == Token::Punctuation(';')).filter(|statement| !statement.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_outside_texts_and_comments() {
        assert_eq!(statement_count("SELECT ';'; /* ; /* ; */ */ SELECT $$;$$ -- ;\n;;"), 2);
        assert_eq!(statement_count(" -- nothing"), 0);
    }

    #[test]
    fn what_makes_room_is_recognised() {
        assert!(makes_room("DELETE FROM t WHERE day < 3; drop table u"));
        assert!(makes_room("BEGIN; TRUNCATE t; COMMIT") && makes_room("CHECKPOINT t"));
        assert!(!makes_room("DROP TABLE t; CREATE TABLE t AS FROM u"));
        assert!(!makes_room("INSERT INTO t VALUES ('delete')"));
    }

    #[test]
    fn a_checkpoint_is_a_statement_and_no_name() {
        for sql in ["CHECKPOINT", "/* x */ checkpoint t", "SELECT 1; CHECKPOINT"] {
            assert!(checkpoints(sql), "{sql}");
        }
        for sql in ["SELECT checkpoint FROM checkpoint", "FROM \"checkpoint\"", "SELECT '; CHECKPOINT'"] {
            assert!(!checkpoints(sql), "{sql}");
        }
    }

    #[test]
    fn secrets_are_recognised() {
        assert!(may_hold_secrets("CREATE SECRET s (TYPE s3, KEY_ID 'x')"));
        assert!(!may_hold_secrets("SELECT 'secret'"));
    }

    #[test]
    fn quoting_survives_quotes() {
        assert_eq!(quote("a\"; DROP TABLE t; --"), "\"a\"\"; DROP TABLE t; --\"");
        assert_eq!(literal("it's"), "'it''s'");
    }
}
