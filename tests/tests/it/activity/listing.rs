//! What `merganser_statements()` shows.

use merganser_server::Config;
use merganser_tests::{Pipe, TestServer, Upload, ids, soon, until};

use super::{HOURS, cancel, gone, read, seen, told};

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_seen_by_others_with_all_that_is_known_of_it() {
    let server = TestServer::start().await;
    let (victim, operator) = (server.client().await, server.client().await);
    let running = tokio::spawn(read(victim, HOURS.into()));
    let id = seen(&operator, HOURS, "running").await;
    let row = format!(
        "SELECT concat_ws('|', protocol, kind, catalog, rows, user_name IS NULL, session > 0, peer LIKE '127.0.0.1:%', \
         started_at <= now() AND started_at > now() - INTERVAL 1 MINUTE, elapsed_ms < 60000, sql) \
         FROM merganser_statements() WHERE id = {id}"
    );
    assert_eq!(told(&operator, &row).await, format!("flight|read|test|0|true|true|true|true|true|{HOURS}"));
    cancel(&operator, id).await.unwrap();
    soon("its end", running).await.unwrap().unwrap_err();
    gone(&operator, id).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_hold_a_password_is_not_shown_and_what_is_long_is_cut() {
    let server = TestServer::start().await;
    let (victim, operator) = (server.client().await, server.client().await);
    let secret = tokio::spawn(read(victim.clone(), format!("{HOURS} WHERE 'password=hunter2' <> ''")));
    let id = seen(&operator, "(not shown", "running").await;
    let everything =
        "SELECT string_agg(s::VARCHAR) FROM merganser_statements() s WHERE sql NOT LIKE 'SELECT string_agg%'";
    let shown = told(&operator, everything).await;
    assert!(!shown.contains("hunter2") && shown.contains("it may hold a password"), "{shown}");
    cancel(&operator, id).await.unwrap();
    soon("its end", secret).await.unwrap().unwrap_err();

    let long = tokio::spawn(read(victim, format!("{HOURS} /* {} */", "ä".repeat(5_000))));
    let id = seen(&operator, HOURS, "running").await;
    let bytes =
        format!("SELECT strlen(sql) BETWEEN 4095 AND 4096 FROM merganser_statements() WHERE id = {id}");
    assert_eq!(told(&operator, &bytes).await, "true");
    cancel(&operator, id).await.unwrap();
    soon("its end", long).await.unwrap().unwrap_err();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_nobody_takes_is_being_sent_with_its_rows_so_far() {
    let server = TestServer::start().await;
    let (victim, operator) = (server.client().await, server.client().await);
    let rows = victim.query("SELECT range AS id FROM range(1000000000000)").await.unwrap();
    let id = seen(&operator, "SELECT range", "sending rows").await;
    let sent = format!("SELECT rows > 0 FROM merganser_statements() WHERE id = {id}");
    until("rows have left", async || told(&operator, &sent).await == "true").await;
    let open = "SELECT sum(open_results)::VARCHAR FROM merganser_sessions()";
    assert_eq!(told(&operator, open).await, "1");
    drop(rows);
    gone(&operator, id).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_tells_how_many_rows_have_come() {
    let server = TestServer::start().await;
    let (client, operator) = (server.client().await, server.client().await);
    let upload = Upload::start(&client, "t", ids([0]).schema());
    upload.send(ids(0..70));
    let id = seen(&operator, "t", "receiving rows").await;
    let row = format!("SELECT concat_ws('|', kind, rows) FROM merganser_statements() WHERE id = {id}");
    until("its rows have come", async || told(&operator, &row).await == "ingest|70").await;
    assert_eq!(upload.finish().await.unwrap().rows, 70);
    gone(&operator, id).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_places_are_taken_it_can_be_seen_by_whom_and_who_waits() {
    let server = TestServer::with(|config: &mut Config| {
        config.engine.read_concurrency = 1;
        config.engine.wait *= 60;
    })
    .await;
    let (victim, waiting, operator) = (server.client().await, server.client().await, server.client().await);
    let running = tokio::spawn(read(victim, HOURS.into()));
    let id = seen(&operator, HOURS, "running").await;
    let waits = tokio::spawn(read(waiting, "SELECT 1".into()));
    seen(&operator, "SELECT 1", "waiting for a place to read").await;
    cancel(&operator, id).await.unwrap();
    soon("its end", running).await.unwrap().unwrap_err();
    soon("its turn", waits).await.unwrap().unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_only_planned_is_seen_and_ended_too() {
    let server = TestServer::start().await;
    let (victim, operator) = (server.client().await, server.client().await);
    let folder = tempfile::tempdir().unwrap();
    let pipe = Pipe::within(folder.path());
    let planned = tokio::spawn(read(victim, pipe.planned_sql()));
    let silent = pipe.read_by_somebody().await;
    let plan = "SELECT id::VARCHAR FROM merganser_statements() WHERE kind = 'plan' AND sql NOT LIKE '%merganser_statements%'";
    let id = told(&operator, plan).await;
    cancel(&operator, id.parse().unwrap()).await.unwrap();
    // DuckDB does not hear it, and its client is answered all the same.
    let error = soon("the answer", planned).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("an operator has ended this statement"), "{error}");
    drop(silent);
    until("it has ended", async || server.engine().statements_overdue() == 0).await;
    server.shutdown().await;
}
