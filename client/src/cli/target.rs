//! The file that rows go to. It is written beside the one that is to be replaced and takes its place when all is there,
//! so that an error, a full disk or Ctrl-C leave the file of before.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    path::Path,
};

use merganser::Error;

use super::beside::Beside;

/// Where bytes go.
pub(crate) type Sink = Box<dyn Write + Send>;

/// What becomes of the bytes when all of them are written.
pub(crate) struct Target(Option<Beside>);

impl Target {
    /// Opens what is to be written; without a path stdout.
    ///
    /// # Errors
    /// [`Error::Io`]: it cannot be written, or nothing beside it.
    pub(crate) fn open(path: Option<&Path>) -> Result<(Self, Sink), Error> {
        let Some(path) = path else { return Ok((Self(None), Box::new(io::stdout()))) };
        let opened = if is_replaced(path) { open_beside(path) } else { open_as_it_is(path) };
        Ok(opened.map_err(|error| cannot_write(path, &error))?)
    }

    /// Puts what was written in its place. Without this, nothing of it stays.
    ///
    /// # Errors
    /// [`Error::Io`]: it is not on the disk, or cannot be named so.
    pub(crate) fn keep(self) -> Result<(), Error> {
        let Some(beside) = self.0 else { return Ok(()) };
        let place = beside.place().to_owned();
        Ok(beside.keep().map_err(|error| cannot_write(&place, &error))?)
    }
}

/// Whether the path is that of a file, or of nothing yet. A pipe or a device is not replaced by a file, nor is a link that
/// leads nowhere.
fn is_replaced(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.is_file(),
        Err(_) => fs::symlink_metadata(path).is_err(),
    }
}

fn open_as_it_is(path: &Path) -> io::Result<(Target, Sink)> {
    Ok((Target(None), Box::new(File::create(path)?)))
}

fn open_beside(path: &Path) -> io::Result<(Target, Sink)> {
    let permissions = permissions_of(path)?;
    // Where a link leads to a file, that one is replaced, and the link stays.
    let place = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let beside = Beside::create(place, permissions.as_ref())?;
    if let Some(permissions) = permissions {
        beside.file.set_permissions(permissions)?;
    }
    let sink = beside.file.try_clone()?;
    Ok((Target(Some(beside)), Box::new(sink)))
}

/// Those of the file that is there. One that may not be written is not replaced either.
fn permissions_of(path: &Path) -> io::Result<Option<Permissions>> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => Ok(Some(file.metadata()?.permissions())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_when_all_is_there_and_never_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.csv");
        for whole in [false, true, false] {
            let before = fs::read_to_string(&file).ok();
            let (target, mut sink) = Target::open(Some(&file)).unwrap();
            sink.write_all(b"new").unwrap();
            assert_eq!(fs::read_to_string(&file).ok(), before);
            if whole {
                target.keep().unwrap();
            } else {
                drop(target);
            }
            let expected = if whole { Some("new".to_owned()) } else { before };
            assert_eq!(fs::read_to_string(&file).ok(), expected);
            assert!(names(folder.path()).iter().all(|name| name == "a.csv"));
        }
    }

    #[test]
    fn permissions_and_links_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, plain] = ["a", "link", "plain"].map(|name| folder.path().join(name));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        symlink("a", &link).unwrap();
        let (target, mut sink) = Target::open(Some(&link)).unwrap();
        sink.write_all(b"new").unwrap();
        target.keep().unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), mode(&file)), ("new", 0o640));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

        Target::open(Some(&plain)).unwrap().0.keep().unwrap();
        let made = folder.path().join("made");
        File::create(&made).unwrap();
        assert_eq!(mode(&plain), mode(&made));
    }

    #[test]
    fn what_is_no_file_is_written_as_it_is() {
        let (target, mut sink) = Target::open(Some(Path::new("/dev/null"))).unwrap();
        assert!(target.0.is_none());
        sink.write_all(b"new").unwrap();
        target.keep().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let dangling = folder.path().join("dangling");
        symlink("later", &dangling).unwrap();
        Target::open(Some(&dangling)).unwrap().0.keep().unwrap();
        assert_eq!(names(folder.path()), ["dangling", "later"]);
        let error = Target::open(Some(folder.path())).err().unwrap().to_string();
        assert!(error.contains("cannot write"), "{error}");
    }
}
