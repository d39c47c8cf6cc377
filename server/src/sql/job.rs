//! `MAINTAIN CATALOG name` and `RUN PIPELINE name`: statements of this server's own, which DuckDB does not know.

use super::{
    Refusal,
    lexer::{Token, spanned},
};

/// A job that is to be run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    /// Maintenance of a lake.
    Maintain(String),
    /// A pipeline.
    Promote(String),
}

/// The job of a text that is one such statement; `None` where it is another statement.
///
/// # Errors
/// [`Refusal::Malformed`] where it begins so and goes on as something else.
pub(crate) fn job(text: &str) -> Option<Result<Job, Refusal>> {
    let mut tokens = spanned(text).map(|(token, _)| token);
    let mut word = || match tokens.next() {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    };
    // Any other statement is told by its first word, however long it is.
    let (make, second): (fn(String) -> Job, _) = match word()?.as_str() {
        "maintain" => (Job::Maintain, "catalog"),
        "run" => (Job::Promote, "pipeline"),
        _ => return None,
    };
    if word()? != second {
        return None;
    }
    let name = match tokens.next() {
        Some(Token::Word(name) | Token::Quoted(name)) => Some(name),
        _ => None,
    };
    let at_end = tokens.all(|token| token == Token::Punctuation(';'));
    let name = name.filter(|_| at_end);
    Some(name.map(make).ok_or_else(|| {
        Refusal::Malformed("a job is one statement: MAINTAIN CATALOG name, or RUN PIPELINE name".into())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_recognised() {
        assert_eq!(job("MAINTAIN CATALOG lake;"), Some(Ok(Job::Maintain("lake".into()))));
        assert_eq!(job("run /* now */ pipeline \"my events\""), Some(Ok(Job::Promote("my events".into()))));
    }

    #[test]
    fn other_statements_are_not() {
        for text in ["FROM maintain", "maintain", "RUN", "SELECT 'RUN PIPELINE x'", ""] {
            assert_eq!(job(text), None, "{text}");
        }
    }

    #[test]
    fn half_a_job_is_refused() {
        for text in
            ["RUN PIPELINE", "RUN PIPELINE x; DROP TABLE t", "MAINTAIN CATALOG 'x'", "MAINTAIN CATALOG a b"]
        {
            assert!(matches!(job(text), Some(Err(Refusal::Malformed(_)))), "{text}");
        }
    }
}
