//! Flight SQL's catalog commands. The builders of the Arrow library own the schemas and the patterns.

use arrow_array::RecordBatch;
use arrow_flight::sql::{Command, CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables};
use arrow_schema::{Schema, SchemaRef};
use tonic::Status;

use super::{
    Flight,
    error::{engine_status, internal, unimplemented},
    sql_info,
};

/// The schema of a command's answer.
pub(super) fn schema(command: &Command) -> Result<Schema, Status> {
    let schema: SchemaRef = match command {
        Command::CommandGetCatalogs(command) => (*command).into_builder().schema(),
        Command::CommandGetDbSchemas(command) => command.clone().into_builder().schema(),
        Command::CommandGetTables(command) => command.clone().into_builder().schema(),
        Command::CommandGetTableTypes(command) => (*command).into_builder().schema(),
        Command::CommandGetSqlInfo(_) => sql_info::schema(),
        _ => return Err(unimplemented("this Flight SQL command")),
    };
    Ok(schema.as_ref().clone())
}

impl Flight {
    /// The answer to a catalog command.
    pub(super) async fn metadata(&self, command: Command) -> Result<RecordBatch, Status> {
        match command {
            Command::CommandGetCatalogs(command) => self.catalogs(command).await,
            Command::CommandGetDbSchemas(command) => self.db_schemas(command).await,
            Command::CommandGetTables(command) => self.tables(command).await,
            Command::CommandGetTableTypes(command) => {
                let mut types = command.into_builder();
                for table_type in ["TABLE", "VIEW"] {
                    types.append(table_type);
                }
                types.build().map_err(|error| internal(&error))
            }
            Command::CommandGetSqlInfo(command) => {
                sql_info::answer(command, self.engine.read_only(), &self.engine.duckdb_version())
            }
            _ => Err(unimplemented("this Flight SQL command")),
        }
    }

    async fn catalogs(&self, command: CommandGetCatalogs) -> Result<RecordBatch, Status> {
        let mut catalogs = command.into_builder();
        let schemas = self.engine.schemas().await.map_err(engine_status)?;
        let mut names: Vec<_> = schemas.into_iter().map(|(catalog, _)| catalog).collect();
        names.dedup();
        for catalog in names {
            catalogs.append(catalog);
        }
        catalogs.build().map_err(|error| internal(&error))
    }

    async fn db_schemas(&self, command: CommandGetDbSchemas) -> Result<RecordBatch, Status> {
        let mut schemas = command.into_builder();
        for (catalog, schema) in self.engine.schemas().await.map_err(engine_status)? {
            schemas.append(catalog, schema);
        }
        schemas.build().map_err(|error| internal(&error))
    }

    async fn tables(&self, command: CommandGetTables) -> Result<RecordBatch, Status> {
        let mut tables = command.into_builder();
        for relation in self.engine.relations().await.map_err(engine_status)? {
            tables
                .append(
                    &relation.catalog,
                    &relation.schema,
                    &relation.name,
                    &relation.kind,
                    &relation.columns,
                )
                .map_err(|error| internal(&error))?;
        }
        tables.build().map_err(|error| internal(&error))
    }
}
