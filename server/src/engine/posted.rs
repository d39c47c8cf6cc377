//! Rows that come with a request and are a relation for its query alone.
//!
//! They become a temporary view on a connection of the request's own, over the rows as they came. DuckDB looks into
//! the temporary schema first, and views bind late: so the query, and every stored view that it reads, finds them
//! under their name. Nothing is written into the database, and any number of requests run side by side with rows of
//! their own.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::{Stream, StreamExt};

use super::{
    BatchStream, Engine, Error, Names, QueryCard, Result, Statement,
    database::Database,
    ffi::{Connection, Offer, SCAN_FUNCTION},
    import::{import, imported, needs_import},
    ingest::Share,
};
use crate::sql::quote;

/// Rows with the name by which a query knows them.
pub struct Posted {
    name: String,
    /// The columns of the relation and their DuckDB types; `None` takes the rows as they are.
    columns: Option<BTreeMap<String, String>>,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Their part of the memory for rows on their way in, given back with them.
    #[expect(dead_code, reason = "it is there to be dropped")]
    shares: Vec<Share>,
}

impl Engine {
    /// Takes the rows of a request, within the memory for rows on their way in, of which `sender` gets its share.
    ///
    /// # Errors
    /// Those of the stream; [`Error::QueueFull`]; [`Error::SchemaMismatch`] for a value that DuckDB has no place for;
    /// [`Error::BadName`].
    pub async fn take_posted(
        &self,
        name: &str,
        schema: SchemaRef,
        mut batches: impl Stream<Item = Result<RecordBatch>> + Unpin,
        sender: u64,
    ) -> Result<Posted> {
        if name.is_empty() || name.len() > super::MAX_NAME_BYTES || name.contains('\0') {
            return Err(Error::BadName("the name of the posted rows cannot be that of a table".into()));
        }
        check_columns(&schema)?;
        let fields: Vec<_> = schema.fields().iter().map(|field| imported(field)).collect();
        let imported_schema = Arc::new(Schema::new(fields));
        let (mut shares, mut taken) = (Vec::new(), Vec::new());
        while let Some(batch) = batches.next().await.transpose()? {
            shares.push(self.shared.budget.take(sender, batch.get_array_memory_size()).await?);
            taken.push(import_batch(&batch, &imported_schema)?);
        }
        Ok(Posted { name: name.to_owned(), columns: None, schema: imported_schema, batches: taken, shares })
    }

    /// Runs a query over posted rows, in the same way as a read.
    ///
    /// # Errors
    /// As [`Engine::run`]; [`Error::Refused`] for a statement that writes.
    pub async fn read_posted(
        &self,
        names: Option<Names>,
        statement: Statement,
        posted: Posted,
    ) -> Result<BatchStream> {
        let refused = || Error::Refused("a statement over posted rows may read and nothing else".into());
        self.read_over(names, statement, Some(posted)).await?.ok_or_else(refused)
    }
}

impl Posted {
    /// The rows as the input of a named query: in the types of its columns, of which rows may lack some.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`] for a column that the query does not know.
    pub fn as_input_of(mut self, card: &QueryCard) -> Result<Self> {
        let Some(input) = &card.input else {
            return Err(Error::BadParameter(format!("the query {} takes no rows", card.name)));
        };
        let known = |name: &str| input.columns.keys().any(|column| column.eq_ignore_ascii_case(name));
        if let Some(unknown) = self.schema.fields().iter().find(|field| !known(field.name())) {
            let columns: Vec<_> = input.columns.keys().map(String::as_str).collect();
            return Err(Error::SchemaMismatch(format!(
                "the rows have a column {:?}; the query {} takes: {}",
                unknown.name(),
                card.name,
                columns.join(", ")
            )));
        }
        self.name.clone_from(&input.name);
        self.columns = Some(input.columns.clone());
        Ok(self)
    }

    /// Makes the temporary view; it reads what is returned, for as long as that is kept.
    pub(super) fn create(&self, connection: &Connection, database: &Database) -> Result<Offer> {
        let Self { batches, schema, columns, name, .. } = self;
        let empty = [RecordBatch::new_empty(Arc::clone(schema))];
        let batches = if batches.is_empty() { &empty[..] } else { batches };
        let offer = database.scans.offer(connection, batches)?;
        let selected = match columns {
            None => "*".to_owned(),
            Some(columns) => selected(columns, schema),
        };
        let sql = format!(
            "CREATE TEMP VIEW {} AS SELECT {selected} FROM {SCAN_FUNCTION}({}::UBIGINT)",
            quote(name),
            offer.key()
        );
        connection.execute(&sql)?;
        Ok(offer)
    }
}

/// Each declared column in its type; one that the rows lack is NULL.
fn selected(columns: &BTreeMap<String, String>, schema: &Schema) -> String {
    let column = |(name, data_type): (&String, &String)| {
        let there = schema.fields().iter().find(|field| field.name().eq_ignore_ascii_case(name));
        let value = there.map_or("NULL".to_owned(), |field| quote(field.name()));
        format!("CAST({value} AS {data_type}) AS {}", quote(name))
    };
    columns.iter().map(column).collect::<Vec<_>>().join(", ")
}

/// A table needs columns, and no two of one name.
fn check_columns(schema: &Schema) -> Result<()> {
    let mut names = std::collections::HashSet::new();
    match schema.fields().iter().find(|field| !names.insert(field.name().to_lowercase())) {
        Some(twice) => Err(Error::SchemaMismatch(format!("two columns are called {:?}", twice.name()))),
        None if names.is_empty() => Err(Error::SchemaMismatch("the posted rows have no columns".into())),
        None => Ok(()),
    }
}

fn import_batch(batch: &RecordBatch, to: &SchemaRef) -> Result<RecordBatch> {
    let schema = batch.schema();
    let columns =
        schema.fields().iter().zip(batch.columns()).zip(to.fields()).map(|((field, column), to)| {
            if needs_import(field) { import(field.name(), column, to) } else { Ok(Arc::clone(column)) }
        });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    RecordBatch::try_new(Arc::clone(to), columns).map_err(|error| Error::BadArrow(error.to_string()))
}
