//! `merganser query`: run one statement and write its rows.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use futures::TryStreamExt;
use merganser::{Error, RowStream};
use tokio::sync::mpsc::Sender;

use super::{
    Connection, human, left_open,
    output::{Output, Piece, RowFormat, refuse_binary_on_terminal},
    progress::Activity,
    sql::SqlArgs,
    target::Target,
    terminal,
};

/// What the help of the command ends with.
pub(super) const EXAMPLES: &str = "\
Each command is a session of its own: what SET, USE and BEGIN do ends with it, and so do temporary tables.

Examples:
  merganser query 'FROM readings LIMIT 10'
  merganser query 'FROM readings' --output readings.parquet
  printf 'SELECT 42 AS x' | merganser query - --format csv";

/// More would scroll away what is interesting.
const TERMINAL_ROWS: usize = 10_000;

/// Arguments of `merganser query`.
#[derive(Debug, clap::Args)]
pub(crate) struct QueryArgs {
    #[command(flatten)]
    sql: SqlArgs,

    /// How to write the rows; by default as the ending of --output tells, and else as a table
    #[arg(long, short, value_enum)]
    format: Option<RowFormat>,

    /// File to write to instead of standard output; it is replaced when all rows are there, and stays as it was after an error
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Rows that a table shows at most; the others are counted. By default 10,000 on a terminal, and all elsewhere
    #[arg(long, value_name = "N")]
    max_rows: Option<usize>,
}

impl QueryArgs {
    /// What goes into a file or another program is complete, unless it is asked otherwise.
    fn max_rows(&self) -> usize {
        let watched = self.output.is_none() && io::stdout().is_terminal();
        self.max_rows.unwrap_or(if watched { TERMINAL_ROWS } else { usize::MAX })
    }
}

/// Runs the statement and writes what it returns.
pub(crate) async fn run(args: QueryArgs, connection: Connection) -> Result<ExitCode, Error> {
    let format = RowFormat::chosen(args.format, args.output.as_deref())?;
    refuse_binary_on_terminal(format, args.output.as_deref())?;
    let sql = args.sql.read().await?;
    let client = connection.open().await?;

    let scrolls = format != RowFormat::Table && args.output.is_none();
    let mut activity = Activity::start(terminal::progress_wanted(scrolls));
    let mut rows = client.query(&sql).await.map_err(naming_execute)?;
    if !rows.has_columns() {
        left_open::refuse(&client, &sql).await?;
        activity.clear();
        print_outcome(format, rows.affected_rows())?;
        return Ok(ExitCode::SUCCESS);
    }

    format.check(&rows.schema())?;
    // Opened only now: where it is no file, a statement that fails at once has touched nothing.
    let (target, sink) = Target::open(args.output.as_deref())?;
    let (pieces, writer) = Output::new(sink).start(format, rows.schema(), args.max_rows());
    let read = forward(&mut rows, pieces, &mut activity).await;
    // Cancels on the server, before anything else, what nobody reads any more.
    drop(rows);
    writer.await.map_err(io::Error::from)??;
    read?;
    target.keep()?;
    let count = human::count(activity.rows(), "row");
    let time = human::elapsed(activity.elapsed());
    terminal::print_remark(&format_args!("{count} ({time})"));
    Ok(ExitCode::SUCCESS)
}

/// Says how this command runs several statements.
fn naming_execute(error: Error) -> Error {
    match error {
        Error::Server { code, slug, message, retry_after } if slug == "MULTI_STATEMENT" => {
            let message = format!("{message}; merganser execute runs scripts");
            Error::Server { code, slug, message, retry_after }
        }
        error => left_open::explained(error),
    }
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
fn print_outcome(format: RowFormat, affected: Option<i64>) -> Result<(), Error> {
    let outcome = human::affected(affected);
    if format == RowFormat::Table {
        writeln!(io::stdout(), "{outcome}")?;
    } else {
        terminal::print_remark(&outcome);
    }
    Ok(())
}
