//! `AT (VERSION => ...)` and `AT (TIMESTAMP => ...)` behind a table of a lake. DuckDB wants their value while it plans, before
//! any parameter is bound: what is to be there has to be written there.

use std::ops::Range;

use super::{
    lexer::{Token, ranged},
    placeholder::{placeholders, replace_placeholders},
};

/// What a table can be asked for.
const UNITS: [&str; 2] = ["version", "timestamp"];

/// The clauses of a text in which parameters stand.
fn clauses(text: &str) -> Vec<Range<usize>> {
    let tokens: Vec<_> = ranged(text).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match end_of_clause(&tokens[at..]) {
            Some(length) => {
                found.push(tokens[at].1.start..tokens[at + length - 1].1.end);
                at += length;
            }
            None => at += 1,
        }
    }
    found.retain(|place| !placeholders(&text[place.clone()]).is_empty());
    found
}

/// How many tokens belong to the clause with which these begin.
fn end_of_clause(tokens: &[(Token, Range<usize>)]) -> Option<usize> {
    let is =
        |at: usize, sign: char| tokens.get(at).is_some_and(|(token, _)| *token == Token::Punctuation(sign));
    let word = |at: usize| match tokens.get(at) {
        Some((Token::Word(word), _)) => word.as_str(),
        _ => "",
    };
    if word(0) != "at" || !is(1, '(') || !UNITS.contains(&word(2)) || !is(3, '=') || !is(4, '>') {
        return None;
    }
    let mut depth = 1;
    for at in 5..tokens.len() {
        depth += usize::from(is(at, '('));
        depth -= usize::from(is(at, ')'));
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// Whether a parameter stands in such a clause.
pub(crate) fn has_parameter_at(text: &str) -> bool {
    !clauses(text).is_empty()
}

/// A text with the values of the parameters written into such clauses, as texts or NULL. A clause whose parameters have none is
/// left out: the table is then as it is now.
pub(crate) fn write_at(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut written = String::with_capacity(text.len());
    let mut copied = 0;
    for place in clauses(text) {
        written.push_str(&text[copied..place.start]);
        let clause = &text[place.clone()];
        if placeholders(clause).iter().any(|(name, _)| value(name).is_some()) {
            let literal_of = |name: &str| value(name).map_or("NULL".into(), |value| super::literal(&value));
            written.push_str(&replace_placeholders(clause, literal_of));
        }
        copied = place.end;
    }
    written.push_str(&text[copied..]);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        write_at(text, |name| (name != "none").then(|| format!("{name}'s")))
    }

    #[test]
    fn values_are_written_where_none_can_be_bound() {
        for (text, wanted) in [
            ("FROM t AT (VERSION => $v), u WHERE x = $v", "FROM t AT (VERSION => 'v''s'), u WHERE x = $v"),
            (
                "FROM t at(timestamp => CAST($a AS TIMESTAMP) + ($b)) AS t, u AT (VERSION => CAST($None AS BIGINT)) u",
                "FROM t at(timestamp => CAST('a''s' AS TIMESTAMP) + ('b''s')) AS t, u  u",
            ),
            ("FROM t AT (VERSION => $v + $none)", "FROM t AT (VERSION => 'v''s' + NULL)"),
            ("FROM t AT (VERSION => 3)", "FROM t AT (VERSION => 3)"),
            ("SELECT 'AT (VERSION => $v)', at(version), $v -- AT (VERSION => $v)", ""),
            ("FROM t AT (VERSION => $v", ""),
            ("SELECT x AT TIME ZONE $v", ""),
        ] {
            assert_eq!(written(text), if wanted.is_empty() { text } else { wanted });
        }
        assert!(
            has_parameter_at("FROM t AT (VERSION => $v)") && !has_parameter_at("FROM t AT (VERSION => 3)")
        );
    }
}
