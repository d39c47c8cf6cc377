//! The stored tables and views, by DuckDB's lists, and what the views read.

use std::collections::HashSet;

use arrow_array::{Array, RecordBatch, cast::AsArray};

use crate::{
    engine::{
        Error, Result,
        answers::first_text,
        ffi::{Connection, DuckError, Prepared},
    },
    sql::{References, literal, quote, view_parts},
};

/// Where a table or view is, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) catalog: String,
    pub(super) schema: String,
    pub(super) name: String,
}

/// All of them. A view is read when it may be of use.
pub(super) struct Stored {
    /// Tables and views.
    pub(super) places: HashSet<Place>,
    /// The views that were read.
    pub(super) views: Vec<View>,
    unread: Vec<ListedView>,
}

/// A stored view, and what it names.
pub(super) struct View {
    pub(super) place: Place,
    /// The names of its columns in brackets, where it renames them.
    pub(super) columns: String,
    pub(super) query: String,
    pub(super) references: References,
}

struct ListedView {
    place: Place,
    sql: String,
    /// The same in lower case.
    lower: String,
}

impl Place {
    pub(super) fn of(catalog: &str, schema: &str, name: &str) -> Self {
        Self { catalog: catalog.to_lowercase(), schema: schema.to_lowercase(), name: name.to_lowercase() }
    }

    /// Its name in full, as it is told, and as what is made anew is called.
    pub(super) fn dotted(&self) -> String {
        format!("{}.{}.{}", self.catalog, self.schema, self.name)
    }

    /// Whether a text in lower case may name it.
    pub(super) fn may_be_in(&self, lower: &str) -> bool {
        lower.contains(&self.name.replace('"', "\"\""))
    }

    /// Whether it is there.
    pub(super) fn exists(&self, connection: &Connection) -> bool {
        // What fails otherwise is there, and may be of use again before the query runs.
        self.planned(connection).map_or_else(|error| !error.message.contains("does not exist"), |_| true)
    }

    /// A plan that reads all of its columns.
    pub(super) fn planned(&self, connection: &Connection) -> Result<Prepared, DuckError> {
        let name = [&self.catalog, &self.schema, &self.name].map(|part| quote(part)).join(".");
        connection.extract(&format!("FROM {name} LIMIT 0"))?.prepare(0)
    }
}

impl Stored {
    /// Reads the lists.
    ///
    /// # Errors
    /// DuckDB's.
    pub(super) fn read(connection: &Connection) -> Result<Self> {
        let mut stored = Self { places: HashSet::new(), views: Vec::new(), unread: Vec::new() };
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
            stored.add(&batch);
        }
        Ok(stored)
    }

    fn add(&mut self, batch: &RecordBatch) {
        let [catalogs, schemas, names, texts] = [0, 1, 2, 3].map(|at| batch.column(at).as_string::<i32>());
        for row in 0..batch.num_rows() {
            let place = Place::of(catalogs.value(row), schemas.value(row), names.value(row));
            self.places.insert(place.clone());
            if texts.is_valid(row) {
                let sql = texts.value(row).to_owned();
                self.unread.push(ListedView { place, lower: sql.to_lowercase(), sql });
            }
        }
    }

    /// Reads the views whose text has one of the names, whatever it means by it.
    ///
    /// # Errors
    /// [`Error::Refused`] for one that cannot be read; DuckDB's.
    pub(super) fn read_views<'a>(
        &mut self,
        names: impl Iterator<Item = &'a Place> + Clone,
        connection: &Connection,
    ) -> Result<()> {
        let has_one = |view: &mut ListedView| names.clone().any(|place| place.may_be_in(&view.lower));
        for view in self.unread.extract_if(.., has_one) {
            self.views.push(view.read(connection)?);
        }
        Ok(())
    }
}

impl ListedView {
    fn read(&self, connection: &Connection) -> Result<View> {
        let unreadable = || {
            Error::Refused(format!(
                "the stored view {} may read the table of the posted rows by its full name, and cannot be led to the \
                 posted rows; let it name the table by its bare name",
                self.place.dotted()
            ))
        };
        let (columns, query) = view_parts(&self.sql).ok_or_else(unreadable)?;
        let references = references(connection, query)?.ok_or_else(unreadable)?;
        Ok(View {
            place: self.place.clone(),
            columns: columns.to_owned(),
            query: query.to_owned(),
            references,
        })
    }
}

/// What a query names; `None` where that cannot be told.
pub(super) fn references(connection: &Connection, query: &str) -> Result<Option<References>> {
    let options = "skip_default := true, skip_empty := true, skip_null := true";
    let sql = format!("SELECT system.main.json_serialize_sql({}, {options})::VARCHAR", literal(query));
    Ok(References::of(query, &first_text(connection, &sql)?).ok())
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
}
