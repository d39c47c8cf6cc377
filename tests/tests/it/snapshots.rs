//! A plan carries the statistics of the data that it was made over, and gives wrong answers over newer
//! data: it must never run after something has committed.
//!
//! Without the cure (plan and run in one transaction, at DoGet), a plan that GetFlightInfo or Prepare made
//! over the values 1 to 100 runs over 500, 900 and 70000 as well. DuckDB sorts by as many bits as the old
//! values needed, so that `ORDER BY id DESC` gives 244, 132 and 112 for the three; and it has left out the
//! table of `WHERE id > 100`, as nothing there could pass, so that the count is 0 instead of 3.

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use arrow_flight::{
    FlightDescriptor, FlightInfo, Ticket, decode::FlightRecordBatchStream, error::FlightError,
    flight_service_client::FlightServiceClient, sql::client::FlightSqlServiceClient,
};
use futures::{TryStreamExt, future::join_all};
use merganser::Client;
use merganser_server::engine::Script;
use merganser_tests::{TestServer, Upload, ids, integer, integers, put, texts, unit};
use tonic::{Code, Status, transport::Channel};

const SORTED: &str = "SELECT id FROM t ORDER BY id DESC";
const FILTERED: &str = "SELECT count(*) FROM t WHERE id > 100";

async fn plan(flight: &mut FlightServiceClient<Channel>, sql: &str) -> FlightInfo {
    let descriptor = FlightDescriptor::new_cmd(sql.to_owned());
    flight.get_flight_info(descriptor).await.unwrap().into_inner()
}

fn ticket(info: &FlightInfo) -> Ticket {
    info.endpoint[0].ticket.clone().unwrap()
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    let columns = batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>());
    columns.flat_map(|column| column.values().to_vec()).collect()
}

async fn fetch(flight: &mut FlightServiceClient<Channel>, info: &FlightInfo) -> Result<Vec<i64>, Status> {
    let data = flight.do_get(ticket(info)).await?.into_inner();
    let batches = FlightRecordBatchStream::new_from_flight_data(data.map_err(FlightError::from));
    Ok(numbers(&batches.try_collect::<Vec<_>>().await.unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_from_before_an_insert_gives_the_rows_of_after_it() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    put(&client, "t", ids(1..=100)).await.unwrap();
    let sorted = plan(&mut flight, SORTED).await;
    let filtered = plan(&mut flight, FILTERED).await;
    put(&client, "t", ids([500, 70_000, 900])).await.unwrap();

    let expected: Vec<i64> = [70_000, 900, 500].into_iter().chain((1..=100).rev()).collect();
    assert_eq!(fetch(&mut flight, &sorted).await.unwrap(), expected);
    assert_eq!(fetch(&mut flight, &filtered).await.unwrap(), [3]);
    // The same tickets again, after yet another commit.
    client.execute("DELETE FROM t WHERE id < 900").await.unwrap();
    assert_eq!(fetch(&mut flight, &sorted).await.unwrap(), [70_000, 900]);
    assert_eq!(fetch(&mut flight, &filtered).await.unwrap(), [2]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_from_before_an_insert_gives_the_rows_of_after_it() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let mut sql = FlightSqlServiceClient::new(server.channel().await);
    put(&client, "t", ids(1..=100)).await.unwrap();
    let mut sorted = sql.prepare(SORTED.into(), None).await.unwrap();
    let mut filtered = sql.prepare(FILTERED.into(), None).await.unwrap();
    for round in 1..=3 {
        put(&client, "t", ids([round * 70_000])).await.unwrap();
        let info = sorted.execute().await.unwrap();
        let rows = sql.do_get(ticket(&info)).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        let expected = (1..=round).rev().map(|round| round * 70_000).chain((1..=100).rev());
        assert_eq!(numbers(&rows), expected.collect::<Vec<_>>());
        let info = filtered.execute().await.unwrap();
        let rows = sql.do_get(ticket(&info)).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(numbers(&rows), [round]);
    }
    sorted.close().await.unwrap();
    filtered.close().await.unwrap();
    server.shutdown().await;
}

/// Asks both questions on several of the pool's connections at once, often enough that plans would be reused.
async fn ask_everywhere(client: &Client, expected: &[i64]) {
    let above = expected.iter().filter(|&&id| id > 100).count() as i64;
    for _ in 0..3 {
        let asked = (0..4).map(|_| async {
            assert_eq!(integers(client, SORTED).await.unwrap(), expected);
            assert_eq!(integer(client, FILTERED).await, above);
        });
        join_all(asked).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_commits_an_older_plan_is_not_run_after_it() {
    let server = TestServer::with(|config| config.engine.bulk_bytes = 64 << 10).await;
    let client = server.client().await;
    put(&client, "t", ids(1..=100)).await.unwrap();
    let mut expected: Vec<i64> = (1..=100).rev().collect();
    ask_everywhere(&client, &expected).await;

    // Each next number needs more bits than all before it.
    let mut next = 1_000;
    for way in 0..7 {
        next *= 10;
        match way {
            0 => drop(put(&client, "t", ids([next])).await.unwrap()),
            1 => drop(client.execute(&format!("INSERT INTO t VALUES ({next})")).await.unwrap()),
            2 => drop(client.execute(&format!("SELECT 1; INSERT INTO t VALUES ({next})")).await.unwrap()),
            3 => {
                let returning = format!("INSERT INTO t VALUES ({next}) RETURNING id");
                assert_eq!(integers(&client, &returning).await.unwrap(), [next]);
            }
            4 => {
                drop(texts(&client, &format!("EXPLAIN ANALYZE INSERT INTO t VALUES ({next})")).await.unwrap())
            }
            5 => {
                let replace = format!("CREATE OR REPLACE TABLE t AS FROM t UNION ALL SELECT {next}");
                client.execute(&replace).await.unwrap();
            }
            _ => {
                let upload = Upload::start(&client, "t", ids([]).schema());
                upload.send(ids(next..next + 20_000));
                upload.finish().await.unwrap();
                expected.splice(0..0, (next..next + 20_000).rev());
                ask_everywhere(&client, &expected).await;
                continue;
            }
        }
        expected.insert(0, next);
        ask_everywhere(&client, &expected).await;
    }
    client.execute("UPDATE t SET id = id * 1000 WHERE id > 100").await.unwrap();
    let expected: Vec<i64> = expected.into_iter().map(|id| if id > 100 { id * 1_000 } else { id }).collect();
    ask_everywhere(&client, &expected).await;
    client.execute("DELETE FROM t WHERE id > 100").await.unwrap();
    ask_everywhere(&client, &(1..=100).rev().collect::<Vec<_>>()).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_day_is_never_that_of_an_older_plan() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let mut last = 0;
    for _ in 0..50 {
        let now = integer(&client, "SELECT epoch_us(now())").await;
        assert!(now > last, "{now} after {last}");
        last = now;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_right_under_constant_ingest() {
    const READS: usize = 60;
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    put(&client, "t", ids([1])).await.unwrap();

    // Every unit reaches beyond the values of all before it, so that any older plan is wrong.
    let loader = server.client().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let loading = tokio::spawn(async move {
        let mut last = 1;
        while stopped.try_recv().is_err() {
            put(&loader, "t", ids(last + 1..=last + 50)).await.unwrap();
            last += 50;
        }
        last
    });
    for _ in 0..READS {
        let known = integer(&client, "SELECT count(*) FROM t").await;
        let sorted = plan(&mut flight, SORTED).await;
        let filtered = plan(&mut flight, FILTERED).await;
        let rows = fetch(&mut flight, &sorted).await.unwrap();
        assert!(rows.len() as i64 >= known, "{} rows after {known}", rows.len());
        assert!(rows.iter().copied().eq((1..=rows.len() as i64).rev()), "out of order, or not the rows");
        let above = fetch(&mut flight, &filtered).await.unwrap()[0];
        assert!(above >= (rows.len() as i64 - 100).max(0), "{above} above 100 of {}", rows.len());
    }
    stop.send(()).unwrap();
    let last = loading.await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, last);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_read_sees_whole_units_only() {
    const ROWS: usize = 30;
    let server = TestServer::start().await;
    let client = server.client().await;
    put(&client, "t", unit(0, ROWS)).await.unwrap();
    let loaders = (1..=4).map(|loader| {
        let connecting = server.client();
        async move {
            let client = connecting.await;
            for number in 0..90 {
                put(&client, "t", unit(loader * 100 + number, ROWS)).await.unwrap();
            }
        }
    });
    // The same text again and again, so that plans are kept: one may meet units that it was not made for.
    let torn = format!("SELECT count(*) FROM (SELECT unit FROM t GROUP BY unit HAVING count(*) <> {ROWS})");
    let reads = async {
        loop {
            assert_eq!(integer(&client, &torn).await, 0);
        }
    };
    tokio::select! {
        _ = join_all(loaders) => {}
        () = reads => {}
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 361 * ROWS as i64);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_schema_than_announced_is_refused() {
    let server = TestServer::start().await;
    let (client, mut flight) = (server.client().await, server.flight().await);
    put(&client, "t", ids([1])).await.unwrap();
    let announced = plan(&mut flight, "FROM t").await;
    client.execute("ALTER TABLE t ADD COLUMN more VARCHAR").await.unwrap();
    let refusal = fetch(&mut flight, &announced).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(refusal.message().starts_with("SCHEMA_CHANGED: "), "{}", refusal.message());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_of_many_rows_shows_at_once() {
    large_units_show_at_once("SET GLOBAL preserve_insertion_order = true").await;
}

/// With this setting DuckDB inserts a row group (122,880 rows) and more in parallel, and shows the rows to
/// readers group by group before the COMMIT is done; its appender does so too. Units must not be stored
/// that way, whatever the start-up SQL says.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_of_many_rows_shows_at_once_even_where_the_order_of_rows_is_free() {
    large_units_show_at_once("SET GLOBAL preserve_insertion_order = false").await;
}

async fn large_units_show_at_once(start_up: &str) {
    const ROWS: i64 = 400_000;
    // With a cast and without; collected, and as a bulk upload.
    for (column, bulk_bytes) in
        [("BIGINT", 8 << 20), ("INTEGER", 8 << 20), ("BIGINT", 1 << 20), ("INTEGER", 1 << 20)]
    {
        let server = TestServer::with(|config| {
            config.engine.bulk_bytes = bulk_bytes;
            config.engine.init_sql = Some(Script { name: "start-up".into(), sql: start_up.into() });
        })
        .await;
        let client = server.client().await;
        client.execute(&format!("CREATE TABLE t (id {column})")).await.unwrap();
        let loader = server.client().await;
        let loading = tokio::spawn(async move {
            for unit in 0..4 {
                put(&loader, "t", ids(unit * ROWS..(unit + 1) * ROWS)).await.unwrap();
            }
        });
        while !loading.is_finished() {
            let reads = (0..4).map(|_| integer(&client, "SELECT count(id) FROM t"));
            for seen in join_all(reads).await {
                assert!(seen % ROWS == 0, "{seen} rows of units of {ROWS}, into {column}");
            }
        }
        loading.await.unwrap();
        assert_eq!(integer(&client, "SELECT count(DISTINCT id) FROM t").await, 4 * ROWS);
        server.shutdown().await;
    }
}
