//! `merganser backup`: a copy of the database while it is in use.

use std::{path::PathBuf, process::ExitCode};

use merganser::Error;

use super::{Connection, human, terminal};

/// What to write.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// The new file: an absolute path on the server's machine, where nothing is yet
    file: PathBuf,
}

/// Makes the server write the file.
pub(crate) async fn run(args: BackupArgs, connection: Connection) -> Result<ExitCode, Error> {
    let file = match args.file.to_str() {
        Some(file) if args.file.is_absolute() => file,
        _ => {
            return Err(Error::Usage(
                "the server writes the backup on its own machine: give an absolute path".into(),
            ));
        }
    };
    let rows = connection.open().await?.backup(file).await?;
    let noun = human::one_or_many(rows, "row");
    terminal::print_outcome(&format_args!("{rows} {noun} in {file} on the server's machine"));
    Ok(ExitCode::SUCCESS)
}
