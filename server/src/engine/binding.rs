//! The values of a statement's parameters: which belongs to which is worked out once, and then each row of them is bound.

use std::{collections::HashSet, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Schema};

use super::{
    Class, Error, Result, Statement,
    ffi::{Prepared, bytes_for_bits},
    import::{import, imported},
    types::Extension,
};
use crate::{counted::counted, sql};

/// A plan's parameters and their values: by name where the parameters have names that the columns have too, else by
/// position.
pub(super) struct Binding<'a> {
    prepared: &'a Prepared,
    /// For each parameter its values, one a row.
    values: Vec<(FieldRef, ArrayRef)>,
}

impl<'a> Binding<'a> {
    /// # Errors
    /// [`Error::SchemaMismatch`]; bytes where the statement casts a parameter to bits.
    pub(super) fn of(prepared: &'a Prepared, statement: &Statement) -> Result<Self> {
        // Also where this fails, nothing is left of values that were bound before.
        prepared.clear_bindings();
        let names = prepared.parameter_names();
        let columns = statement.parameters.as_ref().map_or(0, RecordBatch::num_columns);
        if names.len() != columns {
            return Err(Error::SchemaMismatch(format!(
                "the statement has {}, and {} came with it; send one for each",
                counted(names.len(), "parameter"),
                counted(columns, "value")
            )));
        }
        let Some(batch) = &statement.parameters else { return Ok(Self { prepared, values: Vec::new() }) };
        let schema = batch.schema_ref();
        let column = |at| (Arc::clone(&schema.fields()[at]), Arc::clone(batch.column(at)));
        let mut values: Vec<_> = order(&names, statement, schema)?.into_iter().map(column).collect();
        refuse_bytes_for_bits(&names, &values, &statement.sql)?;
        // DuckDB plans a statement anew for each row where a value's type is not the one that it has planned for.
        if batch.num_rows() > 1 && sql::parameters_inserted(&statement.sql) == Some(names.len()) {
            for (value, wanted) in values.iter_mut().zip(prepared.parameter_schema()?.fields()) {
                have_type(value, wanted.data_type());
            }
        }
        Ok(Self { prepared, values })
    }

    /// Binds a row of the values.
    pub(super) fn bind(&self, row: usize) -> Result<()> {
        self.values.iter().enumerate().try_for_each(|(index, (field, values))| {
            bind_one(self.prepared, index + 1, field, &values.slice(row, 1))
        })
    }
}

fn refuse_bytes_for_bits(names: &[String], values: &[(FieldRef, ArrayRef)], text: &str) -> Result<()> {
    let is_bytes = |(field, _): &(FieldRef, ArrayRef)| field.data_type().is_binary();
    let bits = if values.iter().any(is_bytes) { sql::cast_to_bits(text) } else { HashSet::new() };
    let mut bound = names.iter().zip(values);
    match bound.any(|(name, value)| bits.contains(&name.to_lowercase()) && is_bytes(value)) {
        true => Err(bytes_for_bits().into()),
        false => Ok(()),
    }
}

/// Gives whole numbers the type of their column where that is another one of numbers, as those of Python are all of 64
/// bits, and where DuckDB would do the same. It is left to DuckDB to refuse what does not fit.
fn have_type((field, values): &mut (FieldRef, ArrayRef), wanted: &DataType) {
    let may = field.data_type().is_integer() && (wanted.is_integer() || wanted.is_floating());
    if !may || field.data_type() == wanted || Extension::of(field).is_some() {
        return;
    }
    if let Ok(cast) = arrow_cast::cast(values, wanted)
        && cast.null_count() == values.null_count()
    {
        *field = Arc::new(Field::new(field.name(), wanted.clone(), true));
        *values = cast;
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
    use arrow_array::{Array, Int64Array, StringArray, cast::AsArray};

    use super::*;
    use crate::engine::ffi;

    fn row(columns: &[(&str, &str)]) -> RecordBatch {
        let fields = columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let value = |(_, value): &(&str, &str)| Arc::new(StringArray::from(vec![*value])) as ArrayRef;
        RecordBatch::try_new(schema, columns.iter().map(value).collect()).unwrap()
    }

    fn answer(prepared: &Prepared, columns: &[(&str, &str)], by_name: bool) -> Result<String> {
        let statement = Statement { parameters: Some(row(columns)), by_name, ..Statement::default() };
        bind(prepared, &statement)?;
        let batch = prepared.execute()?.next()?.unwrap();
        Ok(batch.column(0).as_string::<i32>().value(0).to_owned())
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

    /// What a statement of many rows inserts, as text, or why it does not.
    fn inserted(table: &str, sql: &str, values: &ArrayRef) -> std::result::Result<Vec<String>, String> {
        let database = ffi::Database::open(None, &[]).unwrap();
        let connection = database.connect().unwrap();
        connection.execute(table).unwrap();
        let prepared = connection.extract(sql).unwrap().prepare(0).unwrap();
        let parameters = RecordBatch::try_from_iter([("1", Arc::clone(values))]).unwrap();
        let statement = Statement { parameters: Some(parameters), ..Statement::new(sql) };
        let binding = Binding::of(&prepared, &statement).map_err(|error| error.to_string())?;
        for row in 0..values.len() {
            binding.bind(row).map_err(|error| error.to_string())?;
            prepared.execute().map_err(|error| error.message)?;
        }
        let stored = "SELECT COLUMNS(*)::VARCHAR FROM t";
        let mut rows = connection.extract(stored).unwrap().prepare(0).unwrap().execute().unwrap();
        let batch = rows.next().unwrap().unwrap();
        let columns = batch.columns().iter().map(|column| column.as_string::<i32>());
        Ok(columns.flat_map(|column| column.iter().map(|text| text.unwrap_or("NULL").to_owned())).collect())
    }

    #[test]
    fn whole_numbers_of_many_rows_are_stored_as_duckdb_would() {
        let long: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None, Some(-3)]));
        for (data_type, stored) in [
            ("TINYINT", ["7", "NULL", "-3"]),
            ("INTEGER", ["7", "NULL", "-3"]),
            ("DOUBLE", ["7.0", "NULL", "-3.0"]),
            ("DECIMAL(4,1)", ["7.0", "NULL", "-3.0"]),
            ("VARCHAR", ["7", "NULL", "-3"]),
        ] {
            let table = format!("CREATE TABLE t (i {data_type})");
            assert_eq!(inserted(&table, "INSERT INTO t VALUES (?)", &long).unwrap(), stored, "{data_type}");
        }
        let refused = inserted("CREATE TABLE t (i UTINYINT)", "INSERT INTO t VALUES (?)", &long).unwrap_err();
        assert!(refused.contains("out of range"), "{refused}");
        // One parameter of two columns: the type of the first would show in the other.
        let both = inserted("CREATE TABLE t (d DOUBLE, v VARCHAR)", "INSERT INTO t VALUES ($1, $1)", &long);
        assert_eq!(both.unwrap(), ["7.0", "NULL", "-3.0", "7", "NULL", "-3"]);
        // What is computed is computed of what has come.
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![2_000_000_000, 1]));
        let sum =
            inserted("CREATE TABLE t (i BIGINT)", "INSERT INTO t VALUES (? + 2000000000::INTEGER)", &wide);
        assert_eq!(sum.unwrap(), ["4000000000", "2000000001"]);
    }
}
