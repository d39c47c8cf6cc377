//! `MAINTAIN CATALOG name` and `RUN PIPELINE name`: statements of this server's own, which DuckDB does not know.

use super::{
    Refusal,
    lexer::{Token, tokens},
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
    let tokens = tokens(text);
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) => word.as_str(),
        _ => "",
    };
    let make = match (word(0), word(1)) {
        ("maintain", "catalog") => Job::Maintain,
        ("run", "pipeline") => Job::Promote,
        _ => return None,
    };
    let at_end = tokens.iter().skip(3).all(|token| *token == Token::Punctuation(';'));
    let name = match tokens.get(2) {
        Some(Token::Word(name) | Token::Quoted(name)) if at_end => Some(name.clone()),
        _ => None,
    };
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
