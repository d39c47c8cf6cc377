//! Dates, times and intervals of arrays as text.

use arrow_array::{
    Array, ArrowPrimitiveType, PrimitiveArray,
    cast::AsArray,
    types::{
        Date32Type, IntervalMonthDayNanoType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
        Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType,
    },
};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};

use super::clock;

/// Appends the value at an index, which is not null, as ISO 8601 without quotes.
pub type Write<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

/// Writes the dates, times or intervals of an array; `None` for one of another type.
pub fn temporal(array: &dyn Array) -> Option<Write<'_>> {
    Some(match array.data_type() {
        DataType::Date32 => {
            let array = array.as_primitive::<Date32Type>();
            Box::new(move |index, out: &mut Vec<u8>| clock::date(array.value(index), out))
        }
        DataType::Time32(TimeUnit::Second) => time::<Time32SecondType>(array, 1),
        DataType::Time32(_) => time::<Time32MillisecondType>(array, 1_000),
        DataType::Time64(TimeUnit::Nanosecond) => time::<Time64NanosecondType>(array, 1_000_000_000),
        DataType::Time64(_) => time::<Time64MicrosecondType>(array, 1_000_000),
        DataType::Timestamp(unit, zone) => match unit {
            TimeUnit::Second => timestamp::<TimestampSecondType>(array, 1, zone.is_some()),
            TimeUnit::Millisecond => timestamp::<TimestampMillisecondType>(array, 1_000, zone.is_some()),
            TimeUnit::Microsecond => timestamp::<TimestampMicrosecondType>(array, 1_000_000, zone.is_some()),
            TimeUnit::Nanosecond => {
                timestamp::<TimestampNanosecondType>(array, 1_000_000_000, zone.is_some())
            }
        },
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let array = array.as_primitive::<IntervalMonthDayNanoType>();
            Box::new(move |index, out: &mut Vec<u8>| {
                let value = array.value(index);
                clock::interval(value.months, value.days, value.nanoseconds, out);
            })
        }
        _ => return None,
    })
}

fn time<'a, T>(array: &'a dyn Array, per_second: i64) -> Write<'a>
where
    T: ArrowPrimitiveType<Native: Into<i64>>,
{
    let array: &'a PrimitiveArray<T> = array.as_primitive();
    Box::new(move |index, out: &mut Vec<u8>| clock::time(array.value(index).into(), per_second, out))
}

fn timestamp<'a, T>(array: &'a dyn Array, per_second: i64, utc: bool) -> Write<'a>
where
    T: ArrowPrimitiveType<Native = i64>,
{
    let array: &'a PrimitiveArray<T> = array.as_primitive();
    Box::new(move |index, out: &mut Vec<u8>| clock::timestamp(array.value(index), per_second, utc, out))
}
