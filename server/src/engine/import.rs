//! Arrow data on its way into DuckDB: the types that DuckDB's own import takes without loss, and the values
//! that fit them.
//!
//! DuckDB's import lacks some Arrow types, cuts nanoseconds off, narrows decimals without a look at their
//! digits, and reads the ends of a timestamp's range as infinities. So columns are brought into types that it
//! takes exactly, and values that these cannot hold are refused, at any depth.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait,
    StructArray,
    cast::AsArray,
    types::{
        Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType,
        DurationMillisecondType, DurationNanosecondType, DurationSecondType, IntervalMonthDayNanoType,
        Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    },
};
use arrow_buffer::NullBuffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, IntervalUnit, TimeUnit};

use super::{
    Error, Result,
    list_views::as_lists,
    types::Extension,
    visible::{in_lists, reached, with_hidden_as_null, zero_under_null},
};

const DAY_SECONDS: i64 = 86_400;
/// DuckDB's earliest TIMESTAMP, in microseconds; the latest is one below the number's end, which is infinity.
const FIRST_MICROS: i64 = -9_223_372_022_400_000_000;

/// The field in which a column is handed to DuckDB.
pub(crate) fn imported(field: &Field) -> FieldRef {
    let data_type = match Extension::of(field) {
        Some(Extension::Bool8) => DataType::Boolean,
        _ => imported_type(field.data_type()),
    };
    let plain = Field::new(field.name(), data_type, field.is_nullable());
    // DuckDB knows extension types of its own besides, which would make the column another type.
    Arc::new(match Extension::of(field) {
        Some(Extension::Uuid) => plain.with_metadata(field.metadata().clone()),
        _ => plain,
    })
}

fn imported_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(width, scale)
        | DataType::Decimal64(width, scale)
        | DataType::Decimal128(width, scale)
        | DataType::Decimal256(width, scale) => decimal(*width, *scale),
        DataType::Date64 => DataType::Date32,
        DataType::Time64(TimeUnit::Nanosecond) => DataType::Time64(TimeUnit::Microsecond),
        // Of these DuckDB has one type each, and where it converts others, it looks at what lies under a null, too.
        DataType::Timestamp(_, Some(zone)) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(zone)))
        }
        DataType::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
        DataType::RunEndEncoded(_, values) => imported(values).data_type().clone(),
        // DuckDB has NULL be the place behind the last value of a dictionary. Of texts and blobs it makes values of its
        // own, and one more; of all others it reads the buffer as it is, in which that place is missing.
        DataType::Dictionary(_, values) if values.is_string() || values.is_binary() => data_type.clone(),
        DataType::Dictionary(_, values) => imported_type(values),
        DataType::List(item) | DataType::ListView(item) => DataType::List(member(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(member(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(member(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| member(field)).collect()),
        DataType::Map(entries, sorted) => DataType::Map(imported(entries), *sorted),
        unchanged => unchanged.clone(),
    }
}

/// The field inside a list, struct or map, or of a file: there a dictionary becomes its values. DuckDB's import of one
/// inside another type that has no rows is an internal error, and a large one would be brought in with every vector.
pub(crate) fn member(field: &Field) -> FieldRef {
    let imported = imported(field);
    match imported.data_type() {
        DataType::Dictionary(_, values) => {
            Arc::new(imported.as_ref().clone().with_data_type(values.as_ref().clone()))
        }
        _ => imported,
    }
}

/// A decimal that DuckDB has a type for, with room for every value of this one if there is such a type.
fn decimal(width: u8, scale: i8) -> DataType {
    let above = width.saturating_add(scale.min(0).unsigned_abs());
    let width = above.max(scale.max(0).unsigned_abs()).min(38);
    DataType::Decimal128(width, scale.max(0))
}

/// True when the values of a column must be looked at or changed before DuckDB may have them.
pub(crate) fn needs_import(field: &Field) -> bool {
    imported(field).as_ref() != field || has_limits(field.data_type())
}

fn has_limits(data_type: &DataType) -> bool {
    match data_type {
        DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(_, _) => true,
        DataType::Interval(unit) => *unit == IntervalUnit::MonthDayNano,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => has_limits(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_limits(field.data_type())),
        other => other.is_decimal(),
    }
}

/// Brings an array into the type of its [`imported`] field. `what` names it in errors.
///
/// # Errors
/// [`Error::SchemaMismatch`]: a value would lose digits or is out of DuckDB's range.
pub(crate) fn import(what: &str, array: &ArrayRef, to: &Field) -> Result<ArrayRef> {
    caught(|| convert(array, to.data_type()))?.map_err(|refused| {
        Error::SchemaMismatch(match refused {
            Refused::Value(reason) => format!("{what}: {reason}"),
            Refused::Arrow(error) => format!("{what}: {error}"),
        })
    })
}

/// Does what Arrow's library may panic over, values being hostile; a panic is an error of those who sent them alone.
///
/// # Errors
/// [`Error::Internal`]: it has panicked.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| Error::Internal("Arrow's library has panicked over values that came in".into()))
}

enum Refused {
    Value(&'static str),
    Arrow(ArrowError),
}

impl From<ArrowError> for Refused {
    fn from(error: ArrowError) -> Self {
        Self::Arrow(error)
    }
}

fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Refused> {
    match (array.data_type(), to) {
        (DataType::RunEndEncoded(_, values), _) => convert(&exact_cast(array, values.data_type())?, to),
        (DataType::Dictionary(_, _), DataType::Dictionary(_, _)) if array.data_type() == to => {
            Ok(Arc::clone(array))
        }
        (DataType::Dictionary(_, values), _) => convert(&exact_cast(array, values)?, to),
        (DataType::ListView(item), _) => convert(&as_lists::<i32>(array, item)?, to),
        (DataType::LargeListView(item), _) => convert(&as_lists::<i64>(array, item)?, to),
        (DataType::List(_), DataType::List(item)) => list::<i32>(array, item),
        (DataType::LargeList(_), DataType::LargeList(item)) => list::<i64>(array, item),
        (DataType::FixedSizeList(_, _), DataType::FixedSizeList(item, size)) => {
            let list = array.as_fixed_size_list();
            let shown = list.nulls().map(|nulls| nulls.expand(usize::try_from(*size).unwrap_or(0)));
            let values = convert_shown(list.values(), shown.as_ref(), item.data_type())?;
            let list = FixedSizeListArray::try_new_with_length(
                Arc::clone(item),
                *size,
                values,
                list.nulls().cloned(),
                list.len(),
            )?;
            Ok(Arc::new(list))
        }
        (DataType::Struct(_), DataType::Struct(_)) => members(array, to),
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let map = array.as_map();
            let all: ArrayRef = Arc::new(map.entries().clone());
            let (reached, offsets) = reached(&all, map.offsets());
            let shown = in_lists(&offsets, map.nulls());
            let converted = convert_shown(&reached, shown.as_ref(), entries.data_type())?;
            let (converted, nulls) = (converted.as_struct().clone(), map.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, converted, nulls, *sorted)?))
        }
        _ => {
            check(array, to)?;
            match array.data_type() == to {
                true => Ok(Arc::clone(array)),
                // What lies under a null may not be fit for a cast.
                false => exact_cast(&zero_under_null(array), to),
            }
        }
    }
}

/// The same without a look at what does not show.
fn convert_shown(array: &ArrayRef, shown: Option<&NullBuffer>, to: &DataType) -> Result<ArrayRef, Refused> {
    // Here the nulls are not all that an array of these has.
    let plain = match array.data_type() {
        DataType::RunEndEncoded(_, values) => exact_cast(array, values.data_type())?,
        DataType::Dictionary(_, values) => exact_cast(array, values)?,
        _ => Arc::clone(array),
    };
    with_hidden_as_null(&plain, shown, |array| convert(array, to))
}

fn list<O: OffsetSizeTrait>(array: &ArrayRef, item: &FieldRef) -> Result<ArrayRef, Refused> {
    let list = array.as_list::<O>();
    let (values, offsets) = reached(list.values(), list.offsets());
    let shown = in_lists(&offsets, list.nulls());
    let values = convert_shown(&values, shown.as_ref(), item.data_type())?;
    Ok(Arc::new(GenericListArray::try_new(Arc::clone(item), offsets, values, list.nulls().cloned())?))
}

fn members(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Refused> {
    let (array, DataType::Struct(fields)) = (array.as_struct(), to) else {
        return Err(ArrowError::CastError("a struct does not become another type".into()).into());
    };
    let columns = array
        .columns()
        .iter()
        .zip(fields)
        .map(|(column, field)| convert_shown(column, array.nulls(), field.data_type()))
        .collect::<Result<Vec<_>, _>>()?;
    let nulls = array.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, nulls, array.len())?))
}

/// Never puts NULL in the place of a value that does not fit.
fn exact_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, Refused> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    Ok(cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })?)
}

const NANOSECONDS: &str =
    "a value has nanoseconds; DuckDB keeps microseconds for this type, round it before sending";
const NO_TIME: &str = "a time of day is before 00:00 or after 24:00";
const NO_DATE: &str = "a date64 is not the beginning of a day, or out of the range of DuckDB's dates";
const FAR_DATE: &str = "a date is out of the range of DuckDB's dates";
const FAR_TIMESTAMP: &str = "a timestamp is out of the range of DuckDB's timestamps";
const FAR_DURATION: &str = "a duration is out of the range of DuckDB's intervals";
const DIGITS: &str = "a decimal has more digits than its type";

/// Looks at the values of an array that has no arrays inside and is to become `to`.
fn check(array: &ArrayRef, to: &DataType) -> Result<(), Refused> {
    match array.data_type() {
        DataType::Decimal32(width, _) => digits::<Decimal32Type>(array, *width),
        DataType::Decimal64(width, _) => digits::<Decimal64Type>(array, *width),
        DataType::Decimal128(width, _) => digits::<Decimal128Type>(array, *width),
        DataType::Decimal256(width, _) => digits::<Decimal256Type>(array, *width),
        // DuckDB's infinities are the two ends of the number's range.
        DataType::Date32 => {
            all::<Date32Type>(array, FAR_DATE, |days| days.unsigned_abs() < i32::MAX.unsigned_abs())
        }
        DataType::Date64 => all::<Date64Type>(array, NO_DATE, |millis| {
            let day = DAY_SECONDS * 1_000;
            millis % day == 0
                && i32::try_from(millis / day).is_ok_and(|days| days.unsigned_abs() < i32::MAX.unsigned_abs())
        }),
        DataType::Time32(_) | DataType::Time64(_) => check_times(array, array.data_type() == to),
        DataType::Timestamp(unit, zone) => check_timestamps(array, *unit, zone.is_some()),
        DataType::Duration(TimeUnit::Second) => {
            all::<DurationSecondType>(array, FAR_DURATION, |value| value.checked_mul(1_000_000).is_some())
        }
        DataType::Duration(TimeUnit::Millisecond) => {
            all::<DurationMillisecondType>(array, FAR_DURATION, |value| value.checked_mul(1_000).is_some())
        }
        DataType::Duration(TimeUnit::Nanosecond) => {
            all::<DurationNanosecondType>(array, NANOSECONDS, |value| value % 1_000 == 0)
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            all::<IntervalMonthDayNanoType>(array, NANOSECONDS, |value| value.nanoseconds % 1_000 == 0)
        }
        _ => Ok(()),
    }
}

fn check_times(array: &ArrayRef, keeps_unit: bool) -> Result<(), Refused> {
    let day = |per_second: i64| 0..=DAY_SECONDS * per_second;
    match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            all::<Time32SecondType>(array, NO_TIME, |value| day(1).contains(&i64::from(value)))
        }
        DataType::Time32(_) => {
            all::<Time32MillisecondType>(array, NO_TIME, |value| day(1_000).contains(&i64::from(value)))
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            all::<Time64NanosecondType>(array, NANOSECONDS, |value| keeps_unit || value % 1_000 == 0)?;
            all::<Time64NanosecondType>(array, NO_TIME, |value| day(1_000_000_000).contains(&value))
        }
        _ => all::<Time64MicrosecondType>(array, NO_TIME, |value| day(1_000_000).contains(&value)),
    }
}

fn check_timestamps(array: &ArrayRef, unit: TimeUnit, zoned: bool) -> Result<(), Refused> {
    let in_range = |micros: i64| (FIRST_MICROS..i64::MAX).contains(&micros);
    let scaled = |value: i64, by: i64| value.checked_mul(by).is_some_and(in_range);
    match unit {
        TimeUnit::Second => {
            all::<TimestampSecondType>(array, FAR_TIMESTAMP, |value| scaled(value, 1_000_000))
        }
        TimeUnit::Millisecond => {
            all::<TimestampMillisecondType>(array, FAR_TIMESTAMP, |value| scaled(value, 1_000))
        }
        TimeUnit::Microsecond => all::<TimestampMicrosecondType>(array, FAR_TIMESTAMP, in_range),
        TimeUnit::Nanosecond if zoned => {
            all::<TimestampNanosecondType>(array, NANOSECONDS, |value| value % 1_000 == 0)
        }
        TimeUnit::Nanosecond => all::<TimestampNanosecondType>(array, FAR_TIMESTAMP, |value| {
            value.unsigned_abs() < i64::MAX.unsigned_abs()
        }),
    }
}

fn all<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    reason: &'static str,
    fits: impl Fn(T::Native) -> bool,
) -> Result<(), Refused> {
    let array = array.as_primitive::<T>();
    let refused = match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => !array.values().iter().all(|value| fits(*value)),
        Some(nulls) => !nulls.valid_indices().all(|row| fits(array.value(row))),
    };
    if refused { Err(Refused::Value(reason)) } else { Ok(()) }
}

fn digits<T: DecimalType + ArrowPrimitiveType>(array: &ArrayRef, width: u8) -> Result<(), Refused> {
    array.as_primitive::<T>().validate_decimal_precision(width).map_err(|_| Refused::Value(DIGITS))
}

#[cfg(test)]
mod tests {
    use arrow_array::types::DurationMicrosecondType;
    use arrow_array::{
        Date32Array, Decimal128Array, Decimal256Array, DictionaryArray, DurationSecondArray, Int8Array,
        ListArray, StringArray, Time64MicrosecondArray, Time64NanosecondArray, TimestampMicrosecondArray,
    };
    use arrow_buffer::{OffsetBuffer, i256};
    use arrow_schema::Fields;
    use proptest::prelude::*;

    use super::*;

    fn brought_in(array: ArrayRef) -> Result<ArrayRef> {
        let field = Field::new("v", array.data_type().clone(), true);
        import("column \"v\"", &array, &imported(&field))
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_and_never_null() {
        let digits: ArrayRef = Arc::new(StringArray::from(vec!["9".repeat(50)]));
        let large = exact_cast(&digits, &DataType::Decimal256(76, 0)).ok().unwrap();
        assert!(brought_in(large).is_err());
        let wide = Decimal128Array::from(vec![99_999]).with_precision_and_scale(4, 2).unwrap();
        assert!(brought_in(Arc::new(wide)).is_err());
    }

    #[test]
    fn decimals_that_duckdb_has_no_type_for_get_room() {
        for (width, scale, expected) in [
            (5, -2, DataType::Decimal128(7, 0)),
            (2, 4, DataType::Decimal128(4, 4)),
            (60, 2, DataType::Decimal128(38, 2)),
        ] {
            assert_eq!(imported_type(&DataType::Decimal256(width, scale)), expected);
        }
    }

    #[test]
    fn extension_types_that_only_duckdb_knows_are_taken_off() {
        let opaque = [("ARROW:extension:name".to_owned(), "arrow.opaque".to_owned())];
        let field = Field::new("v", DataType::FixedSizeBinary(16), true).with_metadata(opaque.into());
        assert!(needs_import(&field));
        assert!(imported(&field).metadata().is_empty());
    }

    #[test]
    fn a_dictionary_stays_one_where_duckdb_makes_values_of_its_own() {
        let of = |values: DataType| DataType::Dictionary(Box::new(DataType::Int8), Box::new(values));
        for kept in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View, DataType::Binary] {
            assert_eq!(imported_type(&of(kept.clone())), of(kept));
        }
        for unpacked in [DataType::Int64, DataType::Date32, DataType::Float64, DataType::Boolean] {
            assert_eq!(imported_type(&of(unpacked.clone())), unpacked);
        }
        let nulls = Int8Array::from(vec![None, None]);
        let empty: ArrayRef = Arc::new(Time64MicrosecondArray::from(Vec::<i64>::new()));
        let unpacked = brought_in(Arc::new(DictionaryArray::new(nulls, empty))).unwrap();
        assert_eq!((unpacked.len(), unpacked.null_count()), (2, 2));
    }

    #[test]
    fn a_number_under_a_null_may_be_any() {
        let digits =
            || Decimal256Array::from(vec![i256::ONE, i256::MAX]).with_precision_and_scale(4, 1).unwrap();
        assert!(brought_in(Arc::new(digits())).is_err());
        let hidden = Decimal256Array::new(digits().values().clone(), Some(vec![true, false].into()));
        let hidden = hidden.with_precision_and_scale(4, 1).unwrap();
        let kept = brought_in(Arc::new(hidden)).unwrap();
        assert_eq!(kept.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
        let seconds = DurationSecondArray::from(vec![Some(1), None]);
        let seconds = DurationSecondArray::new(vec![1, i64::MAX].into(), seconds.nulls().cloned());
        let kept = brought_in(Arc::new(seconds)).unwrap();
        let kept: Vec<_> = kept.as_primitive::<DurationMicrosecondType>().iter().collect();
        assert_eq!(kept, [Some(1_000_000), None]);
    }

    #[test]
    fn a_panic_is_an_error() {
        assert!(matches!(caught(|| panic!("on purpose")), Err::<(), _>(Error::Internal(_))));
    }

    #[test]
    fn what_does_not_show_is_not_looked_at() {
        // A date beyond DuckDB's, which is the end of the number's range.
        let dates = || Arc::new(Date32Array::from(vec![1, i32::MAX, 3])) as ArrayRef;
        let field = |nullable| Arc::new(Field::new("item", DataType::Date32, nullable));
        let second_is_null = || Some(NullBuffer::from(vec![true, false, true]));
        let offsets = || OffsetBuffer::new(vec![0, 1, 2, 3].into());
        for nullable in [true, false] {
            let fields = || Fields::from(vec![field(nullable)]);
            let structs = |nulls| Arc::new(StructArray::new(fields(), vec![dates()], nulls)) as ArrayRef;
            let lists =
                |nulls| Arc::new(ListArray::new(field(nullable), offsets(), dates(), nulls)) as ArrayRef;
            let fixed =
                |nulls| Arc::new(FixedSizeListArray::new(field(nullable), 1, dates(), nulls)) as ArrayRef;
            let nested = |nulls| {
                let parts = vec![lists(None)];
                let fields = Fields::from(vec![Field::new("l", parts[0].data_type().clone(), true)]);
                Arc::new(StructArray::new(fields, parts, nulls)) as ArrayRef
            };
            for make in [&structs as &dyn Fn(Option<NullBuffer>) -> ArrayRef, &lists, &fixed, &nested] {
                assert!(brought_in(make(None)).is_err());
                let hidden = make(second_is_null());
                assert_eq!(&brought_in(Arc::clone(&hidden)).unwrap(), &hidden);
                assert!(brought_in(make(None).slice(2, 1)).is_ok());
            }
        }
    }

    #[test]
    fn what_a_slice_hides_in_a_dictionary_is_no_value() {
        let times: ArrayRef = Arc::new(Time64NanosecondArray::from(vec![1_000, 1]));
        let dictionary = DictionaryArray::new(Int8Array::from(vec![0, 1]), times);
        assert!(brought_in(Arc::new(dictionary.slice(0, 1))).is_ok());
        assert!(brought_in(Arc::new(dictionary)).is_err());
    }

    proptest! {
        #[test]
        fn times_are_kept_to_the_nanosecond_or_refused(nanos in proptest::option::of(0..86_400_000_000_000_i64)) {
            let exact = nanos.is_none_or(|nanos| nanos % 1_000 == 0);
            let list = ListArray::from_iter_primitive::<Time64NanosecondType, _, _>([Some([nanos])]);
            match brought_in(Arc::new(list)) {
                Ok(kept) => {
                    prop_assert!(exact);
                    let micros = kept.as_list::<i32>().value(0);
                    let micros = micros.as_primitive::<Time64MicrosecondType>();
                    prop_assert_eq!(micros.iter().next(), Some(nanos.map(|nanos| nanos / 1_000)));
                }
                Err(_) => prop_assert!(!exact),
            }
        }

        #[test]
        fn timestamps_are_kept_as_they_are_or_refused(micros in any::<i64>()) {
            let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![micros]));
            match brought_in(Arc::clone(&array)) {
                Ok(kept) => prop_assert_eq!(&kept, &array),
                Err(_) => prop_assert!(micros < FIRST_MICROS || micros == i64::MAX),
            }
        }
    }
}
