//! Stored views that would answer from a stored table where rows were posted under its name.
//!
//! DuckDB looks into the temporary schema first, so that a bare name finds the posted rows, in a view as well. A full name
//! does not, and dbt writes full names. So each stored view that reads the table by its full name is made anew as a
//! temporary view, over the rows; so is each that reads such a view, and what names them in the query is led there. The
//! query itself may still name the stored table in full, and then means it.
//!
//! The table is the one that the bare name finds without the rows; where it finds none, the only one that is called so. A view
//! that reads another table of the name would answer from what is stored: who needs it is refused.

use std::borrow::Cow;

use super::stored::{Place, Stored, View, references};
use crate::{
    engine::{Error, Names, Result, ffi::Connection, lake::SOURCES, names::current},
    sql::{Spelled, quote},
};

/// The schema that every catalog has.
const MAIN: &str = "main";

/// What was made on a connection so that stored views read the rows.
#[derive(Default)]
pub(in crate::engine) struct Redirects(Option<Made>);

struct Made {
    /// What bare names mean to the query.
    names: Names,
    /// By which name the rows are known, in lower case.
    rows: String,
    /// The stored table that the rows stand for.
    table: Option<Place>,
    /// Others that are called so.
    namesakes: Vec<Place>,
    /// The views that were made anew.
    views: Vec<Place>,
    /// Those that read one of the others.
    astray: Vec<Reader>,
    /// All that could be meant by a bare name.
    stored: Stored,
}

/// A view that reads a table.
#[derive(Clone)]
struct Reader {
    view: Place,
    /// The view that names the table: itself, or one that it reads.
    by: Place,
    table: Place,
}

impl Redirects {
    /// Makes what is needed on a connection on which the rows are known by `rows`.
    ///
    /// # Errors
    /// [`Error::Refused`] for a stored view that cannot be made anew; DuckDB's.
    pub(in crate::engine) fn make(connection: &Connection, rows: &str) -> Result<Self> {
        let names = current(connection)?;
        let rows = rows.to_lowercase();
        let found_first = [Place::of(&names.catalog, &names.schema, &rows), Place::of(SOURCES, MAIN, &rows)];
        let mut table = found_first.into_iter().find(|place| place.exists(connection));
        let stored = Stored::read(connection)?;
        let is_other = |place: &&Place| place.name == rows && table.as_ref() != Some(place);
        let mut namesakes: Vec<_> = stored.places.iter().filter(is_other).cloned().collect();
        if table.is_none() && namesakes.len() == 1 {
            table = namesakes.pop();
        }
        if table.is_none() && namesakes.is_empty() {
            return Ok(Self::default());
        }
        let mut made = Made { names, rows, table, namesakes, views: Vec::new(), astray: Vec::new(), stored };
        made.make(connection)?;
        Ok(Self(Some(made)))
    }

    /// The stored table that the rows stand for, and the names of its columns; `None` where there is none that can be read.
    pub(in crate::engine) fn table(&self, connection: &Connection) -> Option<(String, Vec<String>)> {
        let table = self.0.as_ref()?.table.as_ref()?;
        let schema = table.planned(connection).ok()?.schema().ok()?;
        Some((table.dotted(), schema.fields().iter().map(|field| field.name().clone()).collect()))
    }

    /// Drops what was made.
    ///
    /// # Errors
    /// DuckDB's.
    pub(in crate::engine) fn clear(&self, connection: &Connection) -> Result<()> {
        let drop =
            |view: &Place| connection.execute(&format!("DROP VIEW {}", temporary(&view.dotted()))).map(drop);
        self.0.iter().flat_map(|made| &made.views).try_for_each(drop).map_err(Error::from)
    }

    /// The statement with its names of stored views led to those that were made anew.
    ///
    /// # Errors
    /// [`Error::Refused`] for one that may name such a view, and cannot be read; and for one that names a view which reads
    /// another table of the rows' name.
    pub(in crate::engine) fn of_query<'a>(
        &self,
        connection: &Connection,
        sql: &'a str,
    ) -> Result<Cow<'a, str>> {
        let lower = sql.to_lowercase();
        let Some(made) = self.0.as_ref().filter(|made| made.may_be_in(&lower)) else { return Ok(sql.into()) };
        let references = references(connection, sql)?.ok_or_else(|| {
            Error::Refused(
                "the statement names a stored view that reads the table of the posted rows by its full name, in a way \
                 that cannot be led to the posted rows; name the view in a plain SELECT"
                    .into(),
            )
        })?;
        let here = Place::of(&made.names.catalog, &made.names.schema, "");
        let is_named =
            |reader: &&Reader| references.tables().any(|name| made.means(name, &here, &reader.view));
        match made.astray.iter().find(is_named) {
            Some(reader) => Err(Error::Refused(made.why_not(reader))),
            None => Ok(references.redirected(sql, |spelled| made.target(spelled, &here)).into()),
        }
    }
}

impl Made {
    fn make(&mut self, connection: &Connection) -> Result<()> {
        let (table, namesakes) = (self.table.clone(), self.namesakes.clone());
        self.astray = self.readers(&namesakes, connection)?;
        let readers = self.readers(table.as_slice(), connection)?;
        self.views = readers.into_iter().map(|reader| reader.view).collect();
        self.create(connection)
    }

    /// Whether a text in lower case may name one of the views.
    fn may_be_in(&self, lower: &str) -> bool {
        let views = self.views.iter().chain(self.astray.iter().map(|reader| &reader.view));
        views.into_iter().any(|view| view.may_be_in(lower))
    }

    /// The views that read one of the tables, themselves or through others.
    fn readers(&mut self, tables: &[Place], connection: &Connection) -> Result<Vec<Reader>> {
        let mut found: Vec<Reader> = Vec::new();
        loop {
            let names = tables.iter().chain(found.iter().map(|reader| &reader.view));
            self.stored.read_views(names, connection)?;
            let is_new = |view: &&View| {
                self.table.as_ref() != Some(&view.place)
                    && found.iter().all(|reader| reader.view != view.place)
            };
            let views = self.stored.views.iter().filter(is_new);
            let new: Vec<_> = views.filter_map(|view| self.reader(view, tables, &found)).collect();
            if new.is_empty() {
                return Ok(found);
            }
            found.extend(new);
        }
    }

    fn reader(&self, view: &View, tables: &[Place], found: &[Reader]) -> Option<Reader> {
        view.references.tables().find_map(|name| {
            // A name of two parts may be of a schema or of a catalog; the rows go first.
            let called_so = self.table.iter().chain(&self.namesakes);
            let direct = called_so.into_iter().find(|table| self.means(name, &view.place, table));
            if let Some(table) = direct {
                let is_one = tables.contains(table);
                return is_one.then(|| Reader {
                    view: view.place.clone(),
                    by: view.place.clone(),
                    table: table.clone(),
                });
            }
            let through = found.iter().find(|reader| self.means(name, &view.place, &reader.view))?;
            Some(Reader { view: view.place.clone(), ..through.clone() })
        })
    }

    /// Makes the views anew, each after those that it reads.
    fn create(&self, connection: &Connection) -> Result<()> {
        let mut views: Vec<_> =
            self.stored.views.iter().filter(|view| self.views.contains(&view.place)).collect();
        while !views.is_empty() {
            let waiting: Vec<_> = views.iter().map(|view| view.place.clone()).collect();
            let is_ready = |view: &mut &View| {
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
                connection.execute(&self.create_sql(view))?;
            }
        }
        Ok(())
    }

    fn create_sql(&self, view: &View) -> String {
        let query = view.references.redirected(&view.query, |name| {
            let finds_table = self.table.iter().any(|table| self.means(name, &view.place, table));
            if finds_table { Some(temporary(&self.rows)) } else { self.target(name, &view.place) }
        });
        format!("CREATE TEMP VIEW {}{} AS {query}", quote(&view.place.dotted()), view.columns)
    }

    /// The view that was made anew for what a name means.
    fn target(&self, name: &Spelled, from: &Place) -> Option<String> {
        let view = self.views.iter().find(|view| self.means(name, from, view))?;
        Some(temporary(&view.dotted()))
    }

    /// Whether a name means a stored table or view, in a view or for a client whose place is `from`: what is missing of it
    /// is first looked for there. The bare name of the rows means them.
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
            _ if name.table == self.rows => false,
            _ => {
                let beside = Place { name: what.name.clone(), ..from.clone() };
                from.catalog == what.catalog
                    && (from.schema == what.schema
                        || what.schema == MAIN && !self.stored.places.contains(&beside))
            }
        }
    }

    /// Why a view is not answered.
    fn why_not(&self, reader: &Reader) -> String {
        let Reader { view, by, table } = reader;
        let (rows, view, by, table) = (&self.rows, view.dotted(), by.dotted(), table.dotted());
        let through = if view == by { String::new() } else { format!(" through {by}") };
        let stand_for = match &self.table {
            Some(own) => format!("rows posted as {rows} stand for {}", own.dotted()),
            None => {
                format!("rows posted as {rows} stand for no table, because there are several of that name")
            }
        };
        format!(
            "the view {view} reads the stored table {table}{through}, and {stand_for}; if {by} is to read the posted rows, let \
             it name the table as {rows} alone; if it is to read the stored ones, give the posted rows another name"
        )
    }
}

fn temporary(name: &str) -> String {
    format!("temp.main.{}", quote(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ffi::Database;

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

    /// A database whose table `orders` is in a schema of its own.
    fn with_orders() -> Connection {
        let connection = Database::open(None, &[]).unwrap().connect().unwrap();
        for sql in [
            "CREATE SCHEMA raw",
            "CREATE TABLE raw.orders AS SELECT 1 AS a",
            "CREATE VIEW daily AS FROM raw.orders",
            "CREATE VIEW weekly AS FROM memory.main.daily",
            "CREATE TABLE other AS SELECT 7 AS a",
            "CREATE VIEW untouched AS FROM other",
            "CREATE TEMP VIEW orders AS SELECT 2 AS a",
        ] {
            connection.execute(sql).unwrap();
        }
        connection
    }

    #[test]
    fn the_only_table_of_the_name_is_meant_whatever_schema_it_is_in() {
        let connection = with_orders();
        let redirects = Redirects::make(&connection, "Orders").unwrap();
        for (sql, expected) in [("FROM daily", 2), ("FROM weekly", 2), ("FROM raw.orders", 1)] {
            assert_eq!(answer(&connection, &redirects, sql), [Some(expected)], "{sql}");
        }
    }

    #[test]
    fn a_view_that_reads_another_table_of_the_name_is_refused() {
        for (table, stand_for) in [
            ("CREATE TABLE main.orders AS SELECT 3 AS a", "stand for memory.main.orders"),
            ("CREATE SCHEMA marts; CREATE VIEW marts.orders AS SELECT 3 AS a", "several of that name"),
        ] {
            let connection = with_orders();
            connection.execute(table).unwrap();
            connection.execute("CREATE VIEW joined AS SELECT d.a FROM daily d, other").unwrap();
            let redirects = Redirects::make(&connection, "orders").unwrap();
            for (sql, view, through) in [
                ("FROM daily", "memory.main.daily", ""),
                ("FROM main.weekly", "memory.main.weekly", " through memory.main.daily"),
                ("SELECT (FROM joined)", "memory.main.joined", " through memory.main.daily"),
            ] {
                let told = redirects.of_query(&connection, sql).unwrap_err().to_string();
                let expected =
                    format!("the view {view} reads the stored table memory.raw.orders{through}, and");
                assert!(told.contains(&expected) && told.contains(stand_for), "{sql}: {told}");
            }
            for (sql, expected) in [("FROM untouched", 7), ("FROM orders", 2), ("FROM raw.orders", 1)] {
                assert_eq!(answer(&connection, &redirects, sql), [Some(expected)], "{sql}");
            }
        }
    }

    #[test]
    fn what_the_rows_stand_for_may_itself_be_a_view_of_another_table_of_the_name() {
        let connection = with_orders();
        for sql in [
            "CREATE VIEW main.orders AS SELECT a + 10 AS a FROM raw.orders",
            "CREATE VIEW mart AS FROM memory.main.orders",
            "CREATE VIEW bare_mart AS FROM orders",
        ] {
            connection.execute(sql).unwrap();
        }
        let redirects = Redirects::make(&connection, "orders").unwrap();
        for (sql, expected) in [("FROM mart", 2), ("FROM bare_mart", 2), ("FROM memory.main.orders", 11)] {
            assert_eq!(answer(&connection, &redirects, sql), [Some(expected)], "{sql}");
        }
    }

    #[test]
    fn nothing_is_made_for_rows_that_stand_for_no_table() {
        let connection = with_views();
        let redirects = Redirects::make(&connection, "elsewhere").unwrap();
        assert!(redirects.0.is_none());
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
