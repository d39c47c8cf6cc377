//! What `SELECT * FROM merganser_sessions()` shows: a row a session.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{Activity, State};
use crate::engine::clock::micros;

/// Whoever knows the sessions.
pub(crate) trait SessionDirectory: Send + Sync {
    /// All of them.
    fn list(&self) -> Vec<SessionCard>;

    /// Takes from a session all that it has, and has its client told so; false where there is none of that number.
    fn close(&self, number: u64) -> bool;
}

/// One session.
#[derive(Debug)]
pub(crate) struct SessionCard {
    /// By which people name it: its id lets in whoever knows it.
    pub(crate) number: u64,
    pub(crate) user: Option<Arc<str>>,
    /// Where its client was heard from last.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) opened: SystemTime,
    /// How long ago it was used.
    pub(crate) unused: Duration,
    /// When the oldest of its open transactions began.
    pub(crate) transaction: Option<Instant>,
    /// It has a connection of its own.
    pub(crate) is_pinned: bool,
    pub(crate) prepared: usize,
    pub(crate) catalog: String,
}

/// What the statements of a session are at.
#[derive(Default)]
struct Counts {
    statements: u64,
    open_results: u64,
}

/// The columns of [`sessions`].
pub(crate) fn sessions_schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let count = |name| Field::new(name, DataType::UInt64, true);
    let truth = |name| Field::new(name, DataType::Boolean, true);
    let time = |name| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    Arc::new(Schema::new(vec![
        count("session"),
        text("user_name"),
        text("peer"),
        time("opened_at"),
        time("used_at"),
        time("transaction_since"),
        truth("has_turn"),
        time("turn_since"),
        truth("is_pinned"),
        count("statements"),
        count("open_results"),
        count("prepared_statements"),
        text("catalog"),
    ]))
}

/// A row a session, in the order in which they began.
pub(crate) fn sessions(activity: &Activity) -> RecordBatch {
    let mut all = activity.directory.get().map(|directory| directory.list()).unwrap_or_default();
    all.sort_by_key(|session| session.number);
    let counted = counted(activity);
    let holder = activity.turn.held();
    let turn_since = |session: &SessionCard| {
        holder.as_ref().filter(|held| held.session() == Some(session.number)).map(|held| held.since)
    };
    let texts = |text: &dyn Fn(&SessionCard) -> Option<String>| -> ArrayRef {
        Arc::new(all.iter().map(text).collect::<StringArray>())
    };
    let counts = |count: &dyn Fn(&Counts) -> u64| -> ArrayRef {
        let of = |session: &SessionCard| Some(counted.get(&session.number).map_or(0, count));
        Arc::new(all.iter().map(of).collect::<UInt64Array>())
    };
    let times = |time: &dyn Fn(&SessionCard) -> Option<SystemTime>| -> ArrayRef {
        let times = all.iter().map(|session| time(session).map(micros));
        Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let truths = |truth: &dyn Fn(&SessionCard) -> bool| -> ArrayRef {
        Arc::new(all.iter().map(|session| Some(truth(session))).collect::<BooleanArray>())
    };
    let columns = vec![
        Arc::new(all.iter().map(|session| Some(session.number)).collect::<UInt64Array>()) as ArrayRef,
        texts(&|session| session.user.as_deref().map(str::to_owned)),
        texts(&|session| session.peer.map(|peer| peer.to_string())),
        times(&|session| Some(session.opened)),
        times(&|session| Some(SystemTime::now() - session.unused)),
        times(&|session| session.transaction.map(moment)),
        truths(&|session| turn_since(session).is_some()),
        times(&|session| turn_since(session).map(moment)),
        truths(&|session| session.is_pinned),
        counts(&|counts| counts.statements),
        counts(&|counts| counts.open_results),
        Arc::new(all.iter().map(|session| Some(session.prepared as u64)).collect::<UInt64Array>()),
        texts(&|session| Some(session.catalog.clone())),
    ];
    RecordBatch::try_new(sessions_schema(), columns)
        .unwrap_or_else(|_| RecordBatch::new_empty(sessions_schema()))
}

fn counted(activity: &Activity) -> HashMap<u64, Counts> {
    let mut counted = HashMap::<u64, Counts>::new();
    for statement in activity.all() {
        if let Some(session) = statement.caller.session {
            let counts = counted.entry(session).or_default();
            counts.statements += 1;
            let is_sent = match statement.state() {
                State::Sending => true,
                State::Running => statement.rows() > 0,
                _ => false,
            };
            counts.open_results += u64::from(is_sent);
        }
    }
    counted
}

/// A moment by the clock on the wall.
fn moment(then: Instant) -> SystemTime {
    SystemTime::now() - then.elapsed()
}
