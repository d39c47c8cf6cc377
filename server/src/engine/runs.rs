//! Run-end encoded columns, run by run.

use std::mem;

use arrow_array::{Array, ArrayRef, cast::AsArray, make_array, types::Int64Type};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};

/// The values of such an array, and for each of its runs which value it repeats for how many rows.
pub(super) fn runs(array: &ArrayRef) -> Result<(ArrayRef, Vec<(usize, usize)>), ArrowError> {
    let data = array.to_data();
    let [ends, values] = data.child_data() else {
        return Err(ArrowError::InvalidArgumentError("runs without ends or values".into()));
    };
    let ends = cast(&make_array(ends.clone()), &DataType::Int64)?;
    // Ends are those of the whole array, of which this one may be a slice.
    let (from, to) = (data.offset(), data.offset() + data.len());
    let mut begin = 0;
    let rows = |end: &i64| {
        let end = usize::try_from(*end).unwrap_or(0);
        end.min(to).saturating_sub(mem::replace(&mut begin, end).max(from))
    };
    let rows = ends.as_primitive::<Int64Type>().values().iter().map(rows).enumerate();
    Ok((make_array(values.clone()), rows.filter(|(_, rows)| *rows > 0).collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int16Array, RunArray, StringArray, types::Int16Type};

    use super::*;

    #[test]
    fn a_slice_has_the_runs_that_show() {
        let ends = Int16Array::from(vec![2, 5, 9]);
        let all = RunArray::<Int16Type>::try_new(&ends, &StringArray::from(vec!["a", "b", "c"])).unwrap();
        let of = |array: RunArray<Int16Type>| runs(&(Arc::new(array) as ArrayRef)).unwrap().1;
        assert_eq!(of(all.clone()), [(0, 2), (1, 3), (2, 4)]);
        assert_eq!(of(all.slice(3, 4)), [(1, 2), (2, 2)]);
        assert_eq!(of(all.slice(2, 2)), [(1, 2)]);
    }
}
