//! Rows that come with a request and are a relation for its query alone.
//!
//! They become a temporary view on a connection that no other request has, over the rows as they came. DuckDB looks into
//! the temporary schema first, and views bind late: so the query, and every stored view that it reads, finds them
//! under their name; where a view names a stored table in full it is led to them ([`redirects`]). Nothing is written into the database, and any number of requests run side by side with rows of
//! their own.

mod redirects;
mod stored;
mod views;
mod whole;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::Stream;

use super::{
    BatchStream, Engine, Error, Names, QueryCard, Result, Statement, check_names,
    ffi::slices,
    import::{import, imported, needs_import},
    ingest::{Arrived, Reservation, Rows, bytes_of},
};
use crate::sql::quote;

pub(super) use redirects::Redirects;
pub(super) use views::PostedViews;

/// Rows with the name by which a query knows them. Several queries may share them.
#[derive(Clone)]
pub struct Posted {
    name: String,
    /// The columns of the relation and their DuckDB types; `None` takes the rows as they are.
    columns: Option<Vec<(String, String)>>,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Their part of the memory for rows on their way in, given back with them.
    #[expect(dead_code, reason = "it is there to be dropped")]
    room: Arc<Reservation>,
}

/// Rows of a request while they come, within the memory for rows on their way in.
pub struct Posting {
    name: String,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    room: Reservation,
}

impl Posting {
    /// Begins with the columns. Of what `room` holds already the rows take what is spare.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`] for columns that no table has; [`Error::BadName`].
    pub fn begin(name: &str, schema: &Schema, room: Reservation) -> Result<Self> {
        if name.is_empty() || name.len() > super::MAX_NAME_BYTES || name.contains('\0') {
            return Err(Error::BadName("the name of the posted rows cannot be that of a table".into()));
        }
        check_names(schema)?;
        check_columns(schema)?;
        let fields: Vec<_> = schema.fields().iter().map(|field| imported(field)).collect();
        Ok(Self { name: name.to_owned(), schema: Arc::new(Schema::new(fields)), batches: Vec::new(), room })
    }

    /// What it holds.
    pub fn room(&mut self) -> &mut Reservation {
        &mut self.room
    }

    /// Takes some rows, once there is room for them.
    ///
    /// # Errors
    /// [`Error::QueueFull`]; [`Error::SchemaMismatch`] for a value that DuckDB has no place for.
    pub async fn add(&mut self, rows: Rows) -> Result<()> {
        let Rows { batch, room: message } = rows;
        self.room.take_in(message, bytes_of(&batch)).await?;
        self.batches.push(import_batch(&batch, &self.schema)?);
        Ok(())
    }

    /// That these are all.
    pub fn end(self) -> Posted {
        let Self { name, schema, batches, mut room } = self;
        room.settle();
        Posted { name, columns: None, schema, batches, room: Arc::new(room) }
    }
}

impl Engine {
    /// Takes the rows of a request as they come from its sender.
    ///
    /// # Errors
    /// Those of the stream, of [`Posting::begin`] and of [`Posting::add`]; [`Error::Stalled`].
    pub async fn take_posted(
        &self,
        name: &str,
        schema: &Schema,
        mut batches: impl Stream<Item = Result<Arrived>> + Unpin,
        sender: u64,
    ) -> Result<Posted> {
        let mut posting = Posting::begin(name, schema, self.reservation(sender))?;
        let mut no_room = false;
        while let Some(arrived) = self.next_arrived(&mut batches, &mut no_room).await? {
            if let Arrived::Rows(rows) = arrived {
                posting.add(rows).await?;
            }
        }
        Ok(posting.end())
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
        self.named(self.read_over(names, statement, Some(posted)).await).await?.ok_or_else(refused)
    }
}

impl Posted {
    /// The rows as the input of a named query: in the types of its columns, of which rows may lack some.
    ///
    /// # Errors
    /// [`Error::SchemaMismatch`] for a column that the query does not know; a conversion error for what is no whole number
    /// where one is asked for.
    pub fn as_input_of(mut self, card: &QueryCard) -> Result<Self> {
        let Some(input) = &card.input else {
            return Err(Error::BadParameter(format!("the query {} takes no rows", card.name)));
        };
        let known = |name: &str| input.columns.iter().any(|(column, _)| column.eq_ignore_ascii_case(name));
        if let Some(unknown) = self.schema.fields().iter().find(|field| !known(field.name())) {
            let columns: Vec<_> = input.columns.iter().map(|(column, _)| column.as_str()).collect();
            return Err(Error::SchemaMismatch(format!(
                "the rows have a column {:?}; the query {} takes: {}",
                unknown.name(),
                card.name,
                columns.join(", ")
            )));
        }
        whole::check(&self.batches, &self.schema, &input.columns)?;
        self.name.clone_from(&input.name);
        self.columns = Some(input.columns.clone());
        Ok(self)
    }

    /// The relation that they are on a connection with these names.
    pub(super) fn relation(&self, names: Option<&Names>) -> Relation {
        let Self { name, columns, schema, .. } = self;
        Relation {
            names: names.cloned(),
            name: name.clone(),
            columns: columns.clone(),
            schema: Arc::clone(schema),
        }
    }

    /// The rows, as a scan gives them.
    pub(super) fn slices(&self) -> impl Iterator<Item = RecordBatch> + '_ {
        self.batches.iter().flat_map(slices)
    }
}

/// What a query knows posted rows by, whichever they are.
#[derive(PartialEq, Eq)]
pub(super) struct Relation {
    /// What unqualified names mean to the query.
    pub(super) names: Option<Names>,
    pub(super) name: String,
    columns: Option<Vec<(String, String)>>,
    /// Of the rows as they come.
    pub(super) schema: SchemaRef,
}

impl Relation {
    /// What the view selects of the rows.
    pub(super) fn selected(&self) -> String {
        match &self.columns {
            None => "*".to_owned(),
            Some(columns) => selected(columns, &self.schema),
        }
    }
}

/// Each declared column in its type; one that the rows lack is NULL.
fn selected(columns: &[(String, String)], schema: &Schema) -> String {
    let column = |(name, data_type): &(String, String)| {
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
