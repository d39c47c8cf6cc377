//! `merganser maintain` and `merganser promote`: the server's jobs, on demand.

use std::process::ExitCode;

use merganser::Error;

use super::{Connection, terminal};

/// Which lake.
#[derive(Debug, clap::Args)]
pub(crate) struct MaintainArgs {
    /// A catalog of type ducklake in the server's configuration
    catalog: String,
}

/// Which pipeline.
#[derive(Debug, clap::Args)]
pub(crate) struct PromoteArgs {
    /// A pipeline in the server's configuration
    pipeline: String,
}

/// Makes the server tidy up the lake.
pub(crate) async fn maintain(args: MaintainArgs, connection: Connection) -> Result<ExitCode, Error> {
    let changed = connection.open().await?.maintain(&args.catalog).await?;
    let lake = args.catalog;
    terminal::print_outcome(&format_args!("{lake}: {changed} rows, files and snapshots tidied up"));
    Ok(ExitCode::SUCCESS)
}

/// Makes the server run the pipeline.
pub(crate) async fn promote(args: PromoteArgs, connection: Connection) -> Result<ExitCode, Error> {
    let rows = connection.open().await?.run_pipeline(&args.pipeline).await?;
    terminal::print_outcome(&format_args!("{}: {rows} rows moved", args.pipeline));
    Ok(ExitCode::SUCCESS)
}
