//! Where the SQL of a command comes from.

use std::{
    io,
    path::{Path, PathBuf},
};

use merganser::Error;

/// SQL on the command line, in a file or on standard input.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SqlArgs {
    /// The SQL; - reads it from standard input
    #[arg(value_name = "SQL")]
    sql: Option<String>,

    /// File to read the SQL from; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl SqlArgs {
    /// The SQL itself.
    pub(crate) async fn read(&self) -> Result<String, Error> {
        let dash = Path::new("-");
        let read = match (&self.sql, &self.file) {
            (Some(sql), _) if sql != "-" => return Ok(sql.clone()),
            (None, Some(file)) if file != dash => {
                let file = file.clone();
                tokio::task::spawn_blocking(move || {
                    std::fs::read_to_string(&file).map_err(|error| named(&file, &error))
                })
            }
            _ => tokio::task::spawn_blocking(|| Ok(io::read_to_string(io::stdin())?)),
        };
        read.await.map_err(io::Error::from)?
    }
}

fn named(file: &Path, error: &io::Error) -> Error {
    Error::Usage(format!("--file {}: {error}", file.display()))
}
