//! A pipe that a statement reads: it hears no interrupt while it waits for what is written.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::until;

/// `O_NONBLOCK` of Linux: opening fails where nobody reads, instead of waiting.
const NON_BLOCKING: i32 = 0o4000;

/// A pipe with a name.
pub struct Pipe(PathBuf);

impl Pipe {
    /// A new one in a folder.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn within(folder: &Path) -> Self {
        let path = folder.join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        Self(path)
    }

    /// A query that waits for it while it runs.
    pub fn read_sql(&self) -> String {
        let columns = "auto_detect = false, header = false, columns = {'line': 'VARCHAR'}";
        format!("FROM read_csv('{}', {columns})", self.0.display())
    }

    /// A query that waits for it while it is planned, to see what columns there are.
    pub fn planned_sql(&self) -> String {
        format!("FROM read_csv('{}')", self.0.display())
    }

    /// Waits until somebody reads; gives the end to write to, and that whoever reads meets once it is dropped.
    ///
    /// # Panics
    /// When nobody does in time.
    pub async fn read_by_somebody(&self) -> fs::File {
        let mut silent = None;
        until("somebody reads the pipe", async || {
            silent = silent
                .take()
                .or_else(|| fs::OpenOptions::new().write(true).custom_flags(NON_BLOCKING).open(&self.0).ok());
            silent.is_some()
        })
        .await;
        silent.expect("it was just seen")
    }
}
