//! What EXPLAIN may be put before. `EXPLAIN ANALYZE` runs its statement, and DuckDB takes nearly every kind: `EXPLAIN
//! ANALYZE LOAD` loads. The rules of this server look at how a statement begins, so only what none of them is about passes.

use super::{
    Refusal,
    lexer::Token,
    state::{creates_temporary, is, starts_with},
};

/// How queries and writes begin, and how queries go on behind parentheses.
const EXPLAINED: [&str; 25] = [
    "select",
    "with",
    "from",
    "values",
    "table",
    "insert",
    "update",
    "delete",
    "merge",
    "create",
    "alter",
    "drop",
    "truncate",
    "copy",
    "pivot",
    "pivot_wider",
    "unpivot",
    "describe",
    "show",
    "summarize",
    "union",
    "intersect",
    "except",
    "order",
    "limit",
];

/// Lets a statement pass that is no EXPLAIN, or one of a query or a write.
///
/// # Errors
/// [`Refusal::NotAllowed`].
pub(super) fn check(statement: &[Token]) -> Result<(), Refusal> {
    let Some(explained) = explained(statement) else { return Ok(()) };
    let is_query = matches!(explained.first(), None | Some(Token::Punctuation('(')));
    if (is_query || starts_with(explained, &EXPLAINED)) && !creates_temporary(explained) {
        return Ok(());
    }
    Err(Refusal::NotAllowed("EXPLAIN takes queries and writes; this statement it would run".into()))
}

/// The statement that EXPLAIN stands before, or else the statement itself: rules that look at how it begins look here.
pub(super) fn behind(statement: &[Token]) -> &[Token] {
    explained(statement).map_or(statement, behind)
}

/// What stands behind EXPLAIN, ANALYZE and their options.
fn explained(statement: &[Token]) -> Option<&[Token]> {
    let [explain, rest @ ..] = statement else { return None };
    if !is(explain, "explain") {
        return None;
    }
    match rest {
        // Options, or a query: what stands behind them would run.
        [Token::Punctuation('('), ..] => Some(behind_parentheses(rest)),
        [analyze, rest @ ..] if is(analyze, "analyze") || is(analyze, "analyse") => Some(rest),
        rest => Some(rest),
    }
}

fn behind_parentheses(tokens: &[Token]) -> &[Token] {
    let mut depth = 0_usize;
    let end = tokens.iter().position(|token| {
        match token {
            Token::Punctuation('(') => depth += 1,
            Token::Punctuation(')') => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &tokens[end.map_or(tokens.len(), |end| end + 1)..]
}

#[cfg(test)]
mod tests {
    use super::super::lexer::tokens;
    use super::*;

    #[test]
    fn queries_and_writes_are_explained_and_nothing_else() {
        for sql in [
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE (SELECT 1)",
            "explain (format json) from t",
            "EXPLAIN (SELECT (1))",
            "EXPLAIN (SELECT 1) UNION SELECT 2",
            "EXPLAIN (ANALYZE, FORMAT json) INSERT INTO t VALUES (1)",
            "EXPLAIN ANALYZE CREATE TABLE t (x INT)",
            "EXPLAIN ANALYZE ALTER TABLE t ADD COLUMN i INTEGER",
            "SELECT 1",
            "LOAD 'x'",
        ] {
            assert_eq!(check(&tokens(sql)), Ok(()), "{sql}");
        }
        for sql in [
            "EXPLAIN ANALYZE LOAD 'x'",
            "EXPLAIN (UPDATE) LOAD 'x'",
            "EXPLAIN (x (y)) LOAD 'x'",
            "EXPLAIN ANALYZE INSTALL 'x'",
            "EXPLAIN (ANALYZE) FORCE INSTALL httpfs",
            "EXPLAIN ANALYZE CHECKPOINT",
            "EXPLAIN ANALYZE ATTACH 'x'",
            "EXPLAIN ANALYZE DETACH x",
            "EXPLAIN EXPLAIN ANALYZE SET x = 1",
            "EXPLAIN ANALYZE SET x = 1",
            "EXPLAIN (FORMAT json) PRAGMA x",
            "EXPLAIN ANALYZE CREATE TEMP TABLE t (x INT)",
        ] {
            assert!(check(&tokens(sql)).is_err(), "{sql}");
        }
    }

    #[test]
    fn what_is_explained_stands_behind_it() {
        for sql in
            ["EXPLAIN ANALYZE DROP TABLE t", "EXPLAIN (FORMAT json) EXPLAIN DROP TABLE t", "DROP TABLE t"]
        {
            assert_eq!(behind(&tokens(sql)), tokens("drop table t"), "{sql}");
        }
    }
}
