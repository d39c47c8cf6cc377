//! Arrow scalars as DuckDB values, for statement parameters.

use std::collections::HashSet;

use arrow_array::{
    Array,
    cast::AsArray,
    types::{
        Date32Type, Decimal128Type, DurationMicrosecondType, DurationMillisecondType, DurationSecondType,
        Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType,
        IntervalMonthDayNanoType, IntervalYearMonthType, Time32MillisecondType, Time32SecondType,
        Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
        TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use libduckdb_sys as c;

use super::{Class, DuckError, c_string};
use crate::engine::types::Extension;

/// An owned DuckDB value.
pub(super) struct Value {
    raw: c::duckdb_value,
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: made once by DuckDB.
        unsafe { c::duckdb_destroy_value(&mut self.raw) };
    }
}

impl Value {
    pub(super) fn raw(&self) -> c::duckdb_value {
        self.raw
    }

    fn new(raw: c::duckdb_value, data_type: &DataType) -> Result<Self, DuckError> {
        if raw.is_null() { Err(unsupported(data_type)) } else { Ok(Self { raw }) }
    }

    fn null() -> Self {
        // SAFETY: makes a new value.
        Self { raw: unsafe { c::duckdb_create_null_value() } }
    }

    /// The value at `row` of an array whose types are those that DuckDB takes.
    pub(super) fn from_arrow(field: &Field, array: &dyn Array, row: usize) -> Result<Self, DuckError> {
        if array.is_null(row) || *array.data_type() == DataType::Null {
            return Ok(Self::null());
        }
        let raw = match array.data_type() {
            DataType::Utf8 => text(array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => text(array.as_string::<i64>().value(row)),
            DataType::Utf8View => text(array.as_string_view().value(row)),
            DataType::Binary => blob(array.as_binary::<i32>().value(row)),
            DataType::LargeBinary => blob(array.as_binary::<i64>().value(row)),
            DataType::BinaryView => blob(array.as_binary_view().value(row)),
            DataType::FixedSizeBinary(_) if Extension::of(field) == Some(Extension::Uuid) => {
                uuid(array.as_fixed_size_binary().value(row))
            }
            DataType::FixedSizeBinary(_) => blob(array.as_fixed_size_binary().value(row)),
            DataType::List(item) => return list(item, array.as_list::<i32>().value(row).as_ref()),
            DataType::LargeList(item) => return list(item, array.as_list::<i64>().value(row).as_ref()),
            DataType::FixedSizeList(item, _) => {
                return fixed_size_list(item, array.as_fixed_size_list().value(row).as_ref());
            }
            DataType::Struct(_) => return structure(field, array, row),
            DataType::Map(_, _) => return map(field, array, row),
            DataType::Union(_, _) => return union(field, array, row),
            DataType::Dictionary(_, values) => {
                let one = array.slice(row, 1);
                let dictionary = one.as_any_dictionary();
                let field = Field::new(field.name(), values.as_ref().clone(), true);
                return Self::from_arrow(&field, dictionary.values(), dictionary.normalized_keys()[0]);
            }
            _ => return fixed(array, row),
        };
        Self::new(raw, array.data_type())
    }
}

/// An owned DuckDB type.
struct OwnedType(c::duckdb_logical_type);

impl Drop for OwnedType {
    fn drop(&mut self) {
        // SAFETY: made once by DuckDB.
        unsafe { c::duckdb_destroy_logical_type(&mut self.0) };
    }
}

fn uuid(bytes: &[u8]) -> c::duckdb_value {
    let number = bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let input = c::duckdb_uhugeint { lower: number as u64, upper: (number >> 64) as u64 };
    // SAFETY: makes a new value from a number.
    unsafe { c::duckdb_create_uuid(input) }
}

fn text(value: &str) -> c::duckdb_value {
    // SAFETY: pointer and length describe the text; DuckDB copies it.
    unsafe { c::duckdb_create_varchar_length(value.as_ptr().cast(), value.len() as c::idx_t) }
}

fn blob(value: &[u8]) -> c::duckdb_value {
    // SAFETY: pointer and length describe the bytes; DuckDB copies them.
    unsafe { c::duckdb_create_blob(value.as_ptr(), value.len() as c::idx_t) }
}

/// Types whose values have a fixed width.
fn fixed(array: &dyn Array, row: usize) -> Result<Value, DuckError> {
    macro_rules! of {
        ($type:ty) => {
            array.as_primitive::<$type>().value(row)
        };
    }
    // SAFETY: each call makes a new value from a number.
    let raw = unsafe {
        match array.data_type() {
            DataType::Boolean => c::duckdb_create_bool(array.as_boolean().value(row)),
            DataType::Int8 => c::duckdb_create_int8(of!(Int8Type)),
            DataType::Int16 => c::duckdb_create_int16(of!(Int16Type)),
            DataType::Int32 => c::duckdb_create_int32(of!(Int32Type)),
            DataType::Int64 => c::duckdb_create_int64(of!(Int64Type)),
            DataType::UInt8 => c::duckdb_create_uint8(of!(UInt8Type)),
            DataType::UInt16 => c::duckdb_create_uint16(of!(UInt16Type)),
            DataType::UInt32 => c::duckdb_create_uint32(of!(UInt32Type)),
            DataType::UInt64 => c::duckdb_create_uint64(of!(UInt64Type)),
            DataType::Float32 => c::duckdb_create_float(of!(Float32Type)),
            DataType::Float64 => c::duckdb_create_double(of!(Float64Type)),
            DataType::Decimal128(width, scale) => decimal(of!(Decimal128Type), *width, *scale)?,
            DataType::Date32 => c::duckdb_create_date(c::duckdb_date { days: of!(Date32Type) }),
            DataType::Time32(TimeUnit::Second) => time(i64::from(of!(Time32SecondType)) * 1_000_000),
            DataType::Time32(_) => time(i64::from(of!(Time32MillisecondType)) * 1_000),
            DataType::Time64(TimeUnit::Microsecond) => time(of!(Time64MicrosecondType)),
            DataType::Timestamp(unit, zone) => timestamp(array, row, *unit, zone.is_some())?,
            DataType::Duration(unit) => interval(0, 0, duration_micros(array, row, *unit)?),
            DataType::Interval(IntervalUnit::YearMonth) => interval(of!(IntervalYearMonthType), 0, 0),
            DataType::Interval(IntervalUnit::DayTime) => {
                let value = of!(IntervalDayTimeType);
                interval(0, value.days, i64::from(value.milliseconds) * 1_000)
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                let value = of!(IntervalMonthDayNanoType);
                interval(value.months, value.days, value.nanoseconds / 1_000)
            }
            other => return Err(unsupported(other)),
        }
    };
    Ok(Value { raw })
}

fn time(micros: i64) -> c::duckdb_value {
    // SAFETY: makes a new value.
    unsafe { c::duckdb_create_time(c::duckdb_time { micros }) }
}

fn interval(months: i32, days: i32, micros: i64) -> c::duckdb_value {
    // SAFETY: makes a new value.
    unsafe { c::duckdb_create_interval(c::duckdb_interval { months, days, micros }) }
}

/// A timestamp of any unit; with a zone it becomes TIMESTAMPTZ, which counts microseconds.
fn timestamp(
    array: &dyn Array,
    row: usize,
    unit: TimeUnit,
    zoned: bool,
) -> Result<c::duckdb_value, DuckError> {
    let (value, per_second) = match unit {
        TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 1),
        TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().value(row), 1_000),
        TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000),
        TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().value(row), 1_000_000_000),
    };
    // SAFETY: each call makes a new value from a number.
    unsafe {
        if unit == TimeUnit::Nanosecond && !zoned {
            return Ok(c::duckdb_create_timestamp_ns(c::duckdb_timestamp_ns { nanos: value }));
        }
        let micros = if per_second > 1_000_000 {
            Some(value.div_euclid(1_000))
        } else {
            value.checked_mul(1_000_000 / per_second)
        };
        let micros = micros.ok_or_else(|| {
            DuckError::new(
                Class::Conversion,
                "a timestamp parameter is out of the range of DuckDB's timestamps",
            )
        })?;
        let stamp = c::duckdb_timestamp { micros };
        Ok(if zoned { c::duckdb_create_timestamp_tz(stamp) } else { c::duckdb_create_timestamp(stamp) })
    }
}

fn decimal(value: i128, width: u8, scale: i8) -> Result<c::duckdb_value, DuckError> {
    // Arrow data may carry any digits; DuckDB ends the process over some that do not fit.
    let fits = (1..=38).contains(&width)
        && (0..=width as i8).contains(&scale)
        && value.unsigned_abs() < 10_u128.pow(u32::from(width));
    if !fits {
        return Err(DuckError::new(
            Class::Conversion,
            "a decimal parameter does not fit its own precision and scale",
        ));
    }
    let scale = scale as u8;
    let value = c::duckdb_hugeint { lower: value as u64, upper: (value >> 64) as i64 };
    // SAFETY: makes a new value.
    Ok(unsafe { c::duckdb_create_decimal(c::duckdb_decimal { width, scale, value }) })
}

fn duration_micros(array: &dyn Array, row: usize, unit: TimeUnit) -> Result<i64, DuckError> {
    let micros = match unit {
        TimeUnit::Second => array.as_primitive::<DurationSecondType>().value(row).checked_mul(1_000_000),
        TimeUnit::Millisecond => {
            array.as_primitive::<DurationMillisecondType>().value(row).checked_mul(1_000)
        }
        TimeUnit::Microsecond => Some(array.as_primitive::<DurationMicrosecondType>().value(row)),
        TimeUnit::Nanosecond => return Err(unsupported(array.data_type())),
    };
    micros.ok_or_else(|| {
        DuckError::new(Class::Conversion, "a duration is out of the range of DuckDB's intervals")
    })
}

/// Every item of an array.
fn values(field: &Field, items: &dyn Array) -> Result<Vec<Value>, DuckError> {
    (0..items.len()).map(|row| Value::from_arrow(field, items, row)).collect()
}

fn raws(values: &[Value]) -> Vec<c::duckdb_value> {
    values.iter().map(Value::raw).collect()
}

fn list(item: &Field, items: &dyn Array) -> Result<Value, DuckError> {
    let (values, element) = (values(item, items)?, logical_type(item)?);
    let mut raw = raws(&values);
    // SAFETY: the type and the values are live through the call, which copies them.
    let list = unsafe { c::duckdb_create_list_value(element.0, raw.as_mut_ptr(), raw.len() as c::idx_t) };
    Value::new(list, item.data_type())
}

fn fixed_size_list(item: &Field, items: &dyn Array) -> Result<Value, DuckError> {
    let (values, element) = (values(item, items)?, logical_type(item)?);
    let mut raw = raws(&values);
    // SAFETY: as in `list`.
    let list = unsafe { c::duckdb_create_array_value(element.0, raw.as_mut_ptr(), raw.len() as c::idx_t) };
    Value::new(list, item.data_type())
}

fn structure(field: &Field, array: &dyn Array, row: usize) -> Result<Value, DuckError> {
    let logical = logical_type(field)?;
    let structure = array.as_struct();
    let values = structure
        .fields()
        .iter()
        .zip(structure.columns())
        .map(|(field, column)| Value::from_arrow(field, column, row))
        .collect::<Result<Vec<_>, _>>()?;
    // SAFETY: there is a value for each member of the type; both are live through the call, which copies them.
    let value = unsafe { c::duckdb_create_struct_value(logical.0, raws(&values).as_mut_ptr()) };
    Value::new(value, array.data_type())
}

fn map(field: &Field, array: &dyn Array, row: usize) -> Result<Value, DuckError> {
    let logical = logical_type(field)?;
    let entries = array.as_map().value(row);
    let (keys, items) = (entries.column(0), entries.column(1));
    check_keys(keys)?;
    let fields = entries.fields();
    let (keys, items) = (values(&fields[0], keys)?, values(&fields[1], items)?);
    let (mut raw_keys, mut raw_items) = (raws(&keys), raws(&items));
    // SAFETY: as many keys as values, all live through the call, which copies them.
    let value = unsafe {
        c::duckdb_create_map_value(
            logical.0,
            raw_keys.as_mut_ptr(),
            raw_items.as_mut_ptr(),
            raw_keys.len() as c::idx_t,
        )
    };
    Value::new(value, array.data_type())
}

/// DuckDB makes a map of any keys, also of some that none of its maps may have.
fn check_keys(keys: &dyn Array) -> Result<(), DuckError> {
    let refused = |reason: &str| DuckError::new(Class::Conversion, reason);
    let options = FormatOptions::default();
    let shown = ArrayFormatter::try_new(keys, &options).map_err(|_| unsupported(keys.data_type()))?;
    let mut seen = HashSet::new();
    for row in 0..keys.len() {
        if keys.is_null(row) {
            return Err(refused("a map parameter has NULL for a key"));
        }
        if !seen.insert(shown.value(row).to_string()) {
            return Err(refused("a map parameter has a key twice"));
        }
    }
    Ok(())
}

fn union(field: &Field, array: &dyn Array, row: usize) -> Result<Value, DuckError> {
    let logical = logical_type(field)?;
    let union = array.as_union();
    let found = union.fields().iter().enumerate().find(|(_, (id, _))| *id == union.type_id(row));
    let Some((tag, (_, member))) = found else { return Err(unsupported(array.data_type())) };
    let one = union.value(row);
    if one.is_null(0) {
        return Ok(Value::null());
    }
    let value = Value::from_arrow(member, one.as_ref(), 0)?;
    // SAFETY: the tag is one of the type's; type and value are live through the call, which copies them.
    let value = unsafe { c::duckdb_create_union_value(logical.0, tag as c::idx_t, value.raw()) };
    Value::new(value, array.data_type())
}

/// The DuckDB type of the values that [`Value::from_arrow`] makes for a field.
fn logical_type(field: &Field) -> Result<OwnedType, DuckError> {
    let id = match field.data_type() {
        DataType::Boolean => c::DUCKDB_TYPE_DUCKDB_TYPE_BOOLEAN,
        DataType::Int8 => c::DUCKDB_TYPE_DUCKDB_TYPE_TINYINT,
        DataType::Int16 => c::DUCKDB_TYPE_DUCKDB_TYPE_SMALLINT,
        DataType::Null | DataType::Int32 => c::DUCKDB_TYPE_DUCKDB_TYPE_INTEGER,
        DataType::Int64 => c::DUCKDB_TYPE_DUCKDB_TYPE_BIGINT,
        DataType::UInt8 => c::DUCKDB_TYPE_DUCKDB_TYPE_UTINYINT,
        DataType::UInt16 => c::DUCKDB_TYPE_DUCKDB_TYPE_USMALLINT,
        DataType::UInt32 => c::DUCKDB_TYPE_DUCKDB_TYPE_UINTEGER,
        DataType::UInt64 => c::DUCKDB_TYPE_DUCKDB_TYPE_UBIGINT,
        DataType::Float32 => c::DUCKDB_TYPE_DUCKDB_TYPE_FLOAT,
        DataType::Float64 => c::DUCKDB_TYPE_DUCKDB_TYPE_DOUBLE,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => c::DUCKDB_TYPE_DUCKDB_TYPE_VARCHAR,
        DataType::FixedSizeBinary(_) if Extension::of(field) == Some(Extension::Uuid) => {
            c::DUCKDB_TYPE_DUCKDB_TYPE_UUID
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            c::DUCKDB_TYPE_DUCKDB_TYPE_BLOB
        }
        DataType::Date32 => c::DUCKDB_TYPE_DUCKDB_TYPE_DATE,
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => c::DUCKDB_TYPE_DUCKDB_TYPE_TIME,
        DataType::Timestamp(TimeUnit::Nanosecond, None) => c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_NS,
        DataType::Timestamp(_, None) => c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_TZ,
        DataType::Duration(_) | DataType::Interval(_) => c::DUCKDB_TYPE_DUCKDB_TYPE_INTERVAL,
        DataType::Dictionary(_, values) => {
            return logical_type(&Field::new(field.name(), values.as_ref().clone(), true));
        }
        _ => return nested_type(field),
    };
    // SAFETY: makes a new type from a known id.
    Ok(OwnedType(unsafe { c::duckdb_create_logical_type(id) }))
}

fn nested_type(field: &Field) -> Result<OwnedType, DuckError> {
    // SAFETY: the types and names inside are live through the calls, which copy them.
    let raw = unsafe {
        match field.data_type() {
            DataType::Decimal128(width, scale)
                if (1..=38).contains(width) && (0..=*width as i8).contains(scale) =>
            {
                c::duckdb_create_decimal_type(*width, *scale as u8)
            }
            DataType::List(item) | DataType::LargeList(item) => {
                c::duckdb_create_list_type(logical_type(item)?.0)
            }
            DataType::FixedSizeList(item, size) if *size > 0 => {
                c::duckdb_create_array_type(logical_type(item)?.0, *size as c::idx_t)
            }
            DataType::Struct(fields) => return members_type(field, fields, c::duckdb_create_struct_type),
            DataType::Union(fields, _) => {
                let fields = fields.iter().map(|(_, member)| member.clone()).collect();
                return members_type(field, &fields, c::duckdb_create_union_type);
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 => {
                    c::duckdb_create_map_type(logical_type(&pair[0])?.0, logical_type(&pair[1])?.0)
                }
                _ => return Err(unsupported(field.data_type())),
            },
            other => return Err(unsupported(other)),
        }
    };
    if raw.is_null() { Err(unsupported(field.data_type())) } else { Ok(OwnedType(raw)) }
}

type CreateType = unsafe extern "C" fn(
    *mut c::duckdb_logical_type,
    *mut *const std::ffi::c_char,
    c::idx_t,
) -> c::duckdb_logical_type;

fn members_type(field: &Field, members: &Fields, create: CreateType) -> Result<OwnedType, DuckError> {
    let distinct: HashSet<_> = members.iter().map(|member| member.name().to_lowercase()).collect();
    if members.is_empty() || distinct.len() < members.len() {
        return Err(unsupported(field.data_type()));
    }
    let types = members.iter().map(|member| logical_type(member)).collect::<Result<Vec<_>, _>>()?;
    let names = members.iter().map(|member| c_string(member.name())).collect::<Result<Vec<_>, _>>()?;
    let mut raw_types: Vec<_> = types.iter().map(|logical| logical.0).collect();
    let mut raw_names: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: both lists have a live entry for each member; DuckDB copies them.
    let raw = unsafe { create(raw_types.as_mut_ptr(), raw_names.as_mut_ptr(), raw_types.len() as c::idx_t) };
    if raw.is_null() { Err(unsupported(field.data_type())) } else { Ok(OwnedType(raw)) }
}

fn unsupported(data_type: &DataType) -> DuckError {
    DuckError::new(Class::Unsupported, format!("Arrow type {data_type} cannot be bound"))
}
