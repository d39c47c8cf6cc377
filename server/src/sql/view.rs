//! What the text of a stored view consists of, as DuckDB's list of views gives it.

use super::{Token, lexer::ranged};

/// The names of the columns in brackets, if the view has names of its own for them, and the query.
pub(crate) fn view_parts(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    let mut columns = None;
    for (token, place) in ranged(text) {
        match token {
            Token::Punctuation('(') => {
                columns.get_or_insert(place.start..place.end);
                depth += 1;
            }
            Token::Punctuation(')') => {
                depth = depth.checked_sub(1)?;
                columns.as_mut()?.end = place.end;
            }
            Token::Word(word) if word == "as" && depth == 0 => {
                let query = text[place.end..].trim().trim_end_matches(';');
                return Some((columns.map_or("", |columns| &text[columns]), query));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_columns_and_a_query() {
        for (text, parts) in [
            ("CREATE VIEW main.v AS SELECT 1 AS a;", Some(("", "SELECT 1 AS a"))),
            (
                "CREATE VIEW \"as\".\"a (b\" (x, \"y)\") AS SELECT (1) AS a, 2;",
                Some(("(x, \"y)\")", "SELECT (1) AS a, 2")),
            ),
            ("CREATE TABLE t (i INTEGER)", None),
        ] {
            assert_eq!(view_parts(text), parts, "{text}");
        }
    }
}
