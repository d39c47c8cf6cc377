//! A table function over files of Arrow's IPC formats: `FROM read_arrow('folder/*.arrow')`.
//!
//! DuckDB has readers for other formats and none for this one. Each thread of a scan takes a file, and of it a
//! batch at a time; columns that nobody asks for are not decoded. Rows are copied into DuckDB's own vectors, because
//! an operator may keep a vector for longer than the scan could keep the Arrow buffers under it.

use std::{
    ffi::{CString, c_void},
    sync::{Arc, Weak},
};

use arrow_array::{RecordBatch, cast::AsArray};
use arrow_schema::{Schema, SchemaRef};
use libduckdb_sys as c;
use parking_lot::Mutex;

use super::{
    ArrowImport, Class, Connection, DuckError, VECTOR_ROWS, c_string,
    connection::take_text,
    database::RawDatabase,
    files::{Files, OpenFile},
    table_function::{Arguments, Callbacks, SOURCE_ARGUMENT, guard, register},
};
use crate::{
    engine::ipc::{ArrowFile, Pieces},
    sql::literal,
};

/// The function's name in SQL.
pub(crate) const READ_ARROW: &str = "read_arrow";

/// What a call reads, known once it is bound.
struct Bound {
    files: Files,
    paths: Vec<String>,
    /// The source that it is, for errors.
    source: Option<String>,
    /// The columns of the first file, as DuckDB takes them.
    columns: SchemaRef,
    connection: Connection,
}

/// A scan under way.
struct Scan {
    /// The columns to read, by their indexes in the files, ascending;
    read: Vec<usize>,
    /// and where among them each column of the output is. What has no place in files is counted only.
    output: Vec<Option<usize>>,
    import: ArrowImport,
    every_row: EveryRow,
    /// The path that the next thread takes.
    next_path: Mutex<usize>,
}

/// Where one thread of a scan is.
#[derive(Default)]
struct Place {
    file: Option<(usize, Pieces<OpenFile>)>,
    /// Rows that are in memory,
    piece: Option<RecordBatch>,
    /// and how many of them have been given out.
    given: usize,
}

/// Selects all rows of a vector.
struct EveryRow(c::duckdb_selection_vector);

// SAFETY: it is only read after it was made.
unsafe impl Send for EveryRow {}
// SAFETY: as above.
unsafe impl Sync for EveryRow {}

/// Makes the function known to the whole instance.
pub(crate) fn register_read_arrow(connection: &Connection) -> Result<(), DuckError> {
    // Holding the instance would keep it open.
    let instance: Weak<RawDatabase> = connection.shared().instance();
    let extra = Box::into_raw(Box::new(instance)).cast();
    let callbacks =
        Callbacks { arguments: Arguments::Paths, bind, init, local_init: Some(local_init), produce };
    register(connection, READ_ARROW, &callbacks, Some((extra, release::<Weak<RawDatabase>>)))
}

impl Bound {
    /// # Safety
    /// `info` is the live bind info of this function.
    unsafe fn new(info: c::duckdb_bind_info) -> Result<Self, DuckError> {
        // SAFETY: extra info is the instance, which outlives every call.
        let (instance, patterns, source, files) = unsafe {
            let instance = &*c::duckdb_bind_get_extra_info(info).cast::<Weak<RawDatabase>>();
            (instance.upgrade(), patterns(info)?, named_source(info), Files::of_bind(info)?)
        };
        let closing = || DuckError::new(Class::Other, "the database is closing");
        let connection = Connection::open(instance.ok_or_else(closing)?)?;
        let paths = matching(&connection, &patterns)?;
        let columns = Arc::new(Schema::empty());
        Ok(Self { files, paths, source, columns, connection })
    }

    /// Reads the columns from the first file, and guesses how many rows there are in all.
    fn look(&mut self) -> Result<u64, DuckError> {
        let file = self.open(0)?;
        let columns = file.columns().map_err(|fault| self.blame(0, &fault))?;
        let row_bytes = 8 * columns.fields().len() as u64;
        self.columns = Arc::new(columns);
        Ok((file.size() / row_bytes.max(1)).saturating_mul(self.paths.len() as u64))
    }

    fn open(&self, index: usize) -> Result<ArrowFile<OpenFile>, DuckError> {
        let opened = self.files.open(&self.paths[index]).map_err(Into::into).and_then(ArrowFile::open);
        opened.map_err(|fault| self.blame(index, &fault))
    }

    /// Says which file it was. Its folder is nobody's business.
    fn blame(&self, index: usize, fault: &dyn std::fmt::Display) -> DuckError {
        let fault = fault.to_string();
        let of_storage = DuckError::from_message(fault.clone());
        if matches!(of_storage.class, Class::Storage | Class::Unreachable) {
            return of_storage;
        }
        let heads = ["IO Error: ", "HTTP Error: ", "Invalid Error: "];
        let reason = heads.iter().find_map(|head| fault.strip_prefix(head)).unwrap_or(&fault);
        let name = self.paths[index].rsplit(['/', '\\']).next().unwrap_or_default();
        let of_source = self.source.as_ref().map_or(String::new(), |source| format!(" of source {source}"));
        DuckError::new(Class::Io, format!("IO Error: file {name}{of_source}: {reason}"))
    }

    /// Begins with a file, of which there must be the columns of the first one.
    fn begin(&self, index: usize, scan: &Scan) -> Result<Pieces<OpenFile>, DuckError> {
        let pieces = self.open(index)?.pieces(&self.columns, scan.read.clone());
        pieces.map_err(|fault| self.blame(index, &fault))
    }
}

impl Scan {
    /// `asked` are indexes of columns; beyond them are what DuckDB counts rows by.
    fn new(bound: &Bound, asked: &[usize]) -> Result<Self, DuckError> {
        let mut read: Vec<_> =
            asked.iter().copied().filter(|index| *index < bound.columns.fields().len()).collect();
        read.sort_unstable();
        read.dedup();
        let schema =
            bound.columns.project(&read).map_err(|error| DuckError::new(Class::Other, error.to_string()))?;
        Ok(Self {
            output: asked.iter().map(|index| read.binary_search(index).ok()).collect(),
            read,
            import: ArrowImport::new(&bound.connection, &schema)?,
            every_row: EveryRow::new(),
            next_path: Mutex::default(),
        })
    }

    /// The next file that no thread has.
    fn take_path(&self, bound: &Bound) -> Option<usize> {
        let mut next = self.next_path.lock();
        let taken = (*next < bound.paths.len()).then_some(*next);
        *next += 1;
        taken
    }
}

impl Place {
    /// The next rows, at most a vector of them; `None` when there are no more for this thread.
    fn next(&mut self, bound: &Bound, scan: &Scan) -> Result<Option<RecordBatch>, DuckError> {
        loop {
            if let Some(piece) = self.piece.as_ref().filter(|piece| self.given < piece.num_rows()) {
                let rows = VECTOR_ROWS.min(piece.num_rows() - self.given);
                let slice = piece.slice(self.given, rows);
                self.given += rows;
                return Ok(Some(slice));
            }
            self.given = 0;
            self.piece = match &mut self.file {
                Some((index, pieces)) => pieces.next().map_err(|fault| bound.blame(*index, &fault))?,
                None => None,
            };
            if self.piece.is_none() {
                let Some(index) = scan.take_path(bound) else { return Ok(None) };
                self.file = Some((index, bound.begin(index, scan)?));
            }
        }
    }
}

impl EveryRow {
    fn new() -> Self {
        // SAFETY: it has room for as many indexes as are written.
        unsafe {
            let raw = c::duckdb_create_selection_vector(VECTOR_ROWS as c::idx_t);
            let indexes = c::duckdb_selection_vector_get_data_ptr(raw);
            for index in 0..VECTOR_ROWS {
                *indexes.add(index) = index as c::sel_t;
            }
            Self(raw)
        }
    }
}

impl Drop for EveryRow {
    fn drop(&mut self) {
        // SAFETY: made once.
        unsafe { c::duckdb_destroy_selection_vector(self.0) };
    }
}

/// The files that the patterns stand for, in the order of the patterns.
fn matching(connection: &Connection, patterns: &[String]) -> Result<Vec<String>, DuckError> {
    let mut paths = Vec::new();
    for pattern in patterns {
        let found = globbed(connection, pattern).map_err(|mut error| {
            // The place in a statement that nobody but the server has seen.
            error.message.truncate(error.message.find("\n\nLINE ").unwrap_or(error.message.len()));
            error
        })?;
        let is_empty = found.is_empty();
        paths.extend(found);
        if is_empty {
            let text = format!("IO Error: No files found that match the pattern \"{pattern}\"");
            return Err(DuckError::new(Class::Io, text));
        }
    }
    Ok(paths)
}

fn globbed(connection: &Connection, pattern: &str) -> Result<Vec<String>, DuckError> {
    let sql = format!("SELECT file FROM glob({})", literal(pattern));
    let mut rows = connection.extract(&sql)?.prepare(0)?.execute()?;
    let mut found = Vec::new();
    while let Some(batch) = rows.next()? {
        found.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    Ok(found)
}

/// The first argument: a path, or a list of them.
///
/// # Safety
/// `info` is the live bind info of this function.
unsafe fn patterns(info: c::duckdb_bind_info) -> Result<Vec<String>, DuckError> {
    // SAFETY: every value is destroyed once; the type belongs to its value.
    unsafe {
        let mut value = c::duckdb_bind_get_parameter(info, 0);
        let patterns = match c::duckdb_get_type_id(c::duckdb_get_value_type(value)) {
            c::DUCKDB_TYPE_DUCKDB_TYPE_VARCHAR => vec![value_text(value)],
            c::DUCKDB_TYPE_DUCKDB_TYPE_LIST => (0..c::duckdb_get_list_size(value))
                .map(|index| {
                    let mut item = c::duckdb_get_list_child(value, index);
                    let item_text = value_text(item);
                    c::duckdb_destroy_value(&mut item);
                    item_text
                })
                .collect(),
            _ => Vec::new(),
        };
        c::duckdb_destroy_value(&mut value);
        if patterns.is_empty() || patterns.iter().any(String::is_empty) {
            let text = format!("{READ_ARROW} takes a path, or a list of paths");
            return Err(DuckError::new(Class::Binder, text));
        }
        Ok(patterns)
    }
}

/// # Safety
/// `info` is the live bind info of this function.
unsafe fn named_source(info: c::duckdb_bind_info) -> Option<String> {
    // SAFETY: the value is destroyed here, where there is one.
    unsafe {
        let mut value = c::duckdb_bind_get_named_parameter(info, SOURCE_ARGUMENT.as_ptr());
        let source = (!value.is_null()).then(|| value_text(value));
        c::duckdb_destroy_value(&mut value);
        source
    }
}

/// A text; of NULL it is empty.
///
/// # Safety
/// `value` is live.
unsafe fn value_text(value: c::duckdb_value) -> String {
    // SAFETY: by the contract above; the copy that DuckDB makes is taken over.
    unsafe {
        match c::duckdb_is_null_value(value) {
            true => String::new(),
            false => take_text(c::duckdb_get_varchar(value)),
        }
    }
}

/// # Safety
/// `owned` came from `Box::into_raw` and is given back once.
unsafe extern "C" fn release<T>(owned: *mut c_void) {
    // SAFETY: by the contract above.
    drop(unsafe { Box::from_raw(owned.cast::<T>()) });
}

unsafe extern "C" fn bind(info: c::duckdb_bind_info) {
    // SAFETY: DuckDB calls with a live info object.
    if let Some(error) = guard(|| unsafe { bind_files(info) }) {
        // SAFETY: as above; the text is copied.
        unsafe { c::duckdb_bind_set_error(info, error.as_ptr()) };
    }
}

/// # Safety
/// `info` is the live bind info of this function.
unsafe fn bind_files(info: c::duckdb_bind_info) -> Result<(), DuckError> {
    // SAFETY: what is made here is destroyed here; names and types are copied, and what is bound passes to DuckDB.
    unsafe {
        let mut bound = Bound::new(info)?;
        let rows = bound.look()?;
        // An empty chunk knows the DuckDB type of each column.
        let import =
            ArrowImport::new(&bound.connection, &bound.columns).map_err(|error| bound.blame(0, &error))?;
        let chunk = import.chunk(&RecordBatch::new_empty(Arc::clone(&bound.columns)))?;
        for (index, field) in bound.columns.fields().iter().enumerate() {
            let name: CString = c_string(field.name())?;
            let vector = c::duckdb_data_chunk_get_vector(chunk.raw(), index as c::idx_t);
            let mut logical = c::duckdb_vector_get_column_type(vector);
            c::duckdb_bind_add_result_column(info, name.as_ptr(), logical);
            c::duckdb_destroy_logical_type(&mut logical);
        }
        // A guess, as in `scan.rs`.
        c::duckdb_bind_set_cardinality(info, rows.max(1), true);
        c::duckdb_bind_set_bind_data(info, Box::into_raw(Box::new(bound)).cast(), Some(release::<Bound>));
    }
    Ok(())
}

unsafe extern "C" fn init(info: c::duckdb_init_info) {
    let body = || {
        // SAFETY: DuckDB calls with a live info object, whose bind data is what was bound; the scan passes to DuckDB.
        unsafe {
            let bound = &*c::duckdb_init_get_bind_data(info).cast::<Bound>();
            let asked: Vec<_> = (0..c::duckdb_init_get_column_count(info))
                .map(|position| c::duckdb_init_get_column_index(info, position) as usize)
                .collect();
            let scan = Scan::new(bound, &asked)?;
            c::duckdb_init_set_max_threads(info, bound.paths.len() as c::idx_t);
            c::duckdb_init_set_init_data(info, Box::into_raw(Box::new(scan)).cast(), Some(release::<Scan>));
        }
        Ok(())
    };
    if let Some(error) = guard(body) {
        // SAFETY: as above; the text is copied.
        unsafe { c::duckdb_init_set_error(info, error.as_ptr()) };
    }
}

unsafe extern "C" fn local_init(info: c::duckdb_init_info) {
    let place = Box::into_raw(Box::<Place>::default());
    // SAFETY: DuckDB calls with a live info object, and takes the thread's place over.
    unsafe { c::duckdb_init_set_init_data(info, place.cast(), Some(release::<Place>)) };
}

unsafe extern "C" fn produce(info: c::duckdb_function_info, output: c::duckdb_data_chunk) {
    // SAFETY: DuckDB calls with live objects.
    if let Some(error) = guard(|| unsafe { produce_rows(info, output) }) {
        // SAFETY: as above; the text is copied.
        unsafe { c::duckdb_function_set_error(info, error.as_ptr()) };
    }
}

/// # Safety
/// Both objects are live and belong to a scan that was bound by `bind_files`.
unsafe fn produce_rows(info: c::duckdb_function_info, output: c::duckdb_data_chunk) -> Result<(), DuckError> {
    // SAFETY: bind data is what was bound, init data is the scan, and local init data is this thread's alone. The
    // output has the columns that were asked for, of the types that `bind_files` announced, which are those of the
    // chunk; its vectors are empty and have room for a vector of rows.
    unsafe {
        let bound = &*c::duckdb_function_get_bind_data(info).cast::<Bound>();
        let scan = &*c::duckdb_function_get_init_data(info).cast::<Scan>();
        let place = &mut *c::duckdb_function_get_local_init_data(info).cast::<Place>();
        let Some(rows) = place.next(bound, scan)? else {
            c::duckdb_data_chunk_set_size(output, 0);
            return Ok(());
        };
        let count = rows.num_rows() as c::idx_t;
        let chunk = scan.import.chunk(&rows)?;
        for (position, index) in scan.output.iter().enumerate() {
            let Some(index) = index else { continue };
            let from = c::duckdb_data_chunk_get_vector(chunk.raw(), *index as c::idx_t);
            let to = c::duckdb_data_chunk_get_vector(output, position as c::idx_t);
            c::duckdb_vector_copy_sel(from, to, scan.every_row.0, count, 0, 0);
        }
        c::duckdb_data_chunk_set_size(output, count);
    }
    Ok(())
}
