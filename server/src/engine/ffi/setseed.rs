//! `setseed`, which no statement may call.
//!
//! A seed stays on its connection, and connections are shared: the random numbers, UUIDs and samples of whoever comes next
//! would follow from it. The text of a statement does not tell whether it seeds: the call may be in a macro, a view or the
//! default of a column, also of a catalog that is attached. So the function itself is put out of use, in the whole
//! instance. It fails when it runs, not when it is planned, so that what mentions it can still be opened, copied and dropped.

use libduckdb_sys as c;

use super::{Class, Connection, DuckError};

/// What its callers read; the class in front decides what the error is to them.
const REFUSED: &std::ffi::CStr = c"Permission Error: setseed is not for this server: the seed would stay on a connection \
    that others use as well, and decide their random numbers and UUIDs; for a sample that can be drawn again, use USING \
    SAMPLE ... REPEATABLE (seed), and for such numbers hash(row, seed)";

/// Puts an overload of the same types in the place of DuckDB's only one, which replaces it.
pub(crate) fn forbid_setseed(connection: &Connection) -> Result<(), DuckError> {
    // SAFETY: everything is destroyed after registration, which copies it.
    let state = unsafe {
        let mut seed = c::duckdb_create_logical_type(c::DUCKDB_TYPE_DUCKDB_TYPE_DOUBLE);
        let mut nothing = c::duckdb_create_logical_type(c::DUCKDB_TYPE_DUCKDB_TYPE_SQLNULL);
        let mut function = c::duckdb_create_scalar_function();
        c::duckdb_scalar_function_set_name(function, c"setseed".as_ptr());
        c::duckdb_scalar_function_add_parameter(function, seed);
        c::duckdb_scalar_function_set_return_type(function, nothing);
        // Else it would run while it is planned, where its argument is a constant.
        c::duckdb_scalar_function_set_volatile(function);
        c::duckdb_scalar_function_set_function(function, Some(refuse));
        let state = c::duckdb_register_scalar_function(connection.shared().raw(), function);
        c::duckdb_destroy_scalar_function(&mut function);
        c::duckdb_destroy_logical_type(&mut nothing);
        c::duckdb_destroy_logical_type(&mut seed);
        state
    };
    if state == c::duckdb_state_DuckDBSuccess {
        Ok(())
    } else {
        Err(DuckError::new(Class::Other, "setseed cannot be put out of use"))
    }
}

unsafe extern "C" fn refuse(info: c::duckdb_function_info, _: c::duckdb_data_chunk, _: c::duckdb_vector) {
    // SAFETY: DuckDB calls with a live info object; the text is copied.
    unsafe { c::duckdb_scalar_function_set_error(info, REFUSED.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use super::{super::Database, *};

    fn run(connection: &Connection, sql: &str) -> Result<(), DuckError> {
        let statements = connection.extract(sql)?;
        (0..statements.len()).try_for_each(|index| statements.prepare(index)?.run())
    }

    #[test]
    fn nothing_that_calls_setseed_runs_and_all_of_it_can_be_made_and_dropped() {
        let database = Database::open(None, &[]).unwrap();
        let connection = database.connect().unwrap();
        run(&connection, "SELECT setseed(0.5)").unwrap();
        for sql in [
            "CREATE MACRO before(x) AS setseed(x)",
            "CREATE VIEW seeded AS SELECT setseed(0.5)",
            "CREATE TABLE t (x INTEGER, s INTEGER DEFAULT (CASE WHEN setseed(0.5) IS NULL THEN 1 END))",
            "PREPARE planned AS SELECT setseed($1)",
        ] {
            run(&connection, sql).unwrap();
        }
        forbid_setseed(&connection).unwrap();
        run(&connection, "CREATE MACRO after(x) AS system.main.setseed(x)").unwrap();
        for sql in [
            "SELECT setseed(0.5)",
            "SELECT setseed(1)",
            "SELECT setseed('0.5')",
            "SELECT before(0.5)",
            "SELECT after(0.5)",
            "FROM seeded",
            "INSERT INTO t (x) VALUES (1)",
            "EXECUTE planned(0.5)",
        ] {
            let refused = run(&connection, sql).unwrap_err();
            assert_eq!(refused.class, Class::Permission, "{sql}: {refused}");
        }
        for sql in
            ["DROP FUNCTION system.main.setseed", "CREATE OR REPLACE MACRO system.main.setseed(x) AS 1"]
        {
            run(&connection, sql).unwrap_err();
        }
        run(
            &connection,
            "ALTER TABLE t ALTER s DROP DEFAULT; INSERT INTO t (x) VALUES (1); DROP VIEW seeded",
        )
        .unwrap();
    }
}
