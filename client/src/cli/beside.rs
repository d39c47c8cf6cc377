//! A file under another name until it is whole, beside the one that it replaces.
//!
//! The name follows from that of the file, so that what a killed command has left is taken away by the next one. A lock
//! tells that from what is being written: the system lets go of it when the process ends, however it does.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, ErrorKind},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

/// What a file is made with, less what the umask takes away.
const NEW_FILE: u32 = 0o666;
/// As long as a name may be on most file systems.
const MAX_NAME_BYTES: usize = 255;

/// The file. Dropping it removes it.
pub(super) struct Beside {
    pub(super) file: File,
    /// Absent once it has been renamed: the name may then be that of another process.
    name: Option<PathBuf>,
    place: PathBuf,
}

impl Beside {
    /// Makes it, and nobody else makes one for the same place until it is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::ResourceBusy`]: somebody else writes there.
    pub(super) fn create(place: PathBuf, permissions: Option<&Permissions>) -> io::Result<Self> {
        let name = name_beside(&place);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(permissions.map_or(NEW_FILE, PermissionsExt::mode));
        let file = loop {
            match options.open(&name) {
                Ok(file) if lock(&file, &name)? => break file,
                // Somebody took it for one that was left.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => remove_left(&name)?,
                Err(error) => return Err(error),
            }
        };
        Ok(Self { file, name: Some(name), place })
    }

    /// What it replaces.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Puts it in its place, once it is on the disk.
    pub(super) fn keep(mut self) -> io::Result<()> {
        // Some disks tell only now that they are full; and the file of before must not make room for one that is not there
        // after the power was cut.
        self.file.sync_all()?;
        if let Some(name) = &self.name {
            fs::rename(name, &self.place)?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = fs::remove_file(name);
        }
    }
}

/// `.merganser-FILE.part`, or with a number in the place of a name that is too long for that.
fn name_beside(place: &Path) -> PathBuf {
    let file = place.file_name().unwrap_or_default();
    let named =
        |file: &std::ffi::OsStr| [".merganser-".as_ref(), file, ".part".as_ref()].into_iter().collect();
    let mut name: OsString = named(file);
    if name.len() > MAX_NAME_BYTES {
        let mut hasher = DefaultHasher::new();
        file.as_bytes().hash(&mut hasher);
        name = named(format!("{:016x}", hasher.finish()).as_ref());
    }
    place.with_file_name(name)
}

/// Removes what a process has left that was killed.
fn remove_left(name: &Path) -> io::Result<()> {
    // No link is followed: what it leads to was not left here.
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let left = match OpenOptions::new().write(true).custom_flags(no_link).open(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        left => left?,
    };
    match lock(&left, name)? {
        true => fs::remove_file(name),
        false => Ok(()),
    }
}

/// Locks a file that was opened by its name; false where the name has become that of another one meanwhile.
fn lock(file: &File, name: &Path) -> io::Result<bool> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        Errno::WOULDBLOCK => io::Error::new(ErrorKind::ResourceBusy, "another merganser is writing it"),
        other => other.into(),
    })?;
    let is_same = |there: fs::Metadata| -> io::Result<bool> {
        let opened = file.metadata()?;
        Ok((opened.dev(), opened.ino()) == (there.dev(), there.ino()))
    };
    match fs::symlink_metadata(name) {
        Ok(there) => is_same(there),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::symlink, sync::Barrier};

    use super::*;

    #[test]
    fn what_was_left_is_taken_away_and_what_is_written_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.csv");
        let left = folder.path().join(".merganser-a.csv.part");
        fs::write(&left, "left by somebody who was killed").unwrap();
        fs::set_permissions(&left, Permissions::from_mode(0o600)).unwrap();
        let mut beside = Beside::create(place.clone(), Some(&Permissions::from_mode(0o640))).unwrap();
        assert_eq!(fs::read_to_string(&left).unwrap(), "");
        beside.file.write_all(b"new").unwrap();
        let error = Beside::create(place.clone(), None).err().unwrap();
        assert_eq!(
            (error.kind(), fs::read_to_string(&left).unwrap().as_str()),
            (ErrorKind::ResourceBusy, "new")
        );
        beside.keep().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "new");
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o640);
        drop(Beside::create(place, None).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_many_at_once_one_writes() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("a.csv");
        let (begin, end) = (Barrier::new(8), Barrier::new(8));
        for _ in 0..50 {
            fs::write(folder.path().join(".merganser-a.csv.part"), "left").unwrap();
            let made: Vec<_> = std::thread::scope(|scope| {
                let make = || {
                    begin.wait();
                    let made = Beside::create(place.clone(), None);
                    end.wait();
                    made.map(drop).is_ok()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
        }
    }

    #[test]
    fn links_are_not_followed_and_long_names_have_one() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, long) = (folder.path().join("kept"), folder.path().join("x".repeat(MAX_NAME_BYTES)));
        fs::write(&kept, "kept").unwrap();
        symlink(&kept, folder.path().join(".merganser-a.csv.part")).unwrap();
        assert!(Beside::create(folder.path().join("a.csv"), None).is_err());
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        let beside = Beside::create(long.clone(), None).unwrap();
        assert_eq!(Beside::create(long.clone(), None).err().unwrap().kind(), ErrorKind::ResourceBusy);
        beside.keep().unwrap();
        assert!(long.exists());
    }
}
