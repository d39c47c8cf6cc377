//! The corpus of the fuzz targets, and what lies close to it, through the same functions, without a fuzzer.
//!
//! `UPDATE_CORPUS=1` writes the seeds anew. What a fuzzer finds is added to the folder with a name of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use arrow_flight::{
    FlightData, FlightDescriptor,
    sql::{CommandGetTables, CommandStatementQuery, ProstMessageExt, TicketStatementQuery},
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use merganser_proto::IngestUnit;
use merganser_server::fuzz;
use merganser_tests::{ids, messages, wide};
use prost::Message;

type Seeds = Vec<(&'static str, Vec<u8>)>;

/// A target: its name, its function and its seeds. Those that begin with `good-` are taken, with `bad-` refused.
type Target = (&'static str, fn(&[u8]) -> bool, fn() -> Seeds);

const TARGETS: [Target; 4] = [
    ("ticket", fuzz::ticket, tickets),
    ("upload", fuzz::upload, uploads),
    ("sql", fuzz::sql, texts),
    ("arrow_file", fuzz::arrow_file, arrow_files),
];

fn tickets() -> Seeds {
    let query = CommandStatementQuery { query: "SELECT 1".into(), transaction_id: None };
    let tables = CommandGetTables { db_schema_filter_pattern: Some("main".into()), ..Default::default() };
    let foreign = TicketStatementQuery { statement_handle: vec![7; 40].into() };
    vec![
        ("good-text", b"SELECT 1".to_vec()),
        ("good-path", b"main/t".to_vec()),
        ("good-statement", query.as_any().encode_to_vec()),
        ("good-tables", tables.as_any().encode_to_vec()),
        ("bad-seal", foreign.as_any().encode_to_vec()),
        ("bad-text", vec![0xff, 0xfe]),
    ]
}

/// Messages as the body of a request has them: not compressed, its length, the message.
fn body(messages: &[FlightData]) -> Vec<u8> {
    let frame = |message: &FlightData| {
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0][..], &length, &message].concat()
    };
    messages.iter().flat_map(frame).collect()
}

/// The messages of a long stream: each with its `IngestUnit`, a key and whether more of the unit follow.
fn units(marks: &[(&str, bool)]) -> Vec<FlightData> {
    let mut messages = messages("t", marks.iter().map(|_| ids(0..3)).collect());
    for (message, (key, more)) in messages[1..].iter_mut().zip(marks) {
        message.app_metadata = IngestUnit { key: (*key).to_owned(), more: *more }.encode_to_vec().into();
    }
    messages
}

/// Streams of units whose names are right, and those of which no two can be told apart.
fn long_streams() -> Seeds {
    let mut marked = units(&[("a/1/1", false), ("a/1/2", true), ("a/1/2", true)]);
    // The end of a unit, and an empty one, without rows.
    for (key, more) in [("a/1/2", false), ("a/1/3", false)] {
        let app_metadata = IngestUnit { key: key.into(), more }.encode_to_vec().into();
        marked.push(FlightData { app_metadata, ..FlightData::default() });
    }
    let mut late = units(&[("a/1/1", false), ("a/1/2", false)]);
    late[1].app_metadata.clear();
    let mut nameless = units(&[("a/1/1", false), ("a/1/2", false)]);
    nameless[2].app_metadata.clear();
    let mut foreign = units(&[("a/1/1", false)]);
    foreign[1].app_metadata = b"\xff\xff no IngestUnit".to_vec().into();
    vec![
        ("good-units", body(&marked)),
        ("bad-unit-inside-another", body(&units(&[("a/1/1", true), ("a/1/2", false)]))),
        ("bad-unit-without-an-end", body(&units(&[("a/1/1", true)]))),
        ("bad-unit-key", body(&units(&[("no key", false)]))),
        ("bad-unit-after-none", body(&late)),
        ("bad-unit-without-a-name", body(&nameless)),
        ("bad-unit-foreign", body(&foreign)),
    ]
}

fn uploads() -> Seeds {
    let honest = || messages("t", vec![wide([1, 2]), wide([3])]);
    let mut without_descriptor = honest();
    without_descriptor[0].flight_descriptor = None;
    let mut schema_twice = honest();
    schema_twice.insert(1, honest().swap_remove(0));
    let mut short = honest();
    let rows = &mut short[1].data_body;
    rows.truncate(rows.len() / 2);
    let mut command = messages("t", vec![ids([1])]);
    let query = CommandStatementQuery { query: "SELECT ?".into(), transaction_id: None };
    command[0].flight_descriptor = Some(FlightDescriptor::new_cmd(query.as_any().encode_to_vec()));
    let half = body(&honest());
    let mut seeds = vec![
        ("good-numbers", body(&messages("t", vec![ids(0..100)]))),
        ("good-texts", body(&honest())),
        ("good-parameters", body(&command)),
        ("bad-descriptor", body(&without_descriptor)),
        ("bad-schema", body(&schema_twice)),
        ("bad-rows", body(&short)),
        ("bad-end", half[..half.len() / 2].to_vec()),
        ("bad-length", vec![0, 0xff, 0xff, 0xff, 0xff]),
        ("bad-nothing", Vec::new()),
    ];
    seeds.extend(long_streams());
    seeds
}

fn texts() -> Seeds {
    [
        ("good-query", "SELECT x, 'it''s', $$;$$, \"a;b\" FROM t -- end\nWHERE x > 1e5 /* a /* b */ */"),
        ("good-state", "SET threads = 1; USE a.b; BEGIN TRANSACTION READ ONLY; COMMIT"),
        ("good-change", "ALTER TABLE a.\"b\" ADD COLUMN c INTEGER; DROP SCHEMA s CASCADE"),
        ("good-write", "INSERT INTO t SELECT * FROM u RETURNING x"),
        ("good-pragma", "PRAGMA table_info('t')"),
        ("good-export", "COPY (SELECT ')', 1 -- )\n) TO '/o/it''s' (FORMAT csv, PARTITION_BY (a, \"b\"))"),
        ("bad-import", "IMPORT DATABASE '/o'"),
        ("bad-pragma", "PRAGMA table_info(nextval('s'))"),
        ("bad-checkpoint", "force /* x */ checkpoint"),
        ("bad-name", "FROM \"__Merganser_scan\"(1)"),
        ("bad-zero", "SELECT '\0'"),
    ]
    .map(|(name, text)| (name, text.as_bytes().to_vec()))
    .into()
}

/// Besides these there are `good-lz4` and `good-zstd`, which another implementation has written.
fn arrow_files() -> Seeds {
    let rows = [wide([1, 2]), wide([3])];
    let schema = rows[0].schema();
    let mut file = FileWriter::try_new(Vec::new(), &schema).unwrap();
    let mut stream = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    for batch in &rows {
        file.write(batch).unwrap();
        stream.write(batch).unwrap();
    }
    let (file, stream) = (file.into_inner().unwrap(), stream.into_inner().unwrap());
    vec![
        ("bad-file-end", file[..file.len() / 2].to_vec()),
        ("bad-stream-end", stream[..stream.len() - 20].to_vec()),
        ("bad-text", b"id,name\n1,a\n".to_vec()),
        ("bad-nothing", Vec::new()),
        ("good-file", file),
        ("good-stream", stream),
    ]
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// The same damage at every run: a bit turned, a byte lost, or an end cut off.
fn damaged(bytes: &[u8], number: usize) -> Vec<u8> {
    let mut damaged = bytes.to_vec();
    if bytes.is_empty() {
        return damaged;
    }
    let at = number.wrapping_mul(0x9e37_79b9) % bytes.len();
    match number % 3 {
        0 => damaged[at] ^= 1 << (number % 8),
        1 => drop(damaged.remove(at)),
        _ => damaged.truncate(at),
    }
    damaged
}

#[test]
fn everything_in_the_corpus_and_close_to_it_is_taken_or_refused() {
    for (target, function, seeds) in TARGETS {
        let folder = folder(target);
        for (name, bytes) in seeds() {
            let path = folder.join(name);
            if env::var_os("UPDATE_CORPUS").is_some() {
                fs::create_dir_all(&folder).unwrap();
                fs::write(&path, &bytes).unwrap();
            }
            assert_eq!(
                fs::read(&path).unwrap(),
                bytes,
                "{target}/{name}: write it anew with UPDATE_CORPUS=1"
            );
        }
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let bytes = fs::read(&path).unwrap();
            let taken = function(&bytes);
            assert!(!name.starts_with("good-") || taken, "{target}/{name} is refused");
            assert!(!name.starts_with("bad-") || !taken, "{target}/{name} is taken");
            for number in 0..200 {
                function(&damaged(&bytes, number));
            }
        }
    }
}
