//! Values that DuckDB has and Arrow has not: numbers beyond 38 digits, TIME '24:00:00', infinite dates and
//! timestamps, intervals of more than 292 years in nanoseconds. DuckDB's export writes some other value in
//! their place; here they are found, so that a result ends with an error and never holds a wrong value.
//!
//! What needs looking at is decided once a result. All but intervals are looked for in the exported arrays,
//! where they are still recognisable; an interval is not, so that one is looked for in DuckDB's vectors.

use arrow_array::{
    Array, ArrowPrimitiveType, RecordBatch,
    cast::AsArray,
    types::{
        Date32Type, Decimal128Type, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    },
};
use arrow_schema::{DataType, TimeUnit};
use libduckdb_sys as c;

use super::{Class, DuckError, logical::LogicalType};
use crate::sql::quote;

/// The first integer with more than 38 digits.
const TOO_MANY_DIGITS: u128 = 10_u128.pow(38);
const DAY_MICROS: i64 = 86_400_000_000;

/// What to look for in the columns of one result.
pub(super) struct Ranges {
    columns: Vec<Watched>,
    /// Rows that have passed.
    rows: usize,
}

struct Watched {
    index: usize,
    name: String,
    part: Part,
}

/// Where in a column's type something has to be looked at.
enum Part {
    Leaf(Limit),
    /// Lists, arrays and maps.
    Items(Box<Part>),
    /// Structs, unions and a map's entries: those members that matter, by position.
    Members(Vec<(usize, Part)>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Huge,
    UnsignedHuge,
    Date,
    Time,
    Timestamp,
    Interval,
}

impl Ranges {
    /// For columns of these names and types.
    pub(super) fn new<'a>(columns: impl Iterator<Item = (&'a str, &'a LogicalType)>) -> Self {
        let columns = columns
            .enumerate()
            .filter_map(|(index, (name, logical))| {
                Part::of(logical).map(|part| Watched { index, name: name.to_owned(), part })
            })
            .collect();
        Self { columns, rows: 0 }
    }

    /// Looks for intervals in a chunk, before it is exported.
    ///
    /// # Safety
    /// `chunk` is live, has the columns of this result, and its vectors are flat, also those inside others.
    pub(super) unsafe fn check_chunk(&self, chunk: c::duckdb_data_chunk) -> Result<(), DuckError> {
        for column in self.columns.iter().filter(|column| column.part.has(Limit::Interval)) {
            // SAFETY: by the contract above; the rows are the chunk's.
            let found = unsafe {
                let vector = c::duckdb_data_chunk_get_vector(chunk, column.index as c::idx_t);
                (0..c::duckdb_data_chunk_get_size(chunk) as usize)
                    .find(|&row| column.part.overflows(vector, row))
            };
            if let Some(row) = found {
                return Err(self.error(column, row, Limit::Interval));
            }
        }
        Ok(())
    }

    /// Looks for everything else in an exported batch, and counts its rows.
    pub(super) fn check_batch(&mut self, batch: &RecordBatch) -> Result<(), DuckError> {
        for column in &self.columns {
            if let Some((row, limit)) =
                column.part.beyond(batch.column(column.index)).min_by_key(|(row, _)| *row)
            {
                return Err(self.error(column, row, limit));
            }
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    fn error(&self, column: &Watched, row: usize, limit: Limit) -> DuckError {
        let what = match limit {
            Limit::Huge => "a HUGEINT of more than 38 digits",
            Limit::UnsignedHuge => "a UHUGEINT of more than 38 digits",
            Limit::Date => "an infinite DATE",
            Limit::Time => "TIME '24:00:00'",
            Limit::Timestamp => "an infinite timestamp",
            Limit::Interval => "an INTERVAL of more than 292 years in hours and smaller units",
        };
        DuckError::new(
            Class::OutOfRange,
            format!(
                "column {}, row {}: {what} has no place in the Arrow type of the column; cast it to VARCHAR",
                quote(&column.name),
                self.rows + row + 1
            ),
        )
    }
}

impl Part {
    fn of(logical: &LogicalType) -> Option<Self> {
        let items = |item: &LogicalType| Self::of(item).map(|item| Self::Items(Box::new(item)));
        match logical {
            LogicalType::Plain(id) => limit(*id).map(Self::Leaf),
            LogicalType::Decimal { .. } => None,
            LogicalType::List(item) | LogicalType::Array(item, _) => items(item),
            LogicalType::Map(key, value) => Self::members([key.as_ref(), value.as_ref()].into_iter())
                .map(|entries| Self::Items(Box::new(entries))),
            LogicalType::Struct(members) | LogicalType::Union(members) => {
                Self::members(members.iter().map(|(_, member)| member))
            }
        }
    }

    fn members<'a>(members: impl Iterator<Item = &'a LogicalType>) -> Option<Self> {
        let members: Vec<_> = members
            .enumerate()
            .filter_map(|(index, member)| Self::of(member).map(|part| (index, part)))
            .collect();
        (!members.is_empty()).then_some(Self::Members(members))
    }

    fn has(&self, limit: Limit) -> bool {
        match self {
            Self::Leaf(own) => *own == limit,
            Self::Items(item) => item.has(limit),
            Self::Members(members) => members.iter().any(|(_, member)| member.has(limit)),
        }
    }

    /// Rows of an array that hold a value beyond the limits, in no order.
    fn beyond<'a>(&'a self, array: &'a dyn Array) -> Box<dyn Iterator<Item = (usize, Limit)> + 'a> {
        match self {
            Self::Leaf(limit) => Box::new(leaf(*limit, array).map(|row| (row, *limit))),
            Self::Members(members) => {
                let member = |index: usize| match array.data_type() {
                    DataType::Union(_, _) => array.as_union().child(index as i8).as_ref(),
                    _ => array.as_struct().column(index).as_ref(),
                };
                Box::new(
                    members
                        .iter()
                        .flat_map(move |(index, part)| part.beyond(member(*index)))
                        .filter(|(row, _)| array.is_valid(*row)),
                )
            }
            Self::Items(item) => {
                let (values, row_of) = items(array);
                Box::new(
                    item.beyond(values)
                        .map(move |(position, limit)| (row_of(position), limit))
                        .filter(|(row, _)| array.is_valid(*row)),
                )
            }
        }
    }

    /// True when the value at `row` has an interval whose microseconds do not fit as nanoseconds.
    ///
    /// # Safety
    /// `vector` is a live flat vector of this part's type, its inner vectors too, and has `row`.
    unsafe fn overflows(&self, vector: c::duckdb_vector, row: usize) -> bool {
        // SAFETY: a flat vector holds a value of its physical type for each row, a list's entry points into
        // its child, and an array's child holds its items one after the other.
        unsafe {
            let validity = c::duckdb_vector_get_validity(vector);
            if !validity.is_null() && !c::duckdb_validity_row_is_valid(validity, row as c::idx_t) {
                return false;
            }
            match self {
                Self::Leaf(Limit::Interval) => {
                    let values = c::duckdb_vector_get_data(vector).cast::<c::duckdb_interval>();
                    (*values.add(row)).micros.checked_mul(1_000).is_none()
                }
                Self::Leaf(_) => false,
                Self::Items(item) => {
                    let (child, mut rows) = children(vector, row);
                    rows.any(|row| item.overflows(child, row))
                }
                Self::Members(members) => {
                    let first = first_member(vector);
                    members.iter().any(|(index, member)| {
                        let child = c::duckdb_struct_vector_get_child(vector, (first + index) as c::idx_t);
                        member.overflows(child, row)
                    })
                }
            }
        }
    }
}

fn limit(id: c::duckdb_type) -> Option<Limit> {
    Some(match id {
        c::DUCKDB_TYPE_DUCKDB_TYPE_HUGEINT => Limit::Huge,
        c::DUCKDB_TYPE_DUCKDB_TYPE_UHUGEINT => Limit::UnsignedHuge,
        c::DUCKDB_TYPE_DUCKDB_TYPE_DATE => Limit::Date,
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIME | c::DUCKDB_TYPE_DUCKDB_TYPE_TIME_NS => Limit::Time,
        c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_S
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_MS
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_NS
        | c::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_TZ => Limit::Timestamp,
        c::DUCKDB_TYPE_DUCKDB_TYPE_INTERVAL => Limit::Interval,
        _ => return None,
    })
}

/// Rows of an array without inner arrays that hold a value beyond the limit.
fn leaf<'a>(limit: Limit, array: &'a dyn Array) -> Box<dyn Iterator<Item = usize> + 'a> {
    // DuckDB writes its infinities as the two ends of the number's range.
    let infinite = |value: i64| value.unsigned_abs() >= i64::MAX.unsigned_abs();
    match (limit, array.data_type()) {
        (Limit::Huge, _) => {
            rows_with::<Decimal128Type>(array, |value| value.unsigned_abs() >= TOO_MANY_DIGITS)
        }
        (Limit::UnsignedHuge, _) => {
            rows_with::<Decimal128Type>(array, |value| value.cast_unsigned() >= TOO_MANY_DIGITS)
        }
        (Limit::Date, _) => {
            rows_with::<Date32Type>(array, |value| value.unsigned_abs() >= i32::MAX.unsigned_abs())
        }
        (Limit::Time, DataType::Time64(TimeUnit::Nanosecond)) => {
            rows_with::<Time64NanosecondType>(array, |value| value >= DAY_MICROS * 1_000)
        }
        (Limit::Time, _) => rows_with::<Time64MicrosecondType>(array, |value| value >= DAY_MICROS),
        (Limit::Timestamp, DataType::Timestamp(unit, _)) => match unit {
            TimeUnit::Second => rows_with::<TimestampSecondType>(array, infinite),
            TimeUnit::Millisecond => rows_with::<TimestampMillisecondType>(array, infinite),
            TimeUnit::Microsecond => rows_with::<TimestampMicrosecondType>(array, infinite),
            TimeUnit::Nanosecond => rows_with::<TimestampNanosecondType>(array, infinite),
        },
        // Intervals are looked for in the vectors.
        (Limit::Timestamp | Limit::Interval, _) => Box::new(std::iter::empty()),
    }
}

fn rows_with<'a, T: ArrowPrimitiveType>(
    array: &'a dyn Array,
    beyond: impl Fn(T::Native) -> bool + 'a,
) -> Box<dyn Iterator<Item = usize> + 'a> {
    let values = array.as_primitive::<T>().values();
    let rows = values.iter().enumerate().filter(move |(_, value)| beyond(**value)).map(|(row, _)| row);
    Box::new(rows.filter(|&row| array.is_valid(row)))
}

/// The items of lists, and in which row each of them is.
fn items(array: &dyn Array) -> (&dyn Array, Box<dyn Fn(usize) -> usize + '_>) {
    let of_offsets = |offsets: &'_ [i32]| -> Box<dyn Fn(usize) -> usize + '_> {
        // The row whose items end behind the position.
        let ends: Vec<_> = offsets.iter().skip(1).map(|&end| end as usize).collect();
        Box::new(move |position| ends.partition_point(|&end| end <= position))
    };
    match array.data_type() {
        DataType::FixedSizeList(_, size) => {
            let size = (*size).max(1) as usize;
            (array.as_fixed_size_list().values().as_ref(), Box::new(move |position| position / size))
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            (map.entries(), of_offsets(map.offsets()))
        }
        _ => {
            let list = array.as_list::<i32>();
            (list.values().as_ref(), of_offsets(list.offsets()))
        }
    }
}

/// The vector of a list's, map's or array's items, and where in it those of `row` are.
///
/// # Safety
/// `vector` is a live flat vector of one of these types and has `row`, which is not NULL.
unsafe fn children(vector: c::duckdb_vector, row: usize) -> (c::duckdb_vector, std::ops::Range<usize>) {
    // SAFETY: the accessors fit the type, which is destroyed here.
    unsafe {
        let mut logical = c::duckdb_vector_get_column_type(vector);
        let found = if c::duckdb_get_type_id(logical) == c::DUCKDB_TYPE_DUCKDB_TYPE_ARRAY {
            let size = c::duckdb_array_type_array_size(logical) as usize;
            (c::duckdb_array_vector_get_child(vector), row * size..(row + 1) * size)
        } else {
            let entry = *c::duckdb_vector_get_data(vector).cast::<c::duckdb_list_entry>().add(row);
            let start = entry.offset as usize;
            (c::duckdb_list_vector_get_child(vector), start..start + entry.length as usize)
        };
        c::duckdb_destroy_logical_type(&mut logical);
        found
    }
}

/// Where the members begin: a union's first vector is its tag.
///
/// # Safety
/// `vector` is live.
unsafe fn first_member(vector: c::duckdb_vector) -> usize {
    // SAFETY: by the contract above; the type is destroyed here.
    unsafe {
        let mut logical = c::duckdb_vector_get_column_type(vector);
        let is_union = c::duckdb_get_type_id(logical) == c::DUCKDB_TYPE_DUCKDB_TYPE_UNION;
        c::duckdb_destroy_logical_type(&mut logical);
        usize::from(is_union)
    }
}
