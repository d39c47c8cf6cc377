//! Whether what is to be opened as a file of DuckDB is one, before DuckDB has a look.
//!
//! DuckDB (1.5.5) decides by the beginning of a path, by its ending and by the first bytes of the file what to open: for
//! `x.csv` a database in memory with a view over the file, for `md:x` or a file of SQLite an extension, which it fetches.
//! What is written to a database in memory is gone after a stop, so a server must not take one for a file.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{Error, Result, answers::first_text, ffi::Connection};
use crate::sql::literal;

/// What a file of DuckDB has,
const MAGIC: &[u8] = b"DUCK";
/// and where: behind a checksum.
const MAGIC_AT: usize = 8;

/// Says why a text is no path under which DuckDB opens a file, whatever is there.
///
/// # Errors
/// The reason, to be read after the name of an option.
pub fn check_path(path: &str) -> std::result::Result<(), String> {
    if path.trim().is_empty() {
        return Err("is empty; give the path of a DuckDB file".into());
    }
    if path.starts_with(":memory:") {
        return Err("would be in memory, and lost with the process; give the path of a DuckDB file".into());
    }
    if path.starts_with('~') {
        return Err("begins with ~, which only a shell resolves; write the whole path".into());
    }
    if let Some(scheme) = scheme_of(path) {
        return Err(format!(
            "begins with {scheme}:, which is not for a DuckDB file of this machine; give its path, with ./ before it where its \
             name begins so"
        ));
    }
    Ok(())
}

/// What DuckDB takes for the name of an extension or of a kind of storage. One letter is a drive.
fn scheme_of(path: &str) -> Option<&str> {
    let (scheme, _) = path.split_once(':')?;
    let is_word = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (is_word && scheme.len() > 1).then_some(scheme)
}

/// Refuses a file that is there and is none of DuckDB's. One that is not there is made; one that cannot be read is for
/// DuckDB to refuse.
///
/// # Errors
/// [`Error::NotDuckDb`].
pub(super) fn check(path: &Path) -> Result<()> {
    check_path(&path.to_string_lossy()).map_err(|reason| Error::NotDuckDb(format!("its path {reason}")))?;
    match head_of(path) {
        Ok(head) => match what_is(&head) {
            None => Ok(()),
            Some(what) => {
                Err(Error::NotDuckDb(format!("{what}; give the path of a DuckDB file, or of none yet")))
            }
        },
        Err(_) => Ok(()),
    }
}

fn head_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(16).read_to_end(&mut head)?;
    Ok(head)
}

/// What a file is that begins so, unless it is DuckDB's.
fn what_is(head: &[u8]) -> Option<&'static str> {
    match head {
        [] => Some("it is an empty file, which DuckDB does not take for a new database"),
        head if head.starts_with(b"SQLite format 3") => Some("it is a file of SQLite"),
        head if head.starts_with(b"PAR1") => Some("it is a Parquet file"),
        head if head.get(MAGIC_AT..).is_some_and(|rest| rest.starts_with(MAGIC)) => None,
        _ => Some("it is not a DuckDB file"),
    }
}

/// Makes sure that what was opened under this name is a file indeed.
///
/// # Errors
/// [`Error::NotDuckDb`].
pub(super) fn check_opened(connection: &Connection, name: &str) -> Result<()> {
    let sql = format!(
        "SELECT count(*)::VARCHAR FROM system.main.duckdb_databases() WHERE database_name = {} AND path IS NULL",
        literal(name)
    );
    match first_text(connection, &sql)?.as_str() {
        "0" => Ok(()),
        _ => Err(Error::NotDuckDb("DuckDB opens it in memory, where nothing would last".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ffi::Database;

    #[test]
    fn a_path_that_duckdb_would_not_open_as_a_file_is_refused() {
        for (path, refused) in [
            ("a.db", false),
            ("/d/a.db", false),
            ("./md:x", false),
            ("/d/md:x", false),
            ("c:/a.db", false),
            ("a b:c.db", false),
            ("", true),
            (" ", true),
            ("~/a.db", true),
            (":memory:", true),
            (":memory:a", true),
            ("md:x", true),
            ("sqlite:/d/a.db", true),
            ("s3://b/a.db", true),
            ("file:///d/a.db", true),
        ] {
            assert_eq!(check_path(path).is_err(), refused, "{path}");
        }
    }

    #[test]
    fn a_file_of_another_kind_is_refused_and_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        check(&at("none.csv")).unwrap();
        for (name, content) in [
            ("empty.db", &b""[..]),
            ("a.csv", b"a,b\n1,2\n3,4\n5,6\n"),
            ("a.parquet", b"PAR1............"),
            ("a.json", b"{\"a\": 1}"),
            ("a.db", b"SQLite format 3\0...."),
            ("short.db", b"DUCK"),
        ] {
            std::fs::write(at(name), content).unwrap();
            assert!(matches!(check(&at(name)), Err(Error::NotDuckDb(_))), "{name}");
        }
        // Whatever its name is.
        drop(Database::open(Some(&at("none.csv")), &[]).unwrap());
        check(&at("none.csv")).unwrap();
    }

    /// The second look, for what the first one may not know of.
    #[test]
    fn what_duckdb_opens_in_memory_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        std::fs::write(&file, "a,b\n1,2\n3,4\n").unwrap();
        let opened = Database::open(Some(&file), &[]).unwrap();
        let refused = check_opened(&opened.connect().unwrap(), "a");
        assert!(matches!(refused, Err(Error::NotDuckDb(_))), "{refused:?}");
    }
}
