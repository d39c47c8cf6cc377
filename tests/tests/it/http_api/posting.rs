//! Posted rows take their part of the memory for rows on their way in from their first byte on.

use std::{fmt::Write, net::SocketAddr, sync::Arc, time::Duration};

use arrow_array::{Int64Array, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use merganser_server::Config;
use merganser_tests::{TestServer, configure, soon, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};

use super::server_with;

const QUERY: &str = "
    [[query]]
    name = 'sum'
    sql = 'SELECT sum(id)::BIGINT AS total, count(*) AS rows FROM numbers'
    [query.input]
    name = 'numbers'
    columns = { id = 'BIGINT' }

    [[query]]
    name = 'nested'
    sql = 'SELECT len(l) AS l FROM nested_rows'
    [query.input]
    name = 'nested_rows'
    columns = { l = 'STRUCT(a BIGINT, b BIGINT, c BIGINT, d BIGINT, e BIGINT, f BIGINT)[]' }
";
const BUDGET: usize = 1 << 20;
const ROWS: i64 = 30_000;

fn small(config: &mut Config) {
    configure(config, QUERY);
    config.engine.queue_bytes = BUDGET;
    config.engine.bulk_bytes = BUDGET;
    config.engine.wait = Duration::from_millis(300);
}

fn json() -> Vec<u8> {
    let rows: Vec<_> = (0..ROWS).map(|id| format!("{{\"id\":{id}}}")).collect();
    format!("[{}]", rows.join(",")).into_bytes()
}

/// The same rows in every form, by its content type.
fn forms() -> [(&'static str, Vec<u8>); 4] {
    let (mut lines, mut csv) = (String::new(), String::from("id\n"));
    for id in 0..ROWS {
        writeln!(lines, "{{\"id\":{id}}}").unwrap();
        writeln!(csv, "{id}").unwrap();
    }
    let ids = Arc::new(Int64Array::from_iter_values(0..ROWS));
    let batch = RecordBatch::try_from_iter([("id", ids as _)]).unwrap();
    let mut arrow = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    arrow.write(&batch).unwrap();
    let arrow = arrow.into_inner().unwrap();
    [
        ("application/json", json()),
        ("application/x-ndjson", lines.into_bytes()),
        ("text/csv", csv.into_bytes()),
        ("application/vnd.apache.arrow.stream", arrow),
    ]
}

/// A request of which the last quarter is held back.
struct Posting {
    rest: watch::Sender<bool>,
    answer: JoinHandle<String>,
}

impl Posting {
    async fn begin(address: SocketAddr, form: &str, body: Vec<u8>) -> Self {
        let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
        let head = format!(
            "POST /v1/queries/sum?format=ndjson HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: {form}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let (rest, mut wanted) = watch::channel(false);
        let answer = tokio::spawn(async move {
            let sending = async {
                let (first, last) = body.split_at(body.len() / 4 * 3);
                // Who was refused is not listened to any more.
                let _ = write.write_all(&[head.as_bytes(), first].concat()).await;
                if wanted.wait_for(|wanted| *wanted).await.is_ok() {
                    let _ = write.write_all(last).await;
                }
                std::future::pending().await
            };
            let mut answer = Vec::new();
            tokio::select! {
                _ = read.read_to_end(&mut answer) => {}
                () = sending => {}
            }
            String::from_utf8(answer).unwrap()
        });
        Self { rest, answer }
    }

    /// Sends the rest and gives the answer.
    async fn end(self) -> String {
        self.rest.send_replace(true);
        soon("the answer", self.answer).await.unwrap()
    }

    /// Closes the connection.
    async fn vanish(self) {
        self.answer.abort();
        assert!(self.answer.await.unwrap_err().is_cancelled());
    }
}

fn is_whole(answer: &str) -> bool {
    let total = (0..ROWS).sum::<i64>();
    answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("{{\"total\":{total},\"rows\":{ROWS}}}"))
}

/// Waits until so many bytes are held; never are there more than the budget.
async fn held(server: &TestServer, bytes: impl Fn(usize) -> bool) {
    until("the memory is taken or given back", async || {
        let queued = server.engine().bytes_queued();
        assert!(queued <= BUDGET, "{queued} bytes");
        bytes(queued)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_holds_memory_while_it_comes_and_none_once_it_is_answered_or_its_client_has_gone() {
    let (server, _) = server_with(small).await;
    let address = server.http_address().unwrap();
    for (form, body) in forms() {
        let first = body.len() / 4 * 3;
        let posting = Posting::begin(address, form, body.clone()).await;
        held(&server, |bytes| bytes == first).await;
        let answer = posting.end().await;
        assert!(is_whole(&answer), "{form}: {answer}");
        held(&server, |bytes| bytes == 0).await;

        let posting = Posting::begin(address, form, body).await;
        held(&server, |bytes| bytes == first).await;
        posting.vanish().await;
        held(&server, |bytes| bytes == 0).await;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_would_take_more_than_there_is_wait_and_are_refused() {
    const POSTERS: usize = 12;
    let (server, mut client) = server_with(small).await;
    let address = server.http_address().unwrap();
    let begin = || Posting::begin(address, "application/json", json());
    assert!(json().len() * POSTERS > 2 * BUDGET);
    let first = begin().await;
    held(&server, |bytes| bytes == json().len() / 4 * 3).await;
    let mut others = Vec::new();
    for _ in 1..POSTERS {
        others.push(begin().await);
    }
    held(&server, |_| others.iter().any(|posting| posting.answer.is_finished())).await;
    // Who only asks needs no memory of it.
    assert_eq!(client.sql("ndjson", "SELECT 1 AS a").await.text(), "{\"a\":1}\n");

    let mut refused = 0;
    for posting in others {
        let answer = posting.end().await;
        if !is_whole(&answer) {
            assert!(answer.contains("QUEUE_FULL"), "{answer}");
            refused += 1;
        }
    }
    assert!(refused > 0);
    let answer = first.end().await;
    assert!(is_whole(&answer), "{answer}");
    held(&server, |bytes| bytes == 0).await;
    server.shutdown().await;
}

/// What is wrong at the end of a body is found only by who reads all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_body_of_many_rows_is_refused_before_they_are_all_decoded() {
    let (server, mut client) = server_with(small).await;
    let rows = BUDGET / 8 * 3 / "{},".len();
    let struct_rows = format!("[{{\"l\": [{}{{}}]}}]", "{},".repeat(rows));
    for (query, form, body, slug) in [
        ("sum", "application/json", format!("[{}7]", "{},".repeat(rows)), "QUEUE_FULL"),
        ("sum", "application/x-ndjson", format!("{}7", "{}\n".repeat(rows)), "QUEUE_FULL"),
        ("sum", "text/csv", format!("id\n{}1,2\n", "\"\"\n".repeat(rows)), "QUEUE_FULL"),
        ("nested", "application/json", struct_rows, "QUEUE_FULL"),
        ("sum", "text/csv", ",".repeat(BUDGET / 4), "BAD_BODY"),
    ] {
        let path = format!("/v1/queries/{query}");
        let answer = client.send("POST", &path, &[("content-type", form)], body).await;
        assert_eq!(answer.problem().1, slug, "{query} {form} {answer:?}");
        held(&server, |bytes| bytes == 0).await;
    }
    let few = format!("[{{\"l\": [{}{{}}]}}]", "{},".repeat(99));
    let json = [("content-type", "application/json")];
    let answer = client.send("POST", "/v1/queries/nested?format=csv", &json, few).await;
    assert_eq!(answer.text(), "l\n100\n");
    server.shutdown().await;
}
