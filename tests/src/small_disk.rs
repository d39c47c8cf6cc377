//! A file system of a test's own, small enough to be filled.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    process::Command,
};

use tempfile::TempDir;

use crate::DatabaseFile;

/// A file system in memory, gone when it is dropped.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// One of so many bytes; `None` where none can be mounted, because that takes root.
    fn mount(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder to mount it at");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self { folder })
    }

    /// The same, or a line past what the test harness keeps back of a test that passes: that `test` is skipped.
    pub fn mount_for(test: &str, bytes: u64) -> Option<Self> {
        let disk = Self::mount(bytes);
        if disk.is_none() {
            let _ = writeln!(io::stderr(), "SKIPPED {test}: it mounts a small file system, which takes root");
        }
        disk
    }

    /// A place for a database on it.
    pub fn database(&self) -> DatabaseFile {
        DatabaseFile::within(self.folder.path())
    }

    /// Takes so many bytes of it away.
    pub fn fill(&self, bytes: usize) {
        let file = File::options().create(true).append(true).open(self.ballast());
        file.expect("a file on the small disk").write_all(&vec![1; bytes]).expect("room for it");
    }

    /// Takes away all that is free but so many bytes.
    pub fn leave(&self, bytes: usize) {
        let disk = rustix::fs::statvfs(self.folder.path()).expect("how much is free");
        let free = usize::try_from(disk.f_bavail * disk.f_frsize).expect("a small disk");
        self.fill(free.checked_sub(bytes).expect("less was free"));
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
