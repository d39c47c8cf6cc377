//! Arrow scalars as DuckDB values, for statement parameters.

use arrow_array::{
    Array,
    cast::AsArray,
    types::{
        Date32Type, Date64Type, Decimal128Type, DurationMicrosecondType, Float16Type, Float32Type,
        Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalMonthDayNanoType,
        Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
        UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use libduckdb_sys as c;

use super::{Class, DuckError};

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

    /// The value at `row`. Lists become lists of the same scalars; other nested types are refused.
    pub(super) fn from_arrow(array: &dyn Array, row: usize) -> Result<Self, DuckError> {
        if array.is_null(row) || *array.data_type() == DataType::Null {
            // SAFETY: makes a new value.
            return Ok(Self { raw: unsafe { c::duckdb_create_null_value() } });
        }
        let raw = match array.data_type() {
            DataType::Utf8 => text(array.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => text(array.as_string::<i64>().value(row)),
            DataType::Utf8View => text(array.as_string_view().value(row)),
            DataType::Binary => blob(array.as_binary::<i32>().value(row)),
            DataType::LargeBinary => blob(array.as_binary::<i64>().value(row)),
            DataType::BinaryView => blob(array.as_binary_view().value(row)),
            DataType::FixedSizeBinary(_) => blob(array.as_fixed_size_binary().value(row)),
            DataType::List(_) => return list(array.as_list::<i32>().value(row).as_ref()),
            DataType::LargeList(_) => return list(array.as_list::<i64>().value(row).as_ref()),
            DataType::FixedSizeList(_, _) => return list(array.as_fixed_size_list().value(row).as_ref()),
            DataType::Dictionary(_, _) => {
                let one = array.slice(row, 1);
                let dictionary = one.as_any_dictionary();
                return Self::from_arrow(dictionary.values(), dictionary.normalized_keys()[0]);
            }
            _ => return fixed(array, row),
        };
        if raw.is_null() {
            return Err(unsupported(array.data_type()));
        }
        Ok(Self { raw })
    }
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
            DataType::Float16 => c::duckdb_create_float(of!(Float16Type).to_f32()),
            DataType::Float32 => c::duckdb_create_float(of!(Float32Type)),
            DataType::Float64 => c::duckdb_create_double(of!(Float64Type)),
            DataType::Decimal128(width, scale) => decimal(of!(Decimal128Type), *width, *scale)?,
            DataType::Date32 => c::duckdb_create_date(c::duckdb_date { days: of!(Date32Type) }),
            DataType::Date64 => {
                let days = i32::try_from(of!(Date64Type).div_euclid(86_400_000))
                    .map_err(|_| DuckError::new(Class::Conversion, "a date parameter is out of range"))?;
                c::duckdb_create_date(c::duckdb_date { days })
            }
            DataType::Time32(TimeUnit::Second) => time(i64::from(of!(Time32SecondType)) * 1_000_000),
            DataType::Time32(_) => time(i64::from(of!(Time32MillisecondType)) * 1_000),
            DataType::Time64(TimeUnit::Nanosecond) => time(of!(Time64NanosecondType) / 1_000),
            DataType::Time64(_) => time(of!(Time64MicrosecondType)),
            DataType::Timestamp(unit, zone) => timestamp(array, row, *unit, zone.is_some())?,
            DataType::Duration(TimeUnit::Microsecond) => interval(0, 0, of!(DurationMicrosecondType)),
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

fn list(items: &dyn Array) -> Result<Value, DuckError> {
    let values = (0..items.len()).map(|row| Value::from_arrow(items, row)).collect::<Result<Vec<_>, _>>()?;
    let mut raw: Vec<_> = values.iter().map(Value::raw).collect();
    let mut element = element_type(items.data_type())?;
    // SAFETY: the type and the values are live through the call, which copies them.
    let list = unsafe {
        let list = c::duckdb_create_list_value(element, raw.as_mut_ptr(), raw.len() as c::idx_t);
        c::duckdb_destroy_logical_type(&mut element);
        list
    };
    if list.is_null() {
        return Err(unsupported(items.data_type()));
    }
    Ok(Value { raw: list })
}

/// The DuckDB type of a list parameter's elements.
fn element_type(data_type: &DataType) -> Result<c::duckdb_logical_type, DuckError> {
    let id = match data_type {
        DataType::Boolean => c::DUCKDB_TYPE_DUCKDB_TYPE_BOOLEAN,
        DataType::Int8 => c::DUCKDB_TYPE_DUCKDB_TYPE_TINYINT,
        DataType::Int16 => c::DUCKDB_TYPE_DUCKDB_TYPE_SMALLINT,
        DataType::Int32 => c::DUCKDB_TYPE_DUCKDB_TYPE_INTEGER,
        DataType::Int64 => c::DUCKDB_TYPE_DUCKDB_TYPE_BIGINT,
        DataType::UInt8 => c::DUCKDB_TYPE_DUCKDB_TYPE_UTINYINT,
        DataType::UInt16 => c::DUCKDB_TYPE_DUCKDB_TYPE_USMALLINT,
        DataType::UInt32 => c::DUCKDB_TYPE_DUCKDB_TYPE_UINTEGER,
        DataType::UInt64 => c::DUCKDB_TYPE_DUCKDB_TYPE_UBIGINT,
        DataType::Float32 => c::DUCKDB_TYPE_DUCKDB_TYPE_FLOAT,
        DataType::Float64 => c::DUCKDB_TYPE_DUCKDB_TYPE_DOUBLE,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            c::DUCKDB_TYPE_DUCKDB_TYPE_VARCHAR
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => c::DUCKDB_TYPE_DUCKDB_TYPE_BLOB,
        DataType::Date32 | DataType::Date64 => c::DUCKDB_TYPE_DUCKDB_TYPE_DATE,
        DataType::Timestamp(TimeUnit::Nanosecond, None) => c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_NS,
        DataType::Timestamp(_, None) => c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_TZ,
        other => return Err(unsupported(other)),
    };
    // SAFETY: makes a new type from a known id.
    Ok(unsafe { c::duckdb_create_logical_type(id) })
}

fn unsupported(data_type: &DataType) -> DuckError {
    DuckError::new(Class::Unsupported, format!("a parameter of Arrow type {data_type} cannot be bound"))
}
