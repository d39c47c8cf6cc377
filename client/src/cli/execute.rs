//! `merganser execute`: run a script for what it does.

use std::process::ExitCode;

use merganser::Error;

use super::{Connection, human, progress::Activity, sql::SqlArgs, terminal};

/// Arguments of `merganser execute`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecuteArgs {
    #[command(flatten)]
    sql: SqlArgs,
}

/// Runs the statements; rows that they return are not shown.
pub(crate) async fn run(args: ExecuteArgs, connection: Connection) -> Result<ExitCode, Error> {
    let sql = args.sql.read().await?;
    let client = connection.open().await?;
    let activity = Activity::start(terminal::progress_wanted(false));
    let affected = client.execute(&sql).await?;
    activity.clear();
    terminal::print_outcome(&human::affected(Some(affected)));
    Ok(ExitCode::SUCCESS)
}
