//! A table function over Arrow batches in memory: `FROM __merganser_scan(id)`.
//!
//! DuckDB's own `duckdb_arrow_scan` creates a view in the user's database for each scan, and pulls from
//! its stream while holding a scheduler thread, so that a stalled upload would stall every query. This
//! one reads only what has arrived already, and lets DuckDB's threads take slices side by side.

use std::{
    collections::HashMap,
    ffi::{CString, c_void},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use libduckdb_sys as c;
use parking_lot::Mutex;

use super::{
    ArrowImport, Class, Connection, DataChunk, DuckError, VECTOR_ROWS,
    table_function::{Arguments, Callbacks, guard, key_argument, random_key, reference, register},
};

/// The function's name in SQL.
pub(crate) const SCAN_FUNCTION: &str = "__merganser_scan";

/// So many vectors are worth a thread of their own.
const SLICES_A_THREAD: usize = 8;

/// What can be scanned just now. The key is random: no client can guess another's upload.
#[derive(Default)]
pub(crate) struct ScanRegistry {
    sources: Mutex<HashMap<u64, Arc<Source>>>,
}

struct Source {
    import: ArrowImport,
    names: Vec<CString>,
    /// What the next scan gives.
    slices: Mutex<Slices>,
    template: RecordBatch,
}

type Slices = Arc<Vec<Mutex<Slice>>>;

/// A scan under way: what it gives, and how far it is.
struct Scan {
    slices: Slices,
    position: AtomicUsize,
}

/// Rows of one vector. Their chunk is made once, for all scans of a statement, and kept for as long as a vector may
/// refer to it.
struct Slice {
    rows: RecordBatch,
    chunk: Option<DataChunk>,
}

/// Rows of one schema on offer; withdrawn when dropped.
pub(crate) struct Offer {
    key: u64,
    source: Arc<Source>,
    registry: Arc<ScanRegistry>,
}

impl Offer {
    /// The argument for the function.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// Offers other rows of the same schema, to whoever scans from now on; at most as many as fit a vector in each.
    pub(crate) fn replace(&self, slices: impl Iterator<Item = RecordBatch>) {
        let slices = slices.map(|rows| Mutex::new(Slice { rows, chunk: None })).collect();
        *self.source.slices.lock() = Arc::new(slices);
    }

    /// Offers no rows any more.
    pub(crate) fn clear(&self) {
        self.replace(std::iter::empty());
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.registry.sources.lock().remove(&self.key);
    }
}

impl ScanRegistry {
    /// Offers to statements on `connection` what [`Offer::replace`] will bring; each scan gives all rows of then.
    pub(crate) fn offer(
        self: &Arc<Self>,
        connection: &Connection,
        schema: &SchemaRef,
    ) -> Result<Offer, DuckError> {
        let names = schema
            .fields()
            .iter()
            .map(|field| super::c_string(field.name()))
            .collect::<Result<Vec<_>, _>>()?;
        let source = Arc::new(Source {
            import: ArrowImport::new(connection, schema)?,
            names,
            slices: Mutex::default(),
            template: RecordBatch::new_empty(Arc::clone(schema)),
        });
        let key = random_key()?;
        self.sources.lock().insert(key, Arc::clone(&source));
        Ok(Offer { key, source, registry: Arc::clone(self) })
    }
}

/// Cuts a batch into what fits one DuckDB vector; no rows are copied.
pub(crate) fn slices(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> + '_ {
    (0..batch.num_rows())
        .step_by(VECTOR_ROWS)
        .map(|start| batch.slice(start, VECTOR_ROWS.min(batch.num_rows() - start)))
}

/// Makes the function known to the whole instance.
pub(crate) fn register_scan(connection: &Connection, registry: &Arc<ScanRegistry>) -> Result<(), DuckError> {
    let extra = Arc::into_raw(Arc::clone(registry)).cast_mut().cast();
    register(
        connection,
        SCAN_FUNCTION,
        &Callbacks { arguments: Arguments::Key, bind, init, local_init: None, produce },
        Some((extra, release_registry)),
    )
}

unsafe extern "C" fn release_registry(registry: *mut c_void) {
    // SAFETY: the pointer came from `Arc::into_raw` in `register_scan` and is given back once.
    drop(unsafe { Arc::from_raw(registry.cast_const().cast::<ScanRegistry>()) });
}

unsafe extern "C" fn release_source(source: *mut c_void) {
    // SAFETY: the pointer came from `Arc::into_raw` in `bind_source` and is given back once.
    drop(unsafe { Arc::from_raw(source.cast_const().cast::<Source>()) });
}

unsafe extern "C" fn bind(info: c::duckdb_bind_info) {
    // SAFETY: DuckDB calls with a live info object.
    if let Some(error) = guard(|| unsafe { bind_source(info) }) {
        // SAFETY: as above; the text is copied.
        unsafe { c::duckdb_bind_set_error(info, error.as_ptr()) };
    }
}

/// # Safety
/// `info` is the live bind info of this function.
unsafe fn bind_source(info: c::duckdb_bind_info) -> Result<(), DuckError> {
    // SAFETY: extra info is the registry given at registration and outlives every call; what is made
    // here (value, types) is destroyed here.
    unsafe {
        let registry = &*c::duckdb_bind_get_extra_info(info).cast::<ScanRegistry>();
        let source = registry.sources.lock().get(&key_argument(info)).cloned();
        let source = source.ok_or_else(|| DuckError::new(Class::NotFound, "there is nothing to scan"))?;
        // An empty chunk knows the DuckDB type of each column.
        let chunk = source.import.chunk(&source.template)?;
        for (index, name) in source.names.iter().enumerate() {
            let vector = c::duckdb_data_chunk_get_vector(chunk.raw(), index as c::idx_t);
            let mut logical = c::duckdb_vector_get_column_type(vector);
            c::duckdb_bind_add_result_column(info, name.as_ptr(), logical);
            c::duckdb_destroy_logical_type(&mut logical);
        }
        let rows: usize = source.slices.lock().iter().map(|slice| slice.lock().rows.num_rows()).sum();
        // A guess, because the plan may run over other rows than are there now. What the C API calls exact is an
        // estimate alone; without it the number would be a bound, too, by which sums are chosen that cannot overflow.
        if rows > 0 {
            c::duckdb_bind_set_cardinality(info, rows as c::idx_t, true);
        }
        c::duckdb_bind_set_bind_data(info, Arc::into_raw(source).cast_mut().cast(), Some(release_source));
    }
    Ok(())
}

unsafe extern "C" fn init(info: c::duckdb_init_info) {
    // SAFETY: DuckDB calls with a live info object; bind data is the source.
    unsafe {
        let source = &*c::duckdb_init_get_bind_data(info).cast::<Source>();
        let slices = Arc::clone(&*source.slices.lock());
        let threads = (slices.len() / SLICES_A_THREAD).max(1);
        c::duckdb_init_set_max_threads(info, threads as c::idx_t);
        let scan = Box::into_raw(Box::new(Scan { slices, position: AtomicUsize::new(0) }));
        c::duckdb_init_set_init_data(info, scan.cast(), Some(release_scan));
    }
}

unsafe extern "C" fn release_scan(scan: *mut c_void) {
    // SAFETY: the pointer came from `Box::into_raw` in `init` and is given back once.
    drop(unsafe { Box::from_raw(scan.cast::<Scan>()) });
}

unsafe extern "C" fn produce(info: c::duckdb_function_info, output: c::duckdb_data_chunk) {
    // SAFETY: DuckDB calls with live objects.
    if let Some(error) = guard(|| unsafe { produce_slice(info, output) }) {
        // SAFETY: as above; the text is copied.
        unsafe { c::duckdb_function_set_error(info, error.as_ptr()) };
    }
}

/// # Safety
/// Both objects are live and belong to a scan that was bound by `bind_source`.
unsafe fn produce_slice(
    info: c::duckdb_function_info,
    output: c::duckdb_data_chunk,
) -> Result<(), DuckError> {
    // SAFETY: bind data is the source; init data is the scan, which keeps every chunk for as long as the statement
    // runs, so the Arrow buffers under the output's vectors stay. The lock keeps other threads of the scan from a
    // chunk that is just being made or referred to.
    unsafe {
        let source = &*c::duckdb_function_get_bind_data(info).cast::<Source>();
        let scan = &*c::duckdb_function_get_init_data(info).cast::<Scan>();
        let Some(slice) = scan.slices.get(scan.position.fetch_add(1, Ordering::Relaxed)) else {
            c::duckdb_data_chunk_set_size(output, 0);
            return Ok(());
        };
        let mut slice = slice.lock();
        let chunk = match slice.chunk.take() {
            Some(chunk) => chunk,
            None => source.import.chunk(&slice.rows)?,
        };
        reference(output, slice.chunk.insert(chunk).raw(), source.names.len());
    }
    Ok(())
}
