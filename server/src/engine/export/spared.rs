//! What no export writes on this machine: databases, and what DuckDB and SQLite keep beside them, whether it is there or not.
//! A log that comes to lie beside a database is replayed into it, or thrown away for its own, when it is opened next.

use std::path::{Path, PathBuf};

use super::{
    local::{real_file, real_place},
    refuse,
};
use crate::engine::{Result, log_head::is_log};

/// What stands behind the name of a database's file in those of its logs, of its folder for temporary files, and of what the
/// server has put aside of it. The last three are those of SQLite.
const BESIDE: [&str; 6] = [".wal", ".tmp", ".torn-", "-wal", "-shm", "-journal"];

/// Refuses a file or folder that has to do with one of these databases.
///
/// # Errors
/// [`crate::engine::Error::ExportRefused`].
pub(super) fn check(place: &Path, databases: &[PathBuf]) -> Result<()> {
    // Also of a database that nobody has attached yet.
    if is_log(place) {
        return refuse("a name that ends so is that of a database's write-ahead log; choose another one");
    }
    let place = folded(place);
    for database in databases.iter().filter_map(|database| real(database)) {
        let database = folded(&database);
        if is_of(&place, &database) {
            return refuse(
                "a name of that kind is that of a database, or of what is kept beside it; choose another one",
            );
        }
        if database.starts_with(&place) {
            return refuse("the folder is for a database; choose another one");
        }
    }
    Ok(())
}

/// The real path of a database, of which not even the folder need be there.
fn real(database: &Path) -> Option<PathBuf> {
    real_file(database).or_else(|| real_place(std::path::absolute(database).ok()?.to_str()?))
}

/// Capitals make two names of it here, and one on a file system of another kind.
pub(super) fn folded(path: &Path) -> PathBuf {
    path.to_string_lossy().to_lowercase().into()
}

fn is_of(place: &Path, database: &Path) -> bool {
    let names = place.file_name().zip(database.file_name());
    let Some((place_name, name)) = names.filter(|_| place.parent() == database.parent()) else {
        return false;
    };
    let behind = place_name.to_str().zip(name.to_str()).and_then(|(place, name)| place.strip_prefix(name));
    behind.is_some_and(|behind| behind.is_empty() || BESIDE.iter().any(|ending| behind.starts_with(ending)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_databases_is_spared_before_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&root, root.join("other-name")).unwrap();
        let databases = [root.join("other-name/a.db"), root.join("inside/b.db")];
        let is_refused = |name: &str| check(&root.join(name), &databases).is_err();
        for name in [
            "a.db",
            "A.DB",
            "a.db.wal",
            "a.db.wal.checkpoint",
            "a.db.wal.recovery",
            "a.db.tmp",
            "a.db.torn-3-7",
            "a.db-journal",
            "x.wal",
            "x.WAL",
            "x.wal.recovery",
            "inside/b.db",
            "inside/b.db.wal",
            "inside",
        ] {
            assert!(is_refused(name), "{name}");
        }
        for name in ["a.db.csv", "a.db2", "a", "x.wal.csv", "wal", "inside/a.db"] {
            assert!(!is_refused(name), "{name}");
        }
        std::fs::create_dir(root.join("inside")).unwrap();
        assert!(is_refused("inside"), "the folder of one");
    }
}
