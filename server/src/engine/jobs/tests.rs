//! Tests of an engine with a job.

use std::time::Instant;

use super::{lease::RENEWED_AFTER, table::as_stored, *};
use crate::{
    engine::{CatalogKind, Engine, Maintenance, Options, Outcome, Script, TableRef, answers::numbers},
    sql,
};

/// A pipeline from a table with one row to another one, which has to wait for its turn.
fn options(clock: &JobClock, from: &str) -> Options {
    let pipeline = Pipeline {
        name: "copy".into(),
        from: from.into(),
        incremental: "id".into(),
        overlap: None,
        into: TableRef { catalog: None, schema: None, table: "copied".into() },
        key: vec!["id".into()],
        every: None,
        limit: LIMIT,
    };
    let sql = "CREATE TABLE events AS SELECT 1 AS id, 'text' AS v".into();
    Options {
        init_sql: Some(Script { name: "init".into(), sql }),
        wait: Duration::from_secs(3600),
        pipelines: vec![pipeline],
        job_clock: clock.clone(),
        ..Options::default()
    }
}

/// What is recorded of the pipeline: when it was begun and when the lease ends, in microseconds since 1970.
fn record(engine: &Engine) -> Option<[Option<i64>; 2]> {
    let connection = engine.shared.database.connection().unwrap();
    let sql = "SELECT begun_at, held_until FROM __merganser.job_runs WHERE job = 'copy'";
    numbers(&connection, sql).ok()?.try_into().ok()
}

fn held_until(engine: &Engine) -> Option<i64> {
    record(engine)?[1]
}

async fn until(mut holds: impl FnMut() -> bool) {
    let holding = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), holding).await.expect("it holds in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_all_jobs_together() {
    let clock = JobClock::standing();
    let mut options = options(&clock, "events");
    let first = options.pipelines[0].clone();
    options.pipelines.extend(["b", "c"].map(|name| Pipeline { name: name.into(), ..first.clone() }));
    let engine = Engine::open(options).unwrap();
    let jobs = &engine.shared.jobs;
    let runs = join_all(jobs.jobs.iter().map(|job| job.running.lock())).await;
    let (patience, started) = (Duration::from_secs(1), Instant::now());
    assert_eq!(jobs.still_running(patience).await, ["copy", "b", "c"]);
    assert!(started.elapsed() < patience * 3, "{:?}", started.elapsed());
    drop(runs);
    assert!(jobs.still_running(patience).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_renews_its_lease() {
    let clock = JobClock::standing();
    let engine = Engine::open(options(&clock, "events")).unwrap();
    let turn = engine.shared.turn.take().await.unwrap();
    let asked = engine.clone();
    let running = tokio::spawn(async move { asked.run_asked(sql::Job::Promote("copy".into())).await });
    until(|| held_until(&engine).is_some()).await;
    let first = held_until(&engine);
    clock.advance(RENEWED_AFTER);
    until(|| held_until(&engine) > first).await;
    drop(turn);
    assert!(matches!(running.await.unwrap().unwrap(), Outcome::Changed(1)));
    assert!(matches!(record(&engine), Some([Some(_), None])));
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_left_in_a_file_that_this_one_has_locked_holds_no_run_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&JobClock::standing(), "events");
    options.lake.catalogs =
        vec![catalog("archive", CatalogKind::DuckDb, folder.path().join("archive.db").to_str().unwrap())];
    let into = TableRef { catalog: Some("archive".into()), ..options.pipelines[0].into.clone() };
    options.pipelines.push(Pipeline { name: "archive".into(), into, ..options.pipelines[0].clone() });
    let clock = options.job_clock.clone();
    let engine = Engine::open(options).unwrap();
    for job in &engine.shared.jobs.jobs {
        let run = async || engine.run_asked(sql::Job::Promote(job.name.clone())).await;
        assert!(matches!(run().await.unwrap(), Outcome::Changed(1..)), "{}", job.name);
        let (runs, connection) = (&job.tables.runs, connect(&engine.shared.database, job.catalog()).unwrap());
        let until = as_stored(clock.now() + 2 * RENEWED_AFTER);
        runs.change(&connection, &job.row, |record| record.held_until = Some(until)).unwrap();
        connection.execute("INSERT INTO events SELECT max(id) + 1, 'text' FROM events").unwrap();
        assert!(matches!(run().await.unwrap(), Outcome::Changed(1)), "{}", job.name);
        assert_eq!(runs.look(&connection, &job.row).unwrap().held_until, None);
    }
    engine.shutdown().await;
}

#[test]
fn other_servers_may_have_what_is_no_file_of_duckdb() {
    let lake = || CatalogKind::DuckLake { data_path: None };
    let declared = [
        catalog("archive", CatalogKind::DuckDb, "/d/archive.db"),
        catalog("local", lake(), "/d/local.ducklake"),
        catalog("lite", lake(), "sqlite:/d/lite.db"),
        catalog("lake", lake(), "postgres:"),
        catalog("orders", CatalogKind::Postgres, "host=db"),
    ];
    let shared = |name: &str| is_shared("mine", &declared, name);
    assert_eq!(["Mine", "archive", "LOCAL"].map(shared), [false; 3]);
    assert_eq!(["lite", "lake", "orders", "another"].map(shared), [true; 4]);
}

fn catalog(name: &str, kind: CatalogKind, location: &str) -> AttachedCatalog {
    AttachedCatalog {
        name: name.into(),
        kind,
        location: location.into(),
        secret: None,
        read_only: false,
        required: true,
        maintenance: Maintenance::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_leaves_nothing_that_holds_the_next_one_up() {
    let wrong = "SELECT id, CAST(v AS INTEGER) AS v FROM events";
    let engine = Engine::open(options(&JobClock::standing(), wrong)).unwrap();
    assert!(engine.run_asked(sql::Job::Promote("copy".into())).await.is_err());
    assert_eq!(record(&engine), Some([None, None]));
    engine.shutdown().await;
}
