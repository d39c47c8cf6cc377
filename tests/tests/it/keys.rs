//! Units with keys: sending them again is harmless.

use arrow_array::RecordBatch;
use arrow_flight::{
    FlightData, FlightDescriptor,
    flight_service_client::FlightServiceClient,
    sql::{CommandStatementUpdate, EndTransaction, ProstMessageExt, client::FlightSqlServiceClient},
};
use futures::{StreamExt, stream};
use merganser_server::{Config, engine::Script};
use merganser_tests::{
    Put, TestServer, ids, integer, integers, messages, put, put_keyed, put_streamed, put_with, refused,
    texts, unit, wide,
};
use prost::Message;
use tonic::Code;

const ROWS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_acknowledged_with_the_first_commit_and_writes_nothing() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    let first = put_keyed(&flight, "t", "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    assert_eq!((first.rows, first.duplicate, first.sequence, first.units), (10, false, 1, 1));
    put(&client, "t", unit(100, ROWS)).await.unwrap();

    // However the rows are cut into batches.
    let rows = unit(1, ROWS);
    let cut = vec![rows.slice(0, 3), rows.slice(3, 7)];
    let again = put_keyed(&flight, "t", "a/1/1", cut).await.unwrap();
    assert_eq!((again.rows, again.commit_id, again.duplicate), (10, first.commit_id, true));
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE unit = 1").await, 10);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_is_refused_for_says_what_was_expected() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    let send =
        async |key: &str, table: &str, number| put_keyed(&flight, table, key, vec![unit(number, ROWS)]).await;
    assert!(refused(send("a/1/2", "t", 1).await, Code::FailedPrecondition, "SEQ_GAP").contains("sequence 1"));
    send("a/2/1", "t", 1).await.unwrap();
    assert!(refused(send("a/2/3", "t", 3).await, Code::FailedPrecondition, "SEQ_GAP").contains("sequence 2"));
    assert!(refused(send("a/2/1", "t", 2).await, Code::AlreadyExists, "KEY_REUSED").contains("a/2/1"));
    refused(send("a/2/1", "another", 1).await, Code::AlreadyExists, "KEY_REUSED");
    assert!(refused(send("a/1/2", "t", 2).await, Code::Aborted, "FENCED").contains("epoch 2"));
    // A sequence goes on in the next epoch.
    send("a/3/2", "t", 2).await.unwrap();
    refused(send("a/2/3", "t", 3).await, Code::Aborted, "FENCED");
    refused(send("a/x/3", "t", 3).await, Code::InvalidArgument, "BAD_KEY");
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 20);
    assert_eq!(
        integer(&client, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'another'").await,
        0
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_survive_restarts_and_commits_keep_counting() {
    let server = TestServer::start().await;
    let flight = server.flight().await;
    let first = put_keyed(&flight, "t", "a/1/0", vec![unit(0, ROWS)]).await.unwrap();
    let second = put_keyed(&flight, "t", "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    assert!(second.commit_id > first.commit_id);
    let file = server.shutdown().await;

    let server = TestServer::open(file, |_| ()).await;
    let (flight, client) = (server.flight().await, server.client().await);
    let again = put_keyed(&flight, "t", "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    assert_eq!((again.duplicate, again.commit_id), (true, second.commit_id));
    let third = put_keyed(&flight, "t", "a/1/2", vec![unit(2, ROWS)]).await.unwrap();
    assert!(third.commit_id > second.commit_id);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 30);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_without_rows_advances_the_sequence() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    put_keyed(&flight, "t", "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    let empty = put_keyed(&flight, "t", "a/1/2", vec![unit(2, 0)]).await.unwrap();
    assert_eq!((empty.rows, empty.duplicate), (0, false));
    assert!(empty.commit_id > 0);
    put_keyed(&flight, "t", "a/1/3", vec![unit(3, ROWS)]).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 20);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_whose_columns_are_refused_can_be_skipped_with_the_same_columns() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    client
        .execute("CREATE TABLE t (id BIGINT PRIMARY KEY, must VARCHAR NOT NULL DEFAULT 'x')")
        .await
        .unwrap();
    put_keyed(&flight, "t", "a/1/1", vec![ids([1])]).await.unwrap();
    let merging = [("x-merganser-ingest-key", "a/1/3"), ("x-merganser-merge-keys", "id")];
    // A column that the table lacks; then one that is matched by key.
    let poison = |rows| messages("t", vec![unit(2, rows)]);
    for headers in [&[("x-merganser-ingest-key", "a/1/2")][..], &merging] {
        let refusal = put_with(&flight, headers, poison(ROWS)).await;
        refused(refusal, Code::InvalidArgument, "SCHEMA_MISMATCH");
        let skipped = put_with(&flight, headers, poison(0)).await.unwrap();
        assert_eq!((skipped.rows, skipped.duplicate, skipped.committed), (0, false, true));
        assert!(put_with(&flight, headers, poison(0)).await.unwrap().duplicate);
    }
    put_keyed(&flight, "t", "a/1/4", vec![ids([4])]).await.unwrap();
    assert_eq!(integers(&client, "SELECT id FROM t ORDER BY id").await.unwrap(), [1, 4]);
    // Without a key there is nothing to skip.
    refused(put(&client, "t", unit(2, 0)).await, Code::InvalidArgument, "SCHEMA_MISMATCH");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_header_is_refused_and_nothing_is_written() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    put(&client, "t", unit(1, ROWS)).await.unwrap();
    for header in ["x-merganser-ingestkey", "x-merganser-merge-key"] {
        let refusal = put_with(&flight, &[(header, "a/1/1")], messages("t", vec![unit(1, ROWS)])).await;
        let text = refused(refusal, Code::InvalidArgument, "UNKNOWN_OPTION");
        assert!(text.contains(header) && text.contains("x-merganser-ingest-key"), "{text}");
    }
    // Headers of others are none of our business.
    put_with(&flight, &[("x-request-id", "7")], messages("t", vec![unit(2, ROWS)])).await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 20);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_is_refused_leaves_its_key_free() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    put_keyed(&flight, "t", "a/1/1", vec![ids([1, 2])]).await.unwrap();
    refused(put_keyed(&flight, "t", "a/1/2", vec![ids([3, 1])]).await, Code::AlreadyExists, "DUPLICATE_KEY");
    put_keyed(&flight, "t", "a/1/2", vec![ids([3, 4])]).await.unwrap();
    assert_eq!(integers(&client, "SELECT id FROM t ORDER BY id").await.unwrap(), [1, 2, 3, 4]);
    let shown = "SELECT failures FROM merganser_ingest() WHERE loader = 'a'";
    assert_eq!(integer(&client, shown).await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_units_have_keys_too() {
    const WIDE: i64 = 2_000;
    let server = TestServer::with(|config| config.engine.bulk_bytes = 1 << 20).await;
    let (flight, client) = (server.flight().await, server.client().await);
    let bulk = |from: i64| vec![wide(from..from + WIDE), wide(from + WIDE..from + 2 * WIDE)];
    // One that makes the table, and one that appends to it.
    for (sequence, from) in [(1, 0), (2, 10_000)] {
        let key = format!("a/1/{sequence}");
        let first = put_keyed(&flight, "t", &key, bulk(from)).await.unwrap();
        assert_eq!((first.rows, first.duplicate), (4_000, false));
        let again = put_keyed(&flight, "t", &key, bulk(from)).await.unwrap();
        assert_eq!((again.commit_id, again.duplicate), (first.commit_id, true));
    }
    refused(put_keyed(&flight, "t", "a/1/2", bulk(20_000)).await, Code::AlreadyExists, "KEY_REUSED");
    refused(put_keyed(&flight, "t", "a/1/4", bulk(20_000)).await, Code::FailedPrecondition, "SEQ_GAP");
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 8_000);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_creates_or_replaces_its_table_does_so_once() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    let first = put_keyed(&flight, "t", "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    client.execute("DROP TABLE t").await.unwrap();
    let again = put_keyed(&flight, "t", "a/1/1", vec![unit(1, ROWS)]).await.unwrap();
    assert_eq!((again.commit_id, again.duplicate), (first.commit_id, true));
    assert_eq!(integer(&client, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 't'").await, 0);

    let replacing = Put::to("t").replacing().with("ingest_key", "a/1/2");
    assert_eq!(replacing.send(&flight, vec![unit(2, ROWS)]).await.unwrap(), 10);
    put(&client, "t", unit(3, ROWS)).await.unwrap();
    assert_eq!(replacing.send(&flight, vec![unit(2, ROWS)]).await.unwrap(), 10);
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 20, "it is not replaced again");
    let counted = "SELECT duplicates FROM merganser_ingest() WHERE loader = 'a'";
    assert_eq!(integer(&client, counted).await, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_unit_sent_twice_at_once_is_stored_once() {
    let server = TestServer::start().await;
    let client = server.client().await;
    for number in 0..20_i64 {
        let key = format!("a/1/{number}");
        let send = async || put_keyed(&server.flight().await, "t", &key, vec![unit(number, ROWS)]).await;
        let (one, other) = tokio::join!(send(), send());
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.commit_id, other.commit_id);
        assert_ne!(one.duplicate, other.duplicate);
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 200);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_memory_is_looked_up() {
    let server = TestServer::start().await;
    let flight = server.flight().await;
    let one = |number: i64| vec![unit(number, 1)];
    let mut commits = Vec::new();
    for sequence in 0..1_100 {
        let key = format!("a/1/{sequence}");
        commits.push(put_keyed(&flight, "t", &key, one(sequence)).await.unwrap().commit_id);
    }
    let again = put_keyed(&flight, "t", "a/1/3", one(3)).await.unwrap();
    assert_eq!((again.duplicate, again.commit_id), (true, commits[3]));
    refused(put_keyed(&flight, "t", "a/1/3", one(4)).await, Code::AlreadyExists, "KEY_REUSED");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_that_the_ledger_has_forgotten_are_refused_and_the_last_one_never_is() {
    /// What the ledger keeps of a loader at the most.
    const KEPT: i64 = 100_000;
    let script = |sql: String| {
        move |config: &mut Config| {
            config.engine.init_sql = Some(Script { name: "test".into(), sql });
        }
    };
    let server = TestServer::start().await;
    let flight = server.flight().await;
    let send = async |flight: &_, key: &str, number| put_keyed(flight, "t", key, vec![unit(number, 1)]).await;
    for sequence in 1..=4 {
        send(&flight, &format!("old/1/{sequence}"), sequence).await.unwrap();
    }
    send(&flight, "seldom/1/1", 1).await.unwrap();
    send(&flight, "busy/1/1", 1).await.unwrap();
    let file = server.shutdown().await;

    // Eight days pass for all but the fourth unit, and for one loader so many units that ten are too many.
    let server = TestServer::open(
        file,
        script(format!(
            "UPDATE __merganser.ingest_units SET committed_at = committed_at - INTERVAL 8 DAY \
         WHERE loader = 'seldom' OR (loader = 'old' AND sequence < 4); \
         INSERT INTO __merganser.ingest_units SELECT loader, range, commit_id, committed_at, unit \
         FROM __merganser.ingest_units, range(2, {KEPT} + 11) WHERE loader = 'busy'"
        )),
    )
    .await;
    // The first commit has the ledger pruned, and the second one waits for that.
    let flight = server.flight().await;
    for sequence in 1..=2 {
        send(&flight, &format!("other/1/{sequence}"), sequence).await.unwrap();
    }
    drop(flight);
    let file = server.shutdown().await;

    let server = TestServer::open(file, script(
        "CREATE OR REPLACE TABLE kept AS SELECT loader, min(sequence)::BIGINT AS first, count(*) AS units \
         FROM __merganser.ingest_units GROUP BY loader".into()
    )).await;
    let (flight, client) = (server.flight().await, server.client().await);
    let kept = "SELECT concat_ws(' ', loader, first, units) FROM kept ORDER BY loader";
    assert_eq!(
        texts(&client, kept).await.unwrap(),
        [format!("busy 11 {KEPT}"), "old 4 1".into(), "other 1 2".into(), "seldom 1 1".into()]
    );
    for (key, number, expected) in [("old/1/1", 1, "5"), ("old/1/3", 3, "5"), ("busy/1/10", 10, "100011")] {
        let told = refused(send(&flight, key, number).await, Code::FailedPrecondition, "KEY_EXPIRED");
        assert!(told.contains(key) && told.contains(expected), "{told}");
    }
    // The last one of a loader is known for ever, and the next one is taken.
    for (key, number) in [("old/1/4", 4), ("seldom/1/1", 1), ("busy/1/11", 1)] {
        assert!(send(&flight, key, number).await.unwrap().duplicate, "{key}");
    }
    for (key, number) in [("old/1/5", 5), ("seldom/1/2", 2)] {
        assert!(!send(&flight, key, number).await.unwrap().duplicate, "{key}");
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 10);
    let told =
        "SELECT concat_ws(' ', loader, sequence, commits) FROM merganser_ingest() WHERE loader = 'old'";
    assert_eq!(texts(&client, told).await.unwrap(), ["old 5 5"]);
    drop(client);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_not_go_with_a_transaction_or_another_database() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    client.execute("ATTACH ':memory:' AS other").await.unwrap();
    let mut elsewhere = messages("t", vec![unit(1, ROWS)]);
    elsewhere[0].flight_descriptor.as_mut().unwrap().path = vec!["other".into(), "main".into(), "t".into()];
    let sent = put_with(&flight, &[("x-merganser-ingest-key", "a/1/1")], elsewhere).await;
    assert!(refused(sent, Code::FailedPrecondition, "KEY_NOT_HERE").contains("catalog"));

    // A session belongs to its connection, and so does its transaction.
    let begin = CommandStatementUpdate { query: "BEGIN".into(), transaction_id: None };
    let begin = FlightData::new().with_descriptor(FlightDescriptor::new_cmd(begin.as_any().encode_to_vec()));
    let mut same = flight.clone();
    same.do_put(stream::iter([begin])).await.unwrap();
    let sent = put_keyed(&flight, "t", "a/1/1", vec![unit(1, ROWS)]).await;
    assert!(refused(sent, Code::FailedPrecondition, "KEY_NOT_HERE").contains("transaction"));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_not_go_with_a_drivers_transaction() {
    let server = TestServer::start().await;
    let (client, channel) = (server.client().await, server.channel().await);
    client.execute("CREATE TABLE t (unit BIGINT, part BIGINT)").await.unwrap();
    // A transaction belongs to the session of its connection.
    let flight = FlightServiceClient::new(channel.clone());
    let mut driver = FlightSqlServiceClient::new(channel);
    let transaction = driver.begin_transaction().await.unwrap();
    let keyed = Put::to("t").with("ingest_key", "a/1/1");
    let sent = keyed.clone().within(transaction.clone()).send(&flight, vec![unit(1, ROWS)]).await;
    assert!(refused(sent, Code::FailedPrecondition, "KEY_NOT_HERE").contains("transaction"));
    let plain = Put::to("t").within(transaction.clone());
    assert_eq!(plain.send(&flight, vec![unit(2, ROWS)]).await.unwrap(), ROWS as i64);
    driver.end_transaction(transaction, EndTransaction::Commit).await.unwrap();
    assert_eq!(integers(&client, "SELECT DISTINCT unit FROM t").await.unwrap(), [2]);
    // The key is as good as new.
    assert_eq!(keyed.send(&flight, vec![unit(1, ROWS)]).await.unwrap(), ROWS as i64);
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE unit = 1").await, ROWS as i64);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loaders_show_in_the_ledger_and_the_ledger_is_not_for_clients() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    assert!(texts(&client, "SELECT loader FROM merganser_ingest()").await.unwrap().is_empty());
    for sequence in 1..=3 {
        put_keyed(&flight, "t", &format!("b/4/{sequence}"), vec![unit(sequence, ROWS)]).await.unwrap();
    }
    put_keyed(&flight, "t", "b/4/3", vec![unit(3, ROWS)]).await.unwrap();
    put_keyed(&flight, "t", "a/1/1", vec![unit(9, ROWS)]).await.unwrap();
    let row = "SELECT concat_ws(' ', last_key, epoch, sequence, rows, commits, duplicates, failures, lag_ms > 0, \
               last_commit > 0, last_commit_at > now() - INTERVAL 1 MINUTE, last_table) FROM merganser_ingest()";
    let table = "\"test\".\"main\".\"t\"";
    assert_eq!(
        texts(&client, row).await.unwrap(),
        [
            format!("a/1/1 1 1 10 1 0 0 true true true {table}"),
            format!("b/4/3 4 3 30 3 1 0 true true true {table}"),
        ]
    );
    for sql in [
        "SELECT * FROM __merganser.ingest_units",
        "DELETE FROM __merganser.ingest_units",
        "DROP SCHEMA \"__merganser\" CASCADE",
    ] {
        refused(client.execute(sql).await, Code::PermissionDenied, "NOT_ALLOWED");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loader_that_is_refused_from_its_first_unit_on_shows_with_its_refusals() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    client.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)").await.unwrap();
    for _ in 0..2 {
        refused(
            put_keyed(&flight, "t", "a/1/1", vec![ids([1, 1])]).await,
            Code::AlreadyExists,
            "DUPLICATE_KEY",
        );
    }
    let row = "SELECT concat_ws(' ', loader, last_key, epoch, sequence, rows, commits, duplicates, failures, \
               last_commit, last_commit_at, last_table) FROM merganser_ingest()";
    assert_eq!(texts(&client, row).await.unwrap(), ["a 0 0 0 2"]);
    assert_eq!(client.committed("a", None).await.unwrap(), None);
    put_keyed(&flight, "t", "a/1/1", vec![ids([1])]).await.unwrap();
    let row = "SELECT concat_ws(' ', last_key, commits, failures) FROM merganser_ingest()";
    assert_eq!(texts(&client, row).await.unwrap(), ["a/1/1 1 2"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_epoch_is_so_high_that_none_can_take_over() {
    const HIGHEST: u64 = 1 << 62;
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    let send = async |epoch: u64, sequence: i64| {
        put_keyed(&flight, "t", &format!("a/{epoch}/{sequence}"), vec![unit(sequence, ROWS)]).await
    };
    for epoch in [HIGHEST + 1, u64::MAX - 1] {
        let told = refused(send(epoch, 1).await, Code::InvalidArgument, "BAD_KEY");
        assert!(told.contains(&format!("the epoch is too large; at most {HIGHEST}")), "{told}");
    }
    send(HIGHEST, 1).await.unwrap();
    for sequence in 2..4 {
        let epoch = client.committed("a", None).await.unwrap().unwrap().epoch + 1;
        refused(send(epoch + 1, sequence).await, Code::InvalidArgument, "BAD_KEY");
        send(epoch, sequence).await.unwrap();
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_a_key_makes_no_ledger() {
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", unit(1, ROWS)).await.unwrap();
    let schemas = "SELECT count(*) FROM duckdb_schemas() WHERE schema_name LIKE '\\_\\_%' ESCAPE '\\' \
                   AND database_name = current_database()";
    assert_eq!(integer(&client, schemas).await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyed_unit_that_is_cut_off_leaves_its_key_free() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 1 << 20).await;
    let (flight, client) = (server.flight().await, server.client().await);
    let rows: RecordBatch = wide(0..4_000);
    // Its rows have come; its end never does.
    let endless = stream::iter(messages("t", vec![rows.clone()])).chain(stream::pending());
    let sending = flight.clone();
    let cut_off =
        tokio::spawn(
            async move { put_streamed(&sending, &[("x-merganser-ingest-key", "a/1/1")], endless).await },
        );
    server.bulk_uploads(1).await;
    cut_off.abort();
    assert!(cut_off.await.unwrap_err().is_cancelled());
    server.bulk_uploads(0).await;
    let first = put_keyed(&flight, "t", "a/1/1", vec![rows]).await.unwrap();
    assert_eq!((first.rows, first.duplicate), (4_000, false));
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 4_000);
    server.shutdown().await;
}
