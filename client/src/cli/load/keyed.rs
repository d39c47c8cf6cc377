//! Files one after the other as the numbered units of a loader, which can be continued after a crash.

use std::path::{Path, PathBuf};

use merganser::{Client, Error, IngestMode, Loader, LoaderOptions, Start};

use super::{LoadArgs, cut::Units, total::Total, troubles};
use crate::cli::{
    human,
    progress::{FileBar, FileBars},
    terminal,
    text::TableTypes,
};

/// Loads the files; prints the error that ended it.
pub(super) async fn load(
    args: &LoadArgs,
    name: &str,
    client: &Client,
    bars: &FileBars,
) -> Result<Total, Error> {
    let mut load = Load::open(args, name, client, bars).await?;
    let sent = load.files(args, bars).await;
    let (total, loaded) = load.finish(args, sent).await;
    if let Err((path, error)) = loaded {
        bars.suspend(|| terminal::print_error(&format_args!("{}{error}", named(path.as_deref()))));
        if let Some(advice) = advice(&error) {
            terminal::print_remark(&advice);
        }
    }
    Ok(total)
}

fn named(path: Option<&Path>) -> String {
    path.map(|path| format!("{}: ", path.display())).unwrap_or_default()
}

/// How to go on after an error; none where the same command would fail again.
fn advice(error: &Error) -> Option<&'static str> {
    match (error, error.slug()) {
        (Error::Usage(_), _) | (_, Some("FENCED" | "KEY_REUSED")) => None,
        (_, Some("SCHEMA_MISMATCH")) => Some(MENDED),
        _ => Some("the same command with --resume goes on after the units that are stored"),
    }
}

/// An error, and the file that it comes from, where it comes from one.
type Failure = (Option<PathBuf>, Error);

struct Load {
    client: Client,
    loader: Loader,
    /// The types of the table, once they are known.
    types: Option<TableTypes>,
    /// How many units the server has from earlier.
    there: u64,
    /// How many units have been cut so far, be they sent or there already.
    cut: u64,
    /// The files that are read to their end, each with the number of its last unit.
    read: Vec<(PathBuf, u64)>,
    /// Rows of the unit that was sent again to compare.
    compared_rows: u64,
}

impl Load {
    async fn open(args: &LoadArgs, name: &str, client: &Client, bars: &FileBars) -> Result<Self, Error> {
        let ingest = args.ingest();
        if matches!(ingest.mode, IngestMode::Create | IngestMode::Replace) {
            return Err(Error::Usage(
                "--loader sends many units: its --mode must be append or create-or-append".to_owned(),
            ));
        }
        let options = LoaderOptions {
            epoch: args.keyed.epoch,
            position: Start::Resume,
            retry: args.retry(),
            on_trouble: Some(troubles::told(bars)),
            mode: ingest.mode,
            merge: ingest.merge,
            new_columns: ingest.new_columns,
            partition_by: ingest.partition_by,
            ..LoaderOptions::new(name)
        };
        let loader = Loader::open(client, &args.table, options).await?;
        let there = loader.committed().map_or(0, |last| last.sequence);
        if let Some(last) = loader.committed().filter(|_| !args.keyed.resume) {
            let units = human::count(last.sequence, "unit");
            return Err(Error::Usage(format!(
                "the server has {units} of a loader {name:?} already: --resume goes on after them with the same \
                 files, and other files need a --loader name of their own"
            )));
        }
        let client = client.clone();
        Ok(Self { client, loader, types: None, there, cut: 0, read: Vec::new(), compared_rows: 0 })
    }

    async fn files(&mut self, args: &LoadArgs, bars: &FileBars) -> Result<(), Failure> {
        for path in &args.files {
            let bar = bars.add(path.file_name().unwrap_or(path.as_os_str()));
            let sent = self.file(args, path, &bar).await;
            bar.clear();
            sent.map_err(|error| (Some(path.clone()), error))?;
            self.read.push((path.clone(), self.cut));
        }
        if self.cut < self.there {
            let (units, there) = (human::count(self.cut, "unit"), self.there);
            return Err((
                None,
                Error::Usage(format!("the files hold {units}, but the server has {there}: {SAME}")),
            ));
        }
        Ok(())
    }

    async fn file(&mut self, args: &LoadArgs, path: &Path, bar: &FileBar) -> Result<(), Error> {
        let types = self.types(args, path).await?;
        let (schema, batches) = args.source(path, types).open(bar.clone()).await?;
        let mut units = Units::new(schema, Box::pin(batches), args.keyed.unit_rows);
        while let Some(unit) = units.next().await? {
            self.cut += 1;
            if self.cut > self.there {
                self.loader.send(unit).await?;
            } else if self.cut == self.there {
                self.compared_rows = unit.iter().map(|batch| batch.num_rows() as u64).sum();
                self.loader.send_last_again(unit).await?;
                // Before anything goes on from it.
                self.loader.flush().await?;
            }
            bar.tries(self.loader.acknowledged().retries + 1);
        }
        Ok(())
    }

    /// The types of the table, which must not depend on how fast the units are: a unit that makes the table, or adds
    /// columns, has to be in before the next file is looked at.
    async fn types(&mut self, args: &LoadArgs, path: &Path) -> Result<Option<TableTypes>, Error> {
        if self.types.is_none() || args.add_columns {
            self.loader.flush().await?;
            let (client, mode) = (&self.client, args.mode.into());
            let ask = || args.types(client, path, mode);
            self.types = args.retry().run(client, true, ask).await?;
        }
        Ok(self.types.clone())
    }

    /// Waits for what is on its way, and sums up.
    async fn finish(mut self, args: &LoadArgs, sent: Result<(), Failure>) -> (Total, Result<(), Failure>) {
        let flushed = self.loader.flush().await;
        let acknowledged = self.loader.acknowledged();
        let stored = acknowledged.sequence.unwrap_or(0);
        let compared = u64::from(self.there > 0 && acknowledged.units > 0);
        let loaded = self.read.iter().filter(|(_, last)| *last <= stored).count() as u64;
        let total = Total {
            loaded,
            failed: args.files.len() as u64 - loaded,
            rows: acknowledged.rows.saturating_sub(self.compared_rows * compared),
            there_already: self.there.min(self.cut),
            duplicates: acknowledged.duplicates.saturating_sub(compared),
            retries: acknowledged.retries,
        };
        let result = match (sent, flushed) {
            // Whatever was met while reading on: the unit that failed is the reason.
            (Err((path, _)), Err(error)) => Err(self.explained(path, error)),
            (Ok(()), Err(error)) => Err(self.explained(None, error)),
            (Err(failure), Ok(_)) => Err(failure),
            (Ok(()), Ok(_)) => self.loader.finish().await.map(drop).map_err(|error| (None, error)),
        };
        (total, result)
    }

    /// Names the file of the unit, which is that being read unless it is an earlier one, and says what it means that a unit differs from the one that is stored.
    fn explained(&self, reading: Option<PathBuf>, error: Error) -> Failure {
        let Error::Unit { key, .. } = &error else { return (reading, error) };
        let read = self.read.iter().find(|(_, last)| key.sequence <= *last);
        let path = read.map(|(path, _)| path.clone()).or(reading);
        if error.slug() == Some("KEY_REUSED") && key.sequence <= self.there {
            let number = key.sequence;
            let text = format!("KEY_REUSED: unit {number} is not the one that the server has: {SAME}");
            return (path, Error::Usage(text));
        }
        (path, error)
    }
}

/// What makes the cut the same.
const SAME: &str = "--resume needs the same files in the same order, with the same --table, --mode, --key, \
                    --on-conflict, --add-columns, --unit-rows, --format, --delimiter and --null as before";

/// How to go on where the table lacks a column: another `--add-columns` would make the stored units other ones.
const MENDED: &str = "a column that the table lacks can be added by ALTER TABLE ADD COLUMN; then the same command \
                      with --resume goes on, with all other options as before";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use merganser::IngestKey;
    use tonic::Status;

    use super::*;

    #[test]
    fn only_where_it_helps_the_advice_is_to_resume() {
        let unit = |text: &str| {
            let cause = Arc::new(Error::from(Status::aborted(text)));
            Error::Unit { key: IngestKey::new("a", 1, 2), cause }
        };
        for final_error in [unit("FENCED: x"), unit("KEY_REUSED: x"), Error::Usage(SAME.into())] {
            assert_eq!(advice(&final_error), None, "{final_error}");
        }
        assert_eq!(advice(&unit("SCHEMA_MISMATCH: x")), Some(MENDED));
        for passing in [unit("ENGINE_DOWN: x"), Error::Disconnected("reset".into())] {
            assert!(advice(&passing).unwrap().contains("--resume"), "{passing}");
        }
    }
}
