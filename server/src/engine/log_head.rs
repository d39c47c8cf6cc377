//! A look at the write-ahead log before DuckDB has one.
//!
//! DuckDB checks a log entry by entry, but not its head: one whose first bytes are damaged it takes for empty,
//! opens the database without it, and writes a new log over it.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use super::{Error, Result};

/// How a log begins: its first entry is of kind 98 and has the version in its second field, which DuckDB
/// checks.
const HEAD: [u8; 5] = [0x64, 0x00, 0x62, 0x65, 0x00];

/// The log of a database.
pub(super) fn log_of(database: &Path) -> PathBuf {
    beside(database, LOGS[0])
}

/// Where its logs are, also those that are there during a checkpoint and after one that was cut off.
pub(super) fn logs_of(database: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    LOGS.iter().map(|ending| beside(database, ending))
}

/// Whether a file is called as the log of some database is, in any capitals.
pub(super) fn is_log(file: &Path) -> bool {
    let name = file.to_string_lossy().to_lowercase();
    LOGS.iter().any(|ending| name.ends_with(ending))
}

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.to_owned().into_os_string();
    name.push(ending);
    name.into()
}

/// How DuckDB names the logs of a database: these behind the name of its file.
pub(super) const LOGS: [&str; 3] = [".wal", ".wal.checkpoint", ".wal.recovery"];

/// How a log begins.
enum Head {
    /// It has entries.
    Sound,
    /// Nothing: it is empty, or was cut off before its head was written, or is of zeros, which a loss of power leaves of
    /// a log that was never synced.
    Nothing,
    /// With something else.
    Damaged,
}

/// Refuses a log whose head is damaged, and one whose database is not there: DuckDB deletes that one, with everything
/// that was acknowledged since the last checkpoint.
///
/// # Errors
/// [`Error::WalUnreadable`].
pub(super) fn check(database: &Path) -> Result<()> {
    match head_of(&log_of(database)) {
        Ok(Head::Damaged) => Err(Error::WalUnreadable("its first bytes are not those of a log".into())),
        Ok(Head::Sound) if !database.exists() => Err(Error::WalUnreadable(
            "the file of the database that it belongs to is not there, only the log is; put the two together again".into(),
        )),
        Ok(_) => Ok(()),
        // There is none; or DuckDB will say what is wrong.
        Err(_) => Ok(()),
    }
}

fn head_of(log: &Path) -> io::Result<Head> {
    let mut log = File::open(log)?;
    let mut head = [0; HEAD.len()];
    match log.read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Head::Nothing),
        read => read?,
    }
    match head {
        HEAD => Ok(Head::Sound),
        [0, 0, 0, 0, 0] if is_all_zeros(log)? => Ok(Head::Nothing),
        _ => Ok(Head::Damaged),
    }
}

fn is_all_zeros(mut log: File) -> io::Result<bool> {
    let mut piece = vec![0; 1 << 16];
    loop {
        let read = log.read(&mut piece)?;
        if read == 0 {
            return Ok(true);
        }
        if piece[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_head_is_told_from_a_log_that_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        assert!(check(&database).is_ok(), "no log");
        std::fs::write(&database, "").unwrap();
        let whole = [&HEAD[..], &[2, 0xff, 0xff, 1, 2, 3]].concat();
        let damaged = [&[0x65], &whole[1..]].concat();
        let zeroed_head = [&[0; HEAD.len()], &whole[HEAD.len()..]].concat();
        for (log, sound) in [
            (whole.clone(), true),
            (Vec::new(), true),
            (whole[..3].to_vec(), true),
            (vec![0; 100_000], true),
            (damaged, false),
            (zeroed_head, false),
        ] {
            std::fs::write(log_of(&database), &log).unwrap();
            assert_eq!(check(&database).is_ok(), sound, "{log:?}");
        }
    }

    #[test]
    fn a_log_is_not_lost_because_its_database_is_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("a.db");
        for (log, refused) in
            [([&HEAD[..], &[2, 0xff]].concat(), true), (Vec::new(), false), (vec![0; 100], false)]
        {
            std::fs::write(log_of(&database), &log).unwrap();
            assert_eq!(check(&database).is_err(), refused, "{log:?}");
        }
    }
}
