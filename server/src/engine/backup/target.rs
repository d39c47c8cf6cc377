//! The file that a backup becomes. It is written under another name beside it, and gets its own once it is
//! complete and on the disk.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::engine::{Error, Result, error::Class};

/// What DuckDB puts behind a file's name for its write-ahead log.
const WAL: &str = ".wal";

/// The place of a backup. Dropping it removes what was not published.
pub(super) struct Target {
    file: PathBuf,
    part: PathBuf,
}

impl Target {
    /// A place where nothing is yet.
    ///
    /// # Errors
    /// A path that is not absolute or has no folder, a file that exists, the database's own files.
    pub(super) fn new(text: &str, own: Option<&Path>) -> Result<Self> {
        let path = Path::new(text);
        let (true, Some(folder), Some(name)) = (path.is_absolute(), path.parent(), path.file_name()) else {
            return bad_path("the path of a backup must be absolute: it is a file on the server's machine");
        };
        let Some(name) = name.to_str().filter(|name| !name.ends_with(WAL) && !text.ends_with('/')) else {
            return bad_path(
                "this is no name for a database file: it must be text, and not end in .wal or /",
            );
        };
        let folder = fs::canonicalize(folder).map_err(|error| failed("the backup's folder", &error))?;
        let file = folder.join(name);
        if own.and_then(|own| fs::canonicalize(own).ok()).is_some_and(|own| own == file) {
            return Err(Error::Refused("this is the database's own file; give another one".into()));
        }
        // A log that lies there would be replayed into the backup by whoever opens it.
        if is_there(&file) || is_there(&with_suffix(&file, WAL)) {
            return exists();
        }
        let random = getrandom::u64().map_err(|error| Error::Internal(error.to_string()))?;
        let part = with_suffix(&file, &format!(".{random:016x}.part"));
        if part.to_str().is_none() {
            return bad_path("the path of the backup's folder must be text");
        }
        Ok(Self { file, part })
    }

    /// Where the backup is written.
    pub(super) fn part(&self) -> &Path {
        &self.part
    }

    /// Gives the complete file its name, unless that was taken meanwhile.
    pub(super) fn publish(self) -> Result<()> {
        let failed = |error: io::Error| failed("the backup", &error);
        if is_there(&with_suffix(&self.part, WAL)) {
            return Err(Error::Internal("the backup was left with a write-ahead log".into()));
        }
        File::open(&self.part).and_then(|part| part.sync_all()).map_err(failed)?;
        match fs::hard_link(&self.part, &self.file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return exists(),
            // Not every file system has links.
            Err(_) if is_there(&self.file) => return exists(),
            Err(_) => fs::rename(&self.part, &self.file).map_err(failed)?,
        }
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// An error of the copy as its client may see it: without the path under which the file is written, and
    /// apart from errors of the database itself, which is well.
    pub(super) fn name_failure(&self, error: Error) -> Error {
        let Error::Duck { class, message } = error else { return error };
        let part = self.part.to_string_lossy();
        let class = match class {
            Class::Fatal if message.contains(super::copy::BACKUP_PREFIX) || message.contains(&*part) => {
                Class::Io
            }
            class => class,
        };
        Error::Duck { class, message: message.replace(&*part, "of the backup") }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for file in [self.part.clone(), with_suffix(&self.part, WAL)] {
            match fs::remove_file(&file) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "a file of a backup is left behind");
                }
            }
        }
    }
}

/// A link that leads nowhere is there, too.
fn is_there(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok()
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn bad_path<T>(reason: &str) -> Result<T> {
    Err(Error::BadPath(reason.into()))
}

fn exists<T>() -> Result<T> {
    Err(Error::Duck {
        class: Class::AlreadyExists,
        message: "a file of that name, or its write-ahead log, exists already; nothing was written".into(),
    })
}

fn failed(what: &str, error: &io::Error) -> Error {
    let class = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Class::DiskFull,
        _ => Class::Io,
    };
    Error::Duck { class, message: format!("{what}: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_taken_or_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let own = at("own.db");
        for name in ["own.db", "taken.db", "logged.db.wal"] {
            fs::write(at(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(at("nowhere"), at("link.db")).unwrap();
        let class = |name: &str| Target::new(at(name).to_str().unwrap(), Some(&own)).err().map(|e| e.class());
        for name in ["taken.db", "logged.db", "link.db"] {
            assert_eq!(class(name), Some(Some(Class::AlreadyExists)), "{name}");
        }
        let own = Target::new(own.to_str().unwrap(), Some(&own)).err();
        assert!(matches!(own, Some(Error::Refused(_))), "{own:?}");
        assert_eq!(class("no-folder/x.db"), Some(Some(Class::Io)));
        assert_eq!(class("new.db"), None);
        let log = at("own.db.wal");
        for text in
            ["x.db", "./x.db", "", "s3://bucket/x.db", ":memory:", "/", "/x.db/", log.to_str().unwrap()]
        {
            assert!(matches!(Target::new(text, None), Err(Error::BadPath(_))), "{text}");
        }
    }

    #[test]
    fn nothing_is_left_unless_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b.db");
        let files = || fs::read_dir(folder.path()).unwrap().count();
        let target = Target::new(file.to_str().unwrap(), None).unwrap();
        fs::write(target.part(), "half").unwrap();
        drop(target);
        assert_eq!(files(), 0);

        let target = Target::new(file.to_str().unwrap(), None).unwrap();
        let slower = Target::new(file.to_str().unwrap(), None).unwrap();
        fs::write(target.part(), "whole").unwrap();
        fs::write(slower.part(), "other").unwrap();
        target.publish().unwrap();
        assert_eq!(slower.publish().unwrap_err().class(), Some(Class::AlreadyExists));
        assert_eq!(fs::read_to_string(&file).unwrap(), "whole");
        assert_eq!(files(), 1);
    }
}
