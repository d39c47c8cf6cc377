//! Sending rows to a table.

use arrow_array::RecordBatch;
use arrow_flight::{
    FlightDescriptor,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption},
};
use arrow_schema::SchemaRef;
use futures::{Stream, StreamExt, stream};
use merganser_proto::IngestAck;

use crate::{
    Client, Error, IngestMode, IngestOptions, RetryPolicy, TablePath, client::descriptor, split::Splitter,
    upload,
};

impl Client {
    /// Sends rows to a table as one atomic unit: once this returns, all of them are on disk; after an
    /// error none of them is, save after [`Error::Disconnected`], when nobody knows.
    ///
    /// An error in `batches` abandons the unit and is returned. So does dropping the future.
    ///
    /// # Errors
    /// [`Error::Server`] when the server refuses, such as for a schema that does not fit the table;
    /// [`Error::Usage`] for a batch whose columns are not those of `schema`.
    pub async fn ingest<S, E>(
        &self,
        table: &TablePath,
        mode: IngestMode,
        schema: SchemaRef,
        batches: S,
    ) -> Result<IngestAck, Error>
    where
        S: Stream<Item = Result<RecordBatch, E>> + Send + 'static,
        E: Into<Error>,
    {
        let options = IngestOptions { mode, ..IngestOptions::default() };
        self.ingest_with(table, &options, schema, batches).await
    }

    /// Sends rows like [`ingest`](Self::ingest), with a key or other options.
    ///
    /// A unit with a key may be sent again after any error that is
    /// [`retryable_with_key`](Error::retryable_with_key); if it was committed before, the acknowledgement says
    /// `duplicate` and nothing is written.
    ///
    /// # Errors
    /// Those of [`ingest`](Self::ingest); what the ledger refuses, such as `KEY_REUSED`, `SEQ_GAP` and `FENCED`.
    pub async fn ingest_with<S, E>(
        &self,
        table: &TablePath,
        options: &IngestOptions,
        schema: SchemaRef,
        batches: S,
    ) -> Result<IngestAck, Error>
    where
        S: Stream<Item = Result<RecordBatch, E>> + Send + 'static,
        E: Into<Error>,
    {
        let splitter = Splitter::new(&schema);
        let encoder = FlightDataEncoderBuilder::new()
            .with_schema(schema.clone())
            .with_max_flight_data_size(splitter.encoder_limit())
            .with_flight_descriptor(Some(target(table, options)?));
        let pieces = batches.map(move |batch| checked(batch, &schema)).flat_map(move |batch| match batch {
            Ok(batch) => stream::iter(splitter.split(batch).into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(FlightError::ExternalError(Box::new(error)))]),
        });
        upload::put(self.transport(), encoder.build(pieces)).await
    }

    /// Sends a unit that is in memory, again and again until it is on disk, fails for good, or the policy's time
    /// is over. With a key it is stored once, whatever happens in between. Without one it is sent again only when
    /// it was surely not stored, so that [`Error::Disconnected`] ends it.
    ///
    /// # Errors
    /// Those of [`ingest_with`](Self::ingest_with); [`Error::Usage`] when there is not a single batch, be it
    /// without rows, since it tells the columns.
    pub async fn ingest_unit(
        &self,
        table: &TablePath,
        options: &IngestOptions,
        batches: &[RecordBatch],
        policy: &RetryPolicy,
    ) -> Result<IngestAck, Error> {
        let schema = schema_of(batches)?;
        let send = || {
            let rows = stream::iter(batches.to_vec()).map(Ok::<_, Error>);
            self.ingest_with(table, options, schema.clone(), rows)
        };
        policy.run(self, options.key.is_some(), send).await
    }
}

/// The columns of a unit.
pub(crate) fn schema_of(batches: &[RecordBatch]) -> Result<SchemaRef, Error> {
    let first = batches.first().map(RecordBatch::schema);
    first.ok_or_else(|| {
        Error::Usage("a unit needs a batch, be it without rows: it tells the columns".to_owned())
    })
}

/// The encoder trusts that every batch has the schema it announced; a batch that has not would be
/// decoded wrongly on the other side.
pub(crate) fn checked<E: Into<Error>>(
    batch: Result<RecordBatch, E>,
    schema: &SchemaRef,
) -> Result<RecordBatch, Error> {
    let batch = batch.map_err(Into::into)?;
    if batch.schema_ref().fields() == schema.fields() {
        Ok(batch)
    } else {
        Err(Error::Usage("a batch has other columns than the announced schema".into()))
    }
}

/// Where the rows go. What plain Flight can say is said by it; the rest needs a Flight SQL command.
pub(crate) fn target(table: &TablePath, options: &IngestOptions) -> Result<FlightDescriptor, Error> {
    let named = options.named()?;
    let (if_not_exist, if_exists) = match options.mode {
        IngestMode::CreateOrAppend if named.is_empty() => {
            return Ok(FlightDescriptor::new_path(table.parts().map(str::to_owned).collect()));
        }
        IngestMode::CreateOrAppend => (TableNotExistOption::Create, TableExistsOption::Append),
        IngestMode::Create => (TableNotExistOption::Create, TableExistsOption::Fail),
        IngestMode::Append => (TableNotExistOption::Fail, TableExistsOption::Append),
        IngestMode::Replace => (TableNotExistOption::Create, TableExistsOption::Replace),
    };
    Ok(descriptor(CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: if_not_exist.into(),
            if_exists: if_exists.into(),
        }),
        table: table.table().to_owned(),
        schema: table.schema().map(str::to_owned),
        catalog: table.catalog().map(str::to_owned),
        options: named,
        ..CommandStatementIngest::default()
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_flight::sql::Any;
    use arrow_schema::{DataType, Field, Schema};
    use prost::Message;

    use super::*;
    use crate::IngestKey;

    fn options(mode: IngestMode) -> IngestOptions {
        IngestOptions { mode, ..IngestOptions::default() }
    }

    fn command(options: &IngestOptions) -> CommandStatementIngest {
        let table = TablePath::new("t").with_catalog("c", "s");
        let any = Any::decode(target(&table, options).unwrap().cmd).unwrap();
        any.unpack().unwrap().unwrap()
    }

    #[test]
    fn create_or_append_is_a_plain_path_unless_there_is_more_to_say() {
        let table = TablePath::new("t").with_schema("s");
        assert_eq!(target(&table, &options(IngestMode::CreateOrAppend)).unwrap().path, ["s", "t"]);
        let key = Some(IngestKey::new("größe", 1, 2));
        let command = command(&IngestOptions { key, ..IngestOptions::default() });
        let table_options = command.table_definition_options.unwrap();
        assert_eq!(table_options.if_not_exist(), TableNotExistOption::Create);
        assert_eq!(table_options.if_exists(), TableExistsOption::Append);
        assert_eq!(command.options["ingest_key"], "größe/1/2");
    }

    #[test]
    fn other_modes_say_what_to_do_about_the_table() {
        for (mode, if_not_exist, if_exists) in [
            (IngestMode::Create, TableNotExistOption::Create, TableExistsOption::Fail),
            (IngestMode::Append, TableNotExistOption::Fail, TableExistsOption::Append),
            (IngestMode::Replace, TableNotExistOption::Create, TableExistsOption::Replace),
        ] {
            let command = command(&options(mode));
            let options = command.table_definition_options.unwrap();
            assert_eq!(options.if_not_exist(), if_not_exist, "{mode:?}");
            assert_eq!(options.if_exists(), if_exists, "{mode:?}");
            assert_eq!(command.table, "t");
            assert_eq!(command.schema.as_deref(), Some("s"));
            assert_eq!(command.catalog.as_deref(), Some("c"));
        }
    }

    #[test]
    fn a_batch_of_another_schema_is_refused() {
        let schema = |name| Arc::new(Schema::new(vec![Field::new(name, DataType::Int32, true)]));
        let batch = || Ok::<_, Error>(RecordBatch::new_empty(schema("a")));
        assert!(checked(batch(), &schema("a")).is_ok());
        assert!(matches!(checked(batch(), &schema("b")), Err(Error::Usage(_))));
    }
}
