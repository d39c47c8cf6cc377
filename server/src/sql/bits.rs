//! Parameters that a text casts to BIT.
//!
//! What such a parameter is to DuckDB depends on what stands around the cast: in `CAST(CAST(? AS BIT) AS VARCHAR)` it has no
//! type, and is planned anew with that of its value. So the text has to tell.

use std::collections::HashSet;

use super::{
    lexer::{Token, ranged},
    state::is,
};

/// The parameters that are cast to BIT themselves, by DuckDB's names: the number of a `?` or `$1`, or what stands behind the
/// `$`, in lower case.
pub(crate) fn cast_to_bits(text: &str) -> HashSet<String> {
    let (tokens, places): (Vec<_>, Vec<_>) = ranged(text).unzip();
    let (mut found, mut marks) = (HashSet::new(), 0);
    for at in 0..tokens.len() {
        let (name, behind) = match &tokens[at..] {
            [Token::Punctuation('?'), ..] => {
                marks += 1;
                (marks.to_string(), at + 1)
            }
            [Token::Punctuation('$'), _, ..] => (text[places[at + 1].clone()].to_lowercase(), at + 2),
            _ => continue,
        };
        let in_parentheses = at > 0 && tokens[at - 1] == Token::Punctuation('(');
        let is_cast = match &tokens[behind..] {
            [Token::Punctuation(':'), Token::Punctuation(':'), data_type, ..] => is_bits(data_type),
            [cast, data_type, ..] => in_parentheses && is(cast, "as") && is_bits(data_type),
            _ => false,
        };
        if is_cast {
            found.insert(name);
        }
    }
    found
}

fn is_bits(data_type: &Token) -> bool {
    data_type.name().is_some_and(|name| matches!(name, "bit" | "bitstring"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_are_cast_to_bits_are_found() {
        for (text, names) in [
            ("SELECT CAST(? AS BIT)::VARCHAR", &["1"][..]),
            ("SELECT ?, try_cast ( ? as \"BitString\" ), ?", &["2"]),
            ("SELECT '?', ? :: bit, $$?$$, ?::BIT /* ? */", &["1", "2"]),
            ("SELECT $2::bit, $1, $Name::BIT(3)", &["2", "name"]),
            ("SELECT CAST(CAST(? AS BLOB) AS BIT), ?::BLOB::BIT, ? AS bit", &[]),
            ("SELECT CAST(? || 'x' AS BIT), ?", &[]),
            ("SELECT ?", &[]),
            ("SELECT $", &[]),
        ] {
            assert_eq!(cast_to_bits(text), names.iter().map(|name| (*name).to_owned()).collect(), "{text}");
        }
    }
}
