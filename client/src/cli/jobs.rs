//! `merganser maintain` and `merganser promote`: the server's jobs, on demand.

use std::process::ExitCode;

use merganser::Error;

use super::{Connection, human, terminal};

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
    terminal::print_outcome(&tidied(&args.catalog, changed));
    Ok(ExitCode::SUCCESS)
}

/// Makes the server run the pipeline.
pub(crate) async fn promote(args: PromoteArgs, connection: Connection) -> Result<ExitCode, Error> {
    let rows = connection.open().await?.run_pipeline(&args.pipeline).await?;
    terminal::print_outcome(&moved(&args.pipeline, rows));
    Ok(ExitCode::SUCCESS)
}

fn tidied(lake: &str, changed: u64) -> String {
    match changed {
        1 => format!("{lake}: 1 row, file or snapshot tidied up"),
        _ => format!("{lake}: {changed} rows, files and snapshots tidied up"),
    }
}

fn moved(pipeline: &str, rows: u64) -> String {
    format!("{pipeline}: {rows} {} moved", human::one_or_many(rows, "row"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular() {
        assert_eq!(moved("events", 1), "events: 1 row moved");
        assert_eq!(moved("events", 1000), "events: 1000 rows moved");
        assert_eq!(tidied("lake", 1), "lake: 1 row, file or snapshot tidied up");
        assert_eq!(tidied("lake", 0), "lake: 0 rows, files and snapshots tidied up");
    }
}
