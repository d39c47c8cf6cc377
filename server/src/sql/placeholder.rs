//! Parameters with names, `$name`, in SQL text.

use std::ops::Range;

use super::lexer::{Token, ranged, spanned};

/// Where a text has `$name`, and the names in lower case, as DuckDB compares them.
pub(crate) fn placeholders(text: &str) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    let mut dollar = None;
    for (token, end) in spanned(text) {
        match token {
            Token::Punctuation('$') => dollar = Some(end - 1),
            Token::Word(name) => {
                // `$ name`, with a blank between, is none.
                if let Some(start) = dollar.take()
                    && text[start + 1..end].to_lowercase() == name
                {
                    found.push((name, start..end));
                }
            }
            _ => dollar = None,
        }
    }
    found
}

/// The first parameter of a text that has no name, as it is written: `?` or `$1`.
pub(crate) fn unnamed_placeholder(text: &str) -> Option<&str> {
    let mut dollar = None;
    for (token, range) in ranged(text) {
        match token {
            Token::Punctuation('?') => return Some(&text[range]),
            Token::Punctuation('$') => dollar = Some(range.start),
            Token::Literal if text[range.clone()].starts_with(|first: char| first.is_ascii_digit()) => {
                // `$ 1`, with a blank between, is none.
                let begins = dollar.take().filter(|start| start + 1 == range.start);
                if let Some(start) = begins {
                    return Some(&text[start..range.end]);
                }
            }
            _ => dollar = None,
        }
    }
    None
}

/// A text with something else in the place of each `$name`.
pub(crate) fn replace_placeholders(text: &str, with: impl Fn(&str) -> String) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut copied = 0;
    for (name, place) in placeholders(text) {
        replaced.push_str(&text[copied..place.start]);
        replaced.push_str(&with(&name));
        copied = place.end;
    }
    replaced.push_str(&text[copied..]);
    replaced
}

/// A text without the semicolons and blanks at its end, so that it can stand in parentheses. A comment that no line
/// end closes would swallow the parenthesis.
pub(crate) fn as_subquery(text: &str) -> String {
    let end = spanned(text).filter(|(token, _)| *token != Token::Punctuation(';')).last();
    format!("({}\n)", &text[..end.map_or(0, |(_, end)| end)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_code_only() {
        let text = "SELECT '$no', \"$no\", $t$ $no $t$, $Yes + $other -- $no\n, $1, $ no";
        let names: Vec<_> = placeholders(text).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["yes", "other"]);
        let replaced = replace_placeholders("a = $x AND b >= $y", |name| format!("<{name}>"));
        assert_eq!(replaced, "a = <x> AND b >= <y>");
    }

    #[test]
    fn one_without_a_name_is_found_in_code_only() {
        for (text, found) in [
            ("SELECT '?', \"$1\", $t$ ? $t$, $name -- ?\n", None),
            ("SELECT $ 1, 1", None),
            ("SELECT $name + ?", Some("?")),
            ("SELECT '?' || $12", Some("$12")),
        ] {
            assert_eq!(unnamed_placeholder(text), found, "{text}");
        }
    }

    #[test]
    fn a_subquery_ends_with_its_text() {
        assert_eq!(as_subquery("SELECT 1 ; -- done"), "(SELECT 1\n)");
        assert_eq!(as_subquery("SELECT ';'"), "(SELECT ';'\n)");
    }
}
