//! A pipe that a statement reads: it hears no interrupt while it waits for what is written.

use std::{
    fs,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::task::JoinHandle;

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
            silent = silent.take().or_else(|| self.opened());
            silent.is_some()
        })
        .await;
        silent.expect("it was just seen")
    }

    /// Lets go of whoever reads, and waits until its task has ended. A plan that has become stale meanwhile is made anew,
    /// and its statement then opens the pipe once more.
    ///
    /// # Panics
    /// When it does not end in time, or has panicked.
    pub async fn let_go<T>(&self, silent: fs::File, reading: JoinHandle<T>) -> T {
        drop(silent);
        until("whoever reads the pipe ends", async || {
            drop(self.opened());
            reading.is_finished()
        })
        .await;
        reading.await.expect("a task that does not panic")
    }

    /// The end to write to; `None` where nobody reads.
    fn opened(&self) -> Option<fs::File> {
        fs::OpenOptions::new().write(true).custom_flags(NON_BLOCKING).open(&self.0).ok()
    }
}
