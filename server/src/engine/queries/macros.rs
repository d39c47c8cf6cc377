//! Named queries as table macros, for every client that speaks SQL.
//!
//! A macro's parameter stands for every column of its name, so that a query could not have a parameter `region`
//! and read a column `region`. Hence two macros a query: an inner one, whose parameters have names that no query
//! uses, and an outer one with the names that callers know, which only calls the inner.
//!
//! DuckDB 1.5.5 checks a macro when it is created, by rules that the call does not have: it refuses the outer macro
//! where a parameter and a column have one name. A parameter that has no type yet ends that check early, which is
//! what the outer macro's last parameter is for.

use super::{
    Error, NamedQuery, QUERIES, QueryCard, Result,
    check::{example, with_type},
    whole::{self, whole_type},
    wrong,
};
use crate::{
    engine::{ffi::Connection, types::sql_type},
    sql::{literal, quote, replace_placeholders},
};

/// How a macro's body mentions a parameter. The plain form lets DuckDB push filters down to the files; beside GROUP
/// BY and in HAVING it does not bind, and a subquery does.
const FORMS: [fn(String) -> String; 2] = [|value| value, |value| format!("(SELECT {value})")];

/// The outer macro's last parameter, as DuckDB lists it among those that a call may have.
const UNUSED: &str = "__merganser_unused := NULL";

/// A text of DuckDB without the parameter that no call has.
pub(in crate::engine) fn without_unused(message: String) -> String {
    match message.contains(UNUSED) {
        true => message.replace(&format!(", {UNUSED}"), "").replace(UNUSED, ""),
        false => message,
    }
}

/// Makes what SQL can call of a query: the query, or what says how it is called instead.
pub(super) fn create_callable(query: &NamedQuery, card: &QueryCard, connection: &Connection) -> Result<()> {
    let name = &query.name;
    let instead = |how: String| create_refusal(query, card, connection, &how);
    if query.input.is_some() {
        return instead(format!(
            "the query {name} answers from rows that are sent with it; call it by DoExchange with the path \
             [\"{QUERIES}\", \"{name}\"], or over HTTP by POST /v1/queries/{name}"
        ));
    }
    if card.has_parameter_at {
        return instead(format!(
            "the query {name} has a parameter in AT (...), which no call from SQL can give; call it by a descriptor with the \
             path [\"{QUERIES}\", \"{name}\"], or over HTTP"
        ));
    }
    create(query, card, connection)
}

/// Makes a macro that has a query's columns, and says how to call the query instead.
fn create_refusal(query: &NamedQuery, card: &QueryCard, connection: &Connection, text: &str) -> Result<()> {
    let columns = card.schema.fields().iter().map(|field| {
        // A type that has no name in SQL is none that matters: there are no rows.
        let value = sql_type(field).map_or("NULL".into(), |data_type| format!("CAST(NULL AS {data_type})"));
        format!("{value} AS {}", quote(field.name()))
    });
    let columns: Vec<_> = columns.collect();
    create_error(query, connection, text, &columns.join(", "))
}

/// Makes a macro of a query that cannot be answered, which says so.
pub(super) fn create_missing(query: &NamedQuery, connection: &Connection) -> Result<()> {
    let text = Error::QueryUnavailable(query.name.clone()).to_string();
    create_error(query, connection, &text, "NULL AS unavailable")
}

/// Makes a macro with a query's parameters, which selects this, and fails when it runs. A condition is evaluated whatever is
/// wanted of the rows; a column is not.
fn create_error(query: &NamedQuery, connection: &Connection, text: &str, selected: &str) -> Result<()> {
    let parameters: Vec<_> =
        query.parameters.iter().map(|parameter| format!("{} := NULL", quote(&parameter.name))).collect();
    let name = format!("{QUERIES}.main.{}", quote(&query.name));
    let sql = format!(
        "CREATE OR REPLACE MACRO {name}({}) AS TABLE SELECT {selected} WHERE CAST(error({}) AS BOOLEAN)",
        parameters.join(", "),
        literal(text)
    );
    connection.execute(&sql).map(drop).map_err(|error| wrong(query, error.message))
}

/// Makes both macros of a query.
fn create(query: &NamedQuery, card: &QueryCard, connection: &Connection) -> Result<()> {
    for whole in query.parameters.iter().filter_map(|parameter| whole_type(&parameter.data_type)) {
        connection.execute(&whole::macro_sql(whole)).map_err(|error| wrong(query, error.message))?;
    }
    let mut reason = String::new();
    for form in FORMS {
        match try_form(query, card, connection, form) {
            Ok(()) => return Ok(()),
            Err(error) => reason = error,
        }
    }
    Err(wrong(query, format!("it cannot be a macro: {reason}")))
}

fn try_form(
    query: &NamedQuery,
    card: &QueryCard,
    connection: &Connection,
    form: fn(String) -> String,
) -> std::result::Result<(), String> {
    let run = |sql: &str| connection.execute(sql).map_err(|error| error.message);
    run(&inner(query, card, form))?;
    run(&outer(query, card))?;
    // Binding shows what the creation does not.
    let arguments: Vec<_> = query
        .parameters
        .iter()
        .map(|parameter| {
            format!(
                "{} := {}",
                quote(&parameter.name),
                with_type(query, &parameter.name, &example(query, &parameter.name))
            )
        })
        .collect();
    let call = format!("FROM {QUERIES}.main.{}({})", quote(&query.name), arguments.join(", "));
    let statements = connection.extract(&call).map_err(|error| error.message)?;
    statements.prepare(0).map(drop).map_err(|error| error.message)
}

fn inner_name(query: &NamedQuery) -> String {
    format!("{QUERIES}.main.{}", quote(&format!("__merganser_{}", query.name)))
}

fn inner_parameter(name: &str) -> String {
    quote(&format!("__merganser_{name}"))
}

fn inner(query: &NamedQuery, card: &QueryCard, form: fn(String) -> String) -> String {
    let parameters: Vec<_> =
        query.parameters.iter().map(|parameter| inner_parameter(&parameter.name)).collect();
    // The checked statement has the casts around `$name` already.
    let body = replace_placeholders(&card.sql, |name| form(exact(query, name)));
    let body = body.trim_end().trim_end_matches(';');
    format!("CREATE OR REPLACE MACRO {}({}) AS TABLE {body}", inner_name(query), parameters.join(", "))
}

/// A parameter as the body mentions it: a whole number is never a rounded one.
fn exact(query: &NamedQuery, name: &str) -> String {
    let value = inner_parameter(name);
    match query.parameter(name).and_then(|parameter| whole_type(&parameter.data_type)) {
        Some(whole) => whole::call(whole, name, &value),
        None => value,
    }
}

fn outer(query: &NamedQuery, card: &QueryCard) -> String {
    let mut parameters: Vec<_> = query
        .parameters
        .iter()
        .map(|parameter| {
            let name = quote(&parameter.name);
            match &parameter.default {
                Some(value) => format!("{name} := {}", value.sql()),
                None if parameter.optional => format!("{name} := NULL"),
                None => name,
            }
        })
        .collect();
    // DuckDB wants those without a default first.
    parameters.sort_by_key(|parameter| parameter.contains(" := "));
    parameters.push(UNUSED.into());
    let given: Vec<_> = query.parameters.iter().map(|parameter| quote(&parameter.name)).collect();
    let columns: Vec<_> =
        card.schema.fields().iter().map(|field| format!("r.{}", quote(field.name()))).collect();
    format!(
        "CREATE OR REPLACE MACRO {QUERIES}.main.{}({}) AS TABLE SELECT {} \
         FROM (SELECT __merganser_unused AS unused) AS u, {}({}) AS r",
        quote(&query.name),
        parameters.join(", "),
        columns.join(", "),
        inner_name(query),
        given.join(", ")
    )
}
