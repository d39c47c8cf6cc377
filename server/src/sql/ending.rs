//! `CANCEL STATEMENT 42` and `CLOSE SESSION 7`: statements of this server's own, which DuckDB does not know.

use super::{
    Refusal,
    lexer::{Token, ranged},
};

/// What an operator ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The statement with this id.
    Statement(u64),
    /// All that the session with this number has.
    Session(u64),
}

/// What a text ends that is one such statement; `None` where it is another statement.
///
/// # Errors
/// [`Refusal::Malformed`] where it begins so and goes on as something else.
pub(crate) fn ending(text: &str) -> Option<Result<Ending, Refusal>> {
    let mut tokens = ranged(text);
    let mut word = || match tokens.next() {
        Some((Token::Word(word), _)) => Some(word),
        _ => None,
    };
    // Any other statement is told by its first word, however long it is.
    let (make, second): (fn(u64) -> Ending, _) = match word()?.as_str() {
        "cancel" => (Ending::Statement, "statement"),
        "close" => (Ending::Session, "session"),
        _ => return None,
    };
    if word()? != second {
        return None;
    }
    let number = tokens.next().filter(|(token, _)| *token == Token::Literal);
    let number = number.and_then(|(_, place)| text[place].parse().ok());
    let at_end = tokens.all(|(token, _)| token == Token::Punctuation(';'));
    Some(number.filter(|_| at_end).map(make).ok_or_else(|| {
        Refusal::Malformed(
            "what is ended has a number: CANCEL STATEMENT 42, of merganser_statements(), or CLOSE SESSION 7, of \
             merganser_sessions()"
                .into(),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_recognised() {
        assert_eq!(ending("CANCEL STATEMENT 42;"), Some(Ok(Ending::Statement(42))));
        assert_eq!(ending(" close /* now */ session\n7 ; "), Some(Ok(Ending::Session(7))));
    }

    #[test]
    fn other_statements_are_not() {
        for text in ["FROM cancel", "cancel", "CLOSE", "CLOSE cursor", "SELECT 'CANCEL STATEMENT 1'", ""] {
            assert_eq!(ending(text), None, "{text}");
        }
    }

    #[test]
    fn half_an_ending_is_refused() {
        for text in [
            "CANCEL STATEMENT",
            "CANCEL STATEMENT ?",
            "CANCEL STATEMENT '7'",
            "CANCEL STATEMENT 7.5",
            "CANCEL STATEMENT -7",
            "CANCEL STATEMENT 99999999999999999999",
            "CLOSE SESSION x",
            "CLOSE SESSION 7; DROP TABLE t",
            "CLOSE SESSION 7 8",
        ] {
            assert!(matches!(ending(text), Some(Err(Refusal::Malformed(_)))), "{text}");
        }
    }
}
