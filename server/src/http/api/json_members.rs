//! The members of rows in JSON. One that is there twice would be decoded as the last of its values, and nobody be told.

use std::collections::HashMap;

use arrow_schema::{ArrowError, Schema};

/// The columns that rows may have, and which of them the present row had so far.
pub(super) struct Members {
    names: Vec<String>,
    places: HashMap<String, usize>,
    /// The last row that had each of them.
    seen: Vec<usize>,
    /// Which came after each of them the last time, and at last, which came first: rows are mostly alike, and then no name
    /// has to be looked up.
    after: Vec<usize>,
    before: usize,
    row: usize,
}

impl Members {
    pub(super) fn of(columns: &Schema) -> Self {
        let names: Vec<_> = columns.fields().iter().map(|field| field.name().clone()).collect();
        let count = names.len();
        Self {
            places: names.iter().cloned().zip(0..).collect(),
            names,
            seen: vec![0; count],
            after: (1..count).chain([0, 0]).collect(),
            before: count,
            row: 0,
        }
    }

    /// Begins with the next row.
    pub(super) fn begin_row(&mut self) {
        self.row += 1;
        self.before = self.names.len();
    }

    /// Takes a name as it is written between its quotes. One that no column has is for the decoder to refuse.
    ///
    /// # Errors
    /// [`ArrowError::JsonError`] for one that the row had already.
    pub(super) fn add(&mut self, written: &[u8]) -> Result<(), ArrowError> {
        let Some(place) = self.place(written) else { return Ok(()) };
        if self.seen[place] == self.row {
            let text = format!("row {} has {:?} twice", self.row, self.names[place]);
            return Err(ArrowError::JsonError(text));
        }
        self.seen[place] = self.row;
        self.after[self.before] = place;
        self.before = place;
        Ok(())
    }

    fn place(&self, written: &[u8]) -> Option<usize> {
        let likely = self.after[self.before];
        if self.names.get(likely).is_some_and(|name| name.as_bytes() == written) {
            return Some(likely);
        }
        if !written.contains(&b'\\') {
            return self.places.get(std::str::from_utf8(written).ok()?).copied();
        }
        let name: String = serde_json::from_slice(&[b"\"", written, b"\""].concat()).ok()?;
        self.places.get(&name).copied()
    }
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
