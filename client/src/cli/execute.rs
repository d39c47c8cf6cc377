//! `merganser execute`: run a script for what it does.

use std::process::ExitCode;

use merganser::Error;

use super::{Connection, human, left_open, progress::Activity, sql::SqlArgs, terminal};

/// What the help of the command ends with.
pub(super) const EXAMPLES: &str = "\
A transaction that the script begins and leaves open is rolled back, and the command fails.

Examples:
  merganser execute 'CREATE TABLE t (x INT); INSERT INTO t VALUES (1)'
  merganser execute --file changes.sql
  printf 'DELETE FROM t' | merganser execute -";

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
    let affected = client.execute(&sql).await.map_err(left_open::explained)?;
    left_open::refuse(&client, &sql).await?;
    activity.clear();
    terminal::print_outcome(&human::affected(Some(affected)));
    Ok(ExitCode::SUCCESS)
}
