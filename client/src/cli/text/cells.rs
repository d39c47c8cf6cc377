//! Text to columns: each value exactly as it is written, or not at all.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, ArrowPrimitiveType, NullArray,
    builder::{BooleanBuilder, PrimitiveBuilder, StringBuilder},
    types::{
        Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType, TimeUnit};

use super::{
    moments::{Form, Moment, time_of_day},
    numbers::{Parts, double},
};

/// A column that is being built.
pub(super) trait Cells: Send {
    fn push_null(&mut self);
    /// Takes in a value; false where the type cannot hold it.
    fn push(&mut self, text: &str) -> bool;
    /// The values so far; the next column begins.
    fn finish(&mut self) -> ArrayRef;
}

/// Where values of a type go; none for a type that is not made from text here.
pub(super) fn cells(data_type: &DataType) -> Option<Box<dyn Cells>> {
    use DataType::{
        Boolean, Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Null, Time64, Timestamp,
        UInt8, UInt16, UInt32, UInt64, Utf8,
    };
    Some(match data_type {
        Null => Box::new(Nulls(0)),
        Utf8 => texts(),
        Boolean => Box::new(Booleans(BooleanBuilder::new())),
        Int8 => parsed::<Int8Type>(data_type, |text| text.parse().ok()),
        Int16 => parsed::<Int16Type>(data_type, |text| text.parse().ok()),
        Int32 => parsed::<Int32Type>(data_type, |text| text.parse().ok()),
        Int64 => parsed::<Int64Type>(data_type, |text| text.parse().ok()),
        UInt8 => parsed::<UInt8Type>(data_type, |text| text.parse().ok()),
        UInt16 => parsed::<UInt16Type>(data_type, |text| text.parse().ok()),
        UInt32 => parsed::<UInt32Type>(data_type, |text| text.parse().ok()),
        UInt64 => parsed::<UInt64Type>(data_type, |text| text.parse().ok()),
        Float32 => parsed::<Float32Type>(data_type, float),
        Float64 => parsed::<Float64Type>(data_type, double),
        Decimal128(precision, scale) => {
            let (precision, scale) = (usize::from(*precision), usize::try_from(*scale).ok()?);
            parsed::<Decimal128Type>(data_type, move |text| decimal(text, precision, scale))
        }
        Date32 => parsed::<Date32Type>(data_type, |text| Moment::parse(text)?.days()),
        Time64(TimeUnit::Microsecond) => parsed::<Time64MicrosecondType>(data_type, time_of_day),
        Timestamp(unit, zone) => {
            let (unit, zoned) = (*unit, zone.is_some());
            let moment = move |text: &str| moment(text, unit, zoned);
            match unit {
                TimeUnit::Second => parsed::<TimestampSecondType>(data_type, moment),
                TimeUnit::Millisecond => parsed::<TimestampMillisecondType>(data_type, moment),
                TimeUnit::Microsecond => parsed::<TimestampMicrosecondType>(data_type, moment),
                TimeUnit::Nanosecond => parsed::<TimestampNanosecondType>(data_type, moment),
            }
        }
        _ => return None,
    })
}

/// Where text goes as it is.
pub(super) fn texts() -> Box<dyn Cells> {
    Box::new(Texts(StringBuilder::new()))
}

/// A FLOAT that keeps what a DOUBLE would keep before the point.
fn float(text: &str) -> Option<f32> {
    let wide = double(text)?;
    // Read anew, since the nearest FLOAT to the nearest DOUBLE may be another.
    let number: f32 = text.parse().ok()?;
    let integer = Parts::of(text).is_some_and(|parts| parts.is_integer());
    let kept = if integer { f64::from(number) == wide } else { (number == 0.0) == (wide == 0.0) };
    (kept && number.is_finite() == wide.is_finite()).then_some(number)
}

/// The digits of a number, moved by the scale.
fn decimal(text: &str, precision: usize, scale: usize) -> Option<i128> {
    let parts = Parts::of(text).filter(|parts| !parts.exponent)?;
    let whole = parts.whole.trim_start_matches('0');
    let fraction = parts.fraction.trim_end_matches('0');
    if fraction.len() > scale || whole.len() + scale > precision {
        return None;
    }
    let padded = whole.bytes().chain(fraction.bytes()).chain((fraction.len()..scale).map(|_| b'0'));
    let number = padded.fold(0, |number: i128, digit| number * 10 + i128::from(digit - b'0'));
    Some(if parts.negative { -number } else { number })
}

/// A moment in a column with or without time zone. In one with, what tells no offset is UTC, the server's zone; in one
/// without, an offset would be lost.
fn moment(text: &str, unit: TimeUnit, zoned: bool) -> Option<i64> {
    let moment = Moment::parse(text)?;
    (zoned || moment.form != Form::Offset).then(|| moment.count(unit))?
}

type Parse<T> = Box<dyn Fn(&str) -> Option<T> + Send>;

struct Parsed<T: ArrowPrimitiveType> {
    values: PrimitiveBuilder<T>,
    parse: Parse<T::Native>,
}

fn parsed<T: ArrowPrimitiveType>(
    data_type: &DataType,
    parse: impl Fn(&str) -> Option<T::Native> + Send + 'static,
) -> Box<dyn Cells> {
    let values = PrimitiveBuilder::<T>::new().with_data_type(data_type.clone());
    Box::new(Parsed { values, parse: Box::new(parse) })
}

impl<T: ArrowPrimitiveType> Cells for Parsed<T> {
    fn push_null(&mut self) {
        self.values.append_null();
    }

    fn push(&mut self, text: &str) -> bool {
        // Spaces around a number or a time say nothing.
        let value = (self.parse)(text).or_else(|| (self.parse)(text.trim_matches(' ')));
        value.is_some_and(|value| {
            self.values.append_value(value);
            true
        })
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.values.finish())
    }
}

/// For a type that nothing but NULL is made of.
struct Nulls(usize);

impl Cells for Nulls {
    fn push_null(&mut self) {
        self.0 += 1;
    }

    fn push(&mut self, _: &str) -> bool {
        false
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(NullArray::new(std::mem::take(&mut self.0)))
    }
}

struct Booleans(BooleanBuilder);

impl Cells for Booleans {
    fn push_null(&mut self) {
        self.0.append_null();
    }

    fn push(&mut self, text: &str) -> bool {
        let value = match text.trim_matches(' ') {
            "1" => true,
            "0" => false,
            text if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("t") => true,
            text if text.eq_ignore_ascii_case("false") || text.eq_ignore_ascii_case("f") => false,
            _ => return false,
        };
        self.0.append_value(value);
        true
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

struct Texts(StringBuilder);

impl Cells for Texts {
    fn push_null(&mut self) {
        self.0.append_null();
    }

    fn push(&mut self, text: &str) -> bool {
        self.0.append_value(text);
        true
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

#[cfg(test)]
mod tests {
    use arrow_cast::display::array_value_to_string;

    use super::*;

    fn stored(text: &str, data_type: &DataType) -> Option<String> {
        let mut cells = cells(data_type).unwrap();
        let fits = cells.push(text);
        let column = cells.finish();
        assert_eq!((column.data_type(), column.len()), (data_type, usize::from(fits)), "{text}");
        fits.then(|| array_value_to_string(&column, 0).unwrap())
    }

    #[test]
    fn a_value_is_stored_as_it_is_or_not_at_all() {
        use DataType::{Boolean, Date32, Decimal128, Float32, Float64, Int8, Int64, UInt64, Utf8};
        let naive = |unit| DataType::Timestamp(unit, None);
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        for (text, data_type, expected) in [
            ("007", Int64, Some("7")),
            (" +5 ", Int64, Some("5")),
            ("1.0", Int64, None),
            ("1e3", Int64, None),
            ("128", Int8, None),
            ("18446744073709551615", UInt64, Some("18446744073709551615")),
            ("-1", UInt64, None),
            ("1.75", Float64, Some("1.75")),
            ("9007199254740993", Float64, None),
            ("x", Float64, None),
            ("16777217", Float32, None),
            ("0.1", Float32, Some("0.1")),
            ("1e39", Float32, None),
            ("1e-60", Float32, None),
            ("1.50", Decimal128(10, 2), Some("1.50")),
            ("-1.500", Decimal128(10, 2), Some("-1.50")),
            ("-.5", Decimal128(10, 2), Some("-0.50")),
            ("1.755", Decimal128(10, 2), None),
            ("123456789", Decimal128(10, 2), None),
            ("2024-01-01", Date32, Some("2024-01-01")),
            ("2024-01-01 00:00:00", Date32, None),
            ("2024-01-01 00:00:00.987", naive(TimeUnit::Second), None),
            ("2024-01-01 00:00:00.987", naive(TimeUnit::Millisecond), Some("2024-01-01T00:00:00.987")),
            ("2024-01-01 00:00:00Z", naive(TimeUnit::Microsecond), None),
            ("2024-01-01", naive(TimeUnit::Microsecond), Some("2024-01-01T00:00:00")),
            ("12:30:00.5", DataType::Time64(TimeUnit::Microsecond), Some("12:30:00.500")),
            ("T", Boolean, Some("true")),
            ("0", Boolean, Some("false")),
            ("2", Boolean, None),
            (" x ", Utf8, Some(" x ")),
        ] {
            assert_eq!(stored(text, &data_type).as_deref(), expected, "{text:?} as {data_type}");
        }
        let mut cells = cells(&zoned).unwrap();
        assert!(cells.push("2024-01-01 02:00:00+02:00") && cells.push("2024-01-01 00:00:00"));
        let column = cells.finish();
        assert_eq!(column.slice(0, 1).as_ref(), column.slice(1, 1).as_ref());
    }
}
