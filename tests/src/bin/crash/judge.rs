//! The judge, a process of its own: keeps every acknowledgement that a loader reports, and compares them with the
//! database when it is asked to.

use std::{collections::HashMap, path::PathBuf, process::ExitCode, sync::Arc};

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use clap::Args;
use futures::TryStreamExt;
use merganser::Client;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::UnixListener,
    sync::Mutex,
};

use crate::{
    Failure,
    kept::Kept,
    report::Question,
    unit::{BULK_EVERY, Sums, TABLE, Unit, is_bulk},
    verdict::Verdict,
};

/// Where the judge sits.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Where the server listens.
    server: String,
    /// Socket to which loaders report.
    socket: PathBuf,
    /// File that keeps what they report.
    log: PathBuf,
}

/// The part `judge`: answers questions on stdin with verdicts on stdout, until stdin ends.
pub(crate) async fn run(bench: Bench) -> Result<ExitCode, Failure> {
    let listener = UnixListener::bind(&bench.socket)?;
    let kept = Arc::new(Mutex::new(Kept::new(&bench.log)?));
    tokio::spawn(listen(listener, kept.clone()));
    println!("listening");
    // Units of small and of bulk loaders up to here have been compared.
    let mut compared = [0, 0];
    while let Some(question) = next_question().await? {
        let after = match serde_json::from_str(&question)? {
            Question::Compare => compared,
            Question::CompareAll => [0, 0],
        };
        let counts = kept.lock().await.counts();
        let rows = compare(&bench.server, after, &counts).await?;
        compared = [false, true].map(|bulk| least(&counts, bulk));
        let verdict = together(rows, &kept.lock().await.answers);
        println!("{}", serde_json::to_string(&verdict)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// The next line of stdin; `None` when the director has closed it or is gone.
async fn next_question() -> Result<Option<String>, Failure> {
    let read = || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).map(|length| (length > 0).then_some(line))
    };
    Ok(tokio::task::spawn_blocking(read).await??)
}

/// Takes what loaders report, each on a connection of its own.
async fn listen(listener: UnixListener, kept: Arc<Mutex<Kept>>) -> Result<(), Failure> {
    loop {
        let (loader, _) = listener.accept().await?;
        let kept = kept.clone();
        tokio::spawn(async move {
            if let Err(error) = hear(loader, &kept).await {
                // A report that cannot be kept makes every judgement worthless.
                eprintln!("merganser-crash: the judge cannot keep a report: {error}");
                std::process::exit(1);
            }
        });
    }
}

async fn hear(loader: impl AsyncRead + Unpin, kept: &Mutex<Kept>) -> Result<(), Failure> {
    let mut lines = BufReader::new(loader).lines();
    while let Some(line) = lines.next_line().await? {
        kept.lock().await.take(&line)?;
    }
    Ok(())
}

/// The units that all loaders of a kind have had acknowledged.
fn least(counts: &[u64], bulk: bool) -> u64 {
    let of_kind = (0..).zip(counts).filter(|(loader, _)| is_bulk(*loader) == bulk);
    of_kind.map(|(_, count)| *count).min().unwrap_or_default()
}

/// Compares the units after these numbers, of small loaders and of bulk loaders. Loaders may go on meanwhile: what
/// was acknowledged before the question was asked must be there, and whatever is there must be whole.
async fn compare(server: &str, after: [u64; 2], acknowledged: &[u64]) -> Result<Verdict, Failure> {
    let found = found(server, after).await?;
    let mut verdict = Verdict::default();
    for (loader, count) in (0..).zip(acknowledged) {
        let after = after[usize::from(is_bulk(loader))];
        verdict.expect(loader, after + 1..=*count, &found);
    }
    for (&(loader, sequence), sums) in &found {
        verdict.examine(Unit { loader, sequence }, *sums);
    }
    Ok(verdict)
}

/// What the database holds, by loader and sequence.
async fn found(server: &str, [small, bulk]: [u64; 2]) -> Result<HashMap<(u64, u64), Sums>, Failure> {
    let is_bulk = format!("loader % {BULK_EVERY} = {}", BULK_EVERY - 1);
    let sql = format!(
        "SELECT loader, sequence, count(*), sum(part)::BIGINT, sum(value)::BIGINT FROM {TABLE} \
         WHERE sequence > CASE WHEN {is_bulk} THEN {bulk} ELSE {small} END GROUP BY loader, sequence"
    );
    let rows = Client::connect(server).await?.query(&sql).await?;
    let batches: Vec<RecordBatch> = rows.try_collect().await?;
    let mut found = HashMap::new();
    for batch in batches {
        let column = |at| batch.column(at).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let [loader, sequence, rows, parts, values] = [0, 1, 2, 3, 4].map(|at| column(at).value(row));
            found.insert((loader as u64, sequence as u64), Sums { rows, parts, values });
        }
    }
    Ok(found)
}

/// What the rows and what the answers say together.
fn together(rows: Verdict, answers: &Verdict) -> Verdict {
    Verdict {
        lost: rows.lost,
        doubled: rows.doubled,
        partial: rows.partial,
        whole: rows.whole,
        examples: rows.examples.into_iter().chain(answers.examples.iter().cloned()).collect(),
        ..answers.clone()
    }
}
