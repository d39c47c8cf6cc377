//! How many columns an upload may have, and how long their names may be.

use arrow_schema::Schema;

use crate::engine::{Error, MAX_NAME_BYTES, Result};

/// Columns of an upload, the fields inside of nested ones included.
const MOST: usize = 4_096;

/// Refuses an upload with too many columns or too long names, before anything is done for it.
///
/// # Errors
/// [`Error::SchemaMismatch`], [`Error::BadName`].
pub(super) fn check(schema: &Schema) -> Result<()> {
    let fields = schema.flattened_fields();
    if fields.len() > MOST {
        return Err(Error::SchemaMismatch(format!(
            "the upload has {} columns, those inside of nested ones included; at most {MOST}",
            fields.len()
        )));
    }
    match fields.iter().map(|field| field.name().len()).find(|bytes| *bytes > MAX_NAME_BYTES) {
        Some(bytes) => Err(Error::BadName(format!(
            "a column's name of {bytes} bytes is too long; at most {MAX_NAME_BYTES}"
        ))),
        None => Ok(()),
    }
}
