//! What `SELECT * FROM merganser_jobs()` shows: a row a job, with its last run by this server and its next.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parking_lot::Mutex;

use crate::engine::clock::micros;

/// All jobs, as they are shared with whoever looks.
pub(crate) type Board = Arc<Mutex<Vec<Notice>>>;

/// One job.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    pub(super) job: String,
    pub(super) kind: &'static str,
    pub(super) catalog: String,
    pub(super) every: Option<Duration>,
    pub(super) last: Option<LastRun>,
    pub(super) next: Option<SystemTime>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub(super) struct LastRun {
    pub(super) begun: SystemTime,
    pub(super) took: Duration,
    /// `done`, `failed`, or `elsewhere` where another server has done it.
    pub(super) outcome: &'static str,
    /// For people.
    pub(super) detail: String,
    /// Rows that were moved, or files and snapshots that were tidied up.
    pub(super) changed: u64,
}

/// The columns of [`listing`].
pub(crate) fn listing_schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let seconds = |name| Field::new(name, DataType::Float64, true);
    let time = |name| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true);
    Arc::new(Schema::new(vec![
        text("job"),
        text("kind"),
        text("catalog"),
        seconds("every_seconds"),
        time("last_begun_at"),
        seconds("last_seconds"),
        text("last_outcome"),
        text("last_detail"),
        Field::new("last_changed", DataType::UInt64, true),
        time("next_at"),
    ]))
}

/// A row a job.
pub(crate) fn listing(notices: &[Notice]) -> RecordBatch {
    let texts = |text: &dyn Fn(&Notice) -> Option<String>| -> ArrayRef {
        Arc::new(notices.iter().map(text).collect::<StringArray>())
    };
    let seconds = |value: &dyn Fn(&Notice) -> Option<Duration>| -> ArrayRef {
        Arc::new(notices.iter().map(|one| value(one).map(|it| it.as_secs_f64())).collect::<Float64Array>())
    };
    let times = |time: &dyn Fn(&Notice) -> Option<SystemTime>| -> ArrayRef {
        let micros = notices.iter().map(|one| time(one).map(micros));
        Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let last = |notice: &Notice| notice.last.clone();
    let changed = notices.iter().map(|one| one.last.as_ref().map(|last| last.changed));
    let columns = vec![
        texts(&|one| Some(one.job.clone())),
        texts(&|one| Some(one.kind.to_owned())),
        texts(&|one| Some(one.catalog.clone())),
        seconds(&|one| one.every),
        times(&|one| last(one).map(|last| last.begun)),
        seconds(&|one| last(one).map(|last| last.took)),
        texts(&|one| last(one).map(|last| last.outcome.to_owned())),
        texts(&|one| last(one).map(|last| last.detail)),
        Arc::new(changed.collect::<UInt64Array>()) as ArrayRef,
        times(&|one| one.next),
    ];
    RecordBatch::try_new(listing_schema(), columns)
        .unwrap_or_else(|_| RecordBatch::new_empty(listing_schema()))
}
