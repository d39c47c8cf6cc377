//! A put with options, which our own client sends only in part: as a Flight SQL ingest.

use arrow_array::RecordBatch;
use arrow_flight::{
    FlightDescriptor, PutResult,
    flight_service_client::FlightServiceClient,
    sql::{
        CommandStatementIngest, DoPutUpdateResult, ProstMessageExt, TableDefinitionOptions,
        TableExistsOption, TableNotExistOption,
    },
    utils::batches_to_flight_data,
};
use futures::{TryStreamExt, stream};
use merganser::Error;
use prost::Message;
use tonic::transport::Channel;

use crate::soon;

/// One upload, not yet sent. It creates the table if it is missing.
#[derive(Clone)]
pub struct Put {
    command: CommandStatementIngest,
}

impl Put {
    /// To a table by its bare name.
    pub fn to(table: &str) -> Self {
        let command = CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: TableNotExistOption::Create.into(),
                if_exists: TableExistsOption::Append.into(),
            }),
            table: table.to_owned(),
            ..CommandStatementIngest::default()
        };
        Self { command }
    }

    /// With an ingest option.
    pub fn with(mut self, option: &str, value: &str) -> Self {
        self.command.options.insert(option.to_owned(), value.to_owned());
        self
    }

    /// In place of the table, if it is there.
    pub fn replacing(mut self) -> Self {
        if let Some(options) = &mut self.command.table_definition_options {
            options.if_exists = TableExistsOption::Replace.into();
        }
        self
    }

    /// Inside a transaction that a driver has begun.
    pub fn within(mut self, transaction: impl Into<bytes::Bytes>) -> Self {
        self.command.transaction_id = Some(transaction.into());
        self
    }

    /// Sends the batches as one unit, and returns the number of rows that the server acknowledges.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn send(
        &self,
        flight: &FlightServiceClient<Channel>,
        batches: Vec<RecordBatch>,
    ) -> Result<i64, Error> {
        let schema = batches.first().expect("at least one batch").schema();
        let mut messages = batches_to_flight_data(&schema, batches).expect("batches of one schema");
        let command = self.command.as_any().encode_to_vec();
        messages[0].flight_descriptor = Some(FlightDescriptor::new_cmd(command));
        let mut flight = flight.clone();
        let answers = soon("the answer to a put", async {
            flight.do_put(stream::iter(messages)).await?.into_inner().try_collect::<Vec<PutResult>>().await
        });
        let answers = answers.await?;
        let answer = DoPutUpdateResult::decode(&*answers[0].app_metadata).expect("an acknowledgement");
        Ok(answer.record_count)
    }
}
