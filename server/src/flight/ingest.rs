//! DoPut of rows: plain Flight to a path, and Flight SQL's statement ingest.

use arrow_flight::{
    PutResult,
    sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption},
};
use arrow_schema::SchemaRef;
use merganser_proto::IngestAck;
use tonic::Status;

use super::{
    Answers, Flight, Reply,
    error::{bad_request, engine_status, session_status},
    ingest_options::IngestOptions,
    stream,
    update::put_result,
    upload::{OneUnit, Upload},
};
use crate::{
    engine::{Ack, IfExists, IfMissing, IngestKey, IngestRequest, TableRef},
    metrics,
    session::{Session, SessionError},
    statement_log::INGEST,
};

/// Where the rows of a DoPut go.
pub(super) struct RowsAsked {
    pub(super) request: IngestRequest,
    /// The handle of the transaction that they belong to; mostly empty.
    pub(super) transaction: Vec<u8>,
}

impl RowsAsked {
    /// Plain Flight: a path.
    pub(super) fn of_path(table: TableRef, options: &IngestOptions, loader: u64) -> Result<Self, Status> {
        let mut request = IngestRequest::append(table, loader);
        options.apply(&mut request)?;
        Ok(Self { request, transaction: Vec::new() })
    }

    /// CommandStatementIngest, in every mode.
    pub(super) fn of_command(
        command: CommandStatementIngest,
        options: IngestOptions,
        loader: u64,
    ) -> Result<Self, Status> {
        let (if_missing, if_exists) = mode(command.table_definition_options.as_ref())?;
        let path: Vec<String> = match (command.catalog, command.schema) {
            (Some(catalog), schema) => vec![catalog, schema.unwrap_or_else(|| "main".into()), command.table],
            (None, Some(schema)) => vec![schema, command.table],
            (None, None) => vec![command.table],
        };
        if command.temporary && path.len() > 1 {
            return Err(bad_request(
                "BAD_NAME",
                "a temporary table has no catalog and no schema; leave them out",
            ));
        }
        let mut request = IngestRequest {
            if_missing,
            if_exists,
            temporary: command.temporary,
            ..IngestRequest::append(TableRef::from_path(&path).map_err(engine_status)?, loader)
        };
        options.and(command.options)?.apply(&mut request)?;
        Ok(Self { request, transaction: command.transaction_id.unwrap_or_default().to_vec() })
    }
}

impl Flight {
    /// Takes an upload that is one unit; the answer is sent after COMMIT.
    pub(super) async fn ingest(
        &self,
        session: &Session,
        upload: &mut Upload,
        rows: RowsAsked,
        schema: SchemaRef,
    ) -> Reply<Answers<PutResult>> {
        let RowsAsked { request, transaction } = rows;
        let key = request.key.clone();
        let mut entry = self.log.begin(session, INGEST, &request.table.table);
        let begun = session.begin_ingest(&transaction, request, schema, entry.receive(OneUnit(upload)));
        let ack = match entry.run(begun).await {
            Ok(pending) => {
                entry.commits();
                let ack = pending.committed().await.map_err(SessionError::from);
                ack.inspect_err(|error| entry.failed(error))
            }
            Err(error) => Err(error),
        };
        let ack = ack.map_err(session_status).inspect_err(count_refusal)?;
        entry.rows(ack.rows);
        entry.bytes(ack.bytes);
        Ok(stream::one(put_result(&acknowledgement(&ack, key.as_ref(), 1))))
    }
}

/// What a client is told of a unit that is committed, the how manieth of its stream.
pub(super) fn acknowledgement(ack: &Ack, key: Option<&IngestKey>, units: u64) -> IngestAck {
    IngestAck {
        rows: ack.rows,
        commit_id: ack.commit,
        committed: ack.committed,
        duplicate: ack.duplicate,
        units,
        sequence: key.map_or(0, |key| key.sequence),
    }
}

/// Every status begins with its slug.
pub(super) fn count_refusal(status: &Status) {
    let slug = status.message().split_once(':').map_or("OTHER", |(slug, _)| slug);
    metrics::unit_refused(slug);
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
