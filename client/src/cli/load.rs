//! `merganser load`: files into a table, each whole or not at all.

use std::{
    collections::VecDeque,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::ValueEnum;
use futures::{StreamExt, stream};
use merganser::{Client, Error, IngestMode, TablePath};

use super::{
    Connection, human,
    progress::{FileBar, FileBars},
    source::{FileFormat, Source},
    terminal,
};

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

    /// Files to load at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    parallel: u16,

    /// What the files hold, when their extensions do not tell
    #[arg(long, short, value_enum)]
    format: Option<FileFormat>,

    /// Rows to read and send at a time
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    batch_rows: u32,

    /// Rows of a CSV or JSON file that are looked at to infer its column types; 0 looks at all
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    sample_rows: usize,
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

/// Loads the files and sums up.
pub(crate) async fn run(args: LoadArgs, connection: Connection) -> Result<ExitCode, Error> {
    let client = connection.open().await?;
    let started = Instant::now();
    let bars = FileBars::new();
    let load = |path: PathBuf, mode: IngestMode| load_file(&client, &args, &bars, path, mode);
    let mut pending = VecDeque::from(args.files.clone());
    let mut mode = IngestMode::from(args.mode);
    let mut total = Total::default();

    // Only one file may make the table. Should it fail, the next has to make it.
    while mode == IngestMode::Create || mode == IngestMode::Replace {
        let Some(path) = pending.pop_front() else {
            break;
        };
        let loaded = load(path, mode).await;
        if loaded.is_some() {
            mode = IngestMode::Append;
        }
        total.add(loaded);
    }
    let mut others =
        stream::iter(pending).map(|path| load(path, mode)).buffer_unordered(usize::from(args.parallel));
    while let Some(loaded) = others.next().await {
        total.add(loaded);
    }

    if total.loaded > 0 {
        let time = started.elapsed();
        let rows = human::count(total.rows, "row");
        let rate = human::rate(total.rows, time);
        let time = human::elapsed(time);
        writeln!(io::stdout(), "loaded {}, {rows} in {time} ({rate})", total.files())?;
    }
    Ok(if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Loads one file and returns its rows; prints the error and returns none when that fails.
async fn load_file(
    client: &Client,
    args: &LoadArgs,
    bars: &FileBars,
    path: PathBuf,
    mode: IngestMode,
) -> Option<u64> {
    let bar = bars.add(path.file_name().unwrap_or(path.as_os_str()));
    let sent = send(client, args, &bar, &path, mode).await;
    bar.clear();
    match sent {
        Ok(rows) => Some(rows),
        Err(error) => {
            let name = path.display();
            bars.suspend(|| terminal::print_error(&format_args!("{name}: {error}")));
            None
        }
    }
}

async fn send(
    client: &Client,
    args: &LoadArgs,
    bar: &FileBar,
    path: &Path,
    mode: IngestMode,
) -> Result<u64, Error> {
    let source = Source {
        path: path.to_owned(),
        format: args.format.map_or_else(|| FileFormat::of(path), Ok)?,
        batch_rows: args.batch_rows.try_into().unwrap_or(usize::MAX),
        sample_rows: (args.sample_rows > 0).then_some(args.sample_rows),
    };
    let (schema, batches) = source.open(bar.clone()).await?;
    let acknowledged = client.ingest(&args.table, mode, schema, batches).await?;
    Ok(acknowledged.rows)
}

/// What has been loaded so far.
#[derive(Debug, Default)]
struct Total {
    loaded: u64,
    failed: u64,
    rows: u64,
}

impl Total {
    fn add(&mut self, rows: Option<u64>) {
        match rows {
            Some(rows) => {
                self.loaded += 1;
                self.rows += rows;
            }
            None => self.failed += 1,
        }
    }

    fn files(&self) -> String {
        let all = human::count(self.loaded + self.failed, "file");
        if self.failed == 0 { all } else { format!("{} of {all}", self.loaded) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_files() {
        let mut total = Total::default();
        total.add(Some(5));
        assert_eq!(total.files(), "1 file");
        total.add(Some(6));
        assert_eq!((total.files().as_str(), total.rows), ("2 files", 11));
        total.add(None);
        assert_eq!(total.files(), "2 of 3 files");
    }
}
