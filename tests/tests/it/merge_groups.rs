//! Uploads that are matched by key and wait for the turn together are committed together, as if they came one after the
//! other.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::{future::join_all, stream};
use merganser::Client;
use merganser_server::engine::{
    Ack, Class, Condition, Error, IngestRequest, Merge, OnConflict, Pending, TableRef,
};
use merganser_tests::{HttpClient, TestServer, integer, soon, texts, until};

const LARGE: i64 = 5_000;

/// Rows of a key `id` and a value `v`.
fn rows(ids: impl IntoIterator<Item = Option<i64>>, value: &str) -> RecordBatch {
    let ids = Int64Array::from_iter(ids);
    let values = StringArray::from_iter_values(std::iter::repeat_n(value, ids.len()));
    let columns: [(&str, ArrayRef, bool); 2] = [("id", Arc::new(ids), true), ("v", Arc::new(values), true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn range(ids: std::ops::Range<i64>, value: &str) -> RecordBatch {
    rows(ids.map(Some), value)
}

fn upsert(table: &str, loader: u64, key: Option<&str>) -> IngestRequest {
    let table = TableRef { catalog: None, schema: None, table: table.into() };
    let merge = Merge { keys: vec!["id".into()], on_conflict: OnConflict::Update };
    let key = key.map(|key| key.parse().unwrap());
    IngestRequest { merge: Some(merge), key, ..IngestRequest::append(table, loader) }
}

/// A server with tables `t` and `other`, whose turn another transaction holds.
struct Blocked {
    server: TestServer,
    client: Client,
    holder: Client,
}

impl Blocked {
    async fn with(constraints: &str) -> Self {
        let server = TestServer::with(|config| {
            config.engine.bulk_bytes = 32 << 10;
            config.network.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        });
        let server = server.await;
        let (client, holder) = (server.client().await, server.client().await);
        for table in ["t", "other"] {
            let sql = format!("CREATE TABLE {table} (id BIGINT, v VARCHAR {constraints})");
            client.execute(&sql).await.unwrap();
        }
        client.execute("CREATE TABLE held AS SELECT 1 AS i").await.unwrap();
        holder.execute("BEGIN").await.unwrap();
        holder.execute("UPDATE held SET i = 2").await.unwrap();
        Self { server, client, holder }
    }

    /// Queues an upload.
    async fn begin(&self, request: IngestRequest, rows: RecordBatch) -> Result<Pending, Error> {
        let (schema, rows) = (rows.schema(), stream::iter([Ok(rows.into())]));
        // Boxed, because a test's thread has a small stack.
        let begun = Box::pin(self.server.engine().begin_ingest(request, schema, rows));
        soon("the upload to be queued", begun).await
    }

    /// Lets the turn go, and waits for what becomes of uploads.
    async fn outcomes(&self, uploads: Vec<Pending>) -> Vec<Result<Ack, Error>> {
        self.holder.execute("COMMIT").await.unwrap();
        soon("the outcomes", join_all(uploads.into_iter().map(Pending::committed))).await
    }

    async fn table(&self, table: &str) -> Vec<String> {
        texts(&self.client, &format!("SELECT concat(id, v) FROM {table} ORDER BY id, v")).await.unwrap()
    }
}

fn commits(outcomes: &[Result<Ack, Error>]) -> BTreeSet<u64> {
    outcomes.iter().map(|outcome| outcome.as_ref().unwrap().commit).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_wait_share_commits_and_the_last_row_of_a_key_wins() {
    for constraints in ["", ", PRIMARY KEY (id)"] {
        let it = Blocked::with(constraints).await;
        let mut uploads = Vec::new();
        for number in 1..=20 {
            let (key, value) = (format!("a/1/{number}"), format!(" of {number}"));
            let unit = rows([Some(0), Some(number), Some(number)], &value);
            uploads.push(it.begin(upsert("t", 1, Some(&key)), unit).await.unwrap());
        }
        assert_eq!(it.server.engine().units_queued(), 20);
        let outcomes = it.outcomes(uploads).await;
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().rows == 3));
        // The first was being merged and the second staged when the others came.
        assert!(commits(&outcomes).len() <= 3, "{outcomes:?}");
        assert_eq!(it.table("t").await[0], "0 of 20");
        assert_eq!(integer(&it.client, "SELECT count(*) FROM t").await, 21);
        let told = "SELECT concat_ws(' ', loader, sequence, commits, rows) FROM merganser_ingest()";
        assert_eq!(texts(&it.client, told).await.unwrap(), ["a 20 20 60"]);
        until("nothing is queued", async || it.server.engine().units_queued() == 0).await;
        it.server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_find_no_table_make_it_once_and_all_go_in() {
    let it = Blocked::with("").await;
    let mut uploads = Vec::new();
    for loader in 0..6 {
        let unit = rows([Some(0), Some(loader)], "x");
        uploads.push(it.begin(upsert("fresh", loader as u64, None), unit).await.unwrap());
    }
    let outcomes = it.outcomes(uploads).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(it.table("fresh").await, ["0x", "1x", "2x", "3x", "4x", "5x"]);
    it.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_bad_one_of_a_group_fails() {
    let it = Blocked::with(", CHECK (v != 'wrong')").await;
    let mut uploads = Vec::new();
    for loader in 0..12 {
        let unit = match loader {
            4 => rows([Some(4), None], "good"),
            9 => rows([Some(9)], "wrong"),
            id => rows([Some(id)], "good"),
        };
        uploads.push(it.begin(upsert("t", loader as u64, None), unit).await.unwrap());
    }
    let outcomes = it.outcomes(uploads).await;
    let failed: Vec<_> = (0..12).filter(|at| outcomes[*at].is_err()).collect();
    assert_eq!(failed, [4, 9]);
    assert!(matches!(&outcomes[4], Err(Error::SchemaMismatch(text)) if text.contains("NULL")));
    assert!(matches!(&outcomes[9], Err(Error::Duck { message, .. }) if message.contains("CHECK")));
    assert_eq!(integer(&it.client, "SELECT count(*) FROM t WHERE v = 'good'").await, 10);
    it.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_uploads_of_a_loader_keep_their_order_whatever_they_are() {
    let it = Blocked::with("").await;
    let mut uploads = Vec::new();
    let others = async {
        for number in 1..=6 {
            let unit = rows([Some(number)], "of b");
            let key = format!("b/1/{number}");
            it.begin(upsert("other", 2, Some(&key)), unit).await.unwrap().committed().await.unwrap();
        }
    };
    let ours = async {
        // Small, without rows, to another table, and too large to be collected.
        for (number, table, unit) in [
            (1, "t", range(0..3, "first")),
            (2, "other", range(0..3, "second")),
            (3, "t", range(0..0, "")),
            (4, "t", range(0..2, "fourth")),
            (5, "t", range(0..LARGE, "fifth")),
            (6, "t", range(0..1, "sixth")),
        ] {
            let key = format!("a/1/{number}");
            uploads.push(it.begin(upsert(table, 1, Some(&key)), unit).await.unwrap());
        }
    };
    let release = async { it.holder.execute("COMMIT").await.unwrap() };
    soon("all uploads", async { futures::join!(ours, others, release) }).await;
    let acks = join_all(uploads.into_iter().map(Pending::committed)).await;
    assert!(acks.iter().all(Result::is_ok), "{acks:?}");
    assert_eq!(it.table("t").await[..3], ["0sixth", "1fifth", "2fifth"]);
    assert_eq!(integer(&it.client, "SELECT count(*) FROM t").await, LARGE);
    assert_eq!(integer(&it.client, "SELECT count(*) FROM other").await, 7);
    it.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_within_a_group_is_a_duplicate_and_another_content_is_refused() {
    let it = Blocked::with("").await;
    let mut uploads = Vec::new();
    for (loader, key, value) in [
        (0, "z/1/1", "opens the queue"),
        (1, "z/1/2", "fills it"),
        (2, "a/1/1", "x"),
        (3, "a/1/1", "x"),
        (4, "a/1/1", "y"),
        (5, "b/1/1", "another"),
        (6, "a/1/2", "next"),
        (7, "a/1/9", "gap"),
    ] {
        let unit = rows([Some(loader)], value);
        let unit = if key == "a/1/1" { rows([Some(100)], value) } else { unit };
        uploads.push(it.begin(upsert("t", loader as u64, Some(key)), unit).await.unwrap());
    }
    let outcomes = it.outcomes(uploads).await;
    let first = outcomes[2].as_ref().unwrap();
    let repeat = outcomes[3].as_ref().unwrap();
    assert_eq!((first.duplicate, repeat.duplicate, repeat.commit), (false, true, first.commit));
    assert!(matches!(outcomes[4], Err(Error::KeyReused { .. })), "{:?}", outcomes[4]);
    assert!(matches!(outcomes[7], Err(Error::SequenceGap { .. })), "{:?}", outcomes[7]);
    assert!([0, 1, 5, 6].iter().all(|at| outcomes[*at].is_ok()), "{outcomes:?}");
    assert_eq!(it.table("t").await.last().unwrap(), "100x");
    assert_eq!(integer(&it.client, "SELECT count(*) FROM t").await, 5);
    it.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_behind_a_bad_unit_of_a_loader_are_told_of_the_gap_and_the_refusals_are_counted() {
    let it = Blocked::with(", CHECK (v != 'wrong')").await;
    let mut uploads = vec![it.begin(upsert("t", 2, Some("b/1/1")), rows([Some(0)], "x")).await.unwrap()];
    for number in 1..=20 {
        let value = if number == 3 { "wrong" } else { "good" };
        let unit = rows([Some(number)], value);
        uploads.push(it.begin(upsert("t", 1, Some(&format!("a/1/{number}"))), unit).await.unwrap());
    }
    uploads.push(it.begin(upsert("t", 2, Some("b/1/2")), rows([Some(100)], "x")).await.unwrap());
    let outcomes = it.outcomes(uploads).await;
    assert!([0, 1, 2, 21].iter().all(|at| outcomes[*at].is_ok()), "{outcomes:?}");
    assert!(matches!(&outcomes[3], Err(Error::Duck { message, .. }) if message.contains("CHECK")));
    for outcome in &outcomes[4..=20] {
        assert!(matches!(outcome, Err(Error::SequenceGap { expected: 3, .. })), "{outcome:?}");
    }
    assert_eq!(it.table("t").await, ["0x", "1good", "2good", "100x"]);
    let told = "SELECT concat_ws(' ', loader, sequence, failures) FROM merganser_ingest() ORDER BY loader";
    assert_eq!(texts(&it.client, told).await.unwrap(), ["a 2 18", "b 2 0"]);
    it.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_has_failed_is_committed_apart_for_a_while() {
    let it = Blocked::with(", CHECK (v != 'wrong')").await;
    it.holder.execute("COMMIT").await.unwrap();
    let bad = it.begin(upsert("t", 7, None), rows([Some(1)], "wrong")).await.unwrap();
    soon("the refusal", bad.committed()).await.unwrap_err();
    it.holder.execute("BEGIN").await.unwrap();
    it.holder.execute("UPDATE held SET i = 3").await.unwrap();
    let mut uploads = Vec::new();
    for (number, loader) in [1, 7, 2, 3, 7, 4, 5, 6].into_iter().enumerate() {
        uploads.push(it.begin(upsert("t", loader, None), rows([Some(number as i64)], "x")).await.unwrap());
    }
    let outcomes = it.outcomes(uploads).await;
    // How many of the others come before the first group is taken is up to the moment.
    let (of_it, of_others): (Vec<_>, Vec<_>) = (0..8).partition(|at| [1, 4].contains(at));
    let [of_it, of_others] = [of_it, of_others]
        .map(|places| commits(&places.into_iter().map(|at| outcomes[at].clone()).collect::<Vec<_>>()));
    assert_eq!(of_it.len(), 2, "{outcomes:?}");
    assert!(of_it.is_disjoint(&of_others), "{outcomes:?}");
    assert!(of_others.len() <= 3, "{outcomes:?}");
    it.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_rows_waits_for_nobody() {
    let it = Blocked::with("").await;
    let nothing = it.begin(upsert("t", 1, None), range(0..0, "")).await.unwrap();
    assert_eq!(soon("the answer", nothing.committed()).await.unwrap().rows, 0);
    let wrong =
        RecordBatch::try_from_iter([("other", Arc::new(Int64Array::new_null(0)) as ArrayRef)]).unwrap();
    assert!(matches!(it.begin(upsert("t", 1, None), wrong).await, Err(Error::SchemaMismatch(_))));
    it.server.shutdown().await;
}

/// How many were acknowledged, by the metrics.
async fn units_and_rows(metrics: &mut HttpClient) -> [u64; 2] {
    let told = metrics.send("GET", "/metrics", &[], "").await;
    ["merganser_ingested_units_total ", "merganser_ingested_rows_total "]
        .map(|name| told.text().lines().find_map(|line| line.strip_prefix(name)).unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_unit_of_a_group_is_counted() {
    let it = Blocked::with("").await;
    let mut metrics = HttpClient::connect(it.server.http_address().unwrap()).await;
    let before = units_and_rows(&mut metrics).await;
    let mut uploads = Vec::new();
    for loader in 0..10 {
        let unit = rows([Some(0), Some(loader)], "x");
        uploads.push(it.begin(upsert("t", loader as u64, None), unit).await.unwrap());
    }
    let outcomes = it.outcomes(uploads).await;
    assert!(commits(&outcomes).len() < 10, "{outcomes:?}");
    // Other tests of this process are counted as well.
    let after = units_and_rows(&mut metrics).await;
    assert!(after[0] >= before[0] + 10 && after[1] >= before[1] + 20, "{before:?} {after:?}");
    it.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_wait_for_a_lost_database_may_be_sent_again() {
    let it = Blocked::with("").await;
    let mut uploads = Vec::new();
    for number in 1..=5 {
        let unit = rows([Some(number)], "x");
        uploads.push(it.begin(upsert("t", 1, Some(&format!("a/1/{number}"))), unit).await.unwrap());
    }
    let mut condition = it.server.engine().condition();
    condition.borrow_and_update();
    it.server.engine().reopen("a test wants it");
    soon("the database is down", condition.changed()).await.unwrap();
    let outcomes = soon("the outcomes", join_all(uploads.into_iter().map(Pending::committed))).await;
    let is_down = |error: &Error| matches!(error, Error::EngineDown | Error::Duck { class: Class::Down, .. });
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(is_down)), "{outcomes:?}");
    soon("the database is open", condition.wait_for(|now| *now == Condition::Open)).await.unwrap();
    let again = it.begin(upsert("t", 1, Some("a/1/1")), rows([Some(1)], "x")).await.unwrap();
    assert_eq!(soon("the ack", again.committed()).await.unwrap().rows, 1);
    it.server.shutdown().await;
}
