//! The room on the database's disk. What would fill it is refused before DuckDB meets a full disk: a commit
//! that does is rolled back and harms nobody, but a checkpoint that does costs the whole instance.
//!
//! Deleted and rolled back rows leave room inside the file, which DuckDB uses again but seldom gives back to the
//! disk. It counts as well: rows need the disk only for as long as they are in the log.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Error, Result, log_head};

/// What was measured is believed for so long; what has been let through since is subtracted.
const BELIEVED: Duration = Duration::from_millis(100);
/// The reserve is never more than this part of the file system, so that a small one can be used at all.
const RESERVE_PART: u64 = 20;
/// With room inside the file the log may use this part of the reserve, until it is checkpointed.
const LENT_PART: u64 = 2;
/// A checkpoint writes a few bytes to the log even where the file has room for everything.
const CHECKPOINT_BYTES: u64 = 64 << 10;
/// A checkpoint writes the rows of the log into the file, and with them row groups that were begun before;
/// these are assumed to be this large, or twice the log, but never larger than the file.
const REWRITTEN_BYTES: u64 = 64 << 20;

/// Why a checkpoint is put off then, in the log.
pub(crate) const NO_ROOM: &str = "there is too little room on the disk for a checkpoint";

/// Knows how much may still be written. A database in memory has room for everything.
pub(crate) struct DiskRoom {
    folder: Option<PathBuf>,
    reserve: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    measured: Option<Measured>,
    /// Bytes that are free inside the file, and in the log, when the writer last looked.
    in_file: u64,
    /// The write that was refused last, until there is room for it.
    refused: Option<u64>,
}

/// A file system at one moment, in bytes.
#[derive(Debug, Clone, Copy)]
struct Measured {
    at: Instant,
    free: u64,
    total: u64,
}

impl DiskRoom {
    /// The disk of a database file, of which `reserve` bytes are to stay free.
    pub(crate) fn new(database: Option<&Path>, reserve: u64) -> Self {
        let folder = database.map(|file| folder_of(file).to_owned());
        Self { folder, reserve, state: Mutex::default() }
    }

    /// Whether so many bytes may be written. Cheap enough to ask before every commit.
    ///
    /// # Errors
    /// [`Error::DiskFull`] when less than the reserve would stay free.
    pub(crate) fn check(&self, bytes: u64) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let mut state = self.state.lock();
        let believed = state.measured.filter(|measured| measured.at.elapsed() < BELIEVED);
        // A refusal is never given on what was believed.
        let in_file = state.in_file;
        let fits = believed.filter(|measured| has_room(*measured, in_file, self.reserve, bytes));
        let Some(mut measured) = fits.or_else(|| measure(folder)) else { return Ok(()) };
        if !has_room(measured, in_file, self.reserve, bytes) {
            state.measured = Some(measured);
            if state.refused.replace(bytes).is_none() {
                tracing::warn!(
                    free = measured.free,
                    "the disk is full: nothing is written until there is room"
                );
            }
            return Err(Error::DiskFull);
        }
        if state.refused.is_some_and(|refused| has_room(measured, in_file, self.reserve, refused)) {
            state.refused = None;
            tracing::info!(free = measured.free, "there is room on the disk again");
        }
        measured.free = measured.free.saturating_sub(bytes);
        state.measured = Some(measured);
        Ok(())
    }

    /// Whether something was refused for which there is no room yet.
    pub(crate) fn is_full(&self) -> bool {
        self.state.lock().refused.is_some()
    }

    /// So many bytes are free inside the file, less what the log will need of them.
    pub(crate) fn note_room_in_file(&self, bytes: u64) {
        self.state.lock().in_file = bytes;
    }

    /// Bytes that are free, as far as they can be known; `None` for a database in memory.
    pub(crate) fn free(&self) -> Option<u64> {
        let folder = self.folder.as_ref()?;
        let mut state = self.state.lock();
        let believed = state.measured.filter(|measured| measured.at.elapsed() < BELIEVED);
        let measured = believed.or_else(|| measure(folder))?;
        state.measured = Some(measured);
        Some(measured.free)
    }
}

/// Whether a checkpoint of a database file can be expected to find room, of which `in_file` bytes are inside the file: one
/// that does not is fatal to the instance, or to the catalog that the file is.
///
/// # Errors
/// [`Error::DiskFull`].
pub(crate) fn check_checkpoint(database: &Path, in_file: u64) -> Result<()> {
    let bytes = |file: &Path| std::fs::metadata(file).map_or(0, |file| file.len());
    let needed = checkpoint_bytes(bytes(&log_head::log_of(database)), bytes(database), in_file);
    match free_bytes(database) {
        Some(free) if free < needed => Err(Error::DiskFull),
        _ => Ok(()),
    }
}

/// Bytes that are free on the disk of a file, which need not exist yet; `None` where the system does not tell.
pub(super) fn free_bytes(file: &Path) -> Option<u64> {
    measure(folder_of(file)).map(|measured| measured.free)
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What a checkpoint of so large a log may need beside it, before the log is gone; without a log it writes nothing.
fn checkpoint_bytes(wal_bytes: u64, file_bytes: u64, in_file: u64) -> u64 {
    if wal_bytes == 0 {
        return 0;
    }
    let written = wal_bytes + file_bytes.min(REWRITTEN_BYTES.max(2 * wal_bytes));
    written.saturating_sub(in_file).max(CHECKPOINT_BYTES)
}

fn has_room(measured: Measured, in_file: u64, reserve: u64, bytes: u64) -> bool {
    let reserve = reserve.min(measured.total / RESERVE_PART);
    let kept = if in_file >= bytes.saturating_add(reserve) { reserve / LENT_PART } else { reserve };
    measured.free >= kept.saturating_add(bytes)
}

/// `None` where the system does not tell; then DuckDB is left to find out.
fn measure(folder: &Path) -> Option<Measured> {
    match rustix::fs::statvfs(folder) {
        Ok(found) => Some(Measured {
            at: Instant::now(),
            free: found.f_bavail * found.f_frsize,
            total: found.f_blocks * found.f_frsize,
        }),
        Err(error) => {
            tracing::debug!(%error, "the room on the disk is not known");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_kept_and_small_on_a_small_disk() {
        let disk = Measured { at: Instant::now(), free: 3_000, total: 20_000 };
        assert!(has_room(disk, 0, 500, 2_500) && !has_room(disk, 0, 500, 2_501));
        // A twentieth of the disk, however large the reserve is to be.
        assert!(has_room(disk, 0, 1 << 30, 2_000) && !has_room(disk, 0, 1 << 30, 2_001));
        assert!(!has_room(disk, 0, 500, u64::MAX));
    }

    #[test]
    fn half_the_reserve_is_lent_where_the_file_has_room() {
        let disk = Measured { at: Instant::now(), free: 1_000, total: 20_000 };
        assert!(!has_room(disk, 0, 1_000, 500) && !has_room(disk, 1_000, 1_000, 500));
        assert!(has_room(disk, 1_500, 1_000, 500) && !has_room(disk, 9_000, 1_000, 501));
    }

    #[test]
    fn a_real_disk_has_room_for_a_little_and_not_for_everything() {
        let folder = tempfile::tempdir().unwrap();
        let room = DiskRoom::new(Some(&folder.path().join("a.duckdb")), 0);
        assert!(room.check(1).is_ok());
        assert!(matches!(room.check(u64::MAX), Err(Error::DiskFull)));
        assert!(room.check(1).is_ok(), "what is small enough goes on");
        assert!(room.free().unwrap() > 0);
    }

    #[test]
    fn what_was_let_through_counts_before_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let room = DiskRoom::new(Some(&folder.path().join("a.duckdb")), 0);
        let before = room.free().unwrap();
        room.check(before / 2).unwrap();
        let left = room.state.lock().measured.unwrap().free;
        assert!(left <= before / 2 + 1);
    }

    #[test]
    fn memory_has_room_for_everything() {
        let room = DiskRoom::new(None, u64::MAX);
        assert!(room.check(u64::MAX).is_ok());
        assert_eq!(room.free(), None);
    }

    #[test]
    fn a_checkpoint_needs_the_log_and_what_it_rewrites() {
        assert_eq!(checkpoint_bytes(1 << 20, 0, 0), 1 << 20);
        assert_eq!(checkpoint_bytes(1 << 20, 7 << 20, 0), 8 << 20);
        assert_eq!(checkpoint_bytes(1 << 30, 1 << 40, 0), 3 << 30);
        assert_eq!(checkpoint_bytes(1 << 20, 7 << 20, 5 << 20), 3 << 20);
        assert_eq!(checkpoint_bytes(1 << 20, 7 << 20, u64::MAX), CHECKPOINT_BYTES);
        assert_eq!(checkpoint_bytes(0, 1 << 40, 0), 0);
    }
}
