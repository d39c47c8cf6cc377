//! Parameters in JSON: an object is by name, an array by position. Integers are exact; what is larger than 64 bits
//! hold has to be sent as a text, and is refused as a number.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, NullArray, RecordBatch, StringArray, UInt64Array,
};
use arrow_schema::{Field, Schema};
use serde_json::value::RawValue;

use super::{double, once::Once, problem::Problem};
use crate::{engine::Statement, failure::Failure};

/// The values for a statement's parameters.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    values: Vec<(String, ArrayRef)>,
    by_name: bool,
}

impl Parameters {
    /// Reads an object or an array; null is no parameters at all.
    pub(super) fn read(json: &RawValue) -> Result<Self, Problem> {
        let malformed = |error: serde_json::Error| bad(&error.to_string());
        match json.get().as_bytes().first() {
            Some(b'{') => {
                let Once(values) = serde_json::from_str::<Once<&RawValue>>(json.get()).map_err(malformed)?;
                let values = values.into_iter().map(|(name, json)| {
                    let value = value(&name, json)?;
                    Ok((name, value))
                });
                Ok(Self { values: values.collect::<Result<_, Problem>>()?, by_name: true })
            }
            Some(b'[') => {
                let values: Vec<&RawValue> = serde_json::from_str(json.get()).map_err(malformed)?;
                let values = values.into_iter().enumerate().map(|(at, json)| {
                    let name = (at + 1).to_string();
                    let value = value(&name, json)?;
                    Ok((name, value))
                });
                Ok(Self { values: values.collect::<Result<_, Problem>>()?, by_name: false })
            }
            Some(b'n') => Ok(Self::default()),
            _ => Err(bad("give an object, or an array")),
        }
    }

    /// A statement with these parameters.
    pub(super) fn of(self, sql: String) -> Result<Statement, Problem> {
        if self.values.is_empty() {
            return Ok(Statement::new(sql));
        }
        let fields =
            self.values.iter().map(|(name, value)| Field::new(name, value.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = self.values.into_iter().map(|(_, value)| value).collect();
        let batch = RecordBatch::try_new(schema, columns).map_err(|error| Failure::internal(&error))?;
        Ok(Statement { sql, parameters: Some(batch), by_name: self.by_name, names: None })
    }
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
        Parameters::read(serde_json::from_str(json).unwrap())?.of("SELECT 1".into())
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
}
