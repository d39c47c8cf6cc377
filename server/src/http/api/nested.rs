//! Arrays and objects of JSON as DuckDB writes lists, structs and maps in a text, where it casts one: its marks for
//! what a text has inside are others than those of JSON.

use serde_json::value::RawValue;

use super::{once::Once, problem::Problem};
use crate::{engine::Parameter, sql::quote_nested};

/// So deep may arrays and objects lie in each other.
const DEEPEST: usize = 64;

/// The text of a value for a parameter; `json` is an array, an object, a number or a truth value.
///
/// # Errors
/// `BAD_PARAMETER`.
pub(super) fn text_for(parameter: &Parameter, json: &RawValue) -> Result<String, Problem> {
    match Shape::of(&parameter.data_type) {
        Some(shape) => {
            let mut text = String::with_capacity(json.get().len());
            shape.write(&mut text, parameter, json, DEEPEST)?;
            Ok(text)
        }
        None => Ok(json.get().to_owned()),
    }
}

/// How the objects in a value of a nested type are written.
#[derive(Clone, Copy)]
struct Shape {
    /// What stands between a name and its value.
    is: char,
}

impl Shape {
    /// `None` where a text is wanted as it is: that of a JSON, or one that DuckDB has to understand.
    fn of(data_type: &str) -> Option<Self> {
        let data_type = data_type.to_uppercase();
        let has = |word: &str| data_type.contains(word);
        let is_nested = data_type.ends_with(']') || has("STRUCT(") || has("ROW(") || has("MAP(");
        let is_plain = is_nested && !has("JSON") && !has("UNION(");
        is_plain.then(|| Self { is: if has("MAP(") && !has("STRUCT(") && !has("ROW(") { '=' } else { ':' } })
    }

    fn write(
        self,
        text: &mut String,
        parameter: &Parameter,
        json: &RawValue,
        depth: usize,
    ) -> Result<(), Problem> {
        let refused = |why: &str| {
            Problem::bad_request("BAD_PARAMETER", &format!("the parameter {}: {why}", parameter.name))
        };
        let malformed = |error: serde_json::Error| refused(&error.to_string());
        let too_deep = || refused(&format!("it is more than {DEEPEST} levels deep"));
        let deeper = || depth.checked_sub(1).ok_or_else(too_deep);
        match json.get().as_bytes().first() {
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(json.get()).map_err(malformed)?;
                let depth = deeper()?;
                self.write_all(text, "[]", items, |text, item| self.write(text, parameter, item, depth))
            }
            Some(b'{') => {
                let Once(members) = serde_json::from_str::<Once<&RawValue>>(json.get()).map_err(malformed)?;
                let members = members.ok_or_else(|| refused("it has too many members"))?;
                let depth = deeper()?;
                self.write_all(text, "{}", members, |text, (name, value)| {
                    text.push_str(&quote_nested(&name));
                    text.push(self.is);
                    self.write(text, parameter, value, depth)
                })
            }
            Some(b'"') => {
                let inside: String = serde_json::from_str(json.get()).map_err(malformed)?;
                text.push_str(&quote_nested(&inside));
                Ok(())
            }
            Some(b'n') => {
                text.push_str("NULL");
                Ok(())
            }
            _ => {
                // DuckDB reads a number in the midst of a text as it reads it alone.
                parameter.check_item(json.get())?;
                text.push_str(json.get());
                Ok(())
            }
        }
    }

    fn write_all<T>(
        self,
        text: &mut String,
        brackets: &str,
        items: impl IntoIterator<Item = T>,
        write: impl Fn(&mut String, T) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let (open, close) = brackets.split_at(1);
        text.push_str(open);
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            write(text, item)?;
        }
        text.push_str(close);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(data_type: &str, json: &str) -> Result<String, Problem> {
        let data_type = data_type.to_owned();
        let parameter =
            Parameter { name: "p".into(), data_type, default: None, optional: false, description: None };
        text_for(&parameter, serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_json_marks_is_marked_for_duckdb() {
        for (data_type, json, wanted) in [
            (
                "VARCHAR[]",
                r#"["Z\u00fcrich", "a\n\"\\", null, "NULL", ""]"#,
                "[\"Zürich\",\"a\n\\\"\\\\\",NULL,\"NULL\",\"\"]",
            ),
            ("integer[][3]", "[[1, 2], [], null]", "[[1,2],[],NULL]"),
            (
                "STRUCT(a VARCHAR, b DOUBLE[])",
                r#"{"a": "it's", "b": [1.5, 1e3]}"#,
                r#"{"a":"it's","b":[1.5,1e3]}"#,
            ),
            ("MAP(VARCHAR, BIGINT)", r#"{"a:b": 1}"#, r#"{"a:b"=1}"#),
            ("JSON", r#"{"a": [1, "\u00fc"]}"#, r#"{"a": [1, "\u00fc"]}"#),
            ("VARCHAR", "[1, 2]", "[1, 2]"),
            ("DOUBLE", "1.50", "1.50"),
        ] {
            assert_eq!(text(data_type, json).unwrap(), wanted, "{data_type}");
        }
    }

    #[test]
    fn what_would_be_rounded_or_lost_is_refused() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for (data_type, json) in [
            ("INTEGER[]", "[1.5]"),
            ("TINYINT[][]", "[[300]]"),
            ("STRUCT(a INTEGER)", r#"{"a": 1, "a": 2}"#),
            ("VARCHAR[]", deep.as_str()),
        ] {
            assert!(text(data_type, json).is_err(), "{data_type}");
        }
    }
}
