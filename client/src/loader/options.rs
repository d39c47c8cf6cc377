//! How a loader starts, and how much it may have under way.

use crate::{Error, IngestMode, IngestOptions, Merge, NewColumns, OnTrouble, RetryPolicy};

/// How a [`Loader`](crate::Loader) works. Only its name has no default.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Name of the loader; the server's ledger goes by it. Up to 200 bytes, without control characters.
    pub name: String,
    /// Which life of the loader this is; none means one more than the ledger's. A loader with a higher epoch shuts
    /// those with lower ones out.
    pub epoch: Option<u64>,
    /// Where the numbering goes on.
    pub position: Start,
    /// How much may be on its way without an acknowledgement.
    pub window: Window,
    /// How long to keep trying while nothing is acknowledged.
    pub retry: RetryPolicy,
    /// Who is told that it has to be tried again. Otherwise nobody learns of an error before the time is over.
    pub on_trouble: Option<OnTrouble>,
    /// What to do about the table: append, or create or append. The others make no sense for many units.
    pub mode: IngestMode,
    /// Update or ignore rows by key columns instead of appending all.
    pub merge: Option<Merge>,
    /// What to do about columns that the table lacks.
    pub new_columns: NewColumns,
    /// By what the files of a table are kept apart that is made in a lake: see [`IngestOptions::partition_by`].
    pub partition_by: Vec<String>,
}

impl LoaderOptions {
    /// A loader that goes on where the ledger stands, and creates the table if it is missing.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            epoch: None,
            position: Start::Resume,
            window: Window::default(),
            retry: RetryPolicy::default(),
            on_trouble: None,
            mode: IngestMode::CreateOrAppend,
            merge: None,
            new_columns: NewColumns::Refuse,
            partition_by: Vec::new(),
        }
    }

    /// What the stream asks for; the keys are those of its units.
    pub(super) fn ingest(&self) -> IngestOptions {
        IngestOptions {
            mode: self.mode,
            key: None,
            merge: self.merge.clone(),
            new_columns: self.new_columns,
            partition_by: self.partition_by.clone(),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let usage = |text: &str| Err(Error::Usage(text.to_owned()));
        let Self { name, mode, .. } = self;
        if name.is_empty() || name.len() > 200 || name.chars().any(char::is_control) {
            return usage("the name of a loader has 1 to 200 bytes and no control characters");
        }
        match mode {
            IngestMode::Append | IngestMode::CreateOrAppend => Ok(()),
            IngestMode::Create | IngestMode::Replace => {
                usage("a loader sends many units, so its mode must be append or create-or-append")
            }
        }
    }
}

/// Where the numbering of a loader's units goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the unit after the last one that the ledger has; with 1 if it has none.
    #[default]
    Resume,
    /// With this sequence number. Units of a number that the ledger has must be the same, and count as duplicates.
    At(u64),
}

/// How much may be on its way without an acknowledgement, and so how much memory a loader takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Number of units; 64 unless set, as many as the server lets wait for their commit.
    pub units: usize,
    /// Bytes of encoded rows; 64 MiB unless set. One unit is let through whatever its size.
    pub bytes: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { units: 64, bytes: 64 << 20 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_loader_is_refused() {
        let options = |name: &str| LoaderOptions::new(name);
        assert!(options("plant/7").check().is_ok());
        for bad in [
            options(""),
            options("a\n"),
            options(&"x".repeat(201)),
            LoaderOptions { mode: IngestMode::Replace, ..options("a") },
            LoaderOptions { mode: IngestMode::Create, ..options("a") },
        ] {
            assert!(matches!(bad.check(), Err(Error::Usage(_))), "{bad:?}");
        }
    }
}
