//! Rows as a table for people.

use std::{
    fmt::Display,
    io::{self, Write},
};

use arrow_array::{Array, RecordBatch, RecordBatchWriter};
use arrow_cast::{
    display::{ArrayFormatter, ArrayFormatterFactory, DisplayIndex, FormatOptions, FormatResult},
    pretty::pretty_format_batches_with_options,
};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};
use indicatif::HumanCount;
use merganser::Error;
use merganser_formats::temporal;

use super::human;

/// Collects rows up to a bound, because the widths of the columns depend on all of them, counts the
/// rest, and prints the table when it is closed.
pub(crate) struct TableWriter<W> {
    out: W,
    kept: Vec<RecordBatch>,
    kept_rows: usize,
    max_rows: usize,
    total_rows: u64,
}

impl<W: Write> TableWriter<W> {
    /// A table of at most `max_rows` rows.
    pub(crate) fn new(out: W, schema: SchemaRef, max_rows: usize) -> Self {
        Self {
            out,
            // Gives the header its columns when no row comes.
            kept: vec![RecordBatch::new_empty(schema)],
            kept_rows: 0,
            max_rows,
            total_rows: 0,
        }
    }
}

impl<W: Write> RecordBatchWriter for TableWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        self.total_rows += batch.num_rows() as u64;
        let room = self.max_rows - self.kept_rows;
        let taken = room.min(batch.num_rows());
        if taken > 0 {
            self.kept.push(batch.slice(0, taken));
            self.kept_rows += taken;
        }
        Ok(())
    }

    fn close(mut self) -> Result<(), ArrowError> {
        writeln!(self.out, "{}", format(&self.kept)?)?;
        let more = self.total_rows - self.kept_rows as u64;
        if more > 0 {
            writeln!(
                self.out,
                "{} more {} (of {}); --max-rows shows more of them, --format csv all",
                HumanCount(more),
                human::one_or_many(more, "row"),
                HumanCount(self.total_rows),
            )?;
        }
        Ok(())
    }
}

/// Prints one batch as a table on stdout.
pub(crate) fn print(batch: RecordBatch) -> Result<(), Error> {
    writeln!(io::stdout(), "{}", format(&[batch])?)?;
    Ok(())
}

fn format(batches: &[RecordBatch]) -> Result<impl Display + use<>, ArrowError> {
    // A text in the place of a value that could not be shown would pass for the value.
    let options = FormatOptions::default().with_display_error(false).with_null("NULL");
    pretty_format_batches_with_options(batches, &options.with_formatter_factory(Some(&Moments)))
}

/// Shows days and moments of every age, for which the calendar of the Arrow library is too short.
#[derive(Debug)]
struct Moments;

impl ArrayFormatterFactory for Moments {
    fn create_array_formatter<'a>(
        &self,
        array: &'a dyn Array,
        options: &FormatOptions<'a>,
        _: Option<&'a Field>,
    ) -> Result<Option<ArrayFormatter<'a>>, ArrowError> {
        let is_moment = matches!(array.data_type(), DataType::Date32 | DataType::Timestamp(_, _));
        let write = temporal(array).filter(|_| is_moment);
        let shown = |write| Shown { array, null: options.null(), write };
        Ok(write.map(|write| ArrayFormatter::new(Box::new(shown(write)), options.safe())))
    }
}

struct Shown<'a> {
    array: &'a dyn Array,
    null: &'a str,
    write: merganser_formats::Write<'a>,
}

impl DisplayIndex for Shown<'_> {
    fn write(&self, index: usize, out: &mut dyn std::fmt::Write) -> FormatResult {
        if self.array.is_null(index) {
            return Ok(out.write_str(self.null)?);
        }
        let mut text = Vec::new();
        (self.write)(index, &mut text);
        Ok(out.write_str(&String::from_utf8_lossy(&text))?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Date32Array, Int64Array, StructArray, TimestampMicrosecondArray};

    use super::*;

    fn render(max_rows: usize, batches: &[RecordBatch], schema: SchemaRef) -> String {
        let mut out = Vec::new();
        let mut table = TableWriter::new(&mut out, schema, max_rows);
        for batch in batches {
            table.write(batch).unwrap();
        }
        table.close().unwrap();
        String::from_utf8(out).unwrap()
    }

    fn batch(values: Vec<Option<i64>>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap()
    }

    #[test]
    fn nulls_are_shown_as_such() {
        let rows = batch(vec![Some(1), None]);
        let schema = rows.schema();
        let text = render(10, &[rows], schema);
        assert_eq!(text, "+------+\n| a    |\n+------+\n| 1    |\n| NULL |\n+------+\n");
    }

    #[test]
    fn rows_beyond_the_bound_are_counted() {
        let rows = batch(vec![Some(1); 900]);
        let text = render(1000, &[rows.clone(), rows.clone()], rows.schema());
        assert_eq!(text.lines().filter(|line| line.contains("| 1 |")).count(), 1000);
        assert!(text.contains("800 more rows (of 1,800)"), "{text}");
    }

    #[test]
    fn moments_of_every_age_are_shown() {
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(200_000_000), Some(-800_000_000), None]));
        let times = TimestampMicrosecondArray::from(vec![9_089_278_617_600_000_000, 0, 1]);
        let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
        let nested: ArrayRef = Arc::new(StructArray::try_from(vec![("at", Arc::clone(&times))]).unwrap());
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("days", days, true),
            ("times", times, true),
            ("nested", nested, true),
        ]);
        let rows = rows.unwrap();
        let text = render(10, std::slice::from_ref(&rows), rows.schema());
        for shown in [
            "+549551-05-28",
            "-2188356-05-24",
            "NULL",
            "| +289997-10-10T00:00:00Z  ",
            "{at: +289997-10-10T00:00:00Z}",
        ] {
            assert!(text.contains(shown), "{shown}: {text}");
        }
    }

    #[test]
    fn no_rows_still_have_a_header() {
        let text = render(10, &[], batch(vec![]).schema());
        assert!(text.contains("| a |"), "{text}");
    }
}
