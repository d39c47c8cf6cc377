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
    kept::{Kept, Standing},
    latest::{self, Latest},
    ledger::{self, Last},
    report::Question,
    unit::{Kind, LOADERS, Sums, TABLE, Unit},
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
    // Of each loader that appends, units up to here have been compared.
    let mut compared = [0; LOADERS as usize];
    while let Some(question) = next_question().await? {
        let after = match serde_json::from_str(&question)? {
            Question::Compare => compared,
            Question::CompareAll => [0; LOADERS as usize],
        };
        let standings = kept.lock().await.standings();
        let rows = compare(&bench.server, &after, &kept).await?;
        compared = standings.map(|standing| standing.acknowledged);
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

/// Compares the units after these numbers, a number for each loader that appends, and what all upserts have left. Loaders may go on meanwhile: what was acknowledged before the question was asked must be there, and whatever
/// is there must be whole.
async fn compare(server: &str, after: &[u64], kept: &Mutex<Kept>) -> Result<Verdict, Failure> {
    let standings = kept.lock().await.standings();
    let client = Client::connect(server).await?;
    let ledger_before = ledger::last_units(&client).await?;
    let appended = appended(&client, after).await?;
    let latest = upserted(&client).await?;
    let last_of = |loader| match Kind::of(loader).upserts() {
        true => Some(latest.last(loader)),
        false => appended.keys().filter(|unit| unit.loader == loader).map(|unit| unit.sequence).max(),
    };
    let tables: Vec<_> = (0..LOADERS).map(last_of).collect();
    let ledger_after = ledger::caught_up(&client, &tables).await?;

    let mut verdict = Verdict::default();
    for (loader, Standing { acknowledged, .. }) in (0..).zip(standings.iter().copied()) {
        if Kind::of(loader).upserts() {
            latest.examine(loader, acknowledged, &mut verdict);
        } else {
            verdict.expect(loader, after[loader as usize] + 1..=acknowledged, &appended);
        }
        let [before, after] = [&ledger_before, &ledger_after].map(|ledger| ledger[loader as usize]);
        let table = tables[loader as usize];
        Last { acknowledged, before, table, after }.examine(loader, &mut verdict);
    }
    for (unit, sums) in &appended {
        verdict.examine(*unit, *sums);
    }
    latest.examine_rest(&mut verdict);
    if let Some(winner) = latest.examine_shared(&mut verdict) {
        let commit = kept.lock().await.commit(winner);
        let latest = (0..).zip(&standings).filter(|(loader, _)| Kind::of(*loader).upserts());
        let latest = latest.map(|(_, standing)| standing.commit).max().unwrap_or_default();
        verdict.expect_latest(winner, commit, latest);
    }
    Ok(verdict)
}

/// What those have left that append, unit by unit.
async fn appended(client: &Client, after: &[u64]) -> Result<HashMap<Unit, Sums>, Failure> {
    let sql = format!(
        "SELECT loader, sequence, count(*), sum(part)::BIGINT, sum(value)::BIGINT FROM {TABLE} \
         WHERE sequence > {after:?}[loader + 1] GROUP BY loader, sequence"
    );
    let batches: Vec<RecordBatch> = client.query(&sql).await?.try_collect().await?;
    let mut found = HashMap::new();
    for batch in batches {
        let column = |at| batch.column(at).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let [loader, sequence, rows, parts, values] = [0, 1, 2, 3, 4].map(|at| column(at).value(row));
            let unit = Unit { loader: loader as u64, sequence: sequence as u64 };
            found.insert(unit, Sums { rows, parts, values });
        }
    }
    Ok(found)
}

/// What the upserts have left.
async fn upserted(client: &Client) -> Result<Latest, Failure> {
    let sql = format!("SELECT owner, slot, loader, sequence, value FROM {}", latest::TABLE);
    let batches: Vec<RecordBatch> = client.query(&sql).await?.try_collect().await?;
    Ok(Latest::new(batches.iter().flat_map(latest::rows).collect()))
}

/// What the rows and what the answers say together.
fn together(rows: Verdict, answers: &Verdict) -> Verdict {
    Verdict {
        wrong_answers: rows.wrong_answers + answers.wrong_answers,
        acknowledged: answers.acknowledged,
        streamed: answers.streamed,
        upserts: answers.upserts,
        upserted_together: answers.upserted_together,
        answers_lost: answers.answers_lost,
        repeated: answers.repeated,
        examples: rows.examples.into_iter().chain(answers.examples.iter().cloned()).collect(),
        ..rows
    }
}
