//! Bytes that are no Arrow data are refused, and the connection goes on.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Int32Array, Int64Array, NullArray, RecordBatch, RunArray, StringArray, types::Int64Type,
};
use arrow_flight::{FlightData, flight_service_client::FlightServiceClient};
use bytes::Bytes;
use merganser::Client;
use merganser_tests::{RawUpload, TestServer, ids, integer, messages, put, put_with, refused, wide};
use tonic::{Code, Status, transport::Channel};

/// Sends an upload to `t` and returns the answer's status.
async fn send(flight: &FlightServiceClient<Channel>, upload: Vec<FlightData>) -> Result<(), Status> {
    let stream = RawUpload::start(flight.clone());
    for message in upload {
        stream.send(message);
    }
    stream.finish().await.map(drop)
}

/// The schema and two batches, as an honest client sends them.
fn honest() -> Vec<FlightData> {
    messages("t", vec![wide([1, 2]), wide([3, 4])])
}

/// The batch with one more column.
fn one_more(batch: RecordBatch) -> RecordBatch {
    let columns = batch.columns().iter().chain([batch.column(0)]).cloned().enumerate();
    RecordBatch::try_from_iter(columns.map(|(at, column)| (format!("c{at}"), column))).unwrap()
}

/// The same numbers at every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Bytes {
        (0..length).map(|_| self.next(256) as u8).collect()
    }
}

/// The server takes good uploads on this connection and on others, and has kept nothing else.
async fn goes_on(flight: &FlightServiceClient<Channel>, client: &Client, kept: &mut i64) {
    send(flight, messages("t", vec![wide([0])])).await.unwrap();
    put(client, "t", wide([0])).await.unwrap();
    *kept += 2;
    assert_eq!(integer(client, "SELECT count(*) FROM t").await, *kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_malformed_upload_is_refused_and_the_connection_goes_on() {
    let server = TestServer::start().await;
    let (client, flight) = (server.client().await, server.flight().await);
    put(&client, "t", wide([0])).await.unwrap();
    let mut kept = 1;
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);

    let mut cases = Vec::new();
    for length in [1, 8, 64, 1_000] {
        let mut upload = honest();
        upload[0].data_header = numbers.bytes(length);
        cases.push((format!("{length} random bytes for a schema"), upload));
        let mut upload = honest();
        upload[2].data_header = numbers.bytes(length);
        cases.push((format!("{length} random bytes for a batch"), upload));
    }
    let mut upload = honest();
    upload.insert(1, honest().swap_remove(0));
    cases.push(("the schema twice".into(), upload));
    let mut upload = honest();
    upload.push(messages("t", vec![ids([1])]).swap_remove(0));
    cases.push(("another schema at the end".into(), upload));
    let mut upload = honest();
    let schema = upload.remove(0);
    upload[0].flight_descriptor = schema.flight_descriptor;
    cases.push(("a batch without a schema".into(), upload));
    for part in [0, 1, 8, 100] {
        let mut upload = honest();
        let body = &mut upload[2].data_body;
        body.truncate(body.len() * part / 110);
        cases.push((format!("a body cut to {} bytes", upload[2].data_body.len()), upload));
        let mut upload = honest();
        let header = &mut upload[2].data_header;
        header.truncate(header.len() * part.max(1) / 101);
        cases.push((format!("a header cut to {} bytes", upload[2].data_header.len()), upload));
    }
    // Whole messages of other columns, and one of as many columns with more buffers.
    for (case, batch) in [("more columns", one_more(wide([1]))), ("fewer columns", ids([1]))] {
        let mut upload = honest();
        upload[2] = messages("t", vec![batch]).swap_remove(1);
        cases.push((case.into(), upload));
    }
    let names: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let mut upload = messages("t", vec![ids([1])]);
    let texts = RecordBatch::try_from_iter([("id", names)]).unwrap();
    upload[1] = messages("t", vec![texts]).swap_remove(1);
    cases.push(("more buffers".into(), upload));
    for (case, upload) in cases {
        let refusal = send(&flight, upload).await.expect_err(&case);
        assert_eq!(refusal.code(), Code::InvalidArgument, "{case}: {refusal:?}");
        assert!(refusal.message().starts_with("BAD_ARROW: "), "{case}: {refusal:?}");
        goes_on(&flight, &client, &mut kept).await;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_refused_or_harmless() {
    const FLIPS: usize = 1_000;
    let server = TestServer::start().await;
    let (client, flight) = (server.client().await, server.flight().await);
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    put(&client, "t", wide([0])).await.unwrap();
    for flip in 0..FLIPS {
        let mut upload = honest();
        let message = numbers.next(upload.len());
        let mut header = upload[message].data_header.to_vec();
        let bit = numbers.next(header.len() * 8);
        header[bit / 8] ^= 1 << (bit % 8);
        upload[message].data_header = header.into();
        if let Err(refusal) = send(&flight, upload).await {
            assert_eq!(
                refusal.code(),
                Code::InvalidArgument,
                "flip {flip}, bit {bit} of message {message}: {refusal:?}"
            );
        }
    }
    assert_eq!(integer(&client, "SELECT 42").await, 42);
    put(&client, "t", wide([0])).await.unwrap();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_uploads_of_the_connection_do_not_notice() {
    let server = TestServer::start().await;
    let (client, flight) = (server.client().await, server.flight().await);
    let good = RawUpload::start(flight.clone());
    let mut upload = messages("good", vec![ids([1]), ids([2])]);
    let last = upload.pop().unwrap();
    for message in upload {
        good.send(message);
    }
    for _ in 0..10 {
        let mut bad = honest();
        bad[1].data_header = Bytes::from_static(b"nonsense");
        send(&flight, bad).await.unwrap_err();
    }
    good.send(last);
    good.finish().await.unwrap();
    assert_eq!(integer(&client, "SELECT count(*) FROM good").await, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_bytes_that_stand_for_terabytes_are_refused() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    let one = |array: ArrayRef| RecordBatch::try_from_iter_with_nullable([("a", array, true)]).unwrap();
    let ends = Int64Array::from(vec![1_i64 << 40]);
    let runs = RunArray::<Int64Type>::try_new(&ends, &Int32Array::from(vec![7])).unwrap();
    for bomb in [one(Arc::new(NullArray::new(1 << 40))), one(Arc::new(runs))] {
        for headers in [&[][..], &[("x-merganser-ingest-key", "a/1/1")]] {
            let sent = put_with(&flight, headers, messages("t", vec![bomb.clone()])).await;
            refused(sent, Code::InvalidArgument, "BAD_ARROW");
        }
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM duckdb_tables()").await, 0);
    put(&client, "t", ids([1])).await.unwrap();
    server.shutdown().await;
}
