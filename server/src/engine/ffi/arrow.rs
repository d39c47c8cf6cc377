//! The Arrow C data interface, both ways. Source: the Arrow specification, "The Arrow C data interface".

use std::{ptr, sync::Arc};

use arrow_array::{
    Array, RecordBatch, RecordBatchOptions, StructArray,
    ffi::{FFI_ArrowArray, from_ffi_and_data_type},
};
use arrow_schema::{DataType, Schema, SchemaRef, ffi::FFI_ArrowSchema};
use libduckdb_sys as c;

use super::{Class, Connection, DuckError, c_string, connection::RawConnection, logical::LogicalType};

/// Logical types that are destroyed with the list.
pub(super) struct LogicalTypes(Vec<c::duckdb_logical_type>);

impl Drop for LogicalTypes {
    fn drop(&mut self) {
        for logical in &mut self.0 {
            // SAFETY: each is owned by the list.
            unsafe { c::duckdb_destroy_logical_type(logical) };
        }
    }
}

impl LogicalTypes {
    /// # Safety
    /// The types are live, and become the list's.
    pub(super) unsafe fn new(types: impl Iterator<Item = c::duckdb_logical_type>) -> Self {
        Self(types.collect())
    }

    pub(super) fn raw(&self) -> &[c::duckdb_logical_type] {
        &self.0
    }

    pub(super) fn read(&self) -> Vec<LogicalType> {
        // SAFETY: the types are live and stay the list's.
        self.0.iter().map(|logical| unsafe { LogicalType::read(*logical) }).collect()
    }

    /// With those replaced that leave as another type, as a plan says that does nothing but cast.
    pub(super) fn recast(mut self, connection: &Connection) -> Result<Self, DuckError> {
        let recast: Vec<_> =
            self.read().into_iter().enumerate().filter(|(_, logical)| logical.is_recast()).collect();
        if recast.is_empty() {
            return Ok(self);
        }
        let casts: Vec<_> =
            recast.iter().map(|(_, logical)| format!("CAST(NULL AS {})", logical.wire_sql())).collect();
        let plan = connection.extract(&format!("SELECT {}", casts.join(", ")))?.prepare(0)?;
        for ((index, _), mut wire) in recast.iter().zip(std::mem::take(&mut plan.column_types().0)) {
            std::mem::swap(&mut self.0[*index], &mut wire);
            // SAFETY: the type that was replaced is nobody's now.
            unsafe { c::duckdb_destroy_logical_type(&mut wire) };
        }
        Ok(self)
    }
}

/// DuckDB's mapping of columns to an Arrow schema.
pub(super) fn export_schema(
    connection: &RawConnection,
    names: &[String],
    types: &LogicalTypes,
) -> Result<SchemaRef, DuckError> {
    let names = names.iter().map(|name| c_string(name)).collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let mut raw = FFI_ArrowSchema::empty();
    // SAFETY: both lists hold as many live entries; DuckDB only reads the types, and fills `raw` in the layout
    // of the Arrow C interface, which `FFI_ArrowSchema` mirrors and releases.
    unsafe {
        let error = c::duckdb_to_arrow_schema(
            connection.arrow_options(),
            types.raw().as_ptr().cast_mut(),
            pointers.as_mut_ptr(),
            pointers.len() as c::idx_t,
            (&raw mut raw).cast(),
        );
        DuckError::from_error_data(error)?;
    }
    Schema::try_from(&raw).map(Arc::new).map_err(bad_arrow)
}

/// The logical type, or VARCHAR in place of one that DuckDB does not know (an unbound parameter).
///
/// # Safety
/// `logical` is null or a live logical type, which this call takes over.
pub(super) unsafe fn or_varchar(mut logical: c::duckdb_logical_type) -> c::duckdb_logical_type {
    // SAFETY: by the contract above; what is replaced is destroyed once.
    unsafe {
        let id = if logical.is_null() {
            c::DUCKDB_TYPE_DUCKDB_TYPE_INVALID
        } else {
            c::duckdb_get_type_id(logical)
        };
        match id {
            c::DUCKDB_TYPE_DUCKDB_TYPE_INVALID
            | c::DUCKDB_TYPE_DUCKDB_TYPE_ANY
            | c::DUCKDB_TYPE_DUCKDB_TYPE_SQLNULL
            | c::DUCKDB_TYPE_DUCKDB_TYPE_STRING_LITERAL
            | c::DUCKDB_TYPE_DUCKDB_TYPE_INTEGER_LITERAL => {
                c::duckdb_destroy_logical_type(&mut logical);
                c::duckdb_create_logical_type(c::DUCKDB_TYPE_DUCKDB_TYPE_VARCHAR)
            }
            _ => logical,
        }
    }
}

/// Copies a chunk to Arrow.
///
/// # Safety
/// `options` and `chunk` are live, and `schema` is what DuckDB exports for this chunk's types.
pub(super) unsafe fn export_chunk(
    options: c::duckdb_arrow_options,
    chunk: c::duckdb_data_chunk,
    schema: &SchemaRef,
) -> Result<RecordBatch, DuckError> {
    let mut raw = FFI_ArrowArray::empty();
    // SAFETY: DuckDB fills `raw` in the layout that `FFI_ArrowArray` mirrors; the data type is the one
    // DuckDB itself announced for these columns, so buffers and children are where it says.
    unsafe {
        DuckError::from_error_data(c::duckdb_data_chunk_to_arrow(options, chunk, (&raw mut raw).cast()))?;
        let data =
            from_ffi_and_data_type(raw, DataType::Struct(schema.fields().clone())).map_err(bad_arrow)?;
        let rows = data.len();
        let (_, columns, _) = StructArray::from(data).into_parts();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(bad_arrow)
    }
}

pub(super) fn bad_arrow(error: arrow_schema::ArrowError) -> DuckError {
    DuckError::new(Class::Other, format!("the engine's Arrow data cannot be read: {error}"))
}

/// How rows of one Arrow schema enter DuckDB; made once a schema, used for many batches.
pub(crate) struct ArrowImport {
    converted: c::duckdb_arrow_converted_schema,
    connection: Arc<RawConnection>,
}

// SAFETY: the converted schema is read-only after it was made.
unsafe impl Send for ArrowImport {}
// SAFETY: as above; `duckdb_data_chunk_from_arrow` only reads it.
unsafe impl Sync for ArrowImport {}

impl Drop for ArrowImport {
    fn drop(&mut self) {
        // SAFETY: made once in `new`.
        unsafe { c::duckdb_destroy_arrow_converted_schema(&mut self.converted) };
    }
}

impl ArrowImport {
    pub(crate) fn new(connection: &Connection, schema: &Schema) -> Result<Self, DuckError> {
        let connection = connection.shared();
        let mut raw = FFI_ArrowSchema::try_from(schema).map_err(|error| {
            DuckError::new(Class::Binder, format!("the Arrow schema cannot be used: {error}"))
        })?;
        let mut converted = ptr::null_mut();
        // SAFETY: `raw` lives through the call; DuckDB copies what it needs into `converted`.
        unsafe {
            let error = c::duckdb_schema_from_arrow(connection.raw(), (&raw mut raw).cast(), &mut converted);
            let import = Self { converted, connection };
            DuckError::from_error_data(error)?;
            Ok(import)
        }
    }

    /// One batch of at most `VECTOR_ROWS` rows in DuckDB's layout, without a copy where types allow.
    pub(crate) fn chunk(&self, batch: &RecordBatch) -> Result<DataChunk, DuckError> {
        let array = StructArray::from(batch.clone());
        let owner = FFI_ArrowArray::new(&array.to_data());
        let mut chunk = ptr::null_mut();
        // SAFETY: the array has the schema that `converted` was made from, and both structs have the layout
        // of the Arrow C interface. DuckDB ties an array that it takes over to the vector of column 0 alone,
        // which lets go of it early for NULL and extension types; so it sees a view that releases nothing,
        // and the owner travels with the chunk.
        unsafe {
            let mut view: c::ArrowArray = ptr::read((&raw const owner).cast());
            view.release = None;
            let error = c::duckdb_data_chunk_from_arrow(
                self.connection.raw(),
                &raw mut view,
                self.converted,
                &mut chunk,
            );
            let chunk = DataChunk { raw: chunk, _owner: owner };
            DuckError::from_error_data(error)?;
            Ok(chunk)
        }
    }
}

/// Rows in DuckDB's layout; may point into the Arrow buffers that they came from.
pub(crate) struct DataChunk {
    raw: c::duckdb_data_chunk,
    /// The Arrow buffers under the vectors; dropped after the chunk.
    _owner: FFI_ArrowArray,
}

// SAFETY: a chunk owns its vectors and the Arrow buffers under them.
unsafe impl Send for DataChunk {}

impl DataChunk {
    pub(super) fn raw(&self) -> c::duckdb_data_chunk {
        self.raw
    }
}

impl Drop for DataChunk {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: made once by DuckDB.
            unsafe { c::duckdb_destroy_data_chunk(&mut self.raw) };
        }
    }
}
