//! A named query is checked before anybody can call it.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use arrow_schema::{Schema, SchemaRef};

use super::{NamedQuery, Parameter, Result, casts, definition::Input, wrong};
use crate::{
    engine::{
        Exports, OptionValue,
        ffi::{Connection, Prepared},
        posted::Redirects,
        statement::prepare_one,
        types,
    },
    sql::{as_subquery, has_parameter_at, quote, replace_placeholders, write_at},
};

/// A query that was checked.
#[derive(Debug)]
pub struct QueryCard {
    /// Its name.
    pub name: String,
    /// What it answers, for people.
    pub description: Option<String>,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// The columns of its result.
    pub schema: SchemaRef,
    /// Rows that come with a request, where it takes some.
    pub input: Option<Input>,
    /// The columns of these rows; empty where it takes none.
    pub input_schema: SchemaRef,
    /// The statement, with a cast around every parameter.
    pub(super) sql: String,
    /// A parameter stands in AT, where no value can be bound.
    pub(super) has_parameter_at: bool,
}

/// Plans the query with typed parameters.
pub(super) fn check(query: &NamedQuery, connection: &Connection) -> Result<QueryCard> {
    check_types(query, connection)?;
    // What it would be planned with is known only in a call; but it has to be SQL.
    let at_some = write_at(&query.sql, |_| Some("1".into()));
    connection.extract(&at_some).map_err(|error| wrong(query, error.message))?;
    let mut redirects = Redirects::default();
    if let Some(input) = &query.input {
        connection.execute(&input.create_sql()).map_err(|error| wrong(query, error.message))?;
        redirects =
            Redirects::make(connection, &input.name).map_err(|error| wrong(query, error.to_string()))?;
        if let Some((table, columns)) = redirects.table(connection) {
            input.check_order(&table, &columns).map_err(|reason| wrong(query, reason))?;
        }
    }
    let checked = plan(query, connection, &redirects);
    redirects.clear(connection)?;
    let mut input_schema = Arc::new(Schema::empty());
    if let Some(input) = &query.input {
        let table = format!("temp.main.{}", quote(&input.name));
        input_schema = schema_of(query, &format!("FROM {table}"), connection)?;
        connection.execute(&format!("DROP TABLE {table}"))?;
    }
    let (sql, schema) = checked?;
    Ok(QueryCard {
        name: query.name.clone(),
        description: query.description.clone(),
        parameters: query.parameters.clone(),
        schema,
        input: query.input.clone(),
        input_schema,
        has_parameter_at: has_parameter_at(&sql),
        sql,
    })
}

/// The statement and the columns of its result.
fn plan(query: &NamedQuery, connection: &Connection, redirects: &Redirects) -> Result<(String, SchemaRef)> {
    let over_rows = |sql: &str| {
        let sql = with_examples(query, sql);
        redirects
            .of_query(connection, &sql)
            .map(Cow::into_owned)
            .map_err(|error| wrong(query, error.to_string()))
    };
    let sql = replace_placeholders(&query.sql, |name| with_type(query, name, &format!("${name}")));
    let prepared = reading(query, &over_rows(&sql)?, connection)?;
    let schema = columns_of(query, &prepared)?;
    let sql = returning(query, &sql, &schema)?;
    casts::check(query, &prepared, connection)?;
    let schema = schema_of(query, &over_rows(&sql)?, connection)?;
    Ok((sql, schema))
}

/// A statement with values: the columns of some table functions are known only then.
fn with_examples(query: &NamedQuery, sql: &str) -> String {
    let sql = write_at(sql, |name| default_of(query, name).map(OptionValue::text));
    replace_placeholders(&sql, |name| example(query, name))
}

fn default_of<'a>(query: &'a NamedQuery, name: &str) -> Option<&'a OptionValue> {
    query.parameter(name)?.default.as_ref()
}

/// A value of a parameter: its default, or NULL.
pub(super) fn example(query: &NamedQuery, name: &str) -> String {
    default_of(query, name).map_or("NULL".into(), OptionValue::sql)
}

fn schema_of(query: &NamedQuery, sql: &str, connection: &Connection) -> Result<SchemaRef> {
    columns_of(query, &reading(query, sql, connection)?)
}

/// The plan of a statement that reads.
fn reading(query: &NamedQuery, sql: &str, connection: &Connection) -> Result<Prepared> {
    let prepared =
        prepare_one(connection, &Exports::default(), sql).map_err(|error| wrong(query, error.to_string()))?;
    match prepared.kind().may_read() {
        true => Ok(prepared),
        false => Err(wrong(query, "it is no query: it must read, and nothing else")),
    }
}

/// The columns that callers see.
fn columns_of(query: &NamedQuery, prepared: &Prepared) -> Result<SchemaRef> {
    let schema = prepared.schema().map_err(|error| wrong(query, error.message))?;
    let mut names = std::collections::HashSet::new();
    if let Some(twice) = schema.fields().iter().find(|field| !names.insert(field.name().to_lowercase())) {
        return Err(wrong(query, format!("two columns of its result are called {:?}", twice.name())));
    }
    Ok(types::Wire::new(&schema).schema())
}

/// The value of a parameter in its type.
pub(super) fn with_type(query: &NamedQuery, name: &str, value: &str) -> String {
    match query.parameter(name) {
        Some(parameter) => format!("CAST({value} AS {})", parameter.data_type),
        None => value.to_owned(),
    }
}

/// The statement with just its present columns, in the types that are promised, if any. The order is that of the
/// query.
fn returning(query: &NamedQuery, sql: &str, schema: &SchemaRef) -> Result<String> {
    let columns = schema.fields().iter().map(|field| column(query, field.name()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    match query.returns.iter().flat_map(BTreeMap::keys).find(|name| schema.index_of(name).is_err()) {
        Some(missing) => Err(wrong(query, format!("its result lacks the column {missing:?} of `returns`"))),
        None => Ok(format!("SELECT {} FROM {} AS r", columns.join(", "), as_subquery(sql))),
    }
}

fn column(query: &NamedQuery, name: &str) -> Result<String> {
    let quoted = quote(name);
    let Some(returns) = &query.returns else { return Ok(format!("r.{quoted}")) };
    match returns.get(name) {
        Some(data_type) => Ok(format!("CAST(r.{quoted} AS {data_type}) AS {quoted}")),
        None => Err(wrong(query, format!("its result has a column {name:?} that `returns` lacks"))),
    }
}

/// Every type that is mentioned must be one, and every default must be of its type.
fn check_types(query: &NamedQuery, connection: &Connection) -> Result<()> {
    let check = |what: &str, expression: &str| {
        let sql = format!("SELECT {expression}");
        let ran = prepare_one(connection, &Exports::default(), &sql)
            .and_then(|prepared| Ok(prepared.execute()?.next().map(drop)?));
        ran.map_err(|error| wrong(query, format!("{what}: {error}")))
    };
    for parameter in &query.parameters {
        let value = example(query, &parameter.name);
        check(
            &format!("parameter {}", parameter.name),
            &format!("CAST({value} AS {})", parameter.data_type),
        )?;
        // The cast rounds; a caller could not give such a value.
        parameter.default.as_ref().map_or(Ok(()), |value| {
            parameter.checked(value.text()).map(drop).map_err(|error| wrong(query, error.to_string()))
        })?;
    }
    for (column, data_type) in query.returns.iter().flatten() {
        check(&format!("returns {column}"), &format!("CAST(NULL AS {data_type})"))?;
    }
    for (column, data_type) in query.input.iter().flat_map(|input| &input.columns) {
        check(&format!("input column {column}"), &format!("CAST(NULL AS {data_type})"))?;
    }
    Ok(())
}

impl Input {
    /// An empty relation for it.
    pub(super) fn create_sql(&self) -> String {
        let columns: Vec<_> =
            self.columns.iter().map(|(name, data_type)| format!("{} {data_type}", quote(name))).collect();
        format!("CREATE TEMP TABLE {} ({})", quote(&self.name), columns.join(", "))
    }

    /// Views over the stored table that these rows stand for may go by the places of its columns, as UNION ALL does. So the
    /// columns have to be in its order, and what it lacks behind them.
    fn check_order(&self, table: &str, stored: &[String]) -> Result<(), String> {
        let place = |name: &str| {
            let found = stored.iter().position(|column| column.eq_ignore_ascii_case(name));
            found.unwrap_or(usize::MAX)
        };
        let mut columns: Vec<_> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        if columns.is_sorted_by_key(|name| place(name)) {
            return Ok(());
        }
        columns.sort_by_key(|name| place(name));
        Err(format!(
            "its input has the name of the table {table}, and the columns of that in another order; views over the table may \
             go by their places, so write them in its order: {}",
            columns.join(", ")
        ))
    }
}
