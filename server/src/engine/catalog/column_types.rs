//! The Arrow type of a column from DuckDB's name of its type, without preparing anything a table.

use std::collections::{BTreeSet, HashMap};

use arrow_schema::{DataType, Field, FieldRef};

use crate::engine::{Result, ffi::Connection, statement::extract_own, types};

/// Types asked for in one plan, and their bytes: a text of SQL has a largest size.
const TYPES_A_PLAN: usize = 500;
const BYTES_A_PLAN: usize = 256 << 10;

/// The field that a SELECT gives for each SQL type.
pub(super) struct ColumnTypes(HashMap<String, FieldRef>);

impl ColumnTypes {
    /// Asks DuckDB for all types at once, by plans that cast NULL to each.
    ///
    /// # Errors
    /// None that a type causes: one that cannot be planned is text.
    pub(super) fn of<'a>(connection: &Connection, types: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let distinct: Vec<&str> = BTreeSet::from_iter(types).into_iter().collect();
        let mut fields = HashMap::with_capacity(distinct.len());
        for types in plans(&distinct) {
            let planned = match plan(connection, types) {
                Ok(planned) => planned,
                // One of them spoils it for all: an enumeration of a megabyte, say.
                Err(_) => types
                    .iter()
                    .map(|sql_type| plan(connection, &[sql_type]).unwrap_or_else(|_| vec![utf8()])[0].clone())
                    .collect(),
            };
            fields.extend(types.iter().map(|sql_type| (*sql_type).to_owned()).zip(planned));
        }
        Ok(Self(fields))
    }

    /// A column of this type.
    pub(super) fn field(&self, name: &str, sql_type: &str, nullable: bool) -> Field {
        let field = self.0.get(sql_type).cloned().unwrap_or_else(utf8);
        // A union is never nullable on the wire.
        let nullable = nullable && field.is_nullable();
        field.as_ref().clone().with_name(name).with_nullable(nullable)
    }
}

fn utf8() -> FieldRef {
    Field::new("", DataType::Utf8, true).into()
}

/// Slices that are small enough for one plan.
fn plans<'a>(mut types: &'a [&'a str]) -> Vec<&'a [&'a str]> {
    let mut plans = Vec::new();
    while !types.is_empty() {
        let mut bytes = 0;
        let fits = types.iter().take(TYPES_A_PLAN).take_while(|sql_type| {
            bytes += sql_type.len();
            bytes <= BYTES_A_PLAN
        });
        let (plan, rest) = types.split_at(fits.count().max(1));
        plans.push(plan);
        types = rest;
    }
    plans
}

fn plan(connection: &Connection, sql_types: &[&str]) -> Result<Vec<FieldRef>> {
    let casts: Vec<_> = sql_types.iter().map(|sql_type| format!("CAST(NULL AS {sql_type})")).collect();
    let prepared = extract_own(connection, &format!("SELECT {}", casts.join(", ")))?.prepare(0)?;
    Ok(types::wire_schema(&prepared.schema()?).fields().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_are_bounded_in_count_and_in_bytes() {
        let many = vec!["INTEGER"; TYPES_A_PLAN + 1];
        assert_eq!(plans(&many).iter().map(|plan| plan.len()).collect::<Vec<_>>(), [TYPES_A_PLAN, 1]);
        let large = "x".repeat(BYTES_A_PLAN + 1);
        let types = ["a", large.as_str(), "b"];
        assert_eq!(plans(&types).iter().map(|plan| plan.len()).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(plans(&[]).is_empty());
    }
}
