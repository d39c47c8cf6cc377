//! Rows of a body in JSON, decoded so many at a time that their memory is known of before it is taken.

use std::{mem, sync::Arc};

use arrow_array::RecordBatch;
use arrow_json::reader::Decoder;
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use axum::body::Bytes;

use super::{
    json_columns::Columns,
    json_members::Members,
    json_objects::{Object, Objects},
    rows::{BATCH_ROWS, Decode},
};

/// What the rows of a batch may take while they are decoded; a row that takes more is a batch of its own.
const BATCH_BYTES: usize = 4 << 20;
/// What a value takes, at the most, beside its text.
const VALUE_BYTES: usize = 16;

/// The rows that have not been decoded.
pub(super) struct JsonRows {
    body: Bytes,
    objects: Objects,
    members: Members,
    decoder: Decoder,
    columns: Columns,
    /// What an object takes of which all members are absent, and what a null takes, at the most.
    absent: (usize, usize),
    /// The rows of the next batch, and what they may take.
    planned: (Vec<Object>, usize),
    /// The row after these.
    after: Option<Object>,
    /// The rows before these.
    decoded: usize,
    read: usize,
}

impl JsonRows {
    /// Those of a query's input. A column that the query does not know is an error; one that a row lacks is null.
    ///
    /// # Errors
    /// [`ArrowError`] where the first rows are not there.
    pub(super) fn open(input: &Schema, body: Bytes, objects: Objects) -> Result<Self, ArrowError> {
        let columns = Columns::of(input);
        let widths = || input.fields().iter().map(|field| width(field.data_type()));
        let mut rows = Self {
            body,
            objects,
            members: Members::of(input),
            decoder: columns.decoder(BATCH_ROWS)?,
            columns,
            absent: (widths().fold(0, usize::saturating_add), widths().max().unwrap_or(0)),
            planned: (Vec::new(), 0),
            after: None,
            decoded: 0,
            read: 0,
        };
        rows.after = rows.objects.next(&rows.body, &mut rows.members)?;
        rows.plan()?;
        Ok(rows)
    }

    /// The columns in which they come.
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.columns.read)
    }

    fn plan(&mut self) -> Result<(), ArrowError> {
        let (mut rows, mut all) = (Vec::new(), 0_usize);
        while rows.len() < BATCH_ROWS
            && let Some(object) = &self.after
        {
            let bytes = self.bytes(object);
            if !rows.is_empty() && all.saturating_add(bytes) > BATCH_BYTES {
                break;
            }
            all = all.saturating_add(bytes);
            let next = self.objects.next(&self.body, &mut self.members)?;
            rows.extend(mem::replace(&mut self.after, next));
        }
        self.planned = (rows, all);
        Ok(())
    }

    /// What a row takes at the most while it is decoded.
    fn bytes(&self, object: &Object) -> usize {
        let (of_object, of_null) = self.absent;
        let known = object.range.len() + object.values * VALUE_BYTES;
        let absent = object.objects.saturating_mul(of_object);
        known.saturating_add(absent).saturating_add(object.nulls.saturating_mul(of_null))
    }
}

impl Decode for JsonRows {
    fn next(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let (rows, _) = mem::take(&mut self.planned);
        let batch = self.columns.decode(&mut self.decoder, &self.body, &rows);
        let batch = batch.map_err(|error| self.columns.locate(&self.body, &rows, self.decoded, error))?;
        self.decoded += rows.len();
        self.read = rows.last().map_or(self.body.len(), |row| row.range.end);
        self.plan()?;
        Ok(batch)
    }

    fn read(&self) -> usize {
        self.read
    }

    fn large(&self) -> usize {
        let (_, bytes) = self.planned;
        if bytes > BATCH_BYTES { bytes } else { 0 }
    }
}

/// What a value of the type takes where the text has nothing of it, at the most.
fn width(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(members) => {
            members.iter().map(|member| width(member.data_type())).fold(1, usize::saturating_add)
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => {
            width(item.data_type()).saturating_add(VALUE_BYTES)
        }
        DataType::FixedSizeList(item, items) => {
            width(item.data_type()).saturating_mul(usize::try_from(*items).unwrap_or(0)).saturating_add(1)
        }
        DataType::FixedSizeBinary(bytes) => usize::try_from(*bytes).unwrap_or(0).saturating_add(1),
        _ => VALUE_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{Field, Fields};

    use super::*;

    fn rows(columns: Vec<Field>, body: &str) -> JsonRows {
        let body = Bytes::copy_from_slice(body.as_bytes());
        JsonRows::open(&Schema::new(columns), body, Objects::of_array()).unwrap()
    }

    fn list(item: DataType) -> DataType {
        DataType::List(Arc::new(Field::new("item", item, true)))
    }

    #[test]
    fn a_batch_takes_no_more_than_it_may_however_short_its_rows_are() {
        let columns = (0..1_000).map(|column| Field::new(format!("c{column}"), DataType::Int64, true));
        let mut rows = rows(columns.collect(), &format!("[{}{{}}]", "{},".repeat(999)));
        let mut decoded = 0;
        while let Some(batch) = rows.next().unwrap() {
            assert_eq!(rows.large(), 0);
            assert!(batch.num_rows() < 300);
            decoded += batch.num_rows();
        }
        assert_eq!(decoded, 1_000);
    }

    #[test]
    fn a_row_that_takes_much_is_told_before_it_is_decoded() {
        let members: Vec<_> =
            (0..10).map(|member| Field::new(format!("m{member}"), DataType::Int64, true)).collect();
        let vector = DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float64, true)), 1_000);
        for (item, text) in [
            (DataType::Struct(Fields::from(members)), "{}"),
            (vector, "null"),
            (DataType::Int64, "7"),
            (list(DataType::Int64), "[]"),
        ] {
            let body = format!("[{{}},{{\"l\": [{}{text}]}},{{}}]", format!("{text},").repeat(400_000));
            let body = if text == "null" { body.replace(&"null,".repeat(390_000), "") } else { body };
            let mut rows = rows(vec![Field::new("l", list(item.clone()), true)], &body);
            assert_eq!((rows.next().unwrap().unwrap().num_rows(), rows.large() > BATCH_BYTES), (1, true));
            let large = rows.large();
            let batch = rows.next().unwrap().unwrap();
            assert_eq!((batch.num_rows(), rows.large()), (1, 0));
            assert!(batch.get_array_memory_size() <= large, "{item}: {large}");
        }
    }
}
