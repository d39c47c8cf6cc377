//! Rows in the body of a request, by its content type: JSON, lines of JSON, CSV, or an Arrow stream.

use std::{io::Cursor, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch, cast::AsArray};
use arrow_buffer::Buffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_ipc::reader::StreamDecoder;
use arrow_json::{ReaderBuilder, reader::Decoder};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use futures::stream;

use super::{
    body::{self, Whole},
    door::Visit,
    nesting,
    problem::Problem,
};
use crate::{
    engine::{Error, Posted, QueryCard, check_expansion},
    failure::Kind,
};

/// Rows that are decoded at once.
const BATCH_ROWS: usize = 8_192;

/// How a body says its rows.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Ndjson,
    Csv,
    Arrow,
}

/// The rows of a body as the input of a query.
pub(super) async fn read(
    visit: &Visit,
    card: &QueryCard,
    headers: &HeaderMap,
    body: Whole,
) -> Result<Posted, Problem> {
    let form = form(headers)?;
    let schema = Arc::clone(&card.input_schema);
    let Whole { bytes, mut room } = body;
    // Decoding takes the time of thousands of values, and hostile Arrow data may panic. It goes on when its client has
    // gone, and holds its room for as long.
    let decoding = tokio::task::spawn_blocking(move || (decode(form, &schema, &bytes), room));
    let decoded;
    (decoded, room) = decoding.await.map_err(|_| Error::BadArrow("the body is malformed".into()))?;
    let (schema, batches) = decoded
        .map_err(|error| Problem::bad_request("BAD_BODY", &format!("the rows cannot be read: {error}")))?;
    batches.iter().try_for_each(check_expansion)?;
    room.reuse();
    let batches = stream::iter(batches.into_iter().map(Ok));
    Ok(visit.api.engine.take_posted(&card.name, schema, batches, room).await?.as_input_of(card)?)
}

fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    match body::media_type(headers).as_str() {
        "" | "application/json" => Ok(Form::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Form::Ndjson),
        "text/csv" => Ok(Form::Csv),
        "application/vnd.apache.arrow.stream" => Ok(Form::Arrow),
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::BadRequest,
            "UNSUPPORTED_MEDIA_TYPE",
            &format!(
                "rows of {other} are not understood; send application/json, application/x-ndjson, text/csv or \
                 application/vnd.apache.arrow.stream"
            ),
        )),
    }
}

type Decoded = Result<(SchemaRef, Vec<RecordBatch>), ArrowError>;

fn decode(form: Form, schema: &SchemaRef, body: &Bytes) -> Decoded {
    match form {
        Form::Json => from_json(schema, body),
        Form::Ndjson => from_lines(schema, body),
        Form::Csv => from_csv(body),
        Form::Arrow => from_arrow(body),
    }
}

/// One array of rows. A column that the query does not know is an error; one that a row lacks is null.
fn from_json(schema: &SchemaRef, body: &[u8]) -> Decoded {
    let no_array = || ArrowError::JsonError("the body has to be one array of objects".into());
    let row = Field::new_list_field(DataType::Struct(as_written(schema).fields), false);
    let array = Field::new("rows", DataType::List(Arc::new(row)), false);
    // More values than one there must not be; the number says how much is set aside for what is read.
    nesting::check(body)?;
    let mut decoder = json_reader(ReaderBuilder::new_with_field(array), BATCH_ROWS)?;
    let read = decoder.decode(body)?;
    let array = decoder.flush()?.filter(|array| array.num_rows() == 1 && read == body.len());
    let rows = RecordBatch::from(array.ok_or_else(no_array)?.column(0).as_list::<i32>().values().as_struct());
    // In pieces, whose memory is asked for one after the other.
    let starts = (0..rows.num_rows()).step_by(BATCH_ROWS);
    let pieces: Vec<_> =
        starts.map(|start| rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start))).collect();
    as_input(schema, &pieces)
}

/// A row a line. The same holds for its columns.
fn from_lines(schema: &SchemaRef, mut body: &[u8]) -> Decoded {
    nesting::check(body)?;
    let mut decoder = json_reader(ReaderBuilder::new(Arc::new(as_written(schema))), BATCH_ROWS)?;
    let mut batches = Vec::new();
    while !body.is_empty() {
        body = &body[decoder.decode(body)?..];
        batches.extend(decoder.flush()?);
    }
    as_input(schema, &batches)
}

fn json_reader(builder: ReaderBuilder, batch_size: usize) -> Result<Decoder, ArrowError> {
    builder.with_batch_size(batch_size).with_strict_mode(true).with_coerce_primitive(true).build_decoder()
}

/// Values are read as the texts that they are: numbers exactly, and everything else by DuckDB, as in CSV. Only what is
/// nested is read by its type, and floating point, of which a text means the same.
fn as_written(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| {
        match field.data_type().is_nested() || field.data_type().is_floating() {
            true => Arc::new(Field::clone(field).with_nullable(true)),
            false => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
        }
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// What was read as a text, in the type in which the query takes it.
fn as_input(schema: &SchemaRef, batches: &[RecordBatch]) -> Decoded {
    let fields: Vec<_> = schema.fields().iter().map(|field| Arc::new(as_read(field))).collect();
    let read = Arc::new(Schema::new(fields));
    let batches = batches.iter().map(|batch| numbers(batch, &read)).collect::<Result<_, _>>()?;
    Ok((read, batches))
}

/// How a column leaves JSON: integers and floating point as such, other values as texts.
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
        cast_with_options(column, field.data_type(), &strictly)
            .map_err(|error| ArrowError::JsonError(format!("column {:?}: {error}", field.name())))
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// All columns as texts, under the names of the first line; the query's types are DuckDB's to read. What is empty is
/// null.
fn from_csv(body: &[u8]) -> Decoded {
    let format = arrow_csv::reader::Format::default().with_header(true);
    let (names, _) = format.infer_schema(Cursor::new(body), Some(0))?;
    let fields: Vec<_> =
        names.fields().iter().map(|field| Field::new(field.name().trim(), DataType::Utf8, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let reader = arrow_csv::ReaderBuilder::new(Arc::clone(&schema))
        .with_header(true)
        .with_batch_size(BATCH_ROWS)
        .build(Cursor::new(body))?;
    Ok((schema, reader.collect::<Result<_, _>>()?))
}

/// By the decoder that takes what there is: a reader would set aside whatever the stream says of its lengths.
fn from_arrow(body: &Bytes) -> Decoded {
    let (mut decoder, mut rest) = (StreamDecoder::new(), Buffer::from(body.clone()));
    let mut batches = Vec::new();
    while let Some(batch) = decoder.decode(&mut rest)? {
        batches.push(batch);
    }
    decoder.finish()?;
    let schema = decoder.schema().ok_or_else(|| ArrowError::IpcError("there is no schema".into()))?;
    Ok((schema, batches))
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, cast::AsArray, types::Int64Type};

    use super::*;

    fn schema() -> SchemaRef {
        let fields = [Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
        Arc::new(Schema::new(fields.to_vec()))
    }

    fn ids(form: Form, body: &str) -> Vec<i64> {
        let (_, batches) = decode(form, &schema(), &Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let ids =
            batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        ids.collect()
    }

    #[test]
    fn json_is_an_array_or_lines() {
        let array = r#"[{"id": 9007199254740993, "name": "a"}, {"id": 2}]"#;
        assert_eq!(ids(Form::Json, array), [9_007_199_254_740_993, 2]);
        assert_eq!(ids(Form::Ndjson, "{\"id\": 1}\n\n{\"id\": 2}\n"), [1, 2]);
        assert_eq!(ids(Form::Json, "[]"), [0; 0]);
        let many: Vec<_> = (0..20_000).map(|id| format!("{{\"id\":{id}}}")).collect();
        assert_eq!(ids(Form::Ndjson, &many.join("\n")).len(), 20_000);
        assert_eq!(ids(Form::Json, &format!("[{}]", many.join(","))).len(), 20_000);
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for (form, body) in [
            (Form::Json, "{\"id\": 1}"),
            (Form::Json, "[1]"),
            (Form::Json, "[{\"id\": \"x\"}]"),
            (Form::Json, "[{\"id\": 1.5}]"),
            (Form::Json, "[{\"id\": 9223372036854775808}]"),
            (Form::Json, "[{\"wings\": 2}]"),
            (Form::Json, "[{\"id\": 1}"),
            (Form::Json, "[{\"id\": 1}, null]"),
            (Form::Json, "[{\"id\": 1}] [{\"id\": 2}]"),
            (Form::Json, "[] [] []"),
            (Form::Json, "[{\"id\": 1}], \"rows\": []"),
            (Form::Json, ""),
            (Form::Json, "null"),
            (Form::Ndjson, "{\"id\": 1"),
            (Form::Arrow, "not Arrow"),
            (Form::Csv, "id,name\n1,a,b\n"),
        ] {
            assert!(decode(form, &schema(), &Bytes::copy_from_slice(body.as_bytes())).is_err(), "{body}");
        }
    }

    #[test]
    fn what_is_nested_very_deeply_is_refused_and_nothing_overflows() {
        let (deep, end) = ("[".repeat(500_000), "]".repeat(500_000));
        for (form, body) in [
            (Form::Json, deep.clone()),
            (Form::Json, format!("{deep}{end}")),
            (Form::Json, format!("[{{\"id\": {deep}{end}}}]")),
            (Form::Ndjson, format!("{{\"id\": {deep}{end}}}\n")),
        ] {
            let refused = decode(form, &schema(), &Bytes::from(body)).unwrap_err().to_string();
            assert!(refused.contains("nested deeper"), "{refused}");
        }
    }

    #[test]
    fn csv_has_the_names_in_its_first_line_and_empty_is_null() {
        let (schema, batches) =
            decode(Form::Csv, &schema(), &Bytes::from_static(b"name,id\n\"a,b\",1\n,2\n")).unwrap();
        assert_eq!(schema.field(0).name(), "name");
        let names = batches[0].column(0).as_string::<i32>();
        assert_eq!((names.value(0), names.is_null(1)), ("a,b", true));
    }
}
