//! Exports: `COPY ... TO`, to the folders and buckets that the operator has named and nowhere else.
//!
//! DuckDB never sees a client's COPY TO. `sql::pieces` reads it by a small grammar, its target is looked for among the
//! directories, and what DuckDB gets is written anew, with the real path of the target. Whether the two understand a
//! text alike is not left to hope: each statement has to be complete by itself to DuckDB's parser, and a plan that
//! DuckDB calls a COPY where `sql::pieces` saw none does not run.

mod directory;
mod local;
mod run;

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::cast::AsArray;

pub use directory::BadDirectory;

pub(super) use self::{directory::Directory, local::real_file};
use super::{
    Error, Result,
    ffi::{Connection, Prepared, StatementKind, Statements},
};
use crate::sql::{self, Export, Piece};

/// Where clients may export to. The default is nowhere.
#[derive(Debug, Clone, Default)]
pub struct Exports {
    directories: Arc<[Directory]>,
}

impl Exports {
    /// Exports to these folders and addresses, of a server with this database.
    ///
    /// # Errors
    /// [`BadDirectory`]: what is no folder and no address of object storage, or has the database in it.
    pub fn to(directories: &[String], database: Option<&Path>) -> Result<Self, BadDirectory> {
        let database = database.and_then(real_file);
        let read = |text: &String| Directory::read(text, database.as_deref());
        Ok(Self { directories: directories.iter().map(read).collect::<Result<_, _>>()? })
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
                        return local::checked(place, &databases(connection)?);
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
}

/// The files of the database, and of those that are attached.
fn databases(connection: &Connection) -> Result<Vec<PathBuf>> {
    let paths = "SELECT path FROM duckdb_databases() WHERE path IS NOT NULL";
    let mut rows = connection.extract(paths)?.prepare(0)?.execute()?;
    let mut found = Vec::new();
    while let Some(batch) = rows.next()? {
        found.extend(batch.column(0).as_string::<i32>().iter().flatten().map(PathBuf::from));
    }
    Ok(found)
}

/// Statements of a text that may be planned.
pub(crate) struct Cleared {
    statements: Statements,
    /// Those that are what they look like, by number; the others must not turn out to write files.
    understood: Vec<usize>,
}

impl Cleared {
    /// Parses a text that has passed the gate, with its exports written anew.
    ///
    /// # Errors
    /// Syntax errors; [`Error::ExportRefused`].
    pub(super) fn extract(connection: &Connection, exports: &Exports, text: &str) -> Result<Self> {
        let mut understood = Vec::new();
        let text = if sql::writes_files(text) {
            Cow::Owned(clear(connection, exports, text, &mut understood)?)
        } else {
            Cow::Borrowed(text)
        };
        Ok(Self { statements: connection.extract(&text)?, understood })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.statements.len()
    }

    /// Plans one of them.
    ///
    /// # Errors
    /// DuckDB's; [`Error::ExportRefused`] for one that is not what it looks like.
    pub(crate) fn prepare(&self, index: usize) -> Result<Prepared> {
        let prepared = self.statements.prepare(index)?;
        if may_write_files(prepared.kind()) && !self.understood.contains(&index) {
            return refuse(
                "DuckDB reads this text in another way than this server does; write it more plainly",
            );
        }
        Ok(prepared)
    }
}

fn may_write_files(kind: StatementKind) -> bool {
    use StatementKind as Kind;
    matches!(kind, Kind::Copy | Kind::Export | Kind::Explain | Kind::Prepare)
}

/// The text with each export written anew; `understood` gets the numbers of what needs to be.
fn clear(
    connection: &Connection,
    exports: &Exports,
    text: &str,
    understood: &mut Vec<usize>,
) -> Result<String> {
    let mut number = 0;
    let mut cleared = Vec::new();
    for (piece, what) in sql::pieces(text) {
        let written = match &what {
            Piece::Other | Piece::Harmless => piece.to_owned(),
            Piece::Export(export) => write_anew(connection, exports, export)?,
            Piece::Refused(reason) => return refuse(reason),
        };
        // A piece that is complete by itself cannot change what the next one is.
        let count = connection.extract(&written)?.len();
        if what != Piece::Other && count == 1 {
            understood.push(number);
        }
        number += count;
        cleared.push(written);
    }
    Ok(cleared.join(";\n"))
}

fn write_anew(connection: &Connection, exports: &Exports, export: &Export) -> Result<String> {
    let target = exports.place(connection, &export.target)?;
    if let Some(query) = export.query()
        && connection.extract(query)?.len() != 1
    {
        return refuse("the query of a COPY ... TO has to be one statement; of a PIVOT make a table first");
    }
    Ok(export.sql(&target))
}

fn refuse<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::ExportRefused(reason.into()))
}
