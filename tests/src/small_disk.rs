//! A file system of a test's own, small enough to be filled.

use std::{fs::File, io::Write, path::Path, process::Command};

use tempfile::TempDir;

use crate::DatabaseFile;

/// A file system in memory, gone when it is dropped.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// One of so many bytes; `None` where none can be mounted, because that takes root.
    pub fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder to mount it at");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self { folder })
    }

    /// A place for a database on it.
    pub fn database(&self) -> DatabaseFile {
        DatabaseFile::within(self.folder.path())
    }

    /// Takes so many bytes of it away.
    pub fn fill(&self, bytes: usize) {
        let mut file = File::create(self.ballast()).expect("a file on the small disk");
        file.write_all(&vec![1; bytes]).expect("room for it");
    }

    /// Gives back what was taken away.
    pub fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("what was taken away");
    }

    fn ballast(&self) -> impl AsRef<Path> + use<> {
        self.folder.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a test that failed may have left files open.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}
