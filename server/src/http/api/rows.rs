//! Rows in the body of a request, by its content type: JSON, lines of JSON, CSV, or an Arrow stream.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode},
};

use super::{
    arrow_rows::ArrowRows,
    body::{self, Whole},
    csv_rows::CsvRows,
    json_objects::Objects,
    json_rows::JsonRows,
    problem::Problem,
};
use crate::{
    engine::{Error, Posted, Posting, QueryCard, Rows, check_expansion, words_of_decoder},
    failure::Kind,
};

/// Rows that are decoded at once.
pub(super) const BATCH_ROWS: usize = 8_192;

/// Rows that are decoded some at a time, so that their memory can be asked for in between.
pub(super) trait Decode: Send {
    /// The next ones; `None` at the end.
    ///
    /// # Errors
    /// [`ArrowError`] for what is no row.
    fn next(&mut self) -> Result<Option<RecordBatch>, ArrowError>;

    /// The bytes of the body that have become rows.
    fn read(&self) -> usize;

    /// What the next rows may take, where that is so much that it has to be asked for before.
    fn large(&self) -> usize {
        0
    }
}

/// How a body says its rows.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Ndjson,
    Csv,
    Arrow,
}

/// The rows of a body as the input of a query. Some are decoded, and their memory is asked for, in turn: a short body
/// may stand for many rows. They take the place of the text that they were read from.
pub(super) async fn read(card: &QueryCard, headers: &HeaderMap, body: Whole) -> Result<Posted, Problem> {
    let form = form(headers)?;
    let input = Arc::clone(&card.input_schema);
    let Whole { bytes, room } = body;
    let (opened, room) = decoding(move || (open(form, &input, bytes), room)).await?;
    let (schema, mut rows) = opened.map_err(unreadable)?;
    let mut posting = Posting::begin(&card.name, &schema, room)?;
    let mut read = 0;
    loop {
        let large = rows.large();
        posting.room().hold(large).await?;
        let next;
        (next, rows, posting) = decoding(move || (rows.next(), rows, posting)).await?;
        posting.room().reuse(large + (rows.read() - read));
        read = rows.read();
        let Some(batch) = next.map_err(unreadable)? else { break };
        check_expansion(&batch)?;
        posting.add(Rows::from(batch)).await?;
    }
    drop(rows);
    Ok(posting.end().as_input_of(card)?)
}

/// Decoding takes the time of thousands of values, and hostile Arrow data may panic. It goes on when its client has gone,
/// and holds its room for as long.
async fn decoding<T: Send + 'static>(decode: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let decoded = tokio::task::spawn_blocking(decode).await;
    Ok(decoded.map_err(|_| Error::BadArrow("the body is malformed".into()))?)
}

fn unreadable(error: ArrowError) -> Problem {
    Problem::bad_request("BAD_BODY", &format!("the rows cannot be read: {}", words_of_decoder(&error)))
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

type Opened = (SchemaRef, Box<dyn Decode>);

/// The columns in which the rows of a body come, and the rows.
fn open(form: Form, input: &Schema, body: Bytes) -> Result<Opened, ArrowError> {
    match form {
        Form::Json => json(JsonRows::open(input, body, Objects::of_array())?),
        Form::Ndjson => json(JsonRows::open(input, body, Objects::of_lines())?),
        Form::Csv => {
            let rows = CsvRows::open(input, body)?;
            Ok((rows.schema(), Box::new(rows)))
        }
        Form::Arrow => {
            let (schema, rows) = ArrowRows::open(body)?;
            Ok((schema, Box::new(rows)))
        }
    }
}

fn json(rows: JsonRows) -> Result<Opened, ArrowError> {
    Ok((rows.schema(), Box::new(rows)))
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, cast::AsArray, types::Int64Type};
    use arrow_schema::{DataType, Field};

    use super::*;

    fn schema() -> SchemaRef {
        let fields = [Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)];
        Arc::new(Schema::new(fields.to_vec()))
    }

    fn decode(form: Form, input: &Schema, body: &str) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let (bytes, (schema, mut rows)) = (body.len(), open(form, input, body)?);
        let (mut batches, mut read) = (Vec::new(), 0);
        while let Some(batch) = rows.next()? {
            batches.push(batch);
            assert!(rows.read() > read && rows.read() <= bytes);
            read = rows.read();
        }
        assert_eq!(rows.read(), bytes);
        Ok((schema, batches))
    }

    fn ids(form: Form, body: &str) -> Vec<i64> {
        let (_, batches) = decode(form, &schema(), body).unwrap();
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
            assert!(decode(form, &schema(), body).is_err(), "{body}");
        }
    }

    #[test]
    fn numbers_of_json_are_never_rounded_and_refused_by_row_and_column() {
        let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
        let entries = DataType::Struct(
            vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int16, true)].into(),
        );
        let member = |name: &str, data_type| Field::new(name, data_type, true);
        let nested =
            DataType::Struct(vec![member("n", DataType::UInt8), member("f", DataType::Float64)].into());
        let array = DataType::FixedSizeList(Arc::new(member("item", DataType::Int32)), 2);
        let columns = vec![
            member("id", DataType::Int64),
            member("l", list(DataType::Int64)),
            member("s", nested),
            member("a", array),
            member("m", DataType::Map(Arc::new(Field::new("entries", entries, false)), false)),
        ];
        let schema = Schema::new(columns);
        let whole = r#"{"id": 7, "l": [9007199254740993, null], "s": {"n": 255, "f": 0.5}, "a": [1, 2], "m": {"k": -1}}"#;
        let (read, batches) = decode(Form::Ndjson, &schema, whole).unwrap();
        assert_eq!(read.fields(), schema.fields());
        let list = batches[0].column(1).as_list::<i32>().value(0);
        assert_eq!(list.as_primitive::<Int64Type>().value(0), 9_007_199_254_740_993);
        for (wrong, column) in [
            (r#"{"id": 1.5}"#, "it has \"1.5\" in \"id\", which BIGINT does not hold"),
            (r#"{"l": [1, 1.5]}"#, "in \"l\""),
            (r#"{"l": [true]}"#, "in \"l\""),
            (r#"{"s": {"n": 255.9}}"#, "in \"s\""),
            (r#"{"s": {"n": 256}}"#, "in \"s\""),
            (r#"{"a": [0.1, 2]}"#, "in \"a\""),
            (r#"{"m": {"k": 0.9}}"#, "in \"m\""),
            (r#"{"wings": 2}"#, "wings"),
        ] {
            let lines = format!("{}{wrong}\n{{}}", "{}\n".repeat(BATCH_ROWS + 1));
            let refused = decode(Form::Ndjson, &schema, &lines).unwrap_err().to_string();
            assert!(refused.contains(&format!("row {}: ", BATCH_ROWS + 2)), "{refused}");
            assert!(refused.contains(column), "{wrong}: {refused}");
        }
    }

    #[test]
    fn what_is_nested_very_deeply_is_refused_and_nothing_overflows() {
        let (deep, end) = ("[".repeat(500_000), "]".repeat(500_000));
        for (form, body) in [
            (Form::Json, format!("[{{\"id\": {deep}{end}}}]")),
            (Form::Ndjson, format!("{{\"id\": {deep}{end}}}\n")),
        ] {
            let refused = decode(form, &schema(), &body).unwrap_err().to_string();
            assert!(refused.contains("nested deeper"), "{refused}");
        }
        assert!(decode(Form::Json, &schema(), &format!("{deep}{end}")).is_err());
    }

    #[test]
    fn csv_has_the_names_in_its_first_line_and_empty_is_null() {
        let (schema, batches) = decode(Form::Csv, &schema(), "name,id\n\"a,b\",1\n,2\n").unwrap();
        assert_eq!(schema.field(0).name(), "name");
        let names = batches[0].column(0).as_string::<i32>();
        assert_eq!((names.value(0), names.is_null(1)), ("a,b", true));
    }

    #[test]
    fn csv_is_read_by_the_rules_of_its_quotes_and_lines() {
        let text = "\u{feff}\r\nid, name\r\n\n1,\"a,\"\"b\"\"\nc\"\r2,\"\"";
        let (schema, batches) = decode(Form::Csv, &schema(), text).unwrap();
        assert_eq!((schema.field(0).name().as_str(), schema.field(1).name().as_str()), ("id", "name"));
        let (ids, names) = (batches[0].column(0).as_string::<i32>(), batches[0].column(1).as_string::<i32>());
        assert_eq!((ids.value(0), names.value(0)), ("1", "a,\"b\"\nc"));
        assert_eq!((ids.value(1), names.is_null(1), batches[0].num_rows()), ("2", true, 2));
    }

    #[test]
    fn csv_whose_values_end_somewhere_else_than_they_seem_is_refused_by_its_line() {
        for (body, told) in [
            ("id,name\n1,\"a\n2,b\n", "line 2 opens a quote that is never closed"),
            ("id,name\n1,\"a\n2,\"b\n", "line 3 has text behind a closing quote"),
            ("id,\"name\n1,a\n", "line 1 opens a quote that is never closed"),
            ("id,name\n1,a\n2\n", "line 3 has 1 field, and there are 2 columns"),
            ("id,name\n1,a,b\n", "line 2 has more fields than there are columns, 2"),
            ("id\n1\n\n2\n", "line 3 is empty, which is no row"),
        ] {
            let refused = decode(Form::Csv, &schema(), body).unwrap_err().to_string();
            assert!(refused.contains(told), "{body:?}: {refused}");
        }
        let body = Bytes::from_static(b"id,name\n1,\xe9\n");
        let (_, mut rows) = open(Form::Csv, &schema(), body).unwrap();
        assert!(rows.next().unwrap_err().to_string().contains("line 2 is no text in UTF-8"));
    }

    #[test]
    fn rows_are_decoded_only_as_they_are_asked_for() {
        let objects = "{},".repeat(20_000);
        for (form, body) in [
            (Form::Json, format!("[{objects}{{\"wings\": 2}}]")),
            (Form::Ndjson, format!("{}{{\"wings\": 2}}", "{}\n".repeat(20_000))),
            (Form::Csv, format!("id,name\n{}1,2,3\n", ",\n".repeat(20_000))),
        ] {
            let (_, mut rows) = open(form, &schema(), Bytes::from(body)).unwrap();
            for _ in 0..2 {
                assert_eq!(rows.next().unwrap().unwrap().num_rows(), BATCH_ROWS);
            }
            assert!(rows.next().is_err());
        }
    }

    #[test]
    fn a_first_line_with_more_columns_than_there_are_is_refused_before_its_names_are_read() {
        let refused = decode(Form::Csv, &schema(), &",".repeat(1 << 20)).unwrap_err().to_string();
        assert!(refused.contains("line 1 has more fields than there are columns, 2"), "{refused}");
        assert!(refused.contains("among them id, name"), "{refused}");
    }
}
