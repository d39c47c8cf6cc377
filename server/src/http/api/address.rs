//! What an address says after its `?`: names and values, percent-encoded, in UTF-8.

use axum::http::Uri;
use percent_encoding::percent_decode_str;

use super::problem::Problem;
use crate::engine::excerpt;

/// Names and values, in their order. A name without `=` has an empty value.
///
/// # Errors
/// `BAD_PARAMETER` for one that is not UTF-8: a value with other characters in place of its own would be another value.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = Result<(String, String), Problem>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name).ok_or_else(|| bad_text("the name of a parameter"))?;
        let value = decoded(value).ok_or_else(|| bad_text(&format!("the value of {:?}", excerpt(&name))))?;
        Ok((name, value))
    })
}

/// Refuses a name that is not one of these: what is misspelt would otherwise be done without.
///
/// # Errors
/// `BAD_PARAMETER`.
pub(super) fn only(uri: &Uri, known: &[&str]) -> Result<(), Problem> {
    for pair in pairs(uri.query().unwrap_or_default()) {
        let (name, _) = pair?;
        if !known.contains(&name.as_str()) {
            let there = if known.is_empty() { "none".into() } else { known.join(", ") };
            let text =
                format!("there is no parameter {:?} in this address; there is {there}", excerpt(&name));
            return Err(Problem::bad_request("BAD_PARAMETER", &text));
        }
    }
    Ok(())
}

/// That somebody has said the same thing twice, and perhaps not meant the same.
pub(super) fn twice(name: &str) -> Problem {
    Problem::bad_request("BAD_PARAMETER", &format!("the parameter {name:?} is there twice"))
}

/// That something in the address is no text.
pub(super) fn bad_text(what: &str) -> Problem {
    Problem::bad_request("BAD_PARAMETER", &format!("{what} is not UTF-8, percent-encoded; send it so"))
}

fn decoded(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Option<Vec<(String, String)>> {
        pairs(query).map(Result::ok).collect()
    }

    #[test]
    fn names_and_values_are_decoded() {
        let expected = [("a b", "c=d"), ("ä", "1+1 %"), ("total", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read("a+b=c%3Dd&&%C3%A4=1%2B1+%&total").unwrap(), expected);
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn a_name_that_is_not_known_is_refused() {
        for (address, known, taken) in [
            ("/", &[][..], true),
            ("/?", &[], true),
            ("/?format=csv", &["format"], true),
            ("/?form%61t=csv&format=json", &["format"], true),
            ("/?fromat=csv", &["format"], false),
            ("/?format=csv&limit=1", &["format"], false),
            ("/?format=csv", &[], false),
        ] {
            assert_eq!(only(&Uri::from_static(address), known).is_ok(), taken, "{address}");
        }
    }

    #[test]
    fn what_is_not_utf8_is_refused() {
        for query in ["city=%ff", "%ff=1", "a=1&b=%C3", "a=%ED%A0%80"] {
            assert_eq!(read(query), None, "{query}");
        }
    }
}
