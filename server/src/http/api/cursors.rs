//! Pages of one result. A cursor is the rest of a running query: every page is of the snapshot that the first was of.
//!
//! It lives as long as a stalled read does: who does not come back within `stall-timeout` has lost it, and its query
//! ends.

use std::{collections::HashMap, time::Instant};

use arrow_array::RecordBatch;
use axum::http::StatusCode;
use futures::StreamExt;
use parking_lot::Mutex;

use super::{
    cursor_token::{CursorTokens, Handle, NoCursor},
    problem::Problem,
};
use crate::{
    engine::{BatchStream, Error, QueryCard, bytes_of},
    failure::{Failure, Kind},
    http::format::{Encode, Format},
    session::Principal,
};

/// Rows of a page where the caller does not say.
const PAGE_ROWS: u64 = 1_000;
/// A page is held in memory.
const MAX_PAGE_ROWS: u64 = 100_000;
/// With so many bytes a page ends before it has all of its rows.
const PAGE_BYTES: usize = 32 << 20;
/// Cursors that may be open at once, at the most; each keeps a read.
const MAX_CURSORS: usize = 8;

/// Those that wait for their callers.
pub(crate) struct Cursors {
    /// How many may be open at once.
    most: usize,
    tokens: CursorTokens,
    open: Mutex<HashMap<Handle, (Instant, Cursor)>>,
}

/// The rest of a result.
pub(super) struct Cursor {
    query: String,
    principal: Principal,
    rows: BatchStream,
    /// Rows that came with those of the last page.
    left: Option<RecordBatch>,
}

/// One page, and what comes after it.
pub(super) struct PageOf {
    pub(super) rows: BatchStream,
    pub(super) rest: Option<Cursor>,
}

/// How many rows a page is to have.
///
/// # Errors
/// [`Error::BadParameter`] for none, or too many to hold in memory.
pub(super) fn page_limit(asked: Option<u64>) -> Result<u64, Error> {
    match asked.unwrap_or(PAGE_ROWS) {
        limit @ 1..=MAX_PAGE_ROWS => Ok(limit),
        limit => Err(Error::BadParameter(format!("a page has 1 to {MAX_PAGE_ROWS} rows, not {limit}"))),
    }
}

/// That a cursor was a good one, and is no more.
fn expired(why: &str) -> Problem {
    let text = format!("the cursor has expired: {why}; begin again with an empty cursor");
    Problem::new(StatusCode::GONE, Kind::NotFound, "CURSOR_EXPIRED", &text)
}

impl Cursors {
    /// As many as leave most reads to others.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub(crate) fn new(read_places: usize) -> Result<Self, getrandom::Error> {
        let most = (read_places / 4).clamp(1, MAX_CURSORS);
        Ok(Self { most, tokens: CursorTokens::new()?, open: Mutex::default() })
    }

    /// Takes one out; it is used once, and the page that it gives names the next. It stays where its rows cannot be
    /// written in this form.
    pub(super) fn take(
        &self,
        token: &str,
        query: &str,
        principal: &Principal,
        format: Format,
    ) -> Result<(Cursor, Box<dyn Encode>), Problem> {
        let handle = match self.tokens.read(token, query, principal) {
            Ok(handle) => handle,
            Err(NoCursor::Bad) => {
                return Err(Problem::bad_request(
                    "BAD_CURSOR",
                    "this is no cursor that was given to you for this query; send the x-next-cursor of the last page \
                     as it is, or an empty cursor to begin",
                ));
            }
            Err(NoCursor::OfBefore) => {
                return Err(expired("the server was started anew since"));
            }
        };
        let gone = || expired("it was used before, waited for too long, or made room for newer ones");
        let mut open = self.open.lock();
        let encoder = open.get(&handle).ok_or_else(gone)?.1.encoder(format)?;
        let (_, cursor) = open.remove(&handle).ok_or_else(gone)?;
        Ok((cursor, encoder))
    }

    /// Ends all of them.
    pub(crate) fn clear(&self) {
        self.open.lock().clear();
    }

    /// Keeps one until it is asked for; the one that has waited for longest makes room.
    pub(super) fn keep(&self, cursor: Cursor) -> Result<String, Problem> {
        let made = self.tokens.make(&cursor.query, &cursor.principal);
        let (handle, token) = made.map_err(|error| Failure::internal(&error))?;
        let mut open = self.open.lock();
        while open.len() >= self.most
            && let Some(oldest) = open.iter().min_by_key(|(_, (since, _))| *since).map(|(handle, _)| *handle)
        {
            open.remove(&oldest);
        }
        open.insert(handle, (Instant::now(), cursor));
        Ok(token)
    }
}

impl Cursor {
    /// One that is at the beginning.
    pub(super) fn new(rows: BatchStream, card: &QueryCard, principal: &Principal) -> Self {
        Self { query: card.name.clone(), principal: principal.clone(), rows, left: None }
    }

    /// The name of its query.
    pub(super) fn name(&self) -> &str {
        &self.query
    }

    /// What writes its rows.
    ///
    /// # Errors
    /// The form has no place for a column.
    pub(super) fn encoder(&self, format: Format) -> Result<Box<dyn Encode>, Failure> {
        format.encoder(&self.rows.schema())
    }

    /// The next rows, so many at the most.
    ///
    /// # Errors
    /// Those of the query.
    pub(super) async fn page(mut self, limit: u64) -> Result<PageOf, Error> {
        let (schema, mut wanted, mut page) = (self.rows.schema(), limit as usize, Vec::new());
        let mut room = PAGE_BYTES;
        while wanted > 0
            && room > 0
            && let Some(batch) = self.next().await?
        {
            let taken = fitting(&batch, wanted, room);
            page.push(batch.slice(0, taken));
            wanted -= taken;
            room = room.saturating_sub(bytes_of(&batch.slice(0, taken)));
            self.left = (taken < batch.num_rows()).then(|| batch.slice(taken, batch.num_rows() - taken));
        }
        // Whether there is another page is known only with its first row.
        self.left = self.next().await?;
        let rest = self.left.is_some().then_some(self);
        Ok(PageOf { rows: BatchStream::spooled(schema, page), rest })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        match self.left.take() {
            Some(left) => Ok(Some(left)),
            None => self.rows.next().await.transpose(),
        }
    }
}

/// How many rows of a batch, up to so many, have up to so many bytes; one at least.
fn fitting(batch: &RecordBatch, most: usize, bytes: usize) -> usize {
    let mut rows = most.min(batch.num_rows());
    while rows > 1 && bytes_of(&batch.slice(0, rows)) > bytes {
        rows = rows.div_ceil(2);
    }
    rows
}
