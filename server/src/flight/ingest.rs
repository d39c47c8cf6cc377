//! DoPut of rows: plain Flight to a path, and Flight SQL's statement ingest.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow_flight::{
    FlightData, PutResult,
    sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption},
};
use merganser_proto::IngestAck;
use tonic::{Request, Status, Streaming};

use super::{
    Answers, Flight, Reply,
    error::{bad_request, engine_status, unimplemented},
    stream,
    update::{check_transaction, put_result},
    upload::Upload,
};
use crate::engine::{IfExists, IfMissing, IngestRequest, TableRef};

impl Flight {
    /// Appends an upload; the answer is sent after COMMIT.
    pub(super) async fn ingest(
        &self,
        upload: &mut Upload,
        table: TableRef,
        if_missing: IfMissing,
        if_exists: IfExists,
        loader: u64,
    ) -> Reply<Answers<PutResult>> {
        let mut entry = self.log.begin("ingest", &table.table);
        let schema = upload.schema().await.map_err(engine_status)?;
        let request = IngestRequest { table, if_missing, if_exists, loader };
        let ack = self.engine.ingest(request, schema, upload).await.inspect_err(|error| entry.failed(error));
        let ack = ack.map_err(engine_status)?;
        entry.rows(ack.rows);
        entry.bytes(ack.bytes);
        let ack = IngestAck { rows: ack.rows, commit_id: ack.commit, committed: true };
        Ok(stream::one(put_result(&ack)))
    }

    /// CommandStatementIngest, in every mode.
    pub(super) async fn statement_ingest(
        &self,
        upload: &mut Upload,
        command: CommandStatementIngest,
        loader: u64,
    ) -> Reply<Answers<PutResult>> {
        check_transaction(command.transaction_id.as_ref())?;
        if command.temporary {
            return Err(unimplemented("ingest into a temporary table"));
        }
        if let Some(option) = command.options.keys().next() {
            return Err(bad_request("UNKNOWN_OPTION", &format!("the ingest option {option:?} is not known")));
        }
        let (if_missing, if_exists) = mode(command.table_definition_options.as_ref())?;
        let path: Vec<String> = match (command.catalog, command.schema) {
            (Some(catalog), schema) => vec![catalog, schema.unwrap_or_else(|| "main".into()), command.table],
            (None, Some(schema)) => vec![schema, command.table],
            (None, None) => vec![command.table],
        };
        let table = TableRef::from_path(&path).map_err(engine_status)?;
        self.ingest(upload, table, if_missing, if_exists, loader).await
    }
}

/// The mode of a statement ingest. Unset options mean: create, and fail where it exists.
fn mode(options: Option<&TableDefinitionOptions>) -> Result<(IfMissing, IfExists), Status> {
    let unknown = || bad_request("BAD_COMMAND", "the table definition options of the ingest are not known");
    let (missing, exists) = options.map_or((0, 0), |options| (options.if_not_exist, options.if_exists));
    let if_missing = match TableNotExistOption::try_from(missing).map_err(|_| unknown())? {
        TableNotExistOption::Unspecified | TableNotExistOption::Create => IfMissing::Create,
        TableNotExistOption::Fail => IfMissing::Fail,
    };
    let if_exists = match TableExistsOption::try_from(exists).map_err(|_| unknown())? {
        TableExistsOption::Unspecified | TableExistsOption::Fail => IfExists::Fail,
        TableExistsOption::Append => IfExists::Append,
        TableExistsOption::Replace => IfExists::Replace,
    };
    Ok((if_missing, if_exists))
}

/// A number for the client's connection.
pub(super) fn loader_of(request: &Request<Streaming<FlightData>>) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.remote_addr().hash(&mut hasher);
    hasher.finish()
}
