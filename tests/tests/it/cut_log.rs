//! A write-ahead log that ends anywhere: what is left of it is a prefix of the units, and loading goes on.

use std::{fs, path::PathBuf};

use futures::{StreamExt, stream};
use merganser::IngestAck;
use merganser_tests::{DatabaseFile, Process, TestServer, integer, integers, messages, put_streamed, unit};
use tonic::{Status, transport::Channel};

use crate::SERVER;
use arrow_flight::flight_service_client::FlightServiceClient;

const UNITS: i64 = 20;
const ROWS: usize = 5;

/// Puts unit `number`, from 1.
async fn put_unit(flight: &FlightServiceClient<Channel>, number: i64) -> Result<IngestAck, Status> {
    let upload = stream::iter(messages("t", vec![unit(number, ROWS)]));
    let key = format!("loader/1/{number}");
    put_streamed(flight, &[("x-merganser-ingest-key", &key)], upload).await
}

/// A database file and its log, as a killed server leaves them.
struct Left {
    database: Vec<u8>,
    log: Vec<u8>,
    /// The length of the log after each acknowledgement.
    acknowledged: Vec<usize>,
}

impl Left {
    async fn by_a_killed_server() -> Self {
        let file = DatabaseFile::new();
        let server = Process::start(SERVER, file.path(), &[]).await;
        let flight = server.flight().await;
        let mut acknowledged = Vec::new();
        for number in 1..=UNITS {
            put_unit(&flight, number).await.unwrap();
            acknowledged.push(fs::metadata(log_of(&file)).unwrap().len() as usize);
        }
        server.kill().await;
        let [database, log] = [file.path().to_owned(), log_of(&file)].map(|path| fs::read(path).unwrap());
        assert_eq!(acknowledged.last(), Some(&log.len()));
        Self { database, log, acknowledged }
    }

    /// The files with a log of this length.
    fn cut(&self, length: usize) -> DatabaseFile {
        let file = DatabaseFile::new();
        fs::write(file.path(), &self.database).unwrap();
        fs::write(log_of(&file), &self.log[..length]).unwrap();
        file
    }

    /// Where the entries of the log begin. Each is its length and a checksum, of eight bytes each, and so many bytes.
    fn entries(&self) -> Vec<usize> {
        let entries_from = |start: usize| {
            let mut starts = vec![start];
            loop {
                let at = *starts.last()?;
                let length = self.log.get(at..at + 8)?;
                let next = at + 16 + usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
                match next == self.log.len() {
                    true => return Some(starts),
                    false => starts.push(next),
                }
            }
        };
        // In front of them is the version, an entry of another form. From nowhere else do they meet the end.
        (0..512).find_map(entries_from).unwrap()
    }

    /// Units that must be there at this length.
    fn due(&self, length: usize) -> i64 {
        self.acknowledged.iter().filter(|end| **end <= length).count() as i64
    }
}

fn log_of(file: &DatabaseFile) -> PathBuf {
    file.path().with_extension("duckdb.wal")
}

/// Starts a server on a cut log, and looks at what it has.
async fn check(left: &Left, length: usize) {
    let server = TestServer::open(left.cut(length), |_| ()).await;
    let (client, flight) = (server.client().await, server.flight().await);
    let tables = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 't'";
    let units = match integer(&client, tables).await {
        0 => Vec::new(),
        _ => integers(&client, "SELECT unit FROM t ORDER BY unit, part").await.unwrap(),
    };
    let there = (units.len() / ROWS) as i64;
    let whole = (1..=there).flat_map(|number| [number; ROWS]);
    assert!(units.iter().copied().eq(whole), "at {length} bytes: {units:?}");
    assert_eq!(there, left.due(length), "at {length} bytes");
    if there > 0 {
        assert!(put_unit(&flight, there).await.unwrap().duplicate, "at {length} bytes");
    }
    let next = put_unit(&flight, there + 1).await.unwrap();
    assert_eq!((next.rows, next.duplicate), (ROWS as u64, false), "at {length} bytes");
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, (there + 1) * ROWS as i64);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_cut_at_or_within_any_entry_leaves_a_prefix_of_the_units() {
    let left = Left::by_a_killed_server().await;
    let entries = left.entries();
    assert!(entries.len() > UNITS as usize, "{} entries", entries.len());
    let ends = entries.iter().copied().skip(1).chain([left.log.len()]);
    // Before each entry; and in turn within its length, before and within its checksum, and within its bytes.
    let cuts = entries.iter().copied().zip(ends).enumerate().flat_map(|(number, (start, end))| {
        let within = [1, 8, 9, 16, (end - start) / 2, end - start - 1][number % 6];
        [start, start + within]
    });
    let cuts: Vec<_> = cuts.chain([0, 1, left.log.len()]).collect();
    stream::iter(cuts).for_each_concurrent(4, |length| check(&left, length)).await;
}
