//! Table functions without arguments, whose rows the server makes at each call: `FROM name()`.
//!
//! DuckDB keeps such a function, and what belongs to it, for as long as the instance is open. So it must hold
//! no connection, which would keep the instance open in turn; each call makes one.

use std::{
    ffi::{CString, c_void},
    sync::{Arc, Weak},
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use libduckdb_sys as c;
use parking_lot::Mutex;

use super::{
    ArrowImport, Class, Connection, DataChunk, DuckError, c_string,
    database::RawDatabase,
    slices,
    table_function::{Arguments, Callbacks, guard, reference, register},
};

/// Makes the rows of one call.
pub(crate) type MakeRows = Arc<dyn Fn() -> RecordBatch + Send + Sync>;

/// What DuckDB keeps with the function.
struct Listing {
    instance: Weak<RawDatabase>,
    names: Vec<CString>,
    schema: SchemaRef,
    make_rows: MakeRows,
}

/// The rows of one call; those given out stay, because the running statement may still read them.
struct Call {
    columns: usize,
    waiting: Mutex<std::vec::IntoIter<DataChunk>>,
    given: Mutex<Vec<DataChunk>>,
}

/// Makes the table function `name` known to the whole instance. Each call of it has the columns of `schema`, and
/// the rows that `make_rows` gives when the call begins to run.
///
/// # Errors
/// A column whose type DuckDB does not take, or a name with NUL in it.
pub(crate) fn register_listing(
    connection: &Connection,
    name: &str,
    schema: SchemaRef,
    make_rows: MakeRows,
) -> Result<(), DuckError> {
    ArrowImport::new(connection, &schema)?;
    let names =
        schema.fields().iter().map(|field| c_string(field.name())).collect::<Result<Vec<_>, DuckError>>()?;
    let listing = Listing { instance: connection.shared().instance(), names, schema, make_rows };
    let extra = Box::into_raw(Box::new(listing)).cast();
    let callbacks = Callbacks { arguments: Arguments::None, bind, init, local_init: None, produce };
    register(connection, name, &callbacks, Some((extra, release_listing)))
}

impl Listing {
    /// The way in for rows of the schema, on a connection of its own.
    fn import(&self) -> Result<ArrowImport, DuckError> {
        let instance =
            self.instance.upgrade().ok_or_else(|| DuckError::new(Class::Other, "the database is closing"))?;
        ArrowImport::new(&Connection::open(instance)?, &self.schema)
    }

    fn call(&self) -> Result<Call, DuckError> {
        let rows = (self.make_rows)();
        // The import reads buffers as the types of the schema say.
        if rows.schema().fields() != self.schema.fields() {
            return Err(DuckError::new(Class::Other, "the rows are not of the columns that were announced"));
        }
        let import = self.import()?;
        let chunks: Vec<_> = slices(&rows).map(|slice| import.chunk(&slice)).collect::<Result<_, _>>()?;
        Ok(Call {
            columns: self.names.len(),
            waiting: Mutex::new(chunks.into_iter()),
            given: Mutex::default(),
        })
    }
}

unsafe extern "C" fn release_listing(listing: *mut c_void) {
    // SAFETY: the pointer came from `Box::into_raw` in `register_listing` and is given back once.
    drop(unsafe { Box::from_raw(listing.cast::<Listing>()) });
}

unsafe extern "C" fn release_call(call: *mut c_void) {
    // SAFETY: the pointer came from `Box::into_raw` in `init` and is given back once.
    drop(unsafe { Box::from_raw(call.cast::<Call>()) });
}

unsafe extern "C" fn bind(info: c::duckdb_bind_info) {
    let body = || {
        // SAFETY: extra info is the listing, which outlives every call; the types are destroyed here, and the
        // texts are copied.
        unsafe {
            let listing = &*c::duckdb_bind_get_extra_info(info).cast::<Listing>();
            // An empty chunk knows the DuckDB type of each column.
            let chunk = listing.import()?.chunk(&RecordBatch::new_empty(Arc::clone(&listing.schema)))?;
            for (index, name) in listing.names.iter().enumerate() {
                let vector = c::duckdb_data_chunk_get_vector(chunk.raw(), index as c::idx_t);
                let mut logical = c::duckdb_vector_get_column_type(vector);
                c::duckdb_bind_add_result_column(info, name.as_ptr(), logical);
                c::duckdb_destroy_logical_type(&mut logical);
            }
        }
        Ok(())
    };
    if let Some(error) = guard(body) {
        // SAFETY: DuckDB calls with a live info object; the text is copied.
        unsafe { c::duckdb_bind_set_error(info, error.as_ptr()) };
    }
}

unsafe extern "C" fn init(info: c::duckdb_init_info) {
    let body = || {
        // SAFETY: DuckDB calls with a live info object, whose extra info is the listing. The call passes to
        // DuckDB, which gives it back through `release_call`. One thread keeps the rows in order.
        unsafe {
            let call = (*c::duckdb_init_get_extra_info(info).cast::<Listing>()).call()?;
            c::duckdb_init_set_max_threads(info, 1);
            c::duckdb_init_set_init_data(info, Box::into_raw(Box::new(call)).cast(), Some(release_call));
        }
        Ok(())
    };
    if let Some(error) = guard(body) {
        // SAFETY: as above; the text is copied.
        unsafe { c::duckdb_init_set_error(info, error.as_ptr()) };
    }
}

unsafe extern "C" fn produce(info: c::duckdb_function_info, output: c::duckdb_data_chunk) {
    // SAFETY: DuckDB calls with live objects, and with the call that `init` made. The output has the columns
    // that `bind` announced, which are those of the chunks, and the call outlives the statement's run.
    unsafe {
        let call = &*c::duckdb_function_get_init_data(info).cast::<Call>();
        let Some(chunk) = call.waiting.lock().next() else {
            c::duckdb_data_chunk_set_size(output, 0);
            return;
        };
        reference(output, chunk.raw(), call.columns);
        call.given.lock().push(chunk);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use arrow_array::{
        ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray, cast::AsArray, types::Int64Type,
    };
    use arrow_schema::{DataType, Field, Schema, TimeUnit};

    use super::{super::Database, *};

    const ROWS: i64 = 5000;

    fn schema() -> SchemaRef {
        let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("call", DataType::Int64, false),
            Field::new("name", DataType::Utf8, true),
            Field::new("at", moment, true),
        ]))
    }

    /// Rows that tell which call they are of.
    fn rows(call: i64, count: i64) -> RecordBatch {
        let names =
            (0..count).map(|row| (row % 3 != 0).then(|| format!("a name of more than twelve bytes {row}")));
        let moments = (0..count).map(|row| (row % 2 == 0).then_some(row * 1_000_000));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_value(call, count as usize)),
            Arc::new(names.collect::<StringArray>()),
            Arc::new(moments.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    }

    fn connection() -> Connection {
        Database::open(None, &[]).unwrap().connect().unwrap()
    }

    fn number(connection: &Connection, sql: &str) -> i64 {
        let mut rows = connection.extract(sql).unwrap().prepare(0).unwrap().execute().unwrap();
        rows.next().unwrap().unwrap().column(0).as_primitive::<Int64Type>().value(0)
    }

    #[test]
    fn every_call_has_its_own_rows() {
        let connection = connection();
        let calls = AtomicI64::new(0);
        let make_rows = move || rows(calls.fetch_add(1, Ordering::Relaxed), ROWS);
        register_listing(&connection, "listed", schema(), Arc::new(make_rows)).unwrap();
        for call in 0..3 {
            assert_eq!(number(&connection, "SELECT max(call) FROM listed()"), call);
        }
        assert_eq!(number(&connection, "SELECT count(*) FROM listed() WHERE name IS NOT NULL"), 3333);
        assert_eq!(number(&connection, "SELECT count(*) FROM listed() a JOIN listed() b USING (name)"), 3333);
    }

    #[test]
    fn rows_arrive_whole_and_in_order() {
        let connection = connection();
        register_listing(&connection, "listed", schema(), Arc::new(|| rows(7, ROWS))).unwrap();
        let statement = connection.extract("SELECT name FROM listed()").unwrap();
        let mut result = statement.prepare(0).unwrap().execute().unwrap();
        let mut names: Vec<Option<String>> = Vec::new();
        while let Some(batch) = result.next().unwrap() {
            names.extend(batch.column(0).as_string::<i32>().iter().map(|name| name.map(str::to_owned)));
        }
        let expected = rows(7, ROWS);
        let expected: Vec<_> =
            expected.column(1).as_string::<i32>().iter().map(|name| name.map(str::to_owned)).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn no_rows_and_no_closure_that_panics_do_harm() {
        let connection = connection();
        register_listing(&connection, "nothing", schema(), Arc::new(|| rows(0, 0))).unwrap();
        assert_eq!(number(&connection, "SELECT count(*) FROM nothing()"), 0);
        register_listing(&connection, "broken", schema(), Arc::new(|| panic!("on purpose"))).unwrap();
        assert!(connection.execute("FROM broken()").is_err());
        let other = || RecordBatch::new_empty(Arc::new(Schema::empty()));
        register_listing(&connection, "other", schema(), Arc::new(other)).unwrap();
        assert!(connection.execute("FROM other()").unwrap_err().message.contains("announced"));
        assert_eq!(number(&connection, "SELECT count(*) FROM nothing()"), 0);
    }

    #[test]
    fn the_function_does_not_keep_the_instance_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("listed.db");
        let database = Database::open(Some(&path), &[]).unwrap();
        let connection = database.connect().unwrap();
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let make_rows = move || rows(Arc::strong_count(&holds) as i64, 1);
        register_listing(&connection, "listed", schema(), Arc::new(make_rows)).unwrap();
        assert_eq!(number(&connection, "SELECT call FROM listed()"), 2);
        drop((connection, database));
        // The instance is gone, and all that belonged to it.
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
