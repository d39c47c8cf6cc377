//! Names in the Arrow schemas of clients. The C interface by which schemas reach DuckDB, and go from there, ends each of
//! them at its first NUL; Arrow's library panics instead.

use arrow_schema::{DataType, Schema};

use super::{Error, Result};

/// Refuses names and time zones, at any depth, that hold the character NUL.
///
/// # Errors
/// [`Error::BadName`]; [`Error::SchemaMismatch`] for a time zone.
pub(crate) fn check_names(schema: &Schema) -> Result<()> {
    for field in schema.flattened_fields() {
        if field.name().contains('\0') {
            return Err(Error::BadName("a column's name contains the character NUL".into()));
        }
        if zone(field.data_type()).is_some_and(|zone| zone.contains('\0')) {
            return Err(Error::SchemaMismatch("the time zone of a column contains the character NUL".into()));
        }
    }
    Ok(())
}

/// The time zone of a type; one of the values of a dictionary is in no field.
fn zone(data_type: &DataType) -> Option<&str> {
    match data_type {
        DataType::Timestamp(_, zone) => zone.as_deref(),
        DataType::Dictionary(_, values) => zone(values),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{Field, TimeUnit};

    use super::*;

    #[test]
    fn nul_is_found_at_any_depth() {
        let long = |name: &str| Arc::new(Field::new(name, DataType::Int64, true));
        let list = |name: &str, item| Field::new(name, DataType::List(item), true);
        let map = |key: &str| {
            let members = vec![long(key), long("value")];
            let entries = Field::new("entries", DataType::Struct(members.into()), false);
            Field::new("m", DataType::Map(Arc::new(entries), false), true)
        };
        let time = |zone: &str| DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
        let values = |values| DataType::Dictionary(Box::new(DataType::Int8), Box::new(values));
        let check = |field: Field| check_names(&Schema::new(vec![field]));
        for good in [list("l", long("item")), map("key"), Field::new("t", values(time("UTC")), true)] {
            assert!(check(good).is_ok());
        }
        for bad in [list("a\0b", long("item")), list("l", long("x\0y")), map("ke\0y")] {
            assert!(matches!(check(bad), Err(Error::BadName(_))));
        }
        for bad in [
            time("UT\0C"),
            values(time("UT\0C")),
            DataType::List(Arc::new(Field::new("item", time("\0"), true))),
        ] {
            assert!(matches!(check(Field::new("t", bad, true)), Err(Error::SchemaMismatch(_))));
        }
    }
}
