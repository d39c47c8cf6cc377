//! The members of rows in JSON. One that is there twice would be decoded as the last of its values, and nobody be told.

use arrow_schema::{ArrowError, Schema};

/// The columns that rows may have, and which of them the present row had so far.
pub(super) struct Members {
    names: Vec<String>,
    /// The columns by [`hash`]. They are those of the configuration, so that no body can crowd them together; and the
    /// standard hasher would take as long as everything else that is looked at in a row.
    buckets: Vec<Vec<usize>>,
    /// The last row that had each of them.
    seen: Vec<usize>,
    row: usize,
}

impl Members {
    pub(super) fn of(columns: &Schema) -> Self {
        let names: Vec<_> = columns.fields().iter().map(|field| field.name().clone()).collect();
        let mut buckets = vec![Vec::new(); (4 * names.len()).next_power_of_two()];
        for (place, name) in names.iter().enumerate() {
            let bucket = hash(name.as_bytes()) & (buckets.len() - 1);
            buckets[bucket].push(place);
        }
        Self { seen: vec![0; names.len()], names, buckets, row: 0 }
    }

    /// Begins with the next row.
    pub(super) fn begin_row(&mut self) {
        self.row += 1;
    }

    /// Takes a name as it is written between its quotes. One that no column has is for the decoder to refuse.
    ///
    /// # Errors
    /// [`ArrowError::JsonError`] for one that the row had already.
    pub(super) fn add(&mut self, written: &[u8]) -> Result<(), ArrowError> {
        let Some(place) = self.place(written).or_else(|| self.place(unescaped(written)?.as_bytes())) else {
            return Ok(());
        };
        if self.seen[place] == self.row {
            let text = format!("row {} has {:?} twice", self.row, self.names[place]);
            return Err(ArrowError::JsonError(text));
        }
        self.seen[place] = self.row;
        Ok(())
    }

    fn place(&self, name: &[u8]) -> Option<usize> {
        let bucket = &self.buckets[hash(name) & (self.buckets.len() - 1)];
        bucket.iter().copied().find(|place| self.names[*place].as_bytes() == name)
    }
}

/// FNV-1a.
fn hash(name: &[u8]) -> usize {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash >> 32).unwrap_or_default()
}

/// The name that is meant, where it is written with escapes.
fn unescaped(written: &[u8]) -> Option<String> {
    let quoted = || [b"\"", written, b"\""].concat();
    written.contains(&b'\\').then(quoted).and_then(|quoted| serde_json::from_slice(&quoted).ok())
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};

    use super::*;

    /// Adds the names of several rows.
    fn add(rows: &[&[&str]]) -> Result<(), String> {
        let columns = ["a", "b", "c"].map(|name| Field::new(name, DataType::Int64, true));
        let mut members = Members::of(&Schema::new(columns.to_vec()));
        for row in rows {
            members.begin_row();
            row.iter()
                .try_for_each(|name| members.add(name.as_bytes()))
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn rows_may_have_any_members_in_any_order() {
        add(&[
            &["a", "b", "c"],
            &["c", "b", "a"],
            &[],
            &["b"],
            &["c", "a"],
            &["x", "x", "A", "a", "\\u0062"],
        ])
        .unwrap();
        Members::of(&Schema::empty()).add(b"a").unwrap();
    }

    #[test]
    fn one_that_is_there_twice_is_named_with_its_row() {
        for (row, name) in [
            (["a", "a"].as_slice(), "a"),
            (&["a", "b", "c", "b"], "b"),
            (&["c", "x", "c"], "c"),
            (&["a", "\\u0061"], "a"),
            (&["\\u0061", "\\u0061"], "a"),
        ] {
            let told = add(&[&["c", "b", "a"], row]).unwrap_err();
            assert!(told.contains(&format!("row 2 has {name:?} twice")), "{told}");
        }
    }
}
