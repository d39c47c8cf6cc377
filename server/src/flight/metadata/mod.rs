//! Flight SQL's catalog commands: the lists of what there is ([`tables`]), [`keys`], what the server can do
//! ([`sql_info`]) and its types ([`xdbc`]).

mod keys;
mod sql_info;
mod tables;
mod xdbc;

use arrow_array::RecordBatch;
use arrow_flight::sql::Command;
use arrow_schema::Schema;
use tonic::Status;

use super::{Flight, error::unimplemented};
use crate::session::Session;

/// The schema of a command's answer.
pub(super) fn schema(command: &Command) -> Result<Schema, Status> {
    let schema = match command {
        Command::CommandGetCatalogs(command) => (*command).into_builder().schema(),
        Command::CommandGetDbSchemas(command) => command.clone().into_builder().schema(),
        Command::CommandGetTables(command) => command.clone().into_builder().schema(),
        Command::CommandGetTableTypes(command) => (*command).into_builder().schema(),
        Command::CommandGetPrimaryKeys(_) => keys::primary_schema(),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => keys::foreign_schema(),
        Command::CommandGetSqlInfo(_) => sql_info::schema(),
        Command::CommandGetXdbcTypeInfo(_) => xdbc::schema()?,
        _ => return Err(unimplemented("this Flight SQL command")),
    };
    Ok(schema.as_ref().clone())
}

impl Flight {
    /// The answer to a catalog command.
    pub(super) async fn metadata(&self, session: &Session, command: Command) -> Result<RecordBatch, Status> {
        let view = &session.catalog();
        match command {
            Command::CommandGetCatalogs(command) => tables::catalogs(view, command).await,
            Command::CommandGetDbSchemas(command) => tables::db_schemas(view, command).await,
            Command::CommandGetTables(command) => tables::tables(view, command).await,
            Command::CommandGetTableTypes(command) => tables::table_types(command),
            Command::CommandGetPrimaryKeys(command) => keys::primary(view, command).await,
            Command::CommandGetExportedKeys(command) => keys::exported(view, command).await,
            Command::CommandGetImportedKeys(command) => keys::imported(view, command).await,
            Command::CommandGetCrossReference(command) => keys::cross_reference(view, command).await,
            Command::CommandGetSqlInfo(command) => sql_info::answer(view, command).await,
            Command::CommandGetXdbcTypeInfo(command) => xdbc::answer(command),
            _ => Err(unimplemented("this Flight SQL command")),
        }
    }
}
