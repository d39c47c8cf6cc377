//! Stored views that would answer from a stored table where rows were posted under its name.
//!
//! DuckDB looks into the temporary schema first, so that a bare name finds the posted rows, in a view as well. A full name
//! does not, and dbt writes full names. So each stored view that reads the table by its full name is made anew as a
//! temporary view, over the rows; so is each that reads such a view, and what names them in the query is led there. The
//! query itself may still name the stored table in full, and then means it.

use std::{borrow::Cow, collections::HashSet};

use arrow_array::{Array, RecordBatch, cast::AsArray};

use crate::{
    engine::{
        Error, Names, Result,
        answers::first_text,
        ffi::{Connection, DuckError, Prepared},
        lake::SOURCES,
        names::current,
    },
    sql::{References, Spelled, literal, quote, view_parts},
};

/// The stored views that were made anew on a connection.
#[derive(Default)]
pub(in crate::engine) struct Redirects {
    /// What bare names mean to the query.
    names: Option<Names>,
    /// The stored table that the rows stand for.
    table: Option<Place>,
    views: Vec<Place>,
    /// Everything else that could be meant by a bare name.
    stored: HashSet<Place>,
}

/// Where a table or view is, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    catalog: String,
    schema: String,
    name: String,
}

/// A stored view.
struct Stored {
    place: Place,
    /// The names of its columns in brackets, where it renames them.
    columns: String,
    query: String,
    references: References,
}

impl Redirects {
    /// Makes what is needed on a connection on which the rows are known by `rows`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a stored view that cannot be made anew; DuckDB's.
    pub(in crate::engine) fn make(connection: &Connection, rows: &str) -> Result<Self> {
        let names = current(connection)?;
        let places = [Place::of(&names.catalog, &names.schema, rows), Place::of(SOURCES, MAIN, rows)];
        let Some(table) = places.into_iter().find(|place| exists(connection, place)) else {
            return Ok(Self::default());
        };
        let mut lists = Lists::read(connection)?;
        let mut found = Self {
            names: Some(names),
            table: None,
            views: Vec::new(),
            stored: std::mem::take(&mut lists.stored),
        };
        let views = found.affected(&table, lists.views, connection)?;
        found.create(&table, views, connection)?;
        found.table = Some(table);
        Ok(found)
    }

    /// The stored table that the rows stand for, and the names of its columns; `None` where there is none that can be read.
    pub(in crate::engine) fn table(&self, connection: &Connection) -> Option<(String, Vec<String>)> {
        let table = self.table.as_ref()?;
        let schema = planned(connection, table).ok()?.schema().ok()?;
        Some((table.dotted(), schema.fields().iter().map(|field| field.name().clone()).collect()))
    }

    /// Drops what was made.
    ///
    /// # Errors
    /// DuckDB's.
    pub(in crate::engine) fn clear(&self, connection: &Connection) -> Result<()> {
        let drop =
            |view: &Place| connection.execute(&format!("DROP VIEW {}", temporary(&view.dotted()))).map(drop);
        self.views.iter().try_for_each(drop).map_err(Error::from)
    }

    /// The statement with its names of stored views led to those that were made anew.
    ///
    /// # Errors
    /// [`Error::Refused`] for one that may name such a view, and cannot be read.
    pub(in crate::engine) fn of_query<'a>(
        &self,
        connection: &Connection,
        sql: &'a str,
    ) -> Result<Cow<'a, str>> {
        let names = self.names.as_ref().filter(|_| {
            let lower = sql.to_lowercase();
            self.views.iter().any(|view| view.may_be_in(&lower))
        });
        let Some(names) = names else { return Ok(sql.into()) };
        let references = references(connection, sql)?.ok_or_else(|| {
            Error::Refused(
                "the statement names a stored view that reads the table of the posted rows by its full name, in a way \
                 that cannot be led to the posted rows; name the view in a plain SELECT"
                    .into(),
            )
        })?;
        let here = Place::of(&names.catalog, &names.schema, "");
        Ok(references.redirected(sql, |spelled| self.target(spelled, &here)).into())
    }

    /// The views that read the table, or one of these views, by a name that does not find the rows.
    fn affected(
        &mut self,
        table: &Place,
        mut views: Vec<ListedView>,
        connection: &Connection,
    ) -> Result<Vec<Stored>> {
        // Those that mention one of the names, and may mean something else by it.
        let mut near: Vec<Stored> = Vec::new();
        let mut affected: Vec<Stored> = Vec::new();
        loop {
            let is_near = |view: &mut ListedView| {
                std::iter::once(table).chain(&self.views).any(|place| place.may_be_in(&view.lower))
            };
            for view in views.extract_if(.., is_near) {
                near.push(view.read(connection)?);
            }
            let astray = |view: &mut Stored| {
                view.references.tables().any(|name| self.leads_astray(name, &view.place, table))
            };
            let found: Vec<_> = near.extract_if(.., astray).collect();
            if found.is_empty() {
                return Ok(affected);
            }
            self.views.extend(found.iter().map(|view| view.place.clone()));
            affected.extend(found);
        }
    }

    /// Whether a name in a view finds the stored table, or a view that does.
    fn leads_astray(&self, name: &Spelled, view: &Place, table: &Place) -> bool {
        let finds_table = name.schema.is_some() && self.means(name, view, table);
        finds_table || self.views.iter().any(|affected| self.means(name, view, affected))
    }

    /// Makes the views anew, each after those that it reads.
    fn create(&self, table: &Place, mut views: Vec<Stored>, connection: &Connection) -> Result<()> {
        while !views.is_empty() {
            let waiting: Vec<_> = views.iter().map(|view| view.place.clone()).collect();
            let is_ready = |view: &mut Stored| {
                !view
                    .references
                    .tables()
                    .any(|name| waiting.iter().any(|other| self.means(name, &view.place, other)))
            };
            let ready: Vec<_> = views.extract_if(.., is_ready).collect();
            if ready.is_empty() {
                return Err(Error::Refused("stored views read each other in a circle".into()));
            }
            for view in ready {
                connection.execute(&self.create_sql(&view, table))?;
            }
        }
        Ok(())
    }

    fn create_sql(&self, view: &Stored, table: &Place) -> String {
        let query = view.references.redirected(&view.query, |name| {
            let finds_table = name.schema.is_some() && self.means(name, &view.place, table);
            if finds_table { Some(temporary(&table.name)) } else { self.target(name, &view.place) }
        });
        format!("CREATE TEMP VIEW {}{} AS {query}", quote(&view.place.dotted()), view.columns)
    }

    /// The view that was made anew for what a name means.
    fn target(&self, name: &Spelled, from: &Place) -> Option<String> {
        let view = self.views.iter().find(|view| self.means(name, from, view))?;
        Some(temporary(&view.dotted()))
    }

    /// Whether a name means a table or view, in a view or for a client whose place is `from`: what is missing of it
    /// is first looked for there.
    fn means(&self, name: &Spelled, from: &Place, what: &Place) -> bool {
        if name.table != what.name {
            return false;
        }
        match (&name.catalog, &name.schema) {
            (Some(catalog), Some(schema)) => *catalog == what.catalog && *schema == what.schema,
            (None, Some(either)) => {
                *either == what.schema && from.catalog == what.catalog
                    || *either == what.catalog && what.schema == MAIN
            }
            _ => {
                let beside = Place { name: what.name.clone(), ..from.clone() };
                from.catalog == what.catalog
                    && (from.schema == what.schema || what.schema == MAIN && !self.stored.contains(&beside))
            }
        }
    }
}

/// The schema that every catalog has.
const MAIN: &str = "main";

impl Place {
    fn of(catalog: &str, schema: &str, name: &str) -> Self {
        Self { catalog: catalog.to_lowercase(), schema: schema.to_lowercase(), name: name.to_lowercase() }
    }

    /// The name of what is made anew.
    fn dotted(&self) -> String {
        format!("{}.{}.{}", self.catalog, self.schema, self.name)
    }

    /// Whether a text in lower case may name it.
    fn may_be_in(&self, lower: &str) -> bool {
        lower.contains(&self.name.replace('"', "\"\""))
    }
}

fn temporary(name: &str) -> String {
    format!("temp.main.{}", quote(name))
}

/// What DuckDB's lists say.
struct Lists {
    stored: HashSet<Place>,
    views: Vec<ListedView>,
}

struct ListedView {
    place: Place,
    sql: String,
    /// The same in lower case.
    lower: String,
}

impl Lists {
    fn read(connection: &Connection) -> Result<Self> {
        let mut lists = Self { stored: HashSet::new(), views: Vec::new() };
        let mut rows = connection
            .extract(
                "SELECT database_name, schema_name, table_name, NULL::VARCHAR FROM system.main.duckdb_tables() \
                 WHERE NOT internal AND NOT temporary \
                 UNION ALL SELECT database_name, schema_name, view_name, sql FROM system.main.duckdb_views() \
                 WHERE NOT internal AND NOT temporary",
            )?
            .prepare(0)?
            .execute()?;
        while let Some(batch) = rows.next()? {
            lists.add(&batch);
        }
        Ok(lists)
    }

    fn add(&mut self, batch: &RecordBatch) {
        let [catalogs, schemas, names, texts] = [0, 1, 2, 3].map(|at| batch.column(at).as_string::<i32>());
        for row in 0..batch.num_rows() {
            let place = Place::of(catalogs.value(row), schemas.value(row), names.value(row));
            self.stored.insert(place.clone());
            if texts.is_valid(row) {
                let sql = texts.value(row).to_owned();
                self.views.push(ListedView { place, lower: sql.to_lowercase(), sql });
            }
        }
    }
}

impl ListedView {
    fn read(&self, connection: &Connection) -> Result<Stored> {
        let unreadable = || {
            Error::Refused(format!(
                "the stored view {} may read the table of the posted rows by its full name, and cannot be led to the \
                 posted rows; let it name the table by its bare name",
                self.place.dotted()
            ))
        };
        let (columns, query) = view_parts(&self.sql).ok_or_else(unreadable)?;
        let references = references(connection, query)?.ok_or_else(unreadable)?;
        Ok(Stored {
            place: self.place.clone(),
            columns: columns.to_owned(),
            query: query.to_owned(),
            references,
        })
    }
}

/// What a query names; `None` where that cannot be told.
fn references(connection: &Connection, query: &str) -> Result<Option<References>> {
    let options = "skip_default := true, skip_empty := true, skip_null := true";
    let sql = format!("SELECT system.main.json_serialize_sql({}, {options})::VARCHAR", literal(query));
    Ok(References::of(query, &first_text(connection, &sql)?).ok())
}

fn exists(connection: &Connection, table: &Place) -> bool {
    // One that fails otherwise is there, and may be of use again before the query runs.
    planned(connection, table).map_or_else(|error| !error.message.contains("does not exist"), |_| true)
}

fn planned(connection: &Connection, table: &Place) -> Result<Prepared, DuckError> {
    let name = [&table.catalog, &table.schema, &table.name].map(|part| quote(part)).join(".");
    connection.extract(&format!("FROM {name} LIMIT 0"))?.prepare(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ffi::Database;

    fn read(text: &str) -> Option<References> {
        references(&Database::open(None, &[]).unwrap().connect().unwrap(), text).unwrap()
    }

    fn redirected(text: &str) -> String {
        let found = read(text).unwrap();
        found.redirected(text, |table| {
            let of_main = table.schema.as_deref() == Some("main") && table.table == "raw";
            of_main.then(|| "there".to_owned())
        })
    }

    #[test]
    fn tables_are_redirected_where_they_stand() {
        for (text, expected) in [
            ("FROM main.raw", "FROM there AS \"raw\""),
            (
                "SELECT 'é', raw.a FROM \"MAIN\" . \"Raw\" WHERE a = 'main.raw'",
                "SELECT 'é', raw.a FROM there AS \"raw\" WHERE a = 'main.raw'",
            ),
            ("FROM memory.main.raw AS r, raw", "FROM there AS r, raw"),
            ("FROM main.raw r TABLESAMPLE 10%", "FROM there r TABLESAMPLE 10%"),
            ("FROM main.raw TABLESAMPLE 10%", "FROM there AS \"raw\" TABLESAMPLE 10%"),
            (
                "SELECT memory.main.raw.a, main.raw.a.b, r.a FROM memory.main.raw JOIN x AS r USING (a)",
                "SELECT raw.a, raw.a.b, r.a FROM there AS \"raw\" JOIN x AS r USING (a)",
            ),
            (
                "SELECT (FROM main.raw), a = ANY (FROM main.raw) FROM (SELECT 1 AS a)",
                "SELECT (FROM there AS \"raw\"), a = ANY (FROM there AS \"raw\") FROM (SELECT 1 AS a)",
            ),
            (
                "SELECT * FROM (PIVOT main.raw ON a IN (1, 2) USING sum(a))",
                "SELECT * FROM (PIVOT there AS \"raw\" ON a IN (1, 2) USING sum(a))",
            ),
            ("TABLE main.raw", "TABLE there"),
            ("SUMMARIZE main.raw", "SUMMARIZE there"),
            ("FROM main.raw AT (VERSION => 3)", "FROM main.raw AT (VERSION => 3)"),
            ("FROM main.other WHERE a > $least", "FROM main.other WHERE a > $least"),
        ] {
            assert_eq!(redirected(text), expected);
        }
    }

    #[test]
    fn names_of_with_are_no_tables() {
        for (text, tables) in [
            ("WITH raw AS (FROM main.raw) FROM raw", vec!["main.raw"]),
            ("WITH raw AS (FROM raw) FROM raw", vec!["raw"]),
            ("WITH RECURSIVE raw AS (SELECT 1 UNION ALL FROM raw) FROM raw", vec![]),
            (
                "WITH a AS (FROM x), b AS (FROM a) SELECT (FROM b), (WITH c AS (FROM b) FROM c), (FROM c)",
                vec!["x", "c"],
            ),
            ("(WITH a AS (FROM x) FROM a) UNION ALL FROM a", vec!["x", "a"]),
            ("WITH a AS (FROM x) FROM a UNION ALL FROM a", vec!["x"]),
        ] {
            let found = read(text).unwrap();
            let named: Vec<_> = found
                .tables()
                .map(|table| {
                    [&table.catalog, &table.schema, &Some(table.table.clone())]
                        .into_iter()
                        .flatten()
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(".")
                })
                .collect();
            let (mut named, mut tables) = (named, tables);
            named.sort_unstable();
            tables.sort_unstable();
            assert_eq!(named, tables, "{text}");
        }
    }

    #[test]
    fn what_has_no_tree_is_unreadable() {
        for text in ["INSERT INTO main.raw VALUES (1)", "PIVOT main.raw ON a USING sum(a)"] {
            assert!(read(text).is_none(), "{text}");
        }
        // DuckDB counts in a text of plain spaces.
        let text = "SELECT\u{a0}1,\u{a0}2,\u{a0}3,\u{a0}a FROM\u{a0}main.raw";
        assert!(read(text).is_none());
    }

    /// A database with views over `raw`, and posted rows of that name on the connection.
    fn with_views() -> Connection {
        let connection = Database::open(None, &[]).unwrap().connect().unwrap();
        for sql in [
            "CREATE SCHEMA marts",
            "CREATE TABLE raw AS SELECT 1 AS a",
            "CREATE TABLE other AS SELECT 1 AS a",
            "CREATE VIEW bare AS FROM raw",
            "CREATE VIEW full_name AS WITH raw AS (FROM memory.main.raw) SELECT raw.a FROM raw",
            "CREATE VIEW half AS SELECT main.raw.a FROM main.raw",
            "CREATE VIEW marts.full_name (b) AS SELECT a + 10 FROM \"memory\".\"main\".\"full_name\"",
            "CREATE VIEW marts.behind AS SELECT b FROM full_name",
            "CREATE VIEW over_marts AS SELECT b FROM marts.behind",
            "CREATE VIEW untouched AS SELECT a FROM memory.main.other",
            "CREATE TEMP VIEW raw AS SELECT 2 AS a",
        ] {
            connection.execute(sql).unwrap();
        }
        connection
    }

    fn answer(connection: &Connection, redirects: &Redirects, sql: &str) -> Vec<Option<i64>> {
        let sql = format!("SELECT COLUMNS(*)::BIGINT FROM ({sql})");
        crate::engine::answers::numbers(connection, &redirects.of_query(connection, &sql).unwrap()).unwrap()
    }

    #[test]
    fn stored_views_answer_from_posted_rows_however_they_name_them() {
        let connection = with_views();
        let redirects = Redirects::make(&connection, "RAW").unwrap();
        for (sql, expected) in [
            ("FROM raw", 2),
            ("FROM bare", 2),
            ("FROM memory.main.bare", 2),
            ("FROM full_name", 2),
            ("SELECT Full_Name.a FROM main.full_name", 2),
            ("FROM half", 2),
            ("FROM marts.full_name", 12),
            ("FROM marts.behind", 12),
            ("FROM over_marts", 12),
            ("WITH full_name AS (SELECT 3) FROM full_name", 3),
            ("FROM untouched", 1),
            // Said in full by the query itself, the table is the stored one.
            ("FROM memory.main.raw", 1),
        ] {
            assert_eq!(answer(&connection, &redirects, sql), [Some(expected)], "{sql}");
        }
        redirects.clear(&connection).unwrap();
        assert_eq!(answer(&connection, &Redirects::default(), "FROM full_name"), [Some(1)]);
    }

    #[test]
    fn a_source_is_found_as_well() {
        let connection = with_views();
        for sql in [
            "ATTACH ':memory:' AS sources",
            "CREATE VIEW sources.main.readings AS SELECT 3 AS a",
            "CREATE VIEW of_source AS FROM sources.readings",
            "CREATE TEMP VIEW readings AS SELECT 4 AS a",
        ] {
            connection.execute(sql).unwrap();
        }
        let redirects = Redirects::make(&connection, "readings").unwrap();
        assert_eq!(answer(&connection, &redirects, "FROM of_source"), [Some(4)]);
    }

    #[test]
    fn nothing_is_made_for_rows_that_stand_for_no_table() {
        let connection = with_views();
        let redirects = Redirects::make(&connection, "elsewhere").unwrap();
        assert!(redirects.names.is_none() && redirects.views.is_empty());
    }

    #[test]
    fn what_cannot_be_led_there_is_refused() {
        let connection = with_views();
        let redirects = Redirects::make(&connection, "raw").unwrap();
        let refused = redirects.of_query(&connection, "PIVOT full_name ON a USING count(*)");
        assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
        connection
            .execute(&format!("CREATE VIEW deep AS SELECT {} FROM main.raw", vec!["a"; 200].join(" + ")))
            .unwrap();
        redirects.clear(&connection).unwrap();
        let refused = Redirects::make(&connection, "raw").map(drop);
        assert!(
            matches!(&refused, Err(Error::Refused(text)) if text.contains("memory.main.deep")),
            "{refused:?}"
        );
    }
}
