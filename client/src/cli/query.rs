//! `merganser query`: run one statement and write its rows.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use futures::TryStreamExt;
use merganser::{Error, RowStream};
use tokio::sync::mpsc::Sender;

use super::{
    Connection, human,
    output::{Output, Piece, RowFormat, refuse_binary_on_terminal},
    progress::Activity,
    terminal,
};

/// Arguments of `merganser query`.
#[derive(Debug, clap::Args)]
pub(crate) struct QueryArgs {
    /// One SQL statement; - reads it from standard input
    sql: String,

    /// How to write the rows
    #[arg(long, short, value_enum, default_value_t = RowFormat::Table)]
    format: RowFormat,

    /// File to write to instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Rows that a table shows at most; the others are counted
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_rows: usize,
}

/// Runs the statement and writes what it returns.
pub(crate) async fn run(args: QueryArgs, connection: Connection) -> Result<ExitCode, Error> {
    refuse_binary_on_terminal(args.format, args.output.as_deref())?;
    let sql = statement(&args.sql).await?;
    let client = connection.open().await?;

    let scrolls = args.format != RowFormat::Table && args.output.is_none();
    let mut activity = Activity::start(terminal::progress_wanted(scrolls));
    let mut rows = client.query(&sql).await?;
    if !rows.has_columns() {
        activity.clear();
        print_outcome(&args, rows.affected_rows())?;
        return Ok(ExitCode::SUCCESS);
    }

    // The file is created only now, so that a statement which fails at once does not empty it.
    let output = Output::open(args.output.as_deref())?;
    let (pieces, writer) = output.start(args.format, rows.schema(), args.max_rows);
    let read = forward(&mut rows, pieces, &mut activity).await;
    // Cancels on the server, before anything else, what nobody reads any more.
    drop(rows);
    writer.await.map_err(io::Error::from)??;
    read?;
    let count = human::count(activity.rows(), "row");
    let time = human::elapsed(activity.elapsed());
    terminal::print_remark(&format_args!("{count} ({time})"));
    Ok(ExitCode::SUCCESS)
}

/// The SQL text: the argument itself or standard input.
async fn statement(argument: &str) -> Result<String, Error> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let read = tokio::task::spawn_blocking(|| io::read_to_string(io::stdin()));
    Ok(read.await.map_err(io::Error::from)??)
}

/// Hands the rows to the writer. When the writer is gone, its own result tells why.
async fn forward(rows: &mut RowStream, pieces: Sender<Piece>, activity: &mut Activity) -> Result<(), Error> {
    while let Some(batch) = rows.try_next().await? {
        activity.advance(batch.num_rows(), rows.bytes_received());
        if pieces.send(Piece::Rows(batch)).await.is_err() {
            return Ok(());
        }
    }
    // Before the writer prints what it kept for the end.
    activity.clear();
    let _ = pieces.send(Piece::End).await;
    Ok(())
}

/// Says what a statement without rows did: on stdout as the answer, but on stderr where stdout is for
/// data in a format.
fn print_outcome(args: &QueryArgs, affected: Option<i64>) -> Result<(), Error> {
    let outcome = match affected.and_then(|rows| u64::try_from(rows).ok()) {
        Some(rows) => format!("{} affected", human::count(rows, "row")),
        None => "ok".to_owned(),
    };
    if args.format == RowFormat::Table {
        writeln!(io::stdout(), "{outcome}")?;
    } else {
        terminal::print_remark(&outcome);
    }
    Ok(())
}
