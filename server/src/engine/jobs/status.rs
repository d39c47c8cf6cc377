//! What `SELECT * FROM merganser_jobs()` shows: a row a job, with its last run, by whatever server, and its next.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parking_lot::Mutex;

use super::table::as_stored;
use crate::engine::clock::micros;

/// All jobs, as they are shared with whoever looks.
pub(crate) type JobStatuses = Arc<Mutex<Vec<JobStatus>>>;

/// One job.
#[derive(Debug, Clone)]
pub(crate) struct JobStatus {
    pub(super) job: String,
    /// The name of its row in the table of runs.
    pub(super) row: String,
    pub(super) kind: &'static str,
    pub(super) catalog: String,
    pub(super) every: Option<Duration>,
    /// The last run by this server since its start.
    pub(super) own: Option<LastRun>,
    /// The last run of which the catalog tells, as far as it was asked.
    pub(super) recorded: Option<LastRun>,
    pub(super) next: Option<SystemTime>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastRun {
    pub(super) begun: SystemTime,
    pub(super) took: Duration,
    /// `done`, `failed`, or `elsewhere` where another server is at it or has done it.
    pub(super) outcome: String,
    /// For people.
    pub(super) detail: String,
    /// Rows that were moved, or files and snapshots that were tidied up.
    pub(super) changed: u64,
}

/// The outcome of a run that was left to another server.
pub(super) const ELSEWHERE: &str = "elsewhere";
/// That of one that ended with an error.
pub(super) const FAILED: &str = "failed";

impl LastRun {
    pub(super) fn has_failed(&self) -> bool {
        self.outcome == FAILED
    }

    /// As it comes back from the table of runs.
    pub(super) fn as_stored(&self) -> Self {
        Self { begun: as_stored(self.begun), ..self.clone() }
    }

    /// Whether this run, which has moved nothing, tells more than an earlier one does.
    pub(super) fn is_news_after(&self, told: Option<&Self>) -> bool {
        match told {
            None => self.has_failed(),
            Some(told) if told.begun >= as_stored(self.begun) => false,
            Some(told) if self.has_failed() => !told.has_failed() || told.detail != self.detail,
            Some(told) => told.has_failed(),
        }
    }
}

impl JobStatus {
    /// The last run, and whether this server has done it.
    fn last(&self) -> Option<(&LastRun, bool)> {
        match (&self.own, &self.recorded) {
            (Some(own), Some(told)) if own.outcome == ELSEWHERE || as_stored(own.begun) < told.begun => {
                Some((told, false))
            }
            (Some(own), _) => Some((own, own.outcome != ELSEWHERE)),
            (None, Some(told)) => Some((told, false)),
            (None, None) => None,
        }
    }
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
        Field::new("last_was_here", DataType::Boolean, true),
    ]))
}

/// A row a job.
pub(crate) fn listing(statuses: &[JobStatus]) -> RecordBatch {
    let texts = |text: &dyn Fn(&JobStatus) -> Option<String>| -> ArrayRef {
        Arc::new(statuses.iter().map(text).collect::<StringArray>())
    };
    let seconds = |value: &dyn Fn(&JobStatus) -> Option<Duration>| -> ArrayRef {
        Arc::new(statuses.iter().map(|one| value(one).map(|it| it.as_secs_f64())).collect::<Float64Array>())
    };
    let times = |time: &dyn Fn(&JobStatus) -> Option<SystemTime>| -> ArrayRef {
        let micros = statuses.iter().map(|one| time(one).map(micros));
        Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    fn last(status: &JobStatus) -> Option<&LastRun> {
        status.last().map(|(last, _)| last)
    }
    let changed = statuses.iter().map(|one| last(one).map(|last| last.changed));
    let here = statuses.iter().map(|one| one.last().map(|(_, here)| here));
    let columns = vec![
        texts(&|one| Some(one.job.clone())),
        texts(&|one| Some(one.kind.to_owned())),
        texts(&|one| Some(one.catalog.clone())),
        seconds(&|one| one.every),
        times(&|one| last(one).map(|last| last.begun)),
        seconds(&|one| last(one).map(|last| last.took)),
        texts(&|one| last(one).map(|last| last.outcome.clone())),
        texts(&|one| last(one).map(|last| last.detail.clone())),
        Arc::new(changed.collect::<UInt64Array>()) as ArrayRef,
        times(&|one| one.next),
        Arc::new(here.collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(listing_schema(), columns)
        .unwrap_or_else(|_| RecordBatch::new_empty(listing_schema()))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn run(second: u64, outcome: &str) -> Option<LastRun> {
        Some(LastRun {
            begun: UNIX_EPOCH + Duration::from_secs(second) + Duration::from_nanos(1),
            took: Duration::ZERO,
            outcome: outcome.into(),
            detail: String::new(),
            changed: 0,
        })
    }

    #[test]
    fn the_last_run_is_whosoever_was_later() {
        let told = |second| run(second, "done").map(|last| LastRun { begun: as_stored(last.begun), ..last });
        for (own, told, expected) in [
            (None, None, None),
            (None, told(1), Some((1, "done", false))),
            (run(1, "failed"), None, Some((1, "failed", true))),
            (run(1, "failed"), told(1), Some((1, "failed", true))),
            (run(1, "failed"), told(2), Some((2, "done", false))),
            (run(3, "failed"), told(2), Some((3, "failed", true))),
            (run(3, "elsewhere"), told(2), Some((2, "done", false))),
            (run(3, "elsewhere"), None, Some((3, "elsewhere", false))),
        ] {
            let (job, catalog) = (String::from("j"), "c".into());
            let status = JobStatus {
                row: job.clone(),
                job,
                kind: "pipeline",
                catalog,
                every: None,
                own,
                recorded: told,
                next: None,
            };
            let shown = status.last().map(|(last, here)| {
                let second = last.begun.duration_since(UNIX_EPOCH).unwrap().as_secs();
                (second, last.outcome.as_str(), here)
            });
            assert_eq!(shown, expected);
        }
    }
}
