//! What the server counts and measures: the names, with unit and help beside them, and one function for each
//! event. Without a recorder (`http/` installs one) an event costs one look at a pointer.
//!
//! Nothing here is called for a row or a batch: once a statement, a group, a unit or a connection.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// A metric's name, its unit, and what it means.
pub(crate) struct Metric {
    /// As Prometheus knows it.
    pub(crate) name: &'static str,
    unit: Unit,
    help: &'static str,
}

const fn metric(name: &'static str, unit: Unit, help: &'static str) -> Metric {
    Metric { name, unit, help }
}

pub(crate) const QUEUE_UNITS: Metric = metric(
    "merganser_queue_units",
    Unit::Count,
    "Uploads that wait for the writer or to be merged, or are being committed",
);
pub(crate) const QUEUE_BYTES: Metric =
    metric("merganser_queue_bytes", Unit::Bytes, "Rows on their way into the database, all uploads together");
pub(crate) const BULK_UPLOADS: Metric =
    metric("merganser_bulk_uploads", Unit::Count, "Uploads under way that append on their own connection");
pub(crate) const READS: Metric = metric("merganser_reads", Unit::Count, "Reads that run or stream");
pub(crate) const STATEMENTS_OVERDUE: Metric = metric(
    "merganser_statements_overdue",
    Unit::Count,
    "Statements that were stopped and go on, because DuckDB does not hear it",
);
pub(crate) const SESSIONS: Metric = metric("merganser_sessions", Unit::Count, "Open sessions");
pub(crate) const CONNECTIONS: Metric = metric("merganser_connections", Unit::Count, "Open connections");
pub(crate) const WAL_BYTES: Metric =
    metric("merganser_wal_bytes", Unit::Bytes, "Size of the write-ahead log on disk");
pub(crate) const DISK_FREE_BYTES: Metric =
    metric("merganser_disk_free_bytes", Unit::Bytes, "Room on the database's disk for this server's user");
pub(crate) const READY: Metric = metric("merganser_ready", Unit::Count, "1 while the server serves, else 0");

pub(crate) const BUILD_INFO: Metric =
    metric("merganser_build_info", Unit::Count, "1, with the versions of the server and of DuckDB as labels");
/// These two have the names that other programs give them.
pub(crate) const RESIDENT_BYTES: Metric =
    metric("process_resident_memory_bytes", Unit::Bytes, "Memory of the process that is in use");
pub(crate) const START_SECONDS: Metric =
    metric("process_start_time_seconds", Unit::Seconds, "When the process began, in seconds since 1970");

pub(crate) const GROUP_UNITS: Metric =
    metric("merganser_group_units", Unit::Count, "Units that one commit of the writer holds");
pub(crate) const GROUP_ROWS: Metric =
    metric("merganser_group_rows", Unit::Count, "Rows that one commit of the writer holds");
pub(crate) const COMMIT_SECONDS: Metric =
    metric("merganser_commit_seconds", Unit::Seconds, "Time of one commit of the writer, appending included");
pub(crate) const INGESTED_UNITS: Metric =
    metric("merganser_ingested_units_total", Unit::Count, "Units that were committed and acknowledged");
pub(crate) const INGESTED_ROWS: Metric =
    metric("merganser_ingested_rows_total", Unit::Count, "Rows of the units that were acknowledged");
pub(crate) const INGESTED_BYTES: Metric =
    metric("merganser_ingested_bytes_total", Unit::Bytes, "Arrow bytes of the units that were acknowledged");
pub(crate) const DUPLICATE_UNITS: Metric = metric(
    "merganser_duplicate_units_total",
    Unit::Count,
    "Units that were sent again and acknowledged without a write",
);
pub(crate) const REFUSED_UNITS: Metric = metric(
    "merganser_refused_units_total",
    Unit::Count,
    "Units that were refused, by the slug of the reason",
);
pub(crate) const JOBS: Metric =
    metric("merganser_jobs_total", Unit::Count, "Runs of maintenance and pipelines, by job and outcome");
pub(crate) const JOB_SECONDS: Metric =
    metric("merganser_job_seconds", Unit::Seconds, "Time of one run of maintenance or a pipeline, by job");
pub(crate) const CHECKPOINTS: Metric =
    metric("merganser_checkpoints_total", Unit::Count, "Checkpoints by the writer, by outcome and reason");
pub(crate) const CHECKPOINT_SECONDS: Metric =
    metric("merganser_checkpoint_seconds", Unit::Seconds, "Time of one checkpoint that was done");
pub(crate) const STATEMENTS: Metric =
    metric("merganser_statements_total", Unit::Count, "Statements that have ended, by kind and outcome");
pub(crate) const STATEMENT_SECONDS: Metric = metric(
    "merganser_statement_seconds",
    Unit::Seconds,
    "Time of a statement from the request to the last byte, by kind",
);

const COUNTERS: [Metric; 8] = [
    INGESTED_UNITS,
    INGESTED_ROWS,
    INGESTED_BYTES,
    DUPLICATE_UNITS,
    REFUSED_UNITS,
    JOBS,
    CHECKPOINTS,
    STATEMENTS,
];
const GAUGES: [Metric; 13] = [
    QUEUE_UNITS,
    QUEUE_BYTES,
    BULK_UPLOADS,
    READS,
    STATEMENTS_OVERDUE,
    SESSIONS,
    CONNECTIONS,
    WAL_BYTES,
    DISK_FREE_BYTES,
    READY,
    BUILD_INFO,
    RESIDENT_BYTES,
    START_SECONDS,
];
/// Histograms of times, in seconds.
pub(crate) const TIMES: [Metric; 4] = [COMMIT_SECONDS, CHECKPOINT_SECONDS, STATEMENT_SECONDS, JOB_SECONDS];
/// Histograms of counts.
pub(crate) const SIZES: [Metric; 2] = [GROUP_UNITS, GROUP_ROWS];

/// Tells the recorder units and help, and makes the counters that have no labels begin at 0.
pub(crate) fn describe() {
    for Metric { name, unit, help } in COUNTERS {
        describe_counter!(name, unit, help);
    }
    for Metric { name, unit, help } in GAUGES {
        describe_gauge!(name, unit, help);
    }
    for Metric { name, unit, help } in TIMES.into_iter().chain(SIZES) {
        describe_histogram!(name, unit, help);
    }
    for counted in [INGESTED_UNITS, INGESTED_ROWS, INGESTED_BYTES, DUPLICATE_UNITS] {
        counter!(counted.name).absolute(0);
    }
}

/// The present state of something.
pub(crate) fn now(metric: &Metric, value: u64) {
    gauge!(metric.name).set(value as f64);
}

/// What runs here.
pub(crate) fn built(version: &'static str, duckdb_version: String) {
    gauge!(BUILD_INFO.name, "version" => version, "duckdb_version" => duckdb_version).set(1);
}

/// The writer has committed a group of uploads, which are acknowledged next.
pub(crate) fn group_committed(units: usize, rows: usize, bytes: usize, took: Duration) {
    histogram!(GROUP_UNITS.name).record(units as f64);
    histogram!(GROUP_ROWS.name).record(rows as f64);
    histogram!(COMMIT_SECONDS.name).record(took);
    ingested(units, rows, bytes);
}

/// The writer has committed an upload that was on a connection of its own, or several that were staged together.
pub(crate) fn bulk_committed(units: usize, rows: usize, bytes: usize, took: Duration) {
    histogram!(COMMIT_SECONDS.name).record(took);
    ingested(units, rows, bytes);
}

fn ingested(units: usize, rows: usize, bytes: usize) {
    counter!(INGESTED_UNITS.name).increment(units as u64);
    counter!(INGESTED_ROWS.name).increment(rows as u64);
    counter!(INGESTED_BYTES.name).increment(bytes as u64);
}

/// A unit was sent again; it was acknowledged, and nothing was written.
pub(crate) fn unit_duplicate() {
    counter!(DUPLICATE_UNITS.name).increment(1);
}

/// A unit was refused, for a reason with this slug.
pub(crate) fn unit_refused(slug: &str) {
    counter!(REFUSED_UNITS.name, "slug" => slug.to_owned()).increment(1);
}

/// The writer has checkpointed; `why` is as in the log.
pub(crate) fn checkpointed(why: &'static str, took: Duration) {
    counter!(CHECKPOINTS.name, "outcome" => "done", "why" => why).increment(1);
    histogram!(CHECKPOINT_SECONDS.name).record(took);
}

/// A checkpoint could not be made now.
pub(crate) fn checkpoint_put_off(why: &'static str) {
    counter!(CHECKPOINTS.name, "outcome" => "put_off", "why" => why).increment(1);
}

/// Maintenance or a pipeline has run.
pub(crate) fn job_ran(job: &str, outcome: &str, took: Duration) {
    counter!(JOBS.name, "job" => job.to_owned(), "outcome" => outcome.to_owned()).increment(1);
    histogram!(JOB_SECONDS.name, "job" => job.to_owned()).record(took);
}

/// A statement has ended. `kind` is as in the log.
pub(crate) fn statement_ended(kind: &'static str, outcome: &'static str, took: Duration) {
    counter!(STATEMENTS.name, "kind" => kind, "outcome" => outcome).increment(1);
    histogram!(STATEMENT_SECONDS.name, "kind" => kind).record(took);
}
