//! Opening the database again after it has failed.
//!
//! Two instances over one file in one process destroy its write-ahead log, and the lock does not keep a process
//! from itself. So a new one is opened only once the old one is proven gone: DuckDB has closed it, and no
//! descriptor of this process is open on its files. A query may ignore its interrupt for long; what is not gone
//! in time is got rid of by ending the process.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use super::{
    Error, Result,
    clock::CommitClock,
    database::{Database, Instance},
    ffi::Pulse,
    panics,
};
use crate::counted::counted;

/// The thread.
const NAME: &str = "supervisor";
/// How long the old instance may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How long until its files are closed, once all that the server had of it is closed.
const LEFT_OPEN_FOR: Duration = Duration::from_secs(2);
/// An interrupt is repeated so often: DuckDB forgets one that comes just before a statement begins.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);
/// Opening is tried again so often,
const OPEN_AGAIN: Duration = Duration::from_secs(1);
/// and for so long.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// Starts the thread that watches over the database; it ends with it.
pub(super) fn start(database: &Arc<Database>, clock: Arc<CommitClock>) -> Result<()> {
    let database = Arc::downgrade(database);
    thread::Builder::new()
        .name(NAME.into())
        .spawn(move || or_lose(&database, || watch(&database, &clock)))
        .map_err(|error| Error::Internal(format!("the supervisor's thread cannot start: {error}")))?;
    Ok(())
}

/// Supervises. Should that panic, nobody would open the database again, so it is given up, and with it the process.
fn or_lose(database: &Weak<Database>, supervise: impl FnOnce()) {
    if let Some(reason) = panics::caught(NAME, supervise)
        && let Some(database) = database.upgrade()
    {
        database.lose(&format!("the thread that opens it again has ended: {reason}"));
    }
}

/// Opens the database again, as often as it fails.
fn watch(database: &Weak<Database>, clock: &CommitClock) {
    while let Some((pulse, stopping)) = pulse_of(database) {
        futures::executor::block_on(async {
            tokio::select! {
                () = pulse.failed().cancelled() => {}
                () = stopping.cancelled() => {}
            }
        });
        let Some(database) = database.upgrade().filter(|_| !stopping.is_cancelled()) else { return };
        if let Err(reason) = reopen(&database, &pulse, clock) {
            if !stopping.is_cancelled() {
                tracing::error!(reason, "the database cannot be opened again");
                database.standing.give_up(reason);
            }
            return;
        }
    }
}

fn pulse_of(database: &Weak<Database>) -> Option<(Arc<Pulse>, tokio_util::sync::CancellationToken)> {
    let database = database.upgrade()?;
    Some((database.standing.pulse(), database.standing.stopping().clone()))
}

/// Replaces the failed instance; the error says why that cannot be.
fn reopen(database: &Database, pulse: &Pulse, clock: &CommitClock) -> Result<(), String> {
    let started = Instant::now();
    tracing::error!(reason = pulse.reason(), "the database has failed and is opened again");
    database.standing.put_down();
    let Some(path) = &database.options.path else {
        return Err("it was in memory, and all of its rows are gone".into());
    };
    wait_until_gone(database, pulse, path)?;
    let instance = open_again(database)?;
    // What was known of tables and plans was of the old instance.
    clock.schema_changed();
    drop(clock.writing());
    database.standing.take_up(instance);
    let (generation, elapsed) = (database.generation(), started.elapsed());
    tracing::warn!(generation, milliseconds = elapsed.as_millis() as u64, "the database is open again");
    Ok(())
}

/// Ends what runs on the old instance, until nothing is left of it.
fn wait_until_gone(database: &Database, pulse: &Pulse, path: &Path) -> Result<(), String> {
    let started = Instant::now();
    let mut closed = None;
    loop {
        let connections = pulse.interrupt_all();
        if pulse.is_closed() {
            if !has_open_descriptors(path) {
                return Ok(());
            }
            if closed.get_or_insert_with(Instant::now).elapsed() >= LEFT_OPEN_FOR {
                return Err(
                    "a transaction in a lake that could not be rolled back keeps its files open".into()
                );
            }
        }
        if started.elapsed() >= GONE_WITHIN {
            return Err(format!(
                "{} to the failed instance would not end within {GONE_WITHIN:?}",
                counted(connections, "connection")
            ));
        }
        if database.standing.rest(INTERRUPT_AGAIN) {
            return Err("the server is stopping".into());
        }
    }
}

/// Opens a new instance; what keeps it from opening, such as a full disk, may pass.
fn open_again(database: &Database) -> Result<Instance, String> {
    let started = Instant::now();
    loop {
        let error = match Instance::open(
            &database.options,
            &database.scans,
            &database.ledgers,
            &database.job_statuses,
            &database.activity,
        ) {
            Ok((instance, attached)) => {
                database.are_attached(attached);
                return Ok(instance);
            }
            Err(error) => error,
        };
        if started.elapsed() >= OPEN_WITHIN || matches!(error, Error::WalUnreadable(_)) {
            return Err(error.to_string());
        }
        tracing::error!(%error, "the database cannot be opened yet");
        if database.standing.rest(OPEN_AGAIN) {
            return Err("the server is stopping".into());
        }
    }
}

/// Whether this process has the database, its write-ahead log or another file beside it open, deleted ones
/// included. Where the system has no list of descriptors, DuckDB's word has to do.
fn has_open_descriptors(path: &Path) -> bool {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return false };
    let names = names_of(path);
    descriptors
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|open| open.into_os_string().into_string().ok())
        .any(|open| names.iter().any(|name| is_beside(&open, name)))
}

/// What the system may call the database: where it is, and where its name leads to.
fn names_of(path: &Path) -> Vec<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = folder.canonicalize().ok().zip(path.file_name()).map(|(folder, name)| folder.join(name));
    let names: [Option<PathBuf>; 2] = [beside, path.canonicalize().ok()];
    names.into_iter().flatten().map(|name| name.to_string_lossy().into_owned()).collect()
}

/// `a.db`, `a.db.wal`, `a.db.wal (deleted)`; not `a.db2`, nor a log that somebody named `a.db.log`.
fn is_beside(open: &str, database: &str) -> bool {
    open.strip_prefix(database).is_some_and(|rest| {
        let rest = rest.strip_suffix(" (deleted)").unwrap_or(rest);
        rest.is_empty() || rest == ".wal" || rest.starts_with(".wal.") || rest.starts_with(".tmp")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Condition;

    fn open(path: Option<PathBuf>) -> (Arc<Database>, Arc<CommitClock>) {
        let options = super::super::Options { path, ..Default::default() };
        let (database, clock) =
            (Arc::new(Database::open(&options).unwrap()), Arc::new(CommitClock::new(true)));
        start(&database, Arc::clone(&clock)).unwrap();
        (database, clock)
    }

    #[test]
    fn a_condemned_instance_is_replaced_once_nobody_holds_a_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let (database, clock) = open(Some(path.clone()));
        let (schemas, stamp) = (clock.schemas(), clock.stamp());
        let held = database.private_connection().unwrap();
        held.execute("CREATE TABLE t AS SELECT 1 AS i").unwrap();
        database.connection().unwrap().execute("FROM t").unwrap();
        assert_eq!(database.generation(), 1);

        database.invalidate("a test");
        assert!(held.is_lost() && !database.is_open());
        assert!(matches!(database.connection(), Err(Error::EngineDown)));
        assert!(matches!(database.private_connection(), Err(Error::EngineDown)));
        let waiting = {
            let database = Arc::clone(&database);
            thread::spawn(move || database.wait_until_open())
        };
        let mut condition = database.condition();
        futures::executor::block_on(condition.wait_for(|now| *now == Condition::Down)).unwrap();
        assert!(has_open_descriptors(&path) && !waiting.is_finished());
        drop(held);
        waiting.join().unwrap().unwrap();
        assert_eq!(database.generation(), 2);
        assert!(clock.schemas() > schemas && clock.stamp() != stamp);
        database.connection().unwrap().execute("FROM t").unwrap();
        drop(database);
    }

    #[test]
    fn a_database_in_memory_is_lost_and_nobody_waits_for_it() {
        let (database, _) = open(None);
        database.invalidate("a test");
        assert!(matches!(database.wait_until_open(), Err(Error::Stopping)));
        assert!(matches!(&*database.condition().borrow(), Condition::Lost(_)));
    }

    #[test]
    fn a_supervisor_that_panics_gives_the_database_up() {
        let (database, _) = open(None);
        or_lose(&Arc::downgrade(&database), || panic!("a test"));
        let condition = database.condition().borrow().clone();
        assert!(matches!(&condition, Condition::Lost(why) if why.contains("a test")), "{condition:?}");
    }

    #[test]
    fn who_waits_is_told_of_the_stop() {
        let folder = tempfile::tempdir().unwrap();
        let (database, _) = open(Some(folder.path().join("a.db")));
        let held = database.private_connection().unwrap();
        database.invalidate("a test");
        let waiting = {
            let database = Arc::clone(&database);
            thread::spawn(move || database.wait_until_open())
        };
        database.stop();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Stopping)));
        assert!(held.is_lost());
    }

    #[test]
    fn files_of_the_database_are_known_by_their_names() {
        for (open, beside) in [
            ("", true),
            (".wal", true),
            (".wal (deleted)", true),
            ("2", false),
            (".log", false),
            ("/a", false),
        ] {
            assert_eq!(is_beside(&format!("/d/a.db{open}"), "/d/a.db"), beside, "{open}");
        }
        assert!(!is_beside("/d/b.db", "/d/a.db"));
    }
}
