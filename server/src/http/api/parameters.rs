//! Parameters in JSON: an object is by name, an array by position. Integers are exact; what is larger than 64 bits
//! hold has to be sent as a text, and is refused as a number.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, NullArray, RecordBatch, StringArray, UInt64Array,
};
use arrow_schema::{Field, Schema};
use serde_json::value::RawValue;

use super::{double, listed::Listed, once::Once, problem::Problem};
use crate::{engine::Statement, failure::Failure};

/// So many parameters a statement may have, as in PostgreSQL's protocol. DuckDB has no limit of its own.
pub(super) const MOST: usize = 65_535;
/// What a value takes besides its text, however small it is: an array, a field and a name, and a value of DuckDB's.
const VALUE_BYTES: usize = 1 << 10;
/// So much needs no room, as with [small bodies](super::body).
const SMALL_BYTES: usize = 64 << 10;

/// The values for a statement's parameters, not read yet.
#[derive(Debug, Default)]
pub(super) enum Parameters<'a> {
    #[default]
    None,
    Named(BTreeMap<String, &'a RawValue>),
    Listed(Vec<&'a RawValue>),
}

impl<'a> Parameters<'a> {
    /// Takes an object or an array apart; null is no parameters at all.
    pub(super) fn find(json: &'a RawValue) -> Result<Self, Problem> {
        let malformed = |error: serde_json::Error| bad(&error.to_string());
        match json.get().as_bytes().first() {
            Some(b'{') => {
                let Once(values) = serde_json::from_str(json.get()).map_err(malformed)?;
                values.map(Self::Named).ok_or_else(too_many)
            }
            Some(b'[') => {
                let Listed(values) = serde_json::from_str(json.get()).map_err(malformed)?;
                values.map(Self::Listed).ok_or_else(too_many)
            }
            Some(b'n') => Ok(Self::None),
            _ => Err(bad("give an object, or an array")),
        }
    }

    /// The memory that a statement with them takes, beyond what everybody may have.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |json: &&RawValue| VALUE_BYTES + json.get().len();
        let all: usize = match self {
            Self::None => 0,
            Self::Named(values) => values.iter().map(|(name, json)| name.len() + bytes(json)).sum(),
            Self::Listed(values) => values.iter().map(bytes).sum(),
        };
        all.saturating_sub(SMALL_BYTES)
    }

    /// A statement with these parameters.
    pub(super) fn of(self, sql: String) -> Result<Statement, Problem> {
        let by_name = matches!(self, Self::Named(_));
        let values: Vec<(String, &RawValue)> = match self {
            Self::None => Vec::new(),
            Self::Named(values) => values.into_iter().collect(),
            Self::Listed(values) => (1..).map(|at: usize| at.to_string()).zip(values).collect(),
        };
        if values.is_empty() {
            return Ok(Statement::new(sql));
        }
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (name, json) in values {
            let value = value(&name, json)?;
            fields.push(Field::new(name, value.data_type().clone(), true));
            columns.push(value);
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
            .map_err(|error| Failure::internal(&error))?;
        Ok(Statement { sql, parameters: Some(batch), by_name, names: None })
    }
}

/// More of them than any statement has.
pub(super) fn too_many() -> Problem {
    Problem::bad_request(
        "TOO_MANY_PARAMETERS",
        &format!(
            "a statement takes {MOST} parameters at the most; send rows as an upload, or several statements"
        ),
    )
}

/// One value, as an array of it.
fn value(name: &str, json: &RawValue) -> Result<ArrayRef, Problem> {
    let text = json.get();
    let refused = |why: &str| bad(&format!("{name}: {why}"));
    Ok(match text.as_bytes().first() {
        Some(b'n') => Arc::new(NullArray::new(1)),
        Some(b't') => Arc::new(BooleanArray::from(vec![true])),
        Some(b'f') => Arc::new(BooleanArray::from(vec![false])),
        Some(b'"') => {
            let text: String = serde_json::from_str(text).map_err(|error| refused(&error.to_string()))?;
            Arc::new(StringArray::from(vec![text]))
        }
        Some(b'[' | b'{') => {
            return Err(refused("arrays and objects are no values here; send SQL's text of them"));
        }
        _ if text.contains(['.', 'e', 'E']) => {
            Arc::new(Float64Array::from(vec![double::read(text).map_err(refused)?]))
        }
        _ => match (text.parse::<i64>(), text.parse::<u64>()) {
            (Ok(number), _) => Arc::new(Int64Array::from(vec![number])),
            (_, Ok(number)) => Arc::new(UInt64Array::from(vec![number])),
            _ => return Err(refused("an integer beyond 64 bits has to be sent as a text")),
        },
    })
}

fn bad(why: &str) -> Problem {
    Problem::bad_request("BAD_PARAMETERS", &format!("the parameters cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use arrow_schema::DataType::{Boolean, Float64, Int64, Null, UInt64, Utf8};

    use super::*;

    fn read(json: &str) -> Result<Statement, Problem> {
        Parameters::find(serde_json::from_str(json).unwrap())?.of("SELECT 1".into())
    }

    #[test]
    fn every_value_gets_its_type() {
        let json = r#"[null, true, -9223372036854775808, 18446744073709551615, 0.5, 1e3, "\u00e4"]"#;
        let batch = read(json).unwrap().parameters.unwrap();
        let types: Vec<_> = batch.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        assert_eq!(types, [Null, Boolean, Int64, UInt64, Float64, Float64, Utf8]);
    }

    #[test]
    fn an_object_is_by_name() {
        let statement = read(r#"{"b": 1, "a": 2}"#).unwrap();
        assert!(statement.by_name);
        let schema = statement.parameters.unwrap().schema();
        assert_eq!((schema.field(0).name().as_str(), schema.field(1).name().as_str()), ("a", "b"));
        for nothing in ["{}", "[]", "null"] {
            assert!(read(nothing).unwrap().parameters.is_none(), "{nothing}");
        }
    }

    #[test]
    fn what_would_lose_digits_is_refused() {
        for json in [
            "[18446744073709551616]",
            "[-9223372036854775809]",
            "[1e999]",
            "[9007199254740993.0]",
            "[[1]]",
            "[{}]",
            "1",
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn no_statement_has_too_many_and_many_need_room() {
        let listed = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        let named = |count: usize| {
            let pairs: Vec<_> = (0..count).map(|name| format!("\"a{name}\":0")).collect();
            format!("{{{}}}", pairs.join(","))
        };
        let find =
            |json: &str| Parameters::find(serde_json::from_str(json).unwrap()).map(|found| found.bytes());
        for json in [listed(MOST), named(MOST)] {
            assert!(find(&json).unwrap() > MOST * VALUE_BYTES - SMALL_BYTES);
        }
        for json in [listed(MOST + 1), named(MOST + 1)] {
            assert_eq!(find(&json).unwrap_err().slug(), "TOO_MANY_PARAMETERS");
        }
        assert_eq!(find(&listed(50)).unwrap(), 0);
        assert!(find(&format!("[\"{}\"]", "x".repeat(1 << 20))).unwrap() > 900_000);
    }
}
