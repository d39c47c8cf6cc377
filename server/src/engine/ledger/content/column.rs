//! One column as it is hashed, and how each type goes into its streams.

use std::{iter::repeat_n, sync::Arc};

use arrow_array::{Array, ArrayRef, cast::AsArray, downcast_dictionary_array};
use arrow_schema::{ArrowError, DataType};
use twox_hash::xxhash3_128::Hasher;

use crate::engine::{ledger::spelling::Spelling, runs::runs};

/// One column, or a part of a nested one.
pub(super) struct Column {
    pub(super) rows: u64,
    pub(super) nulls: Hasher,
    pub(super) lengths: Hasher,
    pub(super) values: Hasher,
    /// The values in the width that decimals of so many digits have in common, where they come in another.
    pub(super) common: Option<Box<Hasher>>,
    children: Vec<Column>,
}

impl Default for Column {
    fn default() -> Self {
        let [nulls, lengths, values] = [Hasher::new(), Hasher::new(), Hasher::new()];
        Self { rows: 0, nulls, lengths, values, common: None, children: Vec::new() }
    }
}

impl Column {
    /// Takes the next rows, in whatever form they come.
    pub(super) fn add(&mut self, array: &ArrayRef) -> Result<(), ArrowError> {
        match array.data_type() {
            DataType::Dictionary(_, _) => {
                let values = Arc::clone(array.as_any_dictionary().values());
                downcast_dictionary_array!(
                    array => self.add_referred(&values, array.keys_iter()),
                    _ => Ok(()),
                )
            }
            DataType::RunEndEncoded(_, _) => {
                let (values, runs) = runs(array)?;
                let rows = runs.into_iter().flat_map(|(value, rows)| repeat_n(Some(value), rows));
                self.add_referred(&values, rows)
            }
            // Many may share what they refer to.
            DataType::Utf8View | DataType::BinaryView => self.add_referred(array, (0..array.len()).map(Some)),
            _ => self.add_plain(array),
        }
    }

    /// The same for rows that have their values themselves.
    fn add_plain(&mut self, array: &ArrayRef) -> Result<(), ArrowError> {
        if array.is_empty() {
            return Ok(());
        }
        self.add_nulls(array);
        match array.data_type() {
            DataType::Null => {}
            DataType::Boolean => self.add_booleans(array.as_boolean()),
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                self.add_bytes(array, texts.value_offsets(), texts.value_data());
            }
            DataType::LargeUtf8 => {
                let texts = array.as_string::<i64>();
                self.add_bytes(array, texts.value_offsets(), texts.value_data());
            }
            DataType::Binary => {
                let blobs = array.as_binary::<i32>();
                self.add_bytes(array, blobs.value_offsets(), blobs.value_data());
            }
            DataType::LargeBinary => {
                let blobs = array.as_binary::<i64>();
                self.add_bytes(array, blobs.value_offsets(), blobs.value_data());
            }
            DataType::List(_) => {
                let lists = array.as_list::<i32>();
                self.add_lists(array, lists.value_offsets(), lists.values())?;
            }
            DataType::LargeList(_) => {
                let lists = array.as_list::<i64>();
                self.add_lists(array, lists.value_offsets(), lists.values())?;
            }
            DataType::ListView(_) => self.add_list_views::<i32>(array)?,
            DataType::LargeListView(_) => self.add_list_views::<i64>(array)?,
            DataType::Map(_, _) => {
                let maps = array.as_map();
                let entries: ArrayRef = Arc::new(maps.entries().clone());
                self.add_lists(array, maps.value_offsets(), &entries)?;
            }
            DataType::FixedSizeList(_, _) => self.add_fixed_size_lists(array.as_fixed_size_list())?,
            DataType::Struct(_) => self.add_structs(array.as_struct())?,
            DataType::Union(_, _) => self.add_union(array.as_union())?,
            fixed => self.add_fixed(array, fixed)?,
        }
        self.rows += array.len() as u64;
        Ok(())
    }

    fn add_nulls(&mut self, array: &ArrayRef) {
        let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) else { return };
        for row in (0..array.len()).filter(|row| nulls.is_null(*row)) {
            self.nulls.write(&(self.rows + row as u64).to_le_bytes());
        }
    }

    /// A part, which begins with its first rows.
    pub(super) fn child(&mut self, index: usize) -> &mut Self {
        while self.children.len() <= index {
            self.children.push(Self::default());
        }
        &mut self.children[index]
    }

    /// Ends a hash with all that was taken.
    pub(super) fn finish_into(&self, into: &mut Hasher, spelling: Spelling) {
        into.write(&self.rows.to_le_bytes());
        let values = match (&self.common, spelling) {
            (Some(common), Spelling::Today) => common,
            _ => &self.values,
        };
        for part in [&self.nulls, &self.lengths, values] {
            into.write(&part.finish_128().to_le_bytes());
        }
        into.write(&(self.children.len() as u64).to_le_bytes());
        for child in &self.children {
            child.finish_into(into, spelling);
        }
    }
}

/// A length as it is hashed, whichever type counts it.
pub(super) fn length(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_le_bytes()
}

/// Runs of rows that are not null, as start and length.
pub(super) fn runs_of_values(array: &dyn Array) -> Vec<(usize, usize)> {
    match array.nulls() {
        None => vec![(0, array.len())],
        Some(nulls) => nulls.valid_slices().map(|(start, end)| (start, end - start)).collect(),
    }
}
