//! What no client takes away from the others, or puts something else in the place of: the database that is served, the
//! catalogs that the configuration attaches, and the functions of DuckDB.

use super::{
    Refusal,
    explained::behind,
    lexer::{Token, tokens},
    state::{is, starts_with},
    statements,
};

/// Names that mean something in every catalog: with a database of such a name, `information_schema.tables` would be
/// ambiguous for all clients.
const OF_SCHEMAS: [&str; 3] = ["main", "information_schema", "pg_catalog"];

/// What is to stay.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The database that is served, in lower case.
    own: String,
    /// The catalogs that the configuration attaches, in lower case.
    catalogs: Vec<String>,
}

impl Kept {
    /// These, however they are written.
    pub(crate) fn new<'a>(own: &str, catalogs: impl IntoIterator<Item = &'a str>) -> Self {
        Self { own: own.to_lowercase(), catalogs: catalogs.into_iter().map(str::to_lowercase).collect() }
    }

    /// Lets a text pass that leaves all of it as it is. The catalogs in which sources and named queries live are
    /// everybody's, and so are those that the configuration attaches: no client may take one away, or put something else
    /// under its name. Nor may one detach the database that is served, or make its name ambiguous. `is_function` tells
    /// whether DuckDB has a function of a name in lower case; it is asked of macros only.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`]; those of `is_function`.
    pub(crate) fn check<E: From<Refusal>>(
        &self,
        text: &str,
        is_function: impl Fn(&str) -> Result<bool, E>,
    ) -> Result<(), E> {
        let tokens = tokens(text);
        for statement in statements(&tokens).map(behind) {
            self.check_own(statement)?;
            check_catalogs(statement, &self.catalogs)?;
            if let Some(name) = made_macro(statement)
                && is_function(name)?
            {
                return Err(in_place_of_function(name).into());
            }
        }
        Ok(())
    }

    fn check_own(&self, statement: &[Token]) -> Result<(), Refusal> {
        let own = &self.own;
        if !taken_or_given(statement).contains(&own.as_str()) {
            return Ok(());
        }
        if starts_with(statement, &["detach"]) {
            return Err(Refusal::NotAllowed(format!("{own} is the database that is served; it stays")));
        }
        if starts_with(statement, &["create"]) {
            return Err(Refusal::NotAllowed(format!(
                "{own} is the database that is served, and a schema of that name would make it ambiguous for every client; choose \
                 another name"
            )));
        }
        Ok(())
    }
}

/// A macro of the name of a function is called in its place, also by the server itself, and by all other clients.
fn in_place_of_function(name: &str) -> Refusal {
    Refusal::NotAllowed(format!(
        "{name} is a function of DuckDB's own, which the macro would replace for every client; choose another name"
    ))
}

/// Refuses to attach or detach what is kept under such a name, and to make a schema that is called so.
pub(super) fn check_catalogs(statement: &[Token], kept: &[impl AsRef<str>]) -> Result<(), Refusal> {
    let named = taken_or_given(statement);
    if starts_with(statement, &["attach"])
        && let Some(name) = named.iter().find(|name| OF_SCHEMAS.contains(name))
    {
        return Err(Refusal::NotAllowed(format!(
            "a database called {name} would make the schema of that name ambiguous for every client; choose another name"
        )));
    }
    match named.iter().find(|word| kept.iter().any(|name| name.as_ref() == **word)) {
        Some(name) => Err(Refusal::NotAllowed(format!(
            "{name} is where the server keeps what its configuration declares; choose another name"
        ))),
        None => Ok(()),
    }
}

/// The names among which those are that a statement takes away from, or gives to, a catalog or schema.
fn taken_or_given(statement: &[Token]) -> Vec<&str> {
    let words: Vec<_> = statement
        .iter()
        .filter_map(|token| match token {
            Token::Word(word) | Token::Quoted(word) => Some(word.as_str()),
            _ => None,
        })
        .collect();
    match words.first() {
        Some(&("detach" | "attach")) => words[1..].to_vec(),
        // A schema inside of a catalog has its own name last.
        Some(&"create") if words.iter().take(4).any(|word| *word == "schema") => {
            words[words.len() - 1..].to_vec()
        }
        _ => Vec::new(),
    }
}

/// The name of the macro that a statement makes: `CREATE [OR REPLACE] [TEMPORARY] MACRO [IF NOT EXISTS] a.b.name(...)`.
fn made_macro(statement: &[Token]) -> Option<&str> {
    const BETWEEN: [&str; 6] = ["or", "replace", "temporary", "temp", "local", "global"];
    if !starts_with(statement, &["create"]) {
        return None;
    }
    let behind = statement[1..].iter().position(|token| !BETWEEN.iter().any(|word| is(token, word)))?;
    if !starts_with(&statement[1 + behind..], &["macro", "function"]) {
        return None;
    }
    let name = statement.iter().position(|token| *token == Token::Punctuation('('))?.checked_sub(1)?;
    match statement.get(name)? {
        Token::Word(name) | Token::Quoted(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), Refusal> {
        Kept::new("Db", ["Lake"]).check(text, |name| Ok(["count", "duckdb_columns"].contains(&name)))
    }

    #[test]
    fn what_is_served_and_attached_stays() {
        for sql in [
            "DETACH db",
            "detach database if exists \"DB\"",
            "SELECT 1; DETACH Lake",
            "ATTACH 'x' AS lake",
            "CREATE SCHEMA db",
            "EXPLAIN ANALYZE CREATE SCHEMA db",
            "create schema if not exists \"DB\"",
            "ATTACH ':memory:' AS information_schema",
            "ATTACH ':memory:' AS \"Main\"",
        ] {
            assert!(matches!(check(sql), Err(Refusal::NotAllowed(_))), "{sql}");
        }
        for sql in [
            "DETACH other",
            "CREATE SCHEMA other",
            "CREATE SCHEMA db.other",
            "SELECT 'detach db'",
            "FROM main.t",
        ] {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn no_macro_replaces_a_function() {
        for sql in [
            "CREATE MACRO count(x) AS 7",
            "create or replace temp macro \"Count\"(x) AS 7",
            "CREATE FUNCTION main.duckdb_columns() AS TABLE SELECT 1",
            "SELECT 1; CREATE MACRO IF NOT EXISTS db.main.count() AS 7",
        ] {
            assert!(matches!(check(sql), Err(Refusal::NotAllowed(_))), "{sql}");
        }
        for sql in [
            "CREATE MACRO mine(x) AS count(x)",
            "CREATE TABLE count (x INTEGER)",
            "CREATE TABLE macro (x INTEGER)",
        ] {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
    }
}
