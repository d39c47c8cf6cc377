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

use crate::{Client, Error, TablePath, client::descriptor, split::Splitter, upload};

/// What an ingest does about the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IngestMode {
    /// Create the table; fail if it exists.
    Create,
    /// Append to the table; fail if it does not exist.
    Append,
    /// Drop the table if it exists, and create it anew.
    Replace,
    /// Append to the table; create it first if it does not exist.
    #[default]
    CreateOrAppend,
}

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
        let splitter = Splitter::new(&schema);
        let encoder = FlightDataEncoderBuilder::new()
            .with_schema(schema.clone())
            .with_max_flight_data_size(splitter.encoder_limit())
            .with_flight_descriptor(Some(target(table, mode)));
        let pieces = batches.map(move |batch| checked(batch, &schema)).flat_map(move |batch| match batch {
            Ok(batch) => stream::iter(splitter.split(batch).into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(FlightError::ExternalError(Box::new(error)))]),
        });
        upload::put(self.transport(), encoder.build(pieces)).await
    }
}

/// The encoder trusts that every batch has the schema it announced; a batch that has not would be
/// decoded wrongly on the other side.
fn checked<E: Into<Error>>(batch: Result<RecordBatch, E>, schema: &SchemaRef) -> Result<RecordBatch, Error> {
    let batch = batch.map_err(Into::into)?;
    if batch.schema_ref().fields() == schema.fields() {
        Ok(batch)
    } else {
        Err(Error::Usage("a batch has other columns than the announced schema".into()))
    }
}

/// Where the rows go. The default mode is plain Flight's; the others need a Flight SQL command.
fn target(table: &TablePath, mode: IngestMode) -> FlightDescriptor {
    let (if_not_exist, if_exists) = match mode {
        IngestMode::CreateOrAppend => {
            return FlightDescriptor::new_path(table.parts().map(str::to_owned).collect());
        }
        IngestMode::Create => (TableNotExistOption::Create, TableExistsOption::Fail),
        IngestMode::Append => (TableNotExistOption::Fail, TableExistsOption::Append),
        IngestMode::Replace => (TableNotExistOption::Create, TableExistsOption::Replace),
    };
    descriptor(CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: if_not_exist.into(),
            if_exists: if_exists.into(),
        }),
        table: table.table().to_owned(),
        schema: table.schema().map(str::to_owned),
        catalog: table.catalog().map(str::to_owned),
        ..CommandStatementIngest::default()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_flight::sql::Any;
    use arrow_schema::{DataType, Field, Schema};
    use prost::Message;

    use super::*;

    fn command(mode: IngestMode) -> CommandStatementIngest {
        let table = TablePath::new("t").with_catalog("c", "s");
        let any = Any::decode(target(&table, mode).cmd).unwrap();
        any.unpack().unwrap().unwrap()
    }

    #[test]
    fn create_or_append_is_a_plain_path() {
        let table = TablePath::new("t").with_schema("s");
        assert_eq!(target(&table, IngestMode::CreateOrAppend).path, ["s", "t"]);
    }

    #[test]
    fn other_modes_say_what_to_do_about_the_table() {
        for (mode, if_not_exist, if_exists) in [
            (IngestMode::Create, TableNotExistOption::Create, TableExistsOption::Fail),
            (IngestMode::Append, TableNotExistOption::Fail, TableExistsOption::Append),
            (IngestMode::Replace, TableNotExistOption::Create, TableExistsOption::Replace),
        ] {
            let command = command(mode);
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
