//! `merganser statements`, `sessions`, `cancel` and `close-session`: what goes on at the server, and its end.

use std::{io, process::ExitCode};

use arrow_array::RecordBatchWriter;
use futures::TryStreamExt;
use merganser::Error;

use super::{Connection, pretty::TableWriter, terminal};

/// Which statement.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// Its id, as `merganser statements` shows it
    id: u64,
}

/// Which session.
#[derive(Debug, clap::Args)]
pub(crate) struct CloseSessionArgs {
    /// Its number, as `merganser sessions` shows it
    session: u64,
}

/// Prints what runs or waits, this very question as well.
pub(crate) async fn statements(connection: Connection) -> Result<ExitCode, Error> {
    print(connection, "SELECT * FROM merganser_statements()").await
}

/// Prints who has left something with the server.
pub(crate) async fn sessions(connection: Connection) -> Result<ExitCode, Error> {
    print(connection, "SELECT * FROM merganser_sessions()").await
}

/// Ends a statement.
pub(crate) async fn cancel(args: CancelArgs, connection: Connection) -> Result<ExitCode, Error> {
    connection.open().await?.cancel_statement(args.id).await?;
    terminal::print_outcome(&format_args!("statement {} is told to end", args.id));
    Ok(ExitCode::SUCCESS)
}

/// Takes from a session what it has.
pub(crate) async fn close_session(args: CloseSessionArgs, connection: Connection) -> Result<ExitCode, Error> {
    connection.open().await?.close_session(args.session).await?;
    terminal::print_outcome(&format_args!("session {} is closed", args.session));
    Ok(ExitCode::SUCCESS)
}

async fn print(connection: Connection, sql: &str) -> Result<ExitCode, Error> {
    let mut rows = connection.open().await?.query(sql).await?;
    let mut table = TableWriter::new(io::stdout(), rows.schema(), usize::MAX);
    while let Some(batch) = rows.try_next().await? {
        table.write(&batch)?;
    }
    table.close()?;
    Ok(ExitCode::SUCCESS)
}
