//! Formats of files, and how they are told.

use std::path::Path;

use clap::ValueEnum;
use merganser::Error;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// Apache Parquet
    Parquet,
    /// Values separated by commas, or by --delimiter, with a header line
    Csv,
    /// One JSON object a line
    Json,
    /// An Arrow IPC stream or file
    Arrow,
}

impl FileFormat {
    /// Tells the format by the extension of the file.
    pub(crate) fn of(path: &Path) -> Result<Self, Error> {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        match extension.to_ascii_lowercase().as_str() {
            "parquet" | "pq" => Ok(Self::Parquet),
            "csv" | "tsv" => Ok(Self::Csv),
            "json" | "jsonl" | "ndjson" => Ok(Self::Json),
            "arrow" | "arrows" | "feather" | "ipc" => Ok(Self::Arrow),
            other => Err(Error::Usage(match compression(other) {
                Some(name) => format!("it is compressed by {name}, which is not taken: decompress it first"),
                None => "its extension tells no format: give --format".into(),
            })),
        }
    }

    /// Whether the types of its values are not in the file.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Json)
    }
}

/// What has compressed a file of this extension.
fn compression(extension: &str) -> Option<&'static str> {
    match extension {
        "gz" => Some("gzip"),
        "zst" => Some("Zstandard"),
        "bz2" => Some("bzip2"),
        "xz" => Some("xz"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_files_are_named_as_such() {
        for (path, name) in [("a.csv.gz", "gzip"), ("a.json.ZST", "Zstandard"), ("a.bz2", "bzip2")] {
            let error = FileFormat::of(Path::new(path)).unwrap_err();
            assert!(error.to_string().contains(name) && !error.to_string().contains("--format"), "{error}");
        }
    }
}
