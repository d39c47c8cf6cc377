//! Large Arrow batches, straight from DuckDB's vectors.
//!
//! DuckDB's own export makes arrays of every vector of 2,048 rows, and those have to be copied once more to become a batch as
//! the network wants it. Of plain types the vectors are what Arrow has, or nearly so: their rows are copied once, each behind
//! the one before, into the buffers of the large batch. Source of the layouts: `duckdb.h` ("Vector Interface", `duckdb_string_t`)
//! and the Arrow specification, "Columnar Format".

use std::{ptr, slice, sync::Arc};

use arrow_array::{ArrayRef, RecordBatch, make_array};
use arrow_buffer::{
    BooleanBuffer, BooleanBufferBuilder, Buffer, MutableBuffer, NullBuffer, NullBufferBuilder,
};
use arrow_data::ArrayDataBuilder;
use arrow_schema::{DataType, SchemaRef};
use libduckdb_sys as c;

use super::{DuckError, VECTOR_ROWS, arrow::bad_arrow, logical::LogicalType};

/// The bytes of texts in a vector that are gathered at the most. Larger ones are exported by DuckDB, which knows what to do with
/// those that no array can hold.
const MOST_TEXT: usize = 64 << 20;

/// So long a text is inside of a `duckdb_string_t`.
const INLINED: usize = 12;

/// How a column's vectors are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Values of so many bytes, as Arrow has them.
    Fixed(usize),
    /// A byte a truth, where Arrow has a bit.
    Truths,
    /// Integers of so many bytes, where Arrow has 16.
    Decimal(usize),
    /// `duckdb_string_t`.
    Texts,
}

impl Layout {
    /// `None` where DuckDB has to export the column.
    fn of(logical: &LogicalType, data_type: &DataType) -> Option<Self> {
        let id = match (logical, data_type) {
            (LogicalType::Decimal { width, .. }, DataType::Decimal128(_, _)) => {
                return Some(Self::Decimal(match width {
                    ..=4 => 2,
                    5..=9 => 4,
                    10..=18 => 8,
                    _ => 16,
                }));
            }
            (LogicalType::Plain(id), _) => *id,
            _ => return None,
        };
        let fixed = match id {
            c::DUCKDB_TYPE_DUCKDB_TYPE_BOOLEAN if *data_type == DataType::Boolean => {
                return Some(Self::Truths);
            }
            c::DUCKDB_TYPE_DUCKDB_TYPE_VARCHAR if *data_type == DataType::Utf8 => return Some(Self::Texts),
            c::DUCKDB_TYPE_DUCKDB_TYPE_BLOB if *data_type == DataType::Binary => return Some(Self::Texts),
            c::DUCKDB_TYPE_DUCKDB_TYPE_TINYINT | c::DUCKDB_TYPE_DUCKDB_TYPE_UTINYINT => 1,
            c::DUCKDB_TYPE_DUCKDB_TYPE_SMALLINT | c::DUCKDB_TYPE_DUCKDB_TYPE_USMALLINT => 2,
            c::DUCKDB_TYPE_DUCKDB_TYPE_INTEGER
            | c::DUCKDB_TYPE_DUCKDB_TYPE_UINTEGER
            | c::DUCKDB_TYPE_DUCKDB_TYPE_FLOAT
            | c::DUCKDB_TYPE_DUCKDB_TYPE_DATE => 4,
            c::DUCKDB_TYPE_DUCKDB_TYPE_BIGINT
            | c::DUCKDB_TYPE_DUCKDB_TYPE_UBIGINT
            | c::DUCKDB_TYPE_DUCKDB_TYPE_DOUBLE
            | c::DUCKDB_TYPE_DUCKDB_TYPE_TIME
            | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP
            | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_S
            | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_MS
            | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_NS
            | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_TZ => 8,
            _ => return None,
        };
        (data_type.primitive_width() == Some(fixed)).then_some(Self::Fixed(fixed))
    }
}

/// How the rows of a result are gathered.
pub(super) struct Gatherer {
    layouts: Vec<Layout>,
    schema: SchemaRef,
    /// The bytes of each column's values in the last batch, which the next one will need, too.
    sizes: Vec<usize>,
}

impl Gatherer {
    /// `None` where a column has to be exported by DuckDB.
    pub(super) fn new(types: &[LogicalType], schema: &SchemaRef) -> Option<Self> {
        let columns = types.iter().zip(schema.fields());
        let layouts: Vec<_> =
            columns.map(|(logical, field)| Layout::of(logical, field.data_type())).collect::<Option<_>>()?;
        let sizes = vec![0; layouts.len()];
        (!layouts.is_empty()).then(|| Self { layouts, schema: Arc::clone(schema), sizes })
    }

    /// A batch without rows yet.
    pub(super) fn begin(&self) -> Gathered {
        let columns = self.layouts.iter().zip(&self.sizes);
        Gathered { columns: columns.map(|(layout, size)| Column::new(*layout, *size)).collect(), rows: 0 }
    }

    /// The batch.
    pub(super) fn finish(&mut self, gathered: Gathered) -> Result<RecordBatch, DuckError> {
        for (size, column) in self.sizes.iter_mut().zip(&gathered.columns) {
            *size = column.values.len();
        }
        let fields = self.schema.fields().iter();
        let columns = gathered.columns.into_iter().zip(fields);
        let columns =
            columns.map(|(column, field)| column.finish(field.data_type(), gathered.rows)).collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(bad_arrow)
    }
}

/// Rows that become a batch.
pub(super) struct Gathered {
    columns: Vec<Column>,
    pub(super) rows: usize,
}

impl Gathered {
    /// The bytes of its columns, but for the bits of NULLs.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |column: &Column| {
            column.values.len() + column.truths.len() / 8 + column.offsets.len() * size_of::<i32>()
        };
        self.columns.iter().map(bytes).sum()
    }

    /// Adds the rows of a chunk, unless it has too much text to be gathered.
    ///
    /// # Safety
    /// `chunk` is live, has the columns that the gatherer was made for, and its vectors are flat.
    pub(super) unsafe fn push(&mut self, chunk: c::duckdb_data_chunk) -> bool {
        let columns = self.columns.iter().enumerate();
        // SAFETY: by the contract above.
        let vectors: Vec<_> =
            columns.map(|(index, column)| unsafe { Vector::of(chunk, index, column.layout) }).collect();
        if vectors.iter().map(|vector| vector.text).sum::<usize>() > MOST_TEXT {
            return false;
        }
        for (column, vector) in self.columns.iter_mut().zip(&vectors) {
            // SAFETY: each vector is that of its column.
            unsafe { column.push(vector) };
        }
        self.rows += vectors.first().map_or(0, |vector| vector.rows);
        true
    }
}

/// A vector of a chunk, with its rows.
struct Vector {
    data: *const u8,
    rows: usize,
    /// A bit a row; `None` where all are valid.
    validity: Option<*const u64>,
    /// The bytes of its texts, if it is of texts.
    text: usize,
}

impl Vector {
    /// # Safety
    /// `chunk` is live and outlives this, has a column `index` of this layout, and its vectors are flat.
    unsafe fn of(chunk: c::duckdb_data_chunk, index: usize, layout: Layout) -> Self {
        // SAFETY: by the contract above.
        unsafe {
            let vector = c::duckdb_data_chunk_get_vector(chunk, index as c::idx_t);
            let validity = c::duckdb_vector_get_validity(vector).cast_const();
            let mut vector = Self {
                data: c::duckdb_vector_get_data(vector).cast::<u8>().cast_const(),
                rows: c::duckdb_data_chunk_get_size(chunk) as usize,
                validity: (!validity.is_null()).then_some(validity),
                text: 0,
            };
            if layout == Layout::Texts {
                vector.text = vector.text_bytes();
            }
            vector
        }
    }

    /// # Safety
    /// The vector is of values of this type.
    unsafe fn values<T>(&self) -> &[T] {
        // SAFETY: by the contract above; what DuckDB hands out are copies in memory of its
        // allocator, which is aligned for all of them.
        unsafe { slice::from_raw_parts(self.data.cast(), self.rows) }
    }

    fn is_valid(&self, row: usize) -> bool {
        // SAFETY: the bits are those of the vector's rows.
        self.validity.is_none_or(|words| unsafe { *words.add(row / 64) } >> (row % 64) & 1 == 1)
    }

    fn nulls(&self) -> Option<NullBuffer> {
        let words = self.validity?;
        // SAFETY: the words hold a bit for each row of the vector.
        let words = unsafe { slice::from_raw_parts(words, self.rows.div_ceil(64)) };
        Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_slice_ref(words), 0, self.rows)))
    }

    /// # Safety
    /// The vector is of texts.
    unsafe fn text_bytes(&self) -> usize {
        // SAFETY: by the contract above; the length of a text that is valid is set in both of its forms.
        unsafe {
            let texts = self.values::<c::duckdb_string_t>().iter().enumerate();
            let valid = texts.filter(|(row, _)| self.is_valid(*row));
            valid.map(|(_, text)| text.value.inlined.length as usize).sum()
        }
    }
}

/// A column that becomes an array.
struct Column {
    layout: Layout,
    values: MutableBuffer,
    truths: BooleanBufferBuilder,
    /// Where each text ends.
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Column {
    fn new(layout: Layout, size: usize) -> Self {
        let offsets = if layout == Layout::Texts { vec![0] } else { Vec::new() };
        Self {
            layout,
            values: MutableBuffer::with_capacity(size),
            truths: BooleanBufferBuilder::new(0),
            offsets,
            nulls: NullBufferBuilder::new(VECTOR_ROWS),
        }
    }

    /// # Safety
    /// The vector is one of this column.
    unsafe fn push(&mut self, vector: &Vector) {
        match vector.nulls() {
            Some(nulls) => self.nulls.append_buffer(&nulls),
            None => self.nulls.append_n_non_nulls(vector.rows),
        }
        // SAFETY: by the contract above the vector has the layout of the column.
        unsafe {
            match self.layout {
                Layout::Fixed(width) => {
                    self.values.extend_from_slice(slice::from_raw_parts(vector.data, vector.rows * width));
                }
                Layout::Truths => {
                    // A byte, because what stands for NULL may be no truth.
                    vector.values::<u8>().iter().for_each(|truth| self.truths.append(*truth != 0));
                }
                Layout::Decimal(2) => self.widen(vector.values::<i16>()),
                Layout::Decimal(4) => self.widen(vector.values::<i32>()),
                Layout::Decimal(8) => self.widen(vector.values::<i64>()),
                Layout::Decimal(_) => self.widen(vector.values::<i128>()),
                Layout::Texts => self.push_texts(vector),
            }
        }
    }

    fn widen<T: Copy + Into<i128>>(&mut self, values: &[T]) {
        self.values.reserve(values.len() * size_of::<i128>());
        self.values.extend(values.iter().map(|value| -> i128 { (*value).into() }));
    }

    /// # Safety
    /// The vector is of texts, of which those that are valid have at most [`MOST_TEXT`] bytes.
    unsafe fn push_texts(&mut self, vector: &Vector) {
        self.offsets.reserve(vector.rows);
        // SAFETY: by the contract above. What is copied has its place: the bytes of all texts, and behind them what the copy of
        // a short one takes more than it has.
        unsafe {
            self.values.reserve(vector.text + INLINED);
            let start = self.values.as_mut_ptr();
            let mut end = self.values.len();
            for (row, text) in vector.values::<c::duckdb_string_t>().iter().enumerate() {
                if vector.is_valid(row) {
                    let length = text.value.inlined.length as usize;
                    if length <= INLINED {
                        let inlined = text.value.inlined.inlined.as_ptr().cast::<u8>();
                        ptr::copy_nonoverlapping(inlined, start.add(end), INLINED);
                    } else {
                        let long = text.value.pointer.ptr.cast::<u8>();
                        ptr::copy_nonoverlapping(long, start.add(end), length);
                    }
                    end += length;
                }
                self.offsets.push(end as i32);
            }
            self.values.set_len(end);
        }
    }

    fn finish(mut self, data_type: &DataType, rows: usize) -> ArrayRef {
        let data = ArrayDataBuilder::new(data_type.clone()).len(rows).nulls(self.nulls.finish());
        let data = match self.layout {
            Layout::Truths => data.add_buffer(self.truths.finish().into_inner()),
            Layout::Texts => data.add_buffer(Buffer::from_vec(self.offsets)).add_buffer(self.values.into()),
            Layout::Fixed(_) | Layout::Decimal(_) => data.add_buffer(self.values.into()),
        };
        // SAFETY: there are as many values as rows, in the layout of the type; offsets grow, and end with the values; the texts
        // are DuckDB's, which holds nothing but UTF-8 in them.
        make_array(unsafe { data.build_unchecked() })
    }
}

#[cfg(test)]
mod tests {
    use arrow_select::concat::concat_batches;

    use super::*;
    use crate::engine::ffi::{Connection, Database, Rows};

    /// A value of a number `i` for each plain type, with what lies at the ends of their ranges now and then.
    const VALUES: [&str; 24] = [
        "i % 3 = 0",
        "(i % 256 - 128)::TINYINT",
        "(i * 7919 % 65536 - 32768)::SMALLINT",
        "CASE WHEN i % 2 = 0 THEN -2147483648 ELSE i END::INTEGER",
        "(i * -922337203685477)::BIGINT",
        "(i % 256)::UTINYINT",
        "(i % 65536)::USMALLINT",
        "(4294967295 - i)::UINTEGER",
        "(18446744073709551615 - i)::UBIGINT",
        "CASE WHEN i % 5 = 0 THEN 'nan' WHEN i % 5 = 1 THEN '-inf' ELSE i / 3 END::FLOAT",
        "(i / 7)::DOUBLE",
        "DATE '1900-01-01' + i::INTEGER",
        "TIME '00:00:00' + to_microseconds(i * 8640000)",
        "make_timestamp(i * 86400000001 - 9000000000000)",
        "make_timestamp(i * 1000000)::TIMESTAMP_S",
        "make_timestamp(i * 1000000)::TIMESTAMP_MS",
        "make_timestamp_ns(i * 1000000001)",
        "make_timestamp(i * 1000000)::TIMESTAMPTZ",
        "(i % 100 * -1)::DECIMAL(4, 2)",
        "(i * -3)::DECIMAL(9, 3)",
        "(i * 1000000007)::DECIMAL(18, 1)",
        "(i::HUGEINT * -100000000000000000000000000000)::DECIMAL(38, 4)",
        "left('\u{fc}' || i || ' and thirteen and more of it', (i % 40)::INTEGER)",
        "('\\x00\\xFF' || repeat('b', (i % 15)::INTEGER))::BLOB",
    ];

    fn connection() -> Connection {
        Database::open(None, &[]).unwrap().connect().unwrap()
    }

    fn run(connection: &Connection, sql: &str) -> Rows {
        connection.extract(sql).unwrap().prepare(0).unwrap().stream().unwrap()
    }

    fn all(next: impl FnMut() -> Option<RecordBatch>) -> Vec<RecordBatch> {
        std::iter::from_fn(next).collect()
    }

    fn gathered(connection: &Connection, sql: &str, rows: usize, bytes: usize) -> Vec<RecordBatch> {
        let mut result = run(connection, sql);
        all(|| result.next_of(rows, bytes).unwrap())
    }

    fn exported(connection: &Connection, sql: &str) -> RecordBatch {
        let mut result = run(connection, sql);
        let batches = all(|| result.next().unwrap());
        concat_batches(result.schema(), &batches).unwrap()
    }

    fn is_gathered(connection: &Connection, value: &str) -> bool {
        let sql = format!("SELECT {value} FROM (SELECT range AS i FROM range(5000))");
        gathered(connection, &sql, 5000, usize::MAX).len() == 1
    }

    #[test]
    fn rows_are_what_duckdb_exports() {
        let connection = connection();
        for nulls in ["false", "i % 7 = 3", "i < 3000", "true", "i = 9999"] {
            let columns = VALUES.iter().map(|value| format!("CASE WHEN {nulls} THEN NULL ELSE {value} END"));
            let columns: Vec<_> = columns.collect();
            let sql = format!("SELECT {} FROM (SELECT range AS i FROM range(10000))", columns.join(", "));
            let expected = exported(&connection, &sql);
            for rows in [1, 3000, 1_000_000] {
                let batches = gathered(&connection, &sql, rows, usize::MAX);
                assert_eq!(
                    batches.len(),
                    [5, 3, 1][usize::from(rows > 1) + usize::from(rows > 3000)],
                    "{nulls}"
                );
                assert_eq!(concat_batches(&expected.schema(), &batches).unwrap(), expected, "{nulls}");
                for column in batches.iter().flat_map(RecordBatch::columns) {
                    column.to_data().validate_full().unwrap();
                }
            }
        }
    }

    #[test]
    fn every_plain_type_is_gathered_and_no_other() {
        let connection = connection();
        for value in VALUES {
            assert!(is_gathered(&connection, value), "{value}");
        }
        for value in ["[i]", "{'a': i}", "i::HUGEINT", "uuid()", "to_days(i::INTEGER)", "i::BIT"] {
            assert!(!is_gathered(&connection, value), "{value}");
        }
    }

    #[test]
    fn a_batch_ends_at_its_bytes() {
        let sql = "SELECT range AS i, repeat('x', 1000) AS x FROM range(10000)";
        let batches = gathered(&connection(), sql, 1_000_000, 3 << 20);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [4096, 4096, 1808]);
    }

    #[test]
    fn texts_that_are_too_large_come_as_duckdb_exports_them() {
        let connection = connection();
        let length = MOST_TEXT / 2 + 1;
        let sql = format!(
            "SELECT i, CASE WHEN i BETWEEN 2100 AND 2101 THEN repeat('x', {length}) ELSE i::VARCHAR END AS x \
             FROM (SELECT range AS i FROM range(7000))"
        );
        let batches = gathered(&connection, &sql, 1_000_000, usize::MAX);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [2048, 2048, 2904]);
        let expected = exported(&connection, &sql);
        assert_eq!(concat_batches(&expected.schema(), &batches).unwrap(), expected);
    }

    #[test]
    fn what_arrow_has_no_place_for_is_found_in_its_row() {
        let connection = connection();
        let sql = "SELECT CASE WHEN range = 5000 THEN DATE 'infinity' ELSE DATE '2026-01-01' END AS d FROM range(9000)";
        for rows in [1, 100_000] {
            let mut result = run(&connection, sql);
            let error = loop {
                match result.next_of(rows, usize::MAX) {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("no error"),
                    Err(error) => break error,
                }
            };
            assert!(error.message.contains("row 5001"), "{}", error.message);
        }
    }

    #[test]
    fn an_end_is_an_end() {
        let connection = connection();
        let mut result = run(&connection, "SELECT 1 AS i");
        let mut next = || result.next_of(10, 10).unwrap().map(|batch| batch.num_rows());
        assert_eq!([next(), next(), next()], [Some(1), None, None]);
        let mut failing = run(
            &connection,
            "SELECT CASE WHEN range = 900000 THEN error('here') ELSE range END FROM range(1000000)",
        );
        let failed = std::iter::from_fn(|| failing.next_of(1, 1).transpose()).find_map(Result::err);
        assert!(failed.unwrap().message.contains("here"));
    }
}
