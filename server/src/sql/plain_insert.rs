//! `INSERT INTO t (a, b) VALUES (?, ?)`, which clients send with many rows: nothing is computed from a value before it
//! becomes the table's.

use super::lexer::{Token, tokens};

/// How many values such a statement inserts; `None` for any other. In it a value stores the same where it has its column's
/// type already, unless one parameter is the value of several columns.
pub(crate) fn parameters_inserted(text: &str) -> Option<usize> {
    let tokens = tokens(text);
    let [insert, into, rest @ ..] = &tokens[..] else { return None };
    (is(insert, "insert") && is(into, "into")).then(|| values(after_target(rest)?)).flatten()
}

fn is(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found == word)
}

/// What follows the table's name and its columns.
fn after_target(tokens: &[Token]) -> Option<&[Token]> {
    let behind = listed(tokens, '.', name)?;
    match behind {
        [Token::Punctuation('('), columns @ ..] => closed(listed(columns, ',', name)?),
        _ => Some(behind),
    }
}

/// How many values there are, and nothing after them.
fn values(tokens: &[Token]) -> Option<usize> {
    let [values, Token::Punctuation('('), parameters @ ..] = tokens else { return None };
    let behind = closed(listed(parameters, ',', parameter)?)?;
    let ends = behind.iter().all(|token| *token == Token::Punctuation(';'));
    let commas = parameters.iter().filter(|token| **token == Token::Punctuation(','));
    (is(values, "values") && ends).then(|| commas.count() + 1)
}

/// What follows one or more items with a separator between them.
fn listed<'a>(
    tokens: &'a [Token],
    separator: char,
    item: fn(&'a [Token]) -> Option<&'a [Token]>,
) -> Option<&'a [Token]> {
    let mut behind = item(tokens)?;
    while let [Token::Punctuation(found), rest @ ..] = behind
        && *found == separator
    {
        behind = item(rest)?;
    }
    Some(behind)
}

fn closed(tokens: &[Token]) -> Option<&[Token]> {
    tokens.split_first().filter(|(first, _)| **first == Token::Punctuation(')')).map(|(_, behind)| behind)
}

fn name(tokens: &[Token]) -> Option<&[Token]> {
    tokens.split_first().filter(|(first, _)| first.name().is_some()).map(|(_, behind)| behind)
}

/// `?`, `$1` or `$name`.
fn parameter(tokens: &[Token]) -> Option<&[Token]> {
    match tokens {
        [Token::Punctuation('?'), behind @ ..]
        | [Token::Punctuation('$'), Token::Word(_) | Token::Literal, behind @ ..] => Some(behind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_computes_nothing_is_told_from_what_might() {
        for (text, count) in [
            ("INSERT INTO t VALUES (?)", 1),
            ("insert into \"My db\".s.t(a, \"B c\") values ($1, $b /* , ?::INT */, ?);", 3),
            ("INSERT INTO t (values) VALUES (?, ?) -- ", 2),
        ] {
            assert_eq!(parameters_inserted(text), Some(count), "{text}");
        }
        for text in [
            "",
            "INSERT INTO t",
            "INSERT INTO t VALUES",
            "INSERT INTO t VALUES ()",
            "INSERT INTO t VALUES (?",
            "INSERT INTO t VALUES (?, 1)",
            "INSERT INTO t VALUES (? + ?)",
            "INSERT INTO t VALUES (?::INTEGER)",
            "INSERT INTO t VALUES (?), (?)",
            "INSERT INTO t VALUES (?) RETURNING a",
            "INSERT INTO t VALUES (?) ON CONFLICT DO NOTHING",
            "INSERT OR REPLACE INTO t VALUES (?)",
            "INSERT INTO t VALUES (?); DELETE FROM t",
            "INSERT INTO t SELECT ?",
            "WITH v AS (SELECT 1) INSERT INTO t VALUES (?)",
        ] {
            assert_eq!(parameters_inserted(text), None, "{text}");
        }
    }
}
