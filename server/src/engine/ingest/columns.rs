//! How many columns an upload may have, and how they may be called.

use arrow_schema::{DataType, Field, Schema};

use crate::engine::{Error, MAX_NAME_BYTES, Result, check_names};

/// Columns of an upload, the fields inside of nested ones included.
const MOST: usize = 4_096;

/// Refuses an upload with too many columns or names that no column can have, before anything is done for it.
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
    check_names(schema)?;
    if schema.fields().iter().any(|field| field.name().is_empty()) || fields.iter().any(has_nameless_member) {
        return Err(Error::BadName("a column, or a member of one, has no name".into()));
    }
    match fields.iter().map(|field| field.name().len()).find(|bytes| *bytes > MAX_NAME_BYTES) {
        Some(bytes) => Err(Error::BadName(format!(
            "a column's name of {bytes} bytes is too long; at most {MAX_NAME_BYTES}"
        ))),
        None => Ok(()),
    }
}

/// Whether it is a struct with a member without a name; the items of lists and the entries of maps need none.
fn has_nameless_member(field: &&Field) -> bool {
    matches!(field.data_type(), DataType::Struct(members) if members.iter().any(|member| member.name().is_empty()))
}
