//! Exports: `COPY ... TO`, to the folders and buckets that the operator has named and nowhere else.
//!
//! DuckDB never sees a client's COPY TO. `sql::pieces` reads it by a small grammar, its target is looked for among the
//! directories, and what DuckDB gets is written anew, with the real path of the target. Whether the two understand a
//! text alike is not left to hope: each statement has to be complete by itself to DuckDB's parser, and a plan that
//! DuckDB calls a COPY where `sql::pieces` saw none does not run.

mod directory;
mod exact;
mod local;
mod run;
mod spared;
mod targets;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arrow_array::cast::AsArray;

pub use directory::BadDirectory;

use self::targets::Targets;
pub(super) use self::{directory::Directory, local::real_file, targets::Writing};
use super::{
    Error, Result,
    ffi::{Connection, Prepared, StatementKind, Statements},
};
use crate::sql::{self, Export, Piece};

/// Where clients may export to. The default is nowhere.
#[derive(Debug, Clone, Default)]
pub struct Exports {
    directories: Arc<[Directory]>,
    /// The files of databases that are to be spared whether they are attached or not.
    spared: Arc<[PathBuf]>,
    targets: Arc<Targets>,
    /// How long an export waits for another one that writes to its target.
    wait: Duration,
}

impl Exports {
    /// Exports to these folders and addresses, of a server with this database.
    ///
    /// # Errors
    /// [`BadDirectory`]: what is no folder and no address of object storage, or has the database in it.
    pub fn to(directories: &[String], database: Option<&Path>) -> Result<Self, BadDirectory> {
        let database = database.and_then(real_file);
        let read = |text: &String| Directory::read(text, database.as_deref());
        Ok(Self { directories: directories.iter().map(read).collect::<Result<_, _>>()?, ..Self::default() })
    }

    /// The same of a server that has these files of databases, of which some may not be there yet.
    pub(super) fn of_server<'a>(&self, databases: impl Iterator<Item = &'a Path>, wait: Duration) -> Self {
        Self { spared: databases.map(Path::to_owned).collect(), wait, ..self.clone() }
    }

    /// All of them.
    pub(super) fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// Where a target really is.
    ///
    /// # Errors
    /// [`Error::ExportRefused`].
    fn place(&self, connection: &Connection, target: &str) -> Result<String> {
        if self.directories.is_empty() {
            return refuse(
                "this server exports nowhere; its operator can name folders and buckets (export_directories)",
            );
        }
        for directory in self.directories.iter() {
            match directory {
                Directory::Remote(prefix) if directory::under_address(prefix, target) => {
                    return Ok(target.to_owned());
                }
                Directory::Remote(_) => {}
                Directory::Local(folder) => {
                    if let Some(place) = local::under_folder(folder, target) {
                        return local::checked(place, &self.databases(connection)?);
                    }
                }
            }
        }
        // Where they are is the operator's to tell: no error shows a path of the server's machine.
        refuse(
            "the target is not under one of the directories that this server exports to (export_directories); \
             give an absolute path or an address under one of them",
        )
    }

    /// Keeps other exports from what the statements of a text write on this machine; `None` where that is nothing.
    ///
    /// # Errors
    /// [`Error::ExportBusy`] where others go on writing there.
    pub(super) fn writing(&self, text: &str) -> Result<Option<Writing>> {
        if self.directories.is_empty() || !sql::mentions(text, "copy") {
            return Ok(None);
        }
        let folders = || {
            self.directories.iter().filter_map(|directory| match directory {
                Directory::Local(folder) => Some(folder),
                Directory::Remote(_) => None,
            })
        };
        let place = |piece: &Piece| match piece {
            Piece::Export(export) => folders().find_map(|folder| local::under_folder(folder, &export.target)),
            _ => None,
        };
        let places: Vec<_> = sql::pieces(text).iter().filter_map(|(_, piece)| place(piece)).collect();
        (!places.is_empty()).then(|| self.targets.take(&places, self.wait)).transpose()
    }

    /// The files of the database, and of those that are attached or to be attached.
    fn databases(&self, connection: &Connection) -> Result<Vec<PathBuf>> {
        let paths = "SELECT path FROM system.main.duckdb_databases() WHERE path IS NOT NULL";
        let mut rows = connection.extract(paths)?.prepare(0)?.execute()?;
        let mut found = self.spared.to_vec();
        while let Some(batch) = rows.next()? {
            found.extend(batch.column(0).as_string::<i32>().iter().flatten().map(PathBuf::from));
        }
        Ok(found)
    }
}

/// Statements of a text that may be planned.
pub(crate) struct Cleared {
    statements: Statements,
    /// Those that are what they look like; the others must not turn out to write files.
    understood: Vec<Understood>,
    /// Those that DuckDB has made of one of several, by number.
    made: Vec<bool>,
}

/// A statement that was looked at.
struct Understood {
    /// Which one.
    number: usize,
    /// What is exported to Parquet, and where to.
    parquet: Option<(Export, String)>,
}

impl Cleared {
    /// Parses a text that has passed the gate, with its exports written anew.
    ///
    /// # Errors
    /// Syntax errors; [`Error::ExportRefused`].
    pub(super) fn extract(connection: &Connection, exports: &Exports, text: &str) -> Result<Self> {
        let pieces = sql::pieces(text);
        if pieces.iter().any(|(_, piece)| *piece != Piece::Other) {
            let (text, understood, made) = clear(connection, exports, &pieces)?;
            return Ok(Self { statements: connection.extract(&text)?, understood, made });
        }
        let statements = connection.extract(text)?;
        let mut made = Vec::new();
        if (pieces.len(), statements.len()) != (1, 1) {
            for (piece, _) in &pieces {
                note(&mut made, alone(connection, piece)?);
            }
            if made.len() != statements.len() {
                return Err(unalike());
            }
        }
        Ok(Self { statements, understood: Vec::new(), made })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.statements.len()
    }

    /// Whether a statement is one of those that DuckDB puts around the several that it makes of one: BEGIN and COMMIT, or
    /// inside of a transaction settings of it. They are not for running, because whoever runs the others sees to that.
    pub(crate) fn is_frame(&self, index: usize, prepared: &Prepared) -> bool {
        let frames = matches!(prepared.kind(), StatementKind::Transaction | StatementKind::Set);
        frames && self.made.get(index) == Some(&true)
    }

    /// Plans one of them.
    ///
    /// # Errors
    /// DuckDB's; [`Error::ExportRefused`] for one that is not what it looks like.
    pub(crate) fn prepare(&self, index: usize) -> Result<Prepared> {
        let prepared = self.statements.prepare(index)?;
        let understood = self.understood.iter().find(|understood| understood.number == index);
        if may_write_files(prepared.kind()) && understood.is_none() {
            return Err(unalike());
        }
        match understood.and_then(|understood| understood.parquet.as_ref()) {
            Some((export, target)) => exact::plan(&self.statements.connection(), export, target, prepared),
            None => Ok(prepared),
        }
    }
}

fn may_write_files(kind: StatementKind) -> bool {
    use StatementKind as Kind;
    matches!(kind, Kind::Copy | Kind::Export | Kind::Explain | Kind::Prepare)
}

/// The text with each export written anew, and the numbers of what had to be understood.
fn clear(
    connection: &Connection,
    exports: &Exports,
    pieces: &[(&str, Piece)],
) -> Result<(String, Vec<Understood>, Vec<bool>)> {
    let (mut cleared, mut understood, mut made) = (Vec::new(), Vec::new(), Vec::new());
    for (piece, what) in pieces {
        let mut parquet = None;
        let written = match what {
            Piece::Other | Piece::Harmless => (*piece).to_owned(),
            Piece::Export(export) => {
                let target = place(connection, exports, export)?;
                let written = export.sql(&target);
                parquet = export.is_parquet().then(|| (export.clone(), target));
                written
            }
            Piece::Refused(reason) => return refuse(reason),
        };
        // A piece that is complete by itself cannot change what the next one is.
        if *what == Piece::Other {
            note(&mut made, alone(connection, &written)?);
        } else if connection.extract(&written)?.len() == 1 {
            understood.push(Understood { number: made.len(), parquet });
            note(&mut made, 1);
        } else {
            return Err(unalike());
        }
        cleared.push(written);
    }
    Ok((cleared.join(";\n"), understood, made))
}

/// Notes the statements that DuckDB makes of a piece.
fn note(made: &mut Vec<bool>, count: usize) {
    made.extend((0..count).map(|_| count > 1));
}

/// How many statements DuckDB makes of a piece that is one. Those of a PIVOT are several, of which the leading ones create
/// the types that the last one needs, and so are those of an ALTER that adds a column with a default of its own for each
/// row. Without a semicolon anywhere, none of a client's own can hide in it.
fn alone(connection: &Connection, piece: &str) -> Result<usize> {
    let count = connection.extract(piece)?.len();
    let is_one = count == 1 || !piece.contains(';') || is_one_pivot(connection, piece);
    if is_one { Ok(count) } else { Err(unalike()) }
}

/// Whether a piece of which DuckDB makes several statements is one query with a PIVOT, alone or behind a few words such as
/// CREATE TABLE ... AS. In parentheses no semicolon may stand, whatever hides it from this server.
fn is_one_pivot(connection: &Connection, piece: &str) -> bool {
    let Some((before, query)) = sql::split_query(piece) else { return false };
    !before.contains([';', '\'', '$']) && connection.extract(&format!("SELECT * FROM ({query}\n)")).is_ok()
}

fn unalike() -> Error {
    Error::Refused(
        "DuckDB reads this text in another way than this server does; write it more plainly".into(),
    )
}

/// Where an export goes, whose query cannot end the parentheses that are put around it.
fn place(connection: &Connection, exports: &Exports, export: &Export) -> Result<String> {
    let target = exports.place(connection, &export.target)?;
    if let Some(query) = export.query()
        && connection.extract(query)?.len() != 1
    {
        return refuse("the query of a COPY ... TO has to be one statement; of a PIVOT make a table first");
    }
    Ok(target)
}

fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::ExportRefused(reason.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{
        Options,
        database::{Database, Pooled},
    };

    /// What makes scanners differ, and a little around it.
    const PARTS: [&str; 46] = [
        "'",
        "'",
        "'",
        "''",
        "\\",
        "\\'",
        "E'",
        "e'",
        "x'",
        "u&'",
        "N'",
        "b'",
        "\"",
        "\"\"",
        "$",
        "$$",
        "$a$",
        "$\u{20ac}$",
        "$1",
        ";",
        ";",
        ";",
        "\n",
        "\r",
        "\t",
        " ",
        "--",
        "/*",
        "*/",
        "/*/",
        "*",
        "-",
        "+",
        "1",
        "1e",
        "1.",
        "1_",
        "0x",
        "e",
        "_",
        "a",
        "\u{20ac}",
        "\u{a0}",
        "\u{2028}",
        "\u{85}",
        ",",
    ];

    /// One for all cases of a thread.
    fn connection() -> &'static Pooled {
        thread_local! {
            static CONNECTION: &'static Pooled = {
                let database = Arc::new(Database::open(&Options::default()).unwrap());
                Box::leak(Box::new(database.connection().unwrap()))
            };
        }
        CONNECTION.with(|connection| *connection)
    }

    fn parts() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(PARTS.to_vec()), 1..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 50_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// What DuckDB's scanner takes for a semicolon is one here, whatever stands around it.
        #[test]
        fn duckdb_finds_the_statements_that_are_found_here(parts in parts()) {
            let text = format!("SELECT 1 {parts}");
            // A piece without a sign of ASCII it leaves out.
            let here = sql::pieces(&text).iter().filter(|(piece, _)| piece.contains(|c: char| c.is_ascii_graphic())).count();
            if sql::gate(&text).is_ok() && let Ok(found) = connection().extract(&text) {
                prop_assert_eq!(found.len(), here, "{:?}", text);
            }
        }
    }

    #[test]
    fn what_hides_a_semicolon_from_one_of_the_two_is_no_statement() {
        for hidden in [
            "SELECT $\u{20ac}$'$\u{20ac}$; CREATE TABLE t(i INT); SELECT 1 --'",
            "SELECT E'a'\n'\\''; CREATE TABLE t(i INT); SELECT 1 --'",
            "SELECT E'a'--\n'\\''; CREATE TABLE t(i INT); SELECT 1 --'",
            "SELECT E'''\\''; CREATE TABLE t(i INT); SELECT 1 --'",
            "SELECT 1e'\\''; CREATE TABLE t(i INT); SELECT 1 --'",
            "SELECT 1 AS \u{20ac}e'\\'; CREATE TABLE t(i INT); SELECT 1 --'",
            "SELECT 1 AS \u{85}e'\\'; CREATE TABLE t(i INT); SELECT 1 --'",
            "SELECT 1 AS/*'*/\u{a0}e'\\'; CREATE TABLE t(i INT); SELECT 1 --'",
        ] {
            if sql::gate(hidden).is_ok()
                && let Ok(found) = connection().extract(hidden)
            {
                assert_eq!(found.len(), sql::statement_count(hidden), "{hidden:?}");
            }
        }
    }

    #[test]
    fn a_pivot_is_one_statement_and_what_looks_like_one_is_not() {
        let pivot = "PIVOT (SELECT 1 AS a, 2 AS b) ON a USING sum(b)";
        for one in [
            pivot,
            "PIVOT (SELECT ';' AS a, 2 AS b) ON a USING sum(b)",
            "CREATE TABLE t AS PIVOT (SELECT ';' AS a, 2 AS b) ON a USING sum(b)",
            &format!("WITH x AS (SELECT 1) FROM ({pivot})"),
            "ALTER TABLE t ADD COLUMN i INT DEFAULT nextval('s')",
        ] {
            assert!(alone(connection(), one).unwrap() > 1, "{one}");
        }
        for several in ["SELECT 1; SELECT 2", "SELECT 1); SELECT 2; SELECT (1", &format!("{pivot}; SELECT 1")]
        {
            assert!(alone(connection(), several).is_err(), "{several}");
        }
    }
}
