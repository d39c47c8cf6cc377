//! Closing what DuckDB cannot roll back.
//!
//! DuckDB (1.5.5) rolls back what is open on a connection while it destroys it, and an error of that ends the process,
//! because nothing may be thrown from there. DuckLake rolls back by a statement, which an instance that has failed refuses;
//! PostgreSQL may be gone. Only while an exception is on its way DuckDB leaves that to a place that swallows errors. So on an
//! instance that has failed, handles are closed by DuckDB as it clears up after an error: they are the data of a call, in an
//! instance in memory that is there for this alone, of a function that says that its call has failed.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
};

use libduckdb_sys as c;
use parking_lot::Mutex;

use super::{
    Connection, Database, DuckError, Pulse,
    table_function::{Arguments, Callbacks, register},
};
use crate::sql::INTERNAL_PREFIX;

type Close = Box<dyn FnOnce()>;

thread_local! {
    /// What the next call on this thread is given.
    static NEXT: RefCell<Option<Close>> = const { RefCell::new(None) };
    /// Whether something is being closed, which may close something else.
    static IS_CLOSING: Cell<bool> = const { Cell::new(false) };
}

/// Where the function is, once it has been needed.
static CLOSER: Mutex<Option<Connection>> = Mutex::new(None);

const CALLBACKS: Callbacks = Callbacks {
    arguments: Arguments::None,
    bind: fail,
    init: never,
    local_init: None,
    produce: never_produce,
};

/// Calls what closes a handle of an instance so that no error of it ends the process.
pub(super) fn close_of(pulse: &Pulse, close: impl FnOnce() + 'static) {
    match pulse.has_failed() {
        true => while_clearing_up(close),
        false => close(),
    }
}

fn while_clearing_up(close: impl FnOnce() + 'static) {
    if IS_CLOSING.replace(true) {
        return close();
    }
    NEXT.set(Some(Box::new(close)));
    if let Err(error) = call() {
        tracing::debug!(error = error.message, "what has failed is closed without care");
    }
    // It is still there where the function was not called.
    if let Some(close) = NEXT.take() {
        close();
    }
    IS_CLOSING.set(false);
}

fn call() -> Result<(), DuckError> {
    let name = format!("{INTERNAL_PREFIX}_close");
    let mut closer = CLOSER.lock();
    if closer.is_none() {
        let connection = Database::open(None, &[("threads", "1".into())])?.connect()?;
        register(&connection, &name, &CALLBACKS, None)?;
        *closer = Some(connection);
    }
    // It fails, as it is meant to.
    let _ = closer.as_ref().map(|closer| closer.execute(&format!("FROM {name}()")));
    Ok(())
}

/// Takes what is to be closed, and fails.
unsafe extern "C" fn fail(info: c::duckdb_bind_info) {
    // SAFETY: `info` is live during the call; DuckDB calls `release` once, with what it was given.
    unsafe {
        if let Some(close) = NEXT.take() {
            c::duckdb_bind_set_bind_data(info, Box::into_raw(Box::new(close)).cast(), Some(release));
        }
        c::duckdb_bind_set_error(info, c"closed".as_ptr());
    }
}

/// Called as DuckDB clears up after the error.
unsafe extern "C" fn release(close: *mut c_void) {
    // SAFETY: it was made by `fail`, and this is its only end.
    let close = unsafe { Box::from_raw(close.cast::<Close>()) };
    close();
}

unsafe extern "C" fn never(_: c::duckdb_init_info) {}

unsafe extern "C" fn never_produce(_: c::duckdb_function_info, _: c::duckdb_data_chunk) {}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[test]
    fn whatever_is_to_be_closed_is_closed_once_and_what_it_closes_is_too() {
        let closed = Rc::new(RefCell::new(Vec::new()));
        for number in 0..3 {
            let closed = Rc::clone(&closed);
            while_clearing_up(move || {
                let inner = Rc::clone(&closed);
                while_clearing_up(move || inner.borrow_mut().push((number, "inner")));
                closed.borrow_mut().push((number, "outer"));
            });
        }
        let expected: Vec<_> = (0..3).flat_map(|number| [(number, "inner"), (number, "outer")]).collect();
        assert_eq!(*closed.borrow(), expected);
    }
}
