//! The columns of rows in JSON: how their values are written, and how they leave it.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_json::{ReaderBuilder, reader::Decoder};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};

use super::json_objects::Object;
use crate::engine::{excerpt, type_name};

/// The columns of a query's input.
pub(super) struct Columns {
    /// As the decoder reads them. Values are read as the texts that they are: numbers exactly, and everything else by
    /// DuckDB, as in CSV. Only what is nested is read by its type, but for the whole numbers in it, whose fractions the
    /// decoder would cut off; and floating point, of which a text means the same.
    written: SchemaRef,
    /// As they leave JSON: integers, floating point and what is nested as such, other values as texts.
    pub(super) read: SchemaRef,
}

impl Columns {
    pub(super) fn of(input: &Schema) -> Self {
        let written = input.fields().iter().map(|field| as_written(field));
        let read = input.fields().iter().map(|field| as_read(field));
        Self {
            written: Arc::new(Schema::new(written.collect::<Vec<_>>())),
            read: Arc::new(Schema::new(read.collect::<Vec<_>>())),
        }
    }

    /// A decoder of so many rows at once.
    pub(super) fn decoder(&self, rows: usize) -> Result<Decoder, ArrowError> {
        let builder = ReaderBuilder::new(Arc::clone(&self.written)).with_batch_size(rows);
        builder.with_strict_mode(true).with_coerce_primitive(true).build_decoder()
    }

    /// Decodes some rows; `None` for none.
    pub(super) fn decode(
        &self,
        decoder: &mut Decoder,
        body: &[u8],
        rows: &[Object],
    ) -> Result<Option<RecordBatch>, ArrowError> {
        for row in rows {
            decoder.decode(&body[row.range.clone()])?;
        }
        decoder.flush()?.map(|batch| numbers(&batch, &self.read)).transpose()
    }

    /// The error with the number of its row, of which the decoder says nothing: so they are decoded one by one.
    pub(super) fn locate(
        &self,
        body: &[u8],
        rows: &[Object],
        before: usize,
        error: ArrowError,
    ) -> ArrowError {
        let Ok(mut decoder) = self.decoder(1) else { return error };
        let alone = |row: &Object| self.decode(&mut decoder, body, std::slice::from_ref(row)).err();
        let found = rows.iter().map(alone).enumerate().find_map(|(at, error)| Some((at, error?)));
        let Some((at, error)) = found else { return error };
        let text = match error {
            ArrowError::JsonError(text) => text,
            other => other.to_string(),
        };
        ArrowError::JsonError(format!("row {}: {text}", before + at + 1))
    }
}

fn as_written(field: &Field) -> FieldRef {
    let data_type = field.data_type();
    let written = match data_type.is_nested() {
        true => nested(data_type),
        false if data_type.is_floating() => data_type.clone(),
        false => DataType::Utf8,
    };
    Arc::new(Field::new(field.name(), written, true))
}

/// What is nested, with texts for its whole numbers.
fn nested(data_type: &DataType) -> DataType {
    let of = |field: &FieldRef| Arc::new(Field::clone(field).with_data_type(nested(field.data_type())));
    match data_type {
        DataType::List(item) => DataType::List(of(item)),
        DataType::LargeList(item) => DataType::LargeList(of(item)),
        DataType::FixedSizeList(item, items) => DataType::FixedSizeList(of(item), *items),
        DataType::Map(entries, sorted) => DataType::Map(of(entries), *sorted),
        DataType::Struct(members) => DataType::Struct(members.iter().map(of).collect()),
        whole if whole.is_integer() => DataType::Utf8,
        other => other.clone(),
    }
}

fn as_read(field: &Field) -> Field {
    let data_type = field.data_type();
    let stays = data_type.is_nested() || data_type.is_integer() || data_type.is_floating();
    Field::new(field.name(), if stays { data_type.clone() } else { DataType::Utf8 }, true)
}

/// Texts as the numbers that they are; what is none, or has a fraction where there is no place for it, is refused.
fn numbers(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let strictly = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        let number = cast_with_options(column, field.data_type(), &strictly);
        number.map_err(|_| ArrowError::JsonError(misfit(column, field)))
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// That a value is none of its column's; the column is of a single row once the row is looked for.
fn misfit(column: &ArrayRef, field: &Field) -> String {
    let value = match column.as_string_opt::<i32>() {
        Some(texts) if texts.len() == 1 => format!("{:?}", excerpt(texts.value(0))),
        _ => "a value".to_owned(),
    };
    format!("it has {value} in {:?}, which {} does not hold", field.name(), type_name(field))
}
