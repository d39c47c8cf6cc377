//! Arrow batches as a view that an INSERT reads with all of DuckDB's threads and yet in order.
//!
//! A table function of our own cannot tell DuckDB the order of what its threads take, so that an INSERT which
//! keeps the order runs on one thread. DuckDB's own Arrow scan can. It is reached through `duckdb_arrow_scan`,
//! which makes a view; the view goes into a hidden database in memory, so that no file and no list of tables
//! knows of it. The scan pulls its batches while it holds threads of the scheduler: offer only what has
//! arrived completely.

use std::{
    ffi::{c_char, c_int},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::Arc,
};

use arrow_array::{Array, RecordBatch, StructArray, ffi::FFI_ArrowArray, ffi_stream::FFI_ArrowArrayStream};
use arrow_schema::{Schema, ffi::FFI_ArrowSchema};
use libduckdb_sys as c;
use parking_lot::Mutex;

use super::{ArrowImport, Class, Connection, DuckError};

/// The hidden database of the views. `sql::gate` refuses its name to clients.
pub(crate) const VIEWS_DATABASE: &str = "__merganser_views";

type Batches = Box<dyn Iterator<Item = RecordBatch> + Send>;

/// A view over batches of one schema; dropped from its database when dropped.
pub(crate) struct BatchView {
    connection: Connection,
    name: String,
    /// What the view points to; freed only once the view is gone.
    stream: *mut FFI_ArrowArrayStream,
    source: Arc<Source>,
}

// SAFETY: the stream is never changed after it was made, and what it points to is behind a lock.
unsafe impl Send for BatchView {}

struct Source {
    schema: FFI_ArrowSchema,
    batches: Mutex<Option<Batches>>,
}

// SAFETY: the schema is only read; DuckDB changes its children for a moment in `BatchView::new`, where no other
// thread knows of them yet.
unsafe impl Send for Source {}
// SAFETY: as above, and the batches are behind a lock.
unsafe impl Sync for Source {}

/// Makes the database that the views live in.
pub(crate) fn attach_views(connection: &Connection) -> Result<(), DuckError> {
    connection.execute(&format!("ATTACH ':memory:' AS {VIEWS_DATABASE} (HIDDEN)")).map(|_| ())
}

impl BatchView {
    /// Makes a view over nothing yet. It keeps `connection` to itself.
    pub(crate) fn new(connection: Connection, name: String, schema: &Schema) -> Result<Self, DuckError> {
        // `duckdb_arrow_scan` does not say what it dislikes about a schema; this does.
        ArrowImport::new(&connection, schema)?;
        connection.execute(&format!("USE {VIEWS_DATABASE}"))?;
        // What may fail comes before the stream, which nothing would free.
        let c_name = super::c_string(&name)?;
        let schema = FFI_ArrowSchema::try_from(schema)
            .map_err(|error| DuckError::new(Class::Binder, error.to_string()))?;
        let source = Arc::new(Source { schema, batches: Mutex::default() });
        let stream = Box::into_raw(Box::new(FFI_ArrowArrayStream {
            get_schema: Some(get_schema),
            get_next: Some(get_next),
            get_last_error: Some(get_last_error),
            release: None,
            private_data: Arc::as_ptr(&source).cast_mut().cast(),
        }));
        // SAFETY: the connection is live. DuckDB keeps the pointer to the stream in the view, and the stream
        // lives until the view is dropped.
        let state =
            unsafe { c::duckdb_arrow_scan(connection.shared().raw(), c_name.as_ptr(), stream.cast()) };
        if state != c::duckdb_state_DuckDBSuccess {
            // SAFETY: no view was made, so nothing else points to the stream.
            drop(unsafe { Box::from_raw(stream) });
            return Err(DuckError::new(Class::Other, "the upload cannot be scanned"));
        }
        Ok(Self { connection, name, stream, source })
    }

    /// The view's name, as SQL.
    pub(crate) fn sql(&self) -> String {
        format!("{VIEWS_DATABASE}.main.{}", self.name)
    }

    /// What the next statement that reads the view gets, once.
    pub(crate) fn offer(&self, batches: impl Iterator<Item = RecordBatch> + Send + 'static) {
        *self.source.batches.lock() = Some(Box::new(batches));
    }

    /// Forgets what was offered and not read.
    pub(crate) fn withdraw(&self) {
        *self.source.batches.lock() = None;
    }
}

impl Drop for BatchView {
    fn drop(&mut self) {
        match self.connection.execute(&format!("DROP VIEW {}", self.sql())) {
            // SAFETY: made by `Box::into_raw`; the view that pointed to it is gone.
            Ok(_) => drop(unsafe { Box::from_raw(self.stream) }),
            // The view still points to the stream, and the stream to the source: both stay.
            Err(_) => std::mem::forget(Arc::clone(&self.source)),
        }
    }
}

/// # Safety
/// `stream` is a copy of the stream of a [`BatchView`] that lives.
unsafe fn source<'a>(stream: *mut FFI_ArrowArrayStream) -> &'a Source {
    // SAFETY: by the contract above.
    unsafe { &*(*stream).private_data.cast::<Source>() }
}

/// Lends the schema: DuckDB does not release what it gets here, and while it makes the view, it exchanges the
/// release functions of the children and puts them back.
unsafe extern "C" fn get_schema(stream: *mut FFI_ArrowArrayStream, out: *mut FFI_ArrowSchema) -> c_int {
    // SAFETY: DuckDB calls with a live stream and room for a schema, which it uses no longer than the
    // statement, and so no longer than the view.
    unsafe { ptr::copy_nonoverlapping(&raw const source(stream).schema, out, 1) };
    0
}

unsafe extern "C" fn get_next(stream: *mut FFI_ArrowArrayStream, out: *mut FFI_ArrowArray) -> c_int {
    // SAFETY: DuckDB calls with a live stream.
    let source = unsafe { source(stream) };
    let next = catch_unwind(AssertUnwindSafe(|| {
        let batch = source.batches.lock().as_mut().and_then(Iterator::next);
        batch.map(|batch| FFI_ArrowArray::new(&StructArray::from(batch).to_data()))
    }));
    let (array, code) = match next {
        Ok(Some(array)) => (array, 0),
        Ok(None) => (FFI_ArrowArray::empty(), 0),
        Err(_) => (FFI_ArrowArray::empty(), 1),
    };
    // SAFETY: `out` has room for an array, which DuckDB takes over and releases.
    unsafe { ptr::write(out, array) };
    code
}

unsafe extern "C" fn get_last_error(_: *mut FFI_ArrowArrayStream) -> *const c_char {
    c"the rows cannot be read".as_ptr()
}
