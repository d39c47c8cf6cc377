//! Which types hold the columns of a CSV file, by all of its rows.

use std::io::Read;

use arrow_schema::{DataType, TimeUnit};
use merganser::Error;

use super::{
    csv_records::Records,
    moments::{Form, Moment},
    numbers::Numbers,
};

/// What the values of a column are, summed up.
#[derive(Clone, Debug, Default)]
pub(super) struct Guess {
    booleans: bool,
    numbers: Option<Numbers>,
    moments: Option<Moments>,
    /// Something else.
    text: bool,
}

/// The moments of a column.
#[derive(Clone, Debug)]
struct Moments {
    days: bool,
    locals: bool,
    offsets: bool,
    in_micros: bool,
    in_nanos: bool,
}

/// Looks at all rows behind the header.
pub(super) fn guess<R: Read>(
    records: &mut Records<R>,
    columns: usize,
    is_null: impl Fn(&[u8]) -> bool,
) -> Result<Vec<DataType>, Error> {
    let mut guesses = vec![Guess::default(); columns];
    while let Some(line) = records.row(columns)? {
        for (index, guess) in guesses.iter_mut().enumerate() {
            // What cannot change any more is not looked at.
            if guess.text {
                continue;
            }
            let bytes = records.bytes(index);
            if !is_null(&bytes) {
                drop(bytes);
                guess.add(&records.text(index, line)?);
            }
        }
    }
    Ok(guesses.iter().map(Guess::data_type).collect())
}

impl Guess {
    fn add(&mut self, text: &str) {
        let first = text.as_bytes().first().copied().unwrap_or_default();
        let is_other = match first {
            // A date would begin as a number does, and has a dash behind the year.
            b'0'..=b'9' if text.as_bytes().get(4) == Some(&b'-') => !self.add_moment(text),
            b't' | b'T' | b'f' | b'F' => {
                let is_boolean = text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
                self.booleans |= is_boolean;
                !is_boolean
            }
            _ => !self.numbers.get_or_insert_default().add(text),
        };
        let kinds = [self.booleans, self.numbers.is_some(), self.moments.is_some()];
        self.text |= is_other || kinds.into_iter().filter(|there| *there).count() > 1;
    }

    fn add_moment(&mut self, text: &str) -> bool {
        let Some(moment) = Moment::parse(text) else { return false };
        let (micros, nanos) = (moment.count(TimeUnit::Microsecond), moment.count(TimeUnit::Nanosecond));
        let moments = self.moments.get_or_insert(Moments {
            days: false,
            locals: false,
            offsets: false,
            in_micros: true,
            in_nanos: true,
        });
        match moment.form {
            Form::Day => moments.days = true,
            Form::Local => moments.locals = true,
            Form::Offset => moments.offsets = true,
        }
        moments.in_micros &= micros.is_some();
        moments.in_nanos &= nanos.is_some();
        true
    }

    /// A column of nothing but nulls has no type yet, and text takes whatever comes later.
    fn data_type(&self) -> DataType {
        let known = match self {
            Self { text: true, .. } => None,
            Self { booleans: true, .. } => Some(DataType::Boolean),
            Self { numbers: Some(numbers), .. } => numbers.data_type(),
            Self { moments: Some(moments), .. } => moments.data_type(),
            _ => None,
        };
        known.unwrap_or(DataType::Utf8)
    }
}

impl Moments {
    fn data_type(&self) -> Option<DataType> {
        let timestamp = |unit, zone: Option<&str>| Some(DataType::Timestamp(unit, zone.map(Into::into)));
        match self {
            Self { locals: false, offsets: false, .. } => Some(DataType::Date32),
            Self { offsets: false, in_micros: true, .. } => timestamp(TimeUnit::Microsecond, None),
            Self { offsets: false, in_nanos: true, .. } => timestamp(TimeUnit::Nanosecond, None),
            // Moments of the whole world beside those of some place are none of either.
            Self { days: false, locals: false, in_micros: true, .. } => {
                timestamp(TimeUnit::Microsecond, Some("UTC"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[&str]) -> String {
        let mut guess = Guess::default();
        for value in values {
            guess.add(value);
        }
        guess.data_type().to_string()
    }

    #[test]
    fn a_type_holds_every_value_or_the_column_is_text() {
        for (values, expected) in [
            (&["1", "2"][..], "Int64"),
            (&["1", "1.75"], "Float64"),
            (&["1", "x"], "Utf8"),
            (&["1", "true"], "Utf8"),
            (&["True", "FALSE"], "Boolean"),
            (&["true", "t"], "Utf8"),
            (&["2024-01-02", "2024-01-03"], "Date32"),
            (&["2024-01-02", "2024-01-03 13:14:15"], "Timestamp(µs)"),
            (&["2024-01-02 00:00:00", "2024-01-02 00:00:00.987"], "Timestamp(µs)"),
            (&["2024-01-02 00:00:00", "2024-01-02 00:00:00.987654321"], "Timestamp(ns)"),
            (&["1500-01-02 00:00:00", "2024-01-02 00:00:00.987654321"], "Utf8"),
            (&["2024-01-02 00:00:00Z", "2024-01-02 00:00:00+05:30"], "Timestamp(µs, \"UTC\")"),
            (&["2024-01-02 00:00:00Z", "2024-01-02 00:00:00"], "Utf8"),
            (&["2024-01-02", "2016-12-31 23:59:60"], "Utf8"),
            (&["2024-02-30"], "Utf8"),
            (&["2024-01-02", "2024"], "Utf8"),
            (&["18446744073709551616", "1"], "Decimal128(38, 0)"),
            (&[" 1"], "Utf8"),
            (&[""], "Utf8"),
            (&[], "Utf8"),
        ] {
            assert_eq!(column(values), expected, "{values:?}");
        }
    }
}
