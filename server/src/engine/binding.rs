//! The values of a statement's parameters: which belongs to which is worked out once, and then each row of them is bound.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};

use super::{
    Class, Error, Result, Statement,
    ffi::{Prepared, bytes_for_bits},
    import::{import, imported},
};
use crate::{counted::counted, sql};

/// A plan's parameters and the columns whose values they get: by name where the parameters have names that the columns
/// have too, else by position.
pub(super) struct Binding<'a> {
    prepared: &'a Prepared,
    values: Option<&'a RecordBatch>,
    /// For each parameter.
    columns: Vec<usize>,
}

impl<'a> Binding<'a> {
    /// # Errors
    /// [`Error::SchemaMismatch`]; bytes where the statement casts a parameter to bits.
    pub(super) fn of(prepared: &'a Prepared, statement: &'a Statement) -> Result<Self> {
        // Also where this fails, nothing is left of values that were bound before.
        prepared.clear_bindings();
        let values = statement.parameters.as_ref();
        let names = prepared.parameter_names();
        let columns = values.map_or(0, RecordBatch::num_columns);
        if names.len() != columns {
            return Err(Error::SchemaMismatch(format!(
                "the statement has {}, and {} came with it; send one for each",
                counted(names.len(), "parameter"),
                counted(columns, "value")
            )));
        }
        let columns = match values {
            Some(values) => order(&names, statement, &values.schema())?,
            None => Vec::new(),
        };
        let binding = Self { prepared, values, columns };
        binding.refuse_bytes_for_bits(&names, &statement.sql)?;
        Ok(binding)
    }

    fn refuse_bytes_for_bits(&self, names: &[String], text: &str) -> Result<()> {
        let is_bytes = |field: &Field| field.data_type().is_binary();
        let Some(fields) = self.values.map(RecordBatch::schema_ref).map(|schema| schema.fields()) else {
            return Ok(());
        };
        let has_bytes = fields.iter().any(|field| is_bytes(field));
        let bits = if has_bytes { sql::cast_to_bits(text) } else { HashSet::new() };
        let mut bound = names.iter().zip(&self.columns);
        match bound.any(|(name, column)| bits.contains(&name.to_lowercase()) && is_bytes(&fields[*column])) {
            true => Err(bytes_for_bits().into()),
            false => Ok(()),
        }
    }

    /// Binds a row of the values.
    pub(super) fn bind(&self, row: usize) -> Result<()> {
        let Some(values) = self.values else { return Ok(()) };
        for (index, column) in self.columns.iter().enumerate() {
            let value = values.column(*column).slice(row, 1);
            bind_one(self.prepared, index + 1, values.schema_ref().field(*column), &value)?;
        }
        Ok(())
    }
}

/// Binds the first row of a statement's parameters, and nothing else.
pub(super) fn bind(prepared: &Prepared, statement: &Statement) -> Result<()> {
    Binding::of(prepared, statement)?.bind(0)
}

/// For each parameter the column that it is bound to.
fn order(names: &[String], statement: &Statement, schema: &Schema) -> Result<Vec<usize>> {
    // The numbers of `?` and `$1` are no names, whatever columns are called.
    let have_names = names.iter().any(|name| name.parse::<u64>().is_err());
    if !have_names && !statement.by_name {
        return Ok((0..names.len()).collect());
    }
    let column = |name: &String| {
        let mut columns =
            schema.fields().iter().enumerate().filter(|(_, field)| same_name(field.name(), name));
        match (columns.next(), columns.next()) {
            (Some((position, _)), None) => Some(position),
            _ => None,
        }
    };
    if let Some(columns) = names.iter().map(column).collect() {
        return Ok(columns);
    }
    let is_parameter = |field: &&Arc<Field>| names.iter().any(|name| same_name(field.name(), name));
    match schema.fields().iter().find(|field| !is_parameter(field)) {
        Some(unknown) if statement.by_name => Err(Error::SchemaMismatch(format!(
            "the statement has no parameter ${}; it has {}",
            unknown.name(),
            listed(names)
        ))),
        Some(_) => Ok((0..names.len()).collect()),
        None => Err(Error::SchemaMismatch(format!(
            "a parameter was sent twice; the statement has {}, each of which is sent once",
            listed(names)
        ))),
    }
}

/// DuckDB's names of parameters have no case.
fn same_name(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("${name}")).collect::<Vec<_>>().join(", ")
}

/// Binds the only value of an array, in a type that DuckDB takes without loss.
fn bind_one(prepared: &Prepared, index: usize, field: &Field, value: &ArrayRef) -> Result<()> {
    let what = format!("parameter {index}");
    let to = imported(field);
    let value = import(&what, value, &to)?;
    prepared.bind(index, &to, value.as_ref(), 0).map_err(|error| match error.class {
        Class::Unsupported => Error::UnsupportedType { what, data_type: field.data_type().to_string() },
        _ => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;

    use super::*;
    use crate::engine::ffi;

    fn row(columns: &[(&str, &str)]) -> RecordBatch {
        let fields = columns.iter().map(|(name, _)| Field::new(*name, arrow_schema::DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let value = |(_, value): &(&str, &str)| Arc::new(StringArray::from(vec![*value])) as ArrayRef;
        RecordBatch::try_new(schema, columns.iter().map(value).collect()).unwrap()
    }

    fn answer(prepared: &Prepared, columns: &[(&str, &str)], by_name: bool) -> Result<String> {
        let statement = Statement { parameters: Some(row(columns)), by_name, ..Statement::default() };
        bind(prepared, &statement)?;
        let batch = prepared.execute()?.next()?.unwrap();
        Ok(arrow_array::cast::AsArray::as_string::<i32>(batch.column(0)).value(0).to_owned())
    }

    #[test]
    fn nothing_is_left_of_values_that_were_bound_before() {
        let database = ffi::Database::open(None, &[]).unwrap();
        let connection = database.connect().unwrap();
        let plan = |sql| connection.extract(sql).unwrap().prepare(0).unwrap();
        let numbered = plan("SELECT concat_ws(' ', ?::VARCHAR, ?::VARCHAR)");
        assert_eq!(answer(&numbered, &[("1", "a"), ("2", "b")], false).unwrap(), "a b");
        // Numbers are no names: whatever columns are called, they stand in their order.
        assert_eq!(answer(&numbered, &[("1", "c"), ("1", "d")], false).unwrap(), "c d");
        assert_eq!(answer(&numbered, &[("2", "e"), ("1", "f")], false).unwrap(), "e f");
        assert_eq!(answer(&numbered, &[("2", "e"), ("1", "f")], true).unwrap(), "f e");
        let error = answer(&numbered, &[("1", "g")], false).unwrap_err().to_string();
        assert!(error.contains("2 parameters, and 1 value came"), "{error}");
        let error = numbered.execute().err().unwrap();
        assert!(error.message.contains("Values were not provided"), "{}", error.message);

        let named = plan("SELECT concat_ws(' ', $low::VARCHAR, $high::VARCHAR)");
        let [low, high] = [("low", "l"), ("HIGH", "h")];
        assert_eq!(answer(&named, &[high, low], false).unwrap(), "l h");
        assert_eq!(answer(&named, &[("x", "l"), ("y", "h")], false).unwrap(), "l h");
        for twice in [[low, low], [high, high]] {
            let error = answer(&named, &twice, false).unwrap_err();
            assert!(matches!(&error, Error::SchemaMismatch(text) if text.contains("twice")), "{error}");
        }
        assert!(answer(&named, &[low, ("y", "h")], true).is_err());
    }
}
