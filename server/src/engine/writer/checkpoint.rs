//! When the write-ahead log is moved into the file: the writer decides, between two groups, and never inside
//! a loader's commit.
//!
//! DuckDB refuses a checkpoint while another write transaction is open that has not only appended, and while a read is open whose
//! snapshot is older than an UPDATE, a DELETE or a change of tables. Then it is tried again, with a growing
//! pause; at the hard limit of the log, what stands in the way is ended, oldest first.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    engine::{
        clock::CommitClock,
        database::Database,
        disk::NO_ROOM,
        error::Class,
        ffi::{Connection, DuckError},
    },
    metrics,
};

/// The writer counts as idle after this long without a command.
const IDLE: Duration = Duration::from_secs(1);
/// A smaller write-ahead log is left alone when idle.
const IDLE_BYTES: u64 = 4 << 20;
/// The log is checkpointed when it is larger than this part of what is free on the disk,
const DISK_PART: u64 = 4;
/// unless it is as small as this.
const DISK_BYTES: u64 = 256 << 10;
/// A checkpoint that was refused is tried again after so long, then after twice as long, and so on
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// up to this,
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// or this while the log is at its limit and others wait.
const PAUSE_AT_LIMIT: Duration = Duration::from_millis(200);
/// While the disk is full, the room inside the file is looked at so often.
const LOOK_INSIDE: Duration = Duration::from_secs(1);
/// The log says what stands in the way after so long, and again each time as much has passed.
const LASTS: Duration = Duration::from_secs(10);

/// The log tells of a checkpoint that took as long: no upload was committed meanwhile.
const LONG: Duration = Duration::from_secs(1);

/// Why the log is to be checkpointed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Idle,
    Size,
    Disk,
    Limit,
    Stop,
}

impl Why {
    /// As the log and the metrics call it.
    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Size => "size",
            Self::Disk => "disk",
            Self::Limit => "limit",
            Self::Stop => "stop",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Sizes of the log in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// It is checkpointed under load too.
    pub(super) checkpoint: u64,
    /// Nothing new is admitted until it is.
    pub(super) limit: u64,
}

impl Sizes {
    /// Whether a log of `wal` bytes is to be checkpointed, with `free` bytes on its disk.
    fn reason(self, wal: u64, free: Option<u64>, idle: bool) -> Option<Why> {
        let fills_disk = free.is_some_and(|free| wal >= DISK_BYTES && wal >= free / DISK_PART);
        match wal {
            0 => None,
            wal if wal >= self.limit => Some(Why::Limit),
            wal if wal >= self.checkpoint => Some(Why::Size),
            _ if fills_disk => Some(Why::Disk),
            wal if idle && wal >= IDLE_BYTES.min(self.checkpoint) => Some(Why::Idle),
            _ => None,
        }
    }
}

/// Decides on checkpoints, and makes them.
pub(super) struct Checkpoints {
    database: Arc<Database>,
    clock: Arc<CommitClock>,
    sizes: Sizes,
    blocked: Option<Blocked>,
    looked_inside: Option<Instant>,
}

/// A checkpoint that was refused.
struct Blocked {
    since: Instant,
    tried: Instant,
    pause: Duration,
    told: Instant,
}

impl Checkpoints {
    pub(super) fn new(database: Arc<Database>, clock: Arc<CommitClock>, sizes: Sizes) -> Self {
        Self { database, clock, sizes, blocked: None, looked_inside: None }
    }

    /// How long the writer may rest before it is to ask again.
    pub(super) fn rest(&self) -> Duration {
        match &self.blocked {
            Some(blocked) => blocked.pause.min(IDLE),
            None => IDLE,
        }
    }

    /// For the end. DuckDB checkpoints each file once more as it closes it: where one has no room for that, none is, since the
    /// attempt would take what is left of the disk.
    pub(super) fn at_stop(&mut self, connection: &Connection) {
        self.attempt(connection, Why::Stop);
        if self.database.check_checkpoints().is_ok() {
            return;
        }
        tracing::warn!("{NO_ROOM}: the next start replays the write-ahead log");
        if let Err(error) = connection.execute("PRAGMA disable_checkpoint_on_shutdown") {
            tracing::warn!(%error, "DuckDB may try a checkpoint all the same");
        }
    }

    /// Whether it is time for a checkpoint, between two groups or when nothing waits.
    pub(super) fn due(&mut self, connection: &Connection, idle: bool) -> Option<Why> {
        if self.database.disk.is_full() && self.looked_inside.is_none_or(|at| at.elapsed() >= LOOK_INSIDE) {
            self.look_inside(connection);
        }
        let wal = self.database.wal_bytes();
        let reason = self.sizes.reason(wal, self.database.disk.free(), idle);
        let at_limit = reason == Some(Why::Limit);
        if self.database.writes.admit(!at_limit) {
            match at_limit {
                true => tracing::warn!(wal, "the write-ahead log is at its limit: no new write is admitted"),
                false => tracing::info!(wal, "writes are admitted again"),
            }
        }
        if reason.is_none() {
            self.blocked = None;
        }
        reason.filter(|_| self.has_paused(at_limit))
    }

    fn has_paused(&self, at_limit: bool) -> bool {
        let now = Instant::now();
        match &self.blocked {
            None => true,
            // The pause may have grown long before the limit was reached.
            Some(blocked) if at_limit => now >= blocked.tried + blocked.pause.min(PAUSE_AT_LIMIT),
            Some(blocked) => now >= blocked.tried + blocked.pause,
        }
    }

    /// Moves the log into the file, if it is not refused.
    pub(super) fn attempt(&mut self, connection: &Connection, why: Why) {
        if !self.has_room(connection) {
            return self.put_off(why, NO_ROOM);
        }
        let started = Instant::now();
        let wal = self.database.wal_bytes();
        let writing = self.clock.writing();
        let outcome = connection.execute("CHECKPOINT");
        drop(writing);
        match outcome {
            Ok(_) => {
                let took = started.elapsed();
                metrics::checkpointed(why.name(), took);
                tell(why, wal, took);
                self.blocked = None;
                if self.database.writes.admit(true) {
                    tracing::info!("the write-ahead log is checkpointed: writes are admitted again");
                }
            }
            Err(error) => self.refused(why, &error),
        }
    }

    /// Whether the disk, or the file itself, has room for what a checkpoint writes.
    fn has_room(&mut self, connection: &Connection) -> bool {
        if self.database.check_checkpoint(0).is_ok() {
            return true;
        }
        let in_file = self.look_inside(connection);
        self.database.check_checkpoint(in_file).is_ok()
    }

    /// How much room the file has inside.
    fn look_inside(&mut self, connection: &Connection) -> u64 {
        self.looked_inside = Some(Instant::now());
        let bytes = self.database.room_in_file(connection);
        self.database.disk.note_room_in_file(bytes.saturating_sub(self.database.wal_bytes()));
        bytes
    }

    fn refused(&mut self, why: Why, error: &DuckError) {
        if error.class != Class::Conflict {
            tracing::error!(%error, "a checkpoint failed");
            return self.put_off(why, "an error");
        }
        if why == Why::Limit
            && let Some((kind, age)) = self.database.writes.end_oldest()
        {
            let seconds = age.as_secs();
            tracing::warn!(%kind, seconds, "ended a write, because the write-ahead log is at its limit");
        }
        match self.database.writes.oldest() {
            Some((count, kind, age)) => {
                let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
                self.put_off(why, &format!("{count} open writes, the oldest of them a {kind} since {age}"));
            }
            None => self.put_off(why, "a read that is older than an UPDATE, DELETE or change of tables"),
        }
    }

    /// Tries again later, and says why once it lasts.
    fn put_off(&mut self, why: Why, obstacle: &str) {
        metrics::checkpoint_put_off(why.name());
        let now = Instant::now();
        let blocked =
            self.blocked.get_or_insert(Blocked { since: now, tried: now, pause: FIRST_PAUSE / 2, told: now });
        let longest = if why == Why::Limit { PAUSE_AT_LIMIT } else { LONGEST_PAUSE };
        blocked.pause = (blocked.pause * 2).min(longest);
        blocked.tried = now;
        tracing::debug!(%why, obstacle, "checkpoint put off");
        if now.duration_since(blocked.told) >= LASTS {
            blocked.told = now;
            let (wal, seconds) = (self.database.wal_bytes(), now.duration_since(blocked.since).as_secs());
            tracing::info!(%why, wal, seconds, obstacle, "a checkpoint is put off");
        }
    }
}

/// Writes down a checkpoint that was made: what the writer could not do meanwhile may be missed.
fn tell(why: Why, wal: u64, took: Duration) {
    let milliseconds = took.as_millis() as u64;
    match took {
        took if took >= LONG => tracing::info!(%why, wal, milliseconds, "checkpointed"),
        _ => tracing::debug!(%why, wal, milliseconds, "checkpointed"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::engine::{
        Options,
        answers::first_text,
        ledger::{LedgerTable, Retention},
    };

    const SIZES: Sizes = Sizes { checkpoint: 1 << 30, limit: 4 << 30 };

    #[test]
    fn a_checkpoint_has_a_reason() {
        let plenty = Some(u64::MAX);
        for (wal, free, idle, why) in [
            (0, Some(0), true, None),
            (3 << 20, plenty, true, None),
            (4 << 20, plenty, true, Some(Why::Idle)),
            (16 << 20, plenty, false, None),
            (1 << 30, plenty, false, Some(Why::Size)),
            (4 << 30, plenty, false, Some(Why::Limit)),
            (16 << 20, Some(64 << 20), false, Some(Why::Disk)),
            (16 << 20, Some(65 << 20), false, None),
            (1 << 17, Some(1 << 18), false, None),
            (16 << 20, None, false, None),
        ] {
            assert_eq!(SIZES.reason(wal, free, idle), why, "{wal} {free:?} {idle}");
        }
    }

    /// What is written at the default level.
    fn told(took: Duration) -> String {
        let (file, mut text) = (tempfile::NamedTempFile::new().unwrap(), String::new());
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(file.reopen().unwrap());
        tracing::subscriber::with_default(lines.finish(), || tell(Why::Size, 350 << 20, took));
        file.reopen().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_checkpoint_that_takes_long_is_told() {
        assert_eq!(told(LONG - Duration::from_millis(1)), "");
        let line = told(Duration::from_secs(10));
        assert!(line.contains("INFO"), "{line}");
        assert!(line.contains("checkpointed why=size wal=367001600 milliseconds=10000"), "{line}");
    }

    /// Of the DELETE that prunes it DuckDB keeps nothing that a checkpoint would have to wait for.
    #[test]
    fn a_read_across_a_pruning_of_the_ledger_stands_in_no_checkpoints_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().join("a.db"));
        let database = Arc::new(Database::open(&Options { path, ..Options::default() }).unwrap());
        let [connection, reader] = [(); 2].map(|()| database.private_connection().unwrap());
        let ledger = LedgerTable::find(&connection, "a", false).unwrap();
        ledger.ensure(&connection).unwrap();
        let units = "SELECT 'a', range, range, now() - INTERVAL 30 DAY, '' FROM range(3)";
        connection.execute(&format!("INSERT INTO __merganser.ingest_units {units}")).unwrap();

        reader.execute("BEGIN TRANSACTION READ ONLY").unwrap();
        let left = "SELECT count(*)::VARCHAR FROM __merganser.ingest_units";
        assert_eq!(first_text(&reader, left).unwrap(), "3");
        assert_eq!(ledger.prune(&connection, Retention::default()).unwrap(), 2);
        let log = database.wal_bytes();
        connection.execute("CHECKPOINT").unwrap();
        assert!(database.wal_bytes() < log, "{log} bytes are still in the log");
        assert_eq!(first_text(&reader, left).unwrap(), "3");
    }
}
