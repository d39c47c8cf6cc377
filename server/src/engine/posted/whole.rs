//! Whole numbers among posted rows. DuckDB's casts round: 1.5 becomes 2 in a BIGINT, whether it comes as a text, in floating
//! point or as a decimal, and the query would answer for other rows than those that were sent. So it is refused.

use arrow_array::{
    Array, ArrayAccessor, RecordBatch,
    cast::AsArray,
    types::{Decimal128Type, Float32Type, Float64Type},
};
use arrow_schema::{DataType, Schema};

use crate::engine::{
    Class, Result,
    ffi::DuckError,
    queries::{excerpt, whole_type},
};

/// Looks at the columns that are declared as whole numbers.
///
/// # Errors
/// A conversion error that names row and column, for what is no whole number.
pub(super) fn check(batches: &[RecordBatch], schema: &Schema, declared: &[(String, String)]) -> Result<()> {
    for (name, whole) in declared.iter().filter_map(|(name, of)| Some((name, whole_type(of)?))) {
        let column = schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
        let Some(column) = column else { continue };
        let mut rows = 0;
        for batch in batches {
            if let Some((row, value)) = no_whole_number(batch.column(column)) {
                let text = format!(
                    "row {} has {value} in {name:?}, which is no whole number, as its type {whole} asks",
                    rows + row + 1
                );
                return Err(DuckError::new(Class::Conversion, text).into());
            }
            rows += batch.num_rows();
        }
    }
    Ok(())
}

/// The first row of a column with a value that is no whole number, and that value.
fn no_whole_number(column: &dyn Array) -> Option<(usize, String)> {
    let is_fraction = |value: f64| value.is_finite() && value.fract() != 0.0;
    match column.data_type() {
        DataType::Utf8 => first(column.as_string::<i32>(), |text| !is_whole(text)).map(quoted),
        DataType::LargeUtf8 => first(column.as_string::<i64>(), |text| !is_whole(text)).map(quoted),
        DataType::Utf8View => first(column.as_string_view(), |text| !is_whole(text)).map(quoted),
        DataType::Float32 => {
            first(column.as_primitive::<Float32Type>(), |value| is_fraction((*value).into())).map(plain)
        }
        DataType::Float64 => {
            first(column.as_primitive::<Float64Type>(), |value| is_fraction(*value)).map(plain)
        }
        DataType::Decimal128(_, scale @ 1..) => {
            let (decimals, one) =
                (column.as_primitive::<Decimal128Type>(), 10_i128.pow(u32::from(*scale as u8)));
            let (row, _) = first(decimals, |value| value % one != 0)?;
            Some((row, decimals.value_as_string(row)))
        }
        _ => None,
    }
}

fn first<A: ArrayAccessor>(column: A, is_wrong: impl Fn(&A::Item) -> bool) -> Option<(usize, A::Item)> {
    let mut values =
        (0..column.len()).filter(|row| column.is_valid(*row)).map(|row| (row, column.value(row)));
    values.find(|(_, value)| is_wrong(value))
}

fn quoted((row, text): (usize, &str)) -> (usize, String) {
    (row, format!("{:?}", excerpt(text)))
}

fn plain((row, value): (usize, impl ToString)) -> (usize, String) {
    (row, value.to_string())
}

/// Whether a text is a whole number, also with nothing behind its point or with an exponent that keeps it whole. Whether its
/// type has a place for it is DuckDB's to say.
fn is_whole(text: &str) -> bool {
    let number = text.trim_ascii();
    let number = number.strip_prefix(['-', '+']).unwrap_or(number);
    let rest = number.trim_start_matches(|digit: char| digit.is_ascii_digit());
    if rest.len() == number.len() {
        return false;
    }
    let rest = rest.strip_prefix('.').map_or(rest, |fraction| fraction.trim_start_matches('0'));
    match rest.strip_prefix(['e', 'E']) {
        None => rest.is_empty(),
        Some(exponent) => {
            let digits = exponent.strip_prefix('+').unwrap_or(exponent);
            !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Decimal128Array, Float32Array, Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn texts_are_whole_numbers_or_not() {
        for text in
            ["1", " -12\t", "+7", "1.", "1.00", "1e3", "1.0E+3", "340282366920938463463374607431768211455"]
        {
            assert!(is_whole(text), "{text:?}");
        }
        for text in ["", " ", "-", "1.5", ".5", "1e-3", "1.5e1", "1e", "many", "0x10", "1 2", "NaN", "1,5"] {
            assert!(!is_whole(text), "{text:?}");
        }
    }

    #[test]
    fn what_would_be_rounded_is_named_by_row_and_column() {
        let declared = [("Id".into(), "hugeint".into()), ("price".into(), "DOUBLE".into())];
        let decimals = |values: Vec<i128>| {
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(10, 2).unwrap()) as ArrayRef
        };
        let wrong: [(ArrayRef, &str); 4] = [
            (Arc::new(StringArray::from(vec![None, Some("1.5")])), "\"1.5\""),
            (Arc::new(Float64Array::from(vec![2.0, -1.5])), "-1.5"),
            (Arc::new(Float32Array::from(vec![f32::INFINITY, 0.5])), "0.5"),
            (decimals(vec![200, 150]), "1.50"),
        ];
        let checked = |columns: &[ArrayRef]| {
            let batch = |column: &ArrayRef| {
                RecordBatch::try_from_iter([("price", Arc::clone(column)), ("id", Arc::clone(column))])
                    .unwrap()
            };
            let batches: Vec<_> = columns.iter().map(batch).collect();
            check(&batches, &batches[0].schema(), &declared)
        };
        for (column, value) in wrong {
            let before = column.slice(0, 1);
            let error = checked(&[before, column]).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("row 3 has {value} in \"Id\", which is no whole number, as its type HUGEINT asks")
            );
        }
        for column in [
            Arc::new(StringArray::from(vec![None, Some("15")])) as ArrayRef,
            Arc::new(Float64Array::from(vec![2.0, f64::NAN])),
            Arc::new(Int64Array::from(vec![7])),
            decimals(vec![200]),
        ] {
            checked(&[column]).unwrap();
        }
    }
}
