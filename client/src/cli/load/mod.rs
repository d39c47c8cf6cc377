//! `merganser load`: files into a table.

mod cut;
mod files;
mod keyed;
mod total;
mod troubles;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use merganser::{
    Client, Error, IngestMode, IngestOptions, Merge, NewColumns, OnConflict, RetryPolicy, TablePath,
};

use super::{
    Connection,
    progress::FileBars,
    source::{FileFormat, Source},
    text::{Dialect, TableTypes},
};

/// What the help of the command ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  merganser load --table readings 2025.parquet 2026.csv
  merganser load --table readings --key id --on-conflict update changed.ndjson
  merganser load --table readings --loader station-7 --resume 2026.csv";

/// Arguments of `merganser load`.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Files to load
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Table to load into: NAME, SCHEMA.NAME or CATALOG.SCHEMA.NAME
    #[arg(long, short)]
    table: TablePath,

    /// What to do about the table; with create and replace, the files after the first are appended
    #[arg(long, value_enum, default_value_t = Mode::CreateOrAppend)]
    mode: Mode,

    /// Key columns, separated by commas: a row whose key the table has is not appended but merged
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    key: Vec<String>,

    /// What becomes of a row whose key is there already; without --key by the primary key
    #[arg(long, value_enum, value_name = "WHAT")]
    on_conflict: Option<Conflict>,

    /// Add columns that the table lacks, instead of refusing them
    #[arg(long)]
    add_columns: bool,

    /// By what the files of a new table in a lake are kept apart, separated by commas: columns, or year, month, day or
    /// hour of a time, such as region,year(at)
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    partition_by: Vec<String>,

    /// Files to load at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    parallel: u16,

    /// What the files hold, when their extensions do not tell
    #[arg(long, short, value_enum)]
    format: Option<FileFormat>,

    /// Rows to read and send at a time
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    batch_rows: u32,

    /// What separates the values of a CSV file, such as ";" or tab; by default a comma, unless the header shows
    /// that it is ; or tab or |
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    delimiter: Option<u8>,

    /// What stands for NULL in a CSV file; given several times, each of them
    #[arg(long, value_name = "TEXT", default_value = "")]
    null: Vec<String>,

    /// Keep trying for so long when the server is away or busy; 0s means no second try. Without --loader
    /// only what was surely not stored is sent again
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = humantime::parse_duration)]
    retry_for: Duration,

    #[command(flatten)]
    keyed: KeyedArgs,
}

/// Arguments for a load that can be continued.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Loads that can be continued")]
struct KeyedArgs {
    /// Name to load under: the files are sent in order as numbered units, of which the server stores each once
    #[arg(long, value_name = "NAME", conflicts_with = "parallel")]
    loader: Option<String>,

    /// Go on after the last unit that the server has; files and options must be the same as before
    #[arg(long, requires = "loader")]
    resume: bool,

    /// Rows a unit
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "loader",
        value_parser = clap::value_parser!(u32).range(1..))]
    unit_rows: u32,

    /// Number of this life of the loader, which shuts out processes with lower ones; by default the next one
    #[arg(long, value_name = "N", requires = "loader")]
    epoch: Option<u64>,
}

/// What to do about the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Create it; fail if it exists
    Create,
    /// Append to it; fail if it does not exist
    Append,
    /// Drop it if it exists, and create it anew
    Replace,
    /// Append to it; create it first if it does not exist
    CreateOrAppend,
}

impl From<Mode> for IngestMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Create => Self::Create,
            Mode::Append => Self::Append,
            Mode::Replace => Self::Replace,
            Mode::CreateOrAppend => Self::CreateOrAppend,
        }
    }
}

/// What becomes of a row whose key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Conflict {
    /// It takes the place of the row that is there
    Update,
    /// The row that is there stays
    Ignore,
}

impl LoadArgs {
    /// How to read a file; `table` has the types that the values of text are to have.
    fn source(&self, path: &Path, table: Option<TableTypes>) -> Source {
        Source {
            path: path.to_owned(),
            format: self.format,
            batch_rows: self.batch_rows.try_into().unwrap_or(usize::MAX),
            dialect: Dialect { delimiter: self.delimiter, nulls: self.null.clone() },
            table,
        }
    }

    /// The types of the table, where the file needs them: with create and replace, they are not the ones that it has.
    async fn types(
        &self,
        client: &Client,
        path: &Path,
        mode: IngestMode,
    ) -> Result<Option<TableTypes>, Error> {
        let appends = matches!(mode, IngestMode::Append | IngestMode::CreateOrAppend);
        if appends && self.is_text(path) { TableTypes::of(client, &self.table).await } else { Ok(None) }
    }

    fn is_text(&self, path: &Path) -> bool {
        self.format.or_else(|| FileFormat::of(path).ok()).is_some_and(FileFormat::is_text)
    }

    fn ingest(&self) -> IngestOptions {
        let on_conflict = match self.on_conflict {
            Some(Conflict::Ignore) => OnConflict::Ignore,
            Some(Conflict::Update) | None => OnConflict::Update,
        };
        let merges = !self.key.is_empty() || self.on_conflict.is_some();
        IngestOptions {
            mode: self.mode.into(),
            key: None,
            merge: merges.then(|| Merge { keys: self.key.clone(), on_conflict }),
            new_columns: if self.add_columns { NewColumns::Add } else { NewColumns::Refuse },
            partition_by: self.partition_by.iter().map(|key| key.trim().to_owned()).collect(),
        }
    }

    fn retry(&self) -> RetryPolicy {
        RetryPolicy::lasting(self.retry_for)
    }
}

/// A delimiter as people write it: one character that is one byte, and is not needed for anything else.
fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        _ => Err("it is one character of ASCII, such as ; or | or tab, and no quote".to_owned()),
    }
}

/// Loads the files and sums up.
pub(crate) async fn run(args: LoadArgs, connection: Connection) -> Result<ExitCode, Error> {
    let client = connection.open_trying(args.retry()).await?;
    let started = Instant::now();
    let bars = FileBars::new();
    let total = match &args.keyed.loader {
        Some(name) => keyed::load(&args, name, &client, &bars).await?,
        None => files::load(&args, &client, &bars).await,
    };
    total.print(started.elapsed());
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
