//! What no client takes away from the others, or puts something else in the place of: the database that is served, the
//! catalogs that the configuration attaches, the functions and types of DuckDB, and what names mean.

use super::{
    INTERNAL_PREFIX, OWN_CATALOGS, Refusal,
    backup::unquoted,
    explained::behind,
    lexer::{Token, ranged, tokens},
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
    /// The catalogs in which sources and named queries live, and those that the configuration attaches, in lower case.
    catalogs: Vec<String>,
}

impl Kept {
    /// The database that is served and the catalogs that are attached, however they are written.
    pub(crate) fn new<'a>(own: &str, attached: impl IntoIterator<Item = &'a str>) -> Self {
        let catalogs = OWN_CATALOGS.into_iter().chain(attached);
        Self { own: own.to_lowercase(), catalogs: catalogs.map(str::to_lowercase).collect() }
    }

    /// Lets a text pass that leaves all of it as it is. The catalogs in which sources and named queries live are
    /// everybody's, and so are those that the configuration attaches: no client may take one away, or put something else
    /// under its name. Nor may one detach or replace the database that is served, make a name ambiguous, or make a database
    /// where another one will look for its log. `exists` tells whether there is something of a name in lower case, or
    /// whether a path is that of a log; it is asked only of what a text says.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`]; those of `exists`.
    pub(crate) fn check<E: From<Refusal>>(
        &self,
        text: &str,
        exists: impl Fn(Existing, &str) -> Result<bool, E>,
    ) -> Result<(), E> {
        let tokens = tokens(text);
        for Attached { path, names } in attached(text)? {
            if exists(Existing::Log, &path)? {
                return Err(log(&path).into());
            }
            for name in names {
                self.check_attached(&name)?;
                if exists(Existing::Schema, &name)? {
                    return Err(ambiguous(&name, "a schema").into());
                }
            }
        }
        for statement in statements(&tokens).map(behind) {
            self.check_own(statement)?;
            self.check_catalogs(statement)?;
            if let Some(name) = made_schema(statement)
                && exists(Existing::Catalog, name)?
            {
                return Err(ambiguous(name, "an attached database").into());
            }
            for (words, existing) in [(MACROS, Existing::Function), (TYPES, Existing::Type)] {
                if let Some(name) = made(statement, words)
                    && exists(existing, name)?
                {
                    return Err(in_place_of(existing, name).into());
                }
            }
        }
        Ok(())
    }

    /// Refuses to detach what is served, and to make a schema that is called so.
    fn check_own(&self, statement: &[Token]) -> Result<(), Refusal> {
        let own = &self.own;
        if !taken_or_made(statement).contains(&own.as_str()) {
            return Ok(());
        }
        if starts_with(statement, &["detach"]) {
            return Err(Refusal::NotAllowed(format!("{own} is the database that is served; it stays")));
        }
        Err(Refusal::NotAllowed(format!(
            "{own} is the database that is served, and a schema of that name would make it ambiguous for every client; choose \
             another name"
        )))
    }

    /// The same for the catalogs.
    fn check_catalogs(&self, statement: &[Token]) -> Result<(), Refusal> {
        let named = taken_or_made(statement);
        match named.iter().find(|word| self.catalogs.iter().any(|name| name == **word)) {
            Some(name) => Err(Refusal::NotAllowed(format!(
                "{name} is where the server keeps what its configuration declares; choose another name"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses a name that a database may not be attached by.
    fn check_attached(&self, name: &str) -> Result<(), Refusal> {
        if OF_SCHEMAS.contains(&name) {
            return Err(ambiguous(name, "a schema"));
        }
        if name.starts_with(INTERNAL_PREFIX) {
            return Err(Refusal::NotAllowed(format!(
                "names that begin with {INTERNAL_PREFIX} are the server's own"
            )));
        }
        if self.own == name || self.catalogs.iter().any(|catalog| catalog == name) {
            return Err(Refusal::NotAllowed(format!(
                "{name} is a database of the server, which stays; say ATTACH ... AS and choose another name"
            )));
        }
        Ok(())
    }
}

/// What a name may be of already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// A function of DuckDB or of an extension.
    Function,
    /// A type of theirs.
    Type,
    /// A schema of any catalog.
    Schema,
    /// A catalog.
    Catalog,
    /// The write-ahead log of a database, whether it is there or not.
    Log,
}

const MACROS: &[&str] = &["macro", "function"];
const TYPES: &[&str] = &["type"];

/// A name that would be that of a catalog and of a schema.
fn ambiguous(name: &str, what: &str) -> Refusal {
    Refusal::NotAllowed(format!(
        "{name} is the name of {what} already, and names that begin with it would be ambiguous for every client; choose \
         another name"
    ))
}

/// A file that some database takes for its log when it is opened next: it would be replayed, or thrown away.
fn log(path: &str) -> Refusal {
    let name = path.rsplit('/').next().unwrap_or_default();
    Refusal::NotAllowed(format!(
        "{name} is called as the write-ahead log of a database is; attach that database itself, or choose another name"
    ))
}

/// A macro is called in the place of a function of its name, also by the server itself, and by all other clients; and so it
/// is with types.
fn in_place_of(existing: Existing, name: &str) -> Refusal {
    let (what, of) = match existing {
        Existing::Type => ("type", "type"),
        _ => ("function", "macro"),
    };
    Refusal::NotAllowed(format!(
        "{name} is a {what} of DuckDB's own, which the {of} would replace for every client; choose another name"
    ))
}

/// The names among which those are that a DETACH takes away, or that of the schema that a statement makes.
fn taken_or_made(statement: &[Token]) -> Vec<&str> {
    let words: Vec<_> = statement.iter().filter_map(Token::name).collect();
    match words.first() {
        Some(&"detach") => words[1..].to_vec(),
        // A schema inside of a catalog has its own name last.
        Some(&"create") if words.iter().take(4).any(|word| *word == "schema") => {
            words[words.len() - 1..].to_vec()
        }
        _ => Vec::new(),
    }
}

/// What an ATTACH opens, and calls it by.
struct Attached {
    path: String,
    /// The name behind AS, or those of which DuckDB may take one out of the path; in lower case.
    names: Vec<String>,
}

/// What the statements of a text attach.
fn attached(text: &str) -> Result<Vec<Attached>, Refusal> {
    let (tokens, places): (Vec<_>, Vec<_>) = ranged(text).unzip();
    let mut found = Vec::new();
    let mut begin = 0;
    for whole in tokens.split(|token| *token == Token::Punctuation(';')) {
        let end = begin + whole.len();
        let statement = behind(whole);
        if starts_with(statement, &["attach"]) {
            let literals = places[end - statement.len()..end].iter().map(|place| &text[place.clone()]);
            found.push(Attached::of(statement, &literals.collect::<Vec<_>>())?);
        }
        begin = end + 1;
    }
    Ok(found)
}

impl Attached {
    /// What a statement attaches, of whose tokens each is `written` so.
    fn of(statement: &[Token], written: &[&str]) -> Result<Self, Refusal> {
        const BETWEEN: [&str; 6] = ["database", "or", "replace", "if", "not", "exists"];
        let at = (1..statement.len()).find(|at| !BETWEEN.iter().any(|word| is(&statement[*at], word)));
        let path = at.and_then(|at| {
            let ends = |token: &Token| is(token, "as") || *token == Token::Punctuation('(');
            let is_whole = statement.get(at + 1).is_none_or(ends);
            let path = match &statement[at] {
                Token::Literal => unquoted(written[at]),
                name => name.name().map(str::to_owned),
            };
            path.filter(|_| is_whole)
        });
        let path = path.ok_or_else(|| {
            Refusal::NotAllowed(
                "say the path of an ATTACH in single quotes, in one piece and without escapes".into(),
            )
        })?;
        let names = match given_to_attached(statement) {
            Some(name) => vec![name.to_owned()],
            None => {
                let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
                // What stands before the first point.
                let stems = last.split([':', '?', '=', ' ']).filter_map(|part| part.split('.').next());
                stems.map(str::to_lowercase).collect()
            }
        };
        Ok(Self { path, names })
    }
}

/// The name that an ATTACH gives.
fn given_to_attached(statement: &[Token]) -> Option<&str> {
    let behind = statement.iter().position(|token| is(token, "as"))? + 1;
    statement.get(behind)?.name()
}

/// The name of the schema that a statement makes.
fn made_schema(statement: &[Token]) -> Option<&str> {
    let is_create = starts_with(statement, &["create"]);
    let name = taken_or_made(statement).pop().filter(|_| is_create)?;
    // One inside of a named catalog is told by that.
    let is_bare = !statement.contains(&Token::Punctuation('.'));
    is_bare.then_some(name)
}

/// The name of what a statement makes: `CREATE [OR REPLACE] [TEMPORARY] MACRO [IF NOT EXISTS] a.b.name(...)`, or
/// `... TYPE ... name AS`.
fn made<'a>(statement: &'a [Token], kinds: &[&str]) -> Option<&'a str> {
    const BETWEEN: [&str; 6] = ["or", "replace", "temporary", "temp", "local", "global"];
    if !starts_with(statement, &["create"]) {
        return None;
    }
    let kind = 1 + statement[1..].iter().position(|token| !BETWEEN.iter().any(|word| is(token, word)))?;
    if !kinds.iter().any(|word| is(&statement[kind], word)) {
        return None;
    }
    let ends = |token: &Token| *token == Token::Punctuation('(') || is(token, "as");
    statement[statement.iter().position(ends)?.checked_sub(1)?].name()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is a schema `sales`, a catalog `side`, and functions and types of DuckDB.
    fn check(text: &str) -> Result<(), Refusal> {
        Kept::new("Db", ["Lake"]).check(text, |existing, name| {
            Ok(match existing {
                Existing::Function => ["count", "duckdb_columns"].contains(&name),
                Existing::Type => name == "json",
                Existing::Schema => name == "sales",
                Existing::Catalog => name == "side",
                Existing::Log => name.ends_with(".wal"),
            })
        })
    }

    #[test]
    fn what_is_served_and_attached_stays() {
        for sql in [
            "DETACH db",
            "detach database if exists \"DB\"",
            "SELECT 1; DETACH Lake",
            "ATTACH 'x' AS lake",
            "ATTACH OR REPLACE '/x/y.db' AS db",
            "ATTACH OR REPLACE DATABASE '/x/y.db' AS \"DB\" (READ_ONLY)",
            "ATTACH OR REPLACE '/x/Lake.db'",
            "ATTACH IF NOT EXISTS 'db.x.duckdb'",
            "ATTACH 'sqlite:lake'",
            "ATTACH '/x/sources.db'",
            "ATTACH '/x/y.db' AS \"Queries\"",
            "DETACH sources",
            "EXPLAIN ANALYZE CREATE SCHEMA queries",
            "ATTACH E'/x/l\\x61ke.db'",
            "ATTACH $$/x/y.db$$",
            "ATTACH E'/x/y' AS other",
            "ATTACH '/x/y' '.db' AS other",
            "ATTACH U&'/x/y' AS other",
            "ATTACH OR REPLACE lake",
            "ATTACH OR REPLACE DATABASE \"Db\" (READ_ONLY)",
            "ATTACH '/x/y.db.wal' AS other (READ_ONLY)",
            "SELECT ';'; ATTACH IF NOT EXISTS '/x/it''s.wal'",
            "EXPLAIN ANALYZE ATTACH \"y.wal\" AS other",
            "ATTACH '/x/__merganser_x.db'",
            "ATTACH '/x/information_schema.db'",
            "ATTACH '/x/sales.db'",
            "ATTACH ':memory:' AS Sales",
            "CREATE SCHEMA db",
            "EXPLAIN ANALYZE CREATE SCHEMA db",
            "create schema if not exists \"DB\"",
            "CREATE SCHEMA side",
            "ATTACH ':memory:' AS information_schema",
            "ATTACH ':memory:' AS \"Main\"",
        ] {
            assert!(matches!(check(sql), Err(Refusal::NotAllowed(_))), "{sql}");
        }
        for sql in [
            "DETACH other",
            "ATTACH '/db/lake/other.db'",
            "ATTACH OR REPLACE '/x/it''s' AS other (TYPE 'duckdb')",
            "ATTACH '/x/y.wal.db' AS other; SELECT E'\\n', '/x/y.wal'",
            "ATTACH other",
            "ATTACH ':memory:'",
            "CREATE SCHEMA other",
            "CREATE SCHEMA db.other",
            "CREATE SCHEMA other.side",
            "SELECT 'detach db'",
            "FROM main.t",
        ] {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn nothing_of_duckdbs_is_replaced() {
        for sql in [
            "CREATE MACRO count(x) AS 7",
            "create or replace temp macro \"Count\"(x) AS 7",
            "CREATE FUNCTION main.duckdb_columns() AS TABLE SELECT 1",
            "SELECT 1; CREATE MACRO IF NOT EXISTS db.main.count() AS 7",
            "CREATE TYPE json AS DOUBLE",
            "create temp type if not exists main.\"JSON\" as enum ('a')",
        ] {
            assert!(matches!(check(sql), Err(Refusal::NotAllowed(_))), "{sql}");
        }
        for sql in [
            "CREATE MACRO mine(x) AS count(x)",
            "CREATE TYPE mine AS STRUCT(json JSON)",
            "CREATE TABLE count (x INTEGER)",
            "CREATE TABLE macro (x INTEGER)",
            "CREATE TABLE type AS SELECT 1 AS json",
        ] {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
    }
}
