//! The rows of writes that ran when their FlightInfo was made (INSERT ... RETURNING and the like). They
//! wait here for their DoGet, which may come twice or never.
//!
//! What nobody has fetched stays for its time, whatever comes after it: its statement has run, and a client that cannot
//! have the answer any more would have to guess. So where no room is left, the next statement is refused before it runs.
//! What has been fetched makes room.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use futures::{Stream, TryStreamExt};
use parking_lot::Mutex;

use super::{
    Principal, Session, SessionError, new_handle,
    stored::{Reading, Rows, Stored, encode},
};
use crate::engine::{BatchStream, Error};

/// A result that nobody asks for is forgotten after this.
pub(crate) const IDLE: Duration = Duration::from_secs(300);
/// How often what has been forgotten is let go of.
const SWEEP: Duration = Duration::from_secs(30);

/// What there is room for.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Results, those included whose statements still run.
    count: usize,
    /// Bytes of all of them; what runs already may go beyond.
    bytes: usize,
    /// Of these in memory; the others are in files.
    memory: usize,
    /// One user, or one session of nobody in particular, may take this part of it.
    share: usize,
    idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { count: 4096, bytes: 1 << 30, memory: 128 << 20, share: 4, idle: IDLE }
    }
}

/// Kept results by handle.
pub(crate) struct Results {
    limits: Limits,
    /// Where files go.
    folder: PathBuf,
    book: Arc<Mutex<Book>>,
}

/// All that is known of results.
#[derive(Default)]
struct Book {
    by_handle: HashMap<Vec<u8>, Entry>,
    /// Somebody looks for those whose time is over.
    swept: bool,
}

struct Entry {
    owner: Owner,
    principal: Principal,
    used: Instant,
    /// Not there while the statement runs.
    rows: Option<Arc<Stored>>,
    /// Somebody has had all of it.
    fetched: bool,
}

/// Who has to share what with himself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    User(Arc<str>),
    Session(Vec<u8>),
}

impl Owner {
    fn of(session: &Session) -> Self {
        match session.principal().user() {
            Some(user) => Self::User(Arc::clone(user)),
            None => Self::Session(session.id().to_vec()),
        }
    }
}

/// The place of a result that may come; it is given back when dropped.
pub(crate) struct Reserved {
    handle: Vec<u8>,
    book: Arc<Mutex<Book>>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut book = self.book.lock();
        if book.by_handle.get(&self.handle).is_some_and(|entry| entry.rows.is_none()) {
            book.by_handle.remove(&self.handle);
        }
    }
}

/// The rows of one result, on their way to who asked for them. Taken to their end, they count as fetched.
pub(crate) struct Fetched {
    schema: SchemaRef,
    rows: Option<Rows>,
    handle: Vec<u8>,
    book: Weak<Mutex<Book>>,
}

impl Fetched {
    /// Without rows or columns.
    fn empty() -> Self {
        Self { schema: Arc::new(Schema::empty()), rows: None, handle: Vec::new(), book: Weak::new() }
    }

    /// The schema of every batch.
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Read one at a time, as they are asked for.
    pub(crate) fn batches(self) -> impl Stream<Item = Result<RecordBatch, Error>> + Send {
        futures::stream::try_unfold(self, |mut fetched| async {
            blocking(move || Ok(fetched.next()?.map(|batch| (batch, fetched)))).await
        })
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        let next = self.rows.as_mut().and_then(Iterator::next).transpose()?;
        if next.is_none()
            && let Some(book) = self.book.upgrade()
            && let Some(entry) = book.lock().by_handle.get_mut(&self.handle)
        {
            entry.fetched = true;
        }
        Ok(next)
    }
}

impl Results {
    /// Of which large ones go to files in `folder` where memory is taken.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self::limited(folder, Limits::default())
    }

    fn limited(folder: PathBuf, limits: Limits) -> Self {
        Self { limits, folder, book: Arc::default() }
    }

    /// A place for what a statement of the session may return, before it runs.
    ///
    /// # Errors
    /// [`SessionError::ResultsFull`] where there is none.
    pub(crate) fn admit(&self, session: &Session) -> Result<Reserved, SessionError> {
        self.reserve(session, |book| book.make_room(&self.limits, &Owner::of(session)))
    }

    /// A place, once there is room for it. What others ask for comes before or after both.
    fn reserve(
        &self,
        session: &Session,
        make_room: impl FnOnce(&mut Book) -> Result<(), SessionError>,
    ) -> Result<Reserved, SessionError> {
        let entry = Entry {
            owner: Owner::of(session),
            principal: session.principal().clone(),
            used: Instant::now(),
            rows: None,
            fetched: false,
        };
        let handle = new_handle()?;
        let mut book = self.book.lock();
        make_room(&mut book)?;
        book.by_handle.insert(handle.clone(), entry);
        Ok(Reserved { handle, book: Arc::clone(&self.book) })
    }

    /// Keeps the rows of a statement that has run, and returns their handle. Without a place they are kept all the same.
    pub(crate) async fn keep(
        &self,
        reserved: Option<Reserved>,
        session: &Session,
        rows: BatchStream,
    ) -> Result<Vec<u8>, SessionError> {
        let reserved = reserved.map_or_else(|| self.reserve(session, |_| Ok(())), Ok)?;
        let schema = rows.schema();
        let batches: Vec<_> = rows.try_collect().await?;
        let bytes = blocking(move || encode(&schema, &batches)).await?;
        if let Err(bytes) = self.keep_in_memory(&reserved, bytes) {
            let folder = self.folder.clone();
            let stored = blocking(move || Ok(Stored::in_file(&folder, bytes))).await?;
            self.book.lock().put(&reserved.handle, stored);
        }
        if !std::mem::replace(&mut self.book.lock().swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.book), self.limits.idle));
        }
        Ok(reserved.handle.clone())
    }

    /// Gives the rows back where memory has no room for them.
    fn keep_in_memory(&self, reserved: &Reserved, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut book = self.book.lock();
        let stored = book.by_handle.values().filter_map(|entry| entry.rows.as_deref());
        let taken: usize = stored.map(Stored::in_memory).sum();
        if taken + bytes.len() > self.limits.memory {
            return Err(bytes);
        }
        book.put(&reserved.handle, Stored::Memory(bytes));
        Ok(())
    }

    /// The handle of a result without rows or columns; it takes no space, so it never expires.
    pub(crate) fn keep_empty(&self) -> Vec<u8> {
        Vec::new()
    }

    /// The rows under a handle, where they are the principal's.
    pub(crate) async fn get(&self, handle: &[u8], principal: &Principal) -> Result<Option<Fetched>, Error> {
        if handle.is_empty() {
            return Ok(Some(Fetched::empty()));
        }
        let Some(stored) = self.find(handle, principal) else { return Ok(None) };
        let rows = blocking(move || Reading::rows(stored)).await?;
        let book = Arc::downgrade(&self.book);
        Ok(Some(Fetched { schema: rows.schema(), rows: Some(rows), handle: handle.to_vec(), book }))
    }

    /// Gives a result its whole time again; false where it is not there, or another's.
    pub(crate) fn renew(&self, handle: &[u8], principal: &Principal) -> bool {
        handle.is_empty() || self.find(handle, principal).is_some()
    }

    fn find(&self, handle: &[u8], principal: &Principal) -> Option<Arc<Stored>> {
        let mut book = self.book.lock();
        book.expire(self.limits.idle);
        let entry = book.by_handle.get_mut(handle).filter(|entry| entry.principal == *principal)?;
        entry.used = Instant::now();
        entry.rows.clone()
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.rows.as_ref().map_or(0, |rows| rows.bytes())
    }
}

impl Book {
    /// Puts rows where they are awaited.
    fn put(&mut self, handle: &[u8], rows: Stored) {
        if let Some(entry) = self.by_handle.get_mut(handle) {
            entry.used = Instant::now();
            entry.rows = Some(Arc::new(rows));
        }
    }

    fn expire(&mut self, idle: Duration) {
        self.by_handle.retain(|_, entry| entry.rows.is_none() || entry.used.elapsed() < idle);
    }

    /// Lets go of what has been fetched, the longest unused first, until one more may come.
    fn make_room(&mut self, limits: &Limits, owner: &Owner) -> Result<(), SessionError> {
        self.expire(limits.idle);
        loop {
            let is_theirs = |entry: &Entry| entry.owner == *owner;
            let of_all = self.fits(limits.count, limits.bytes, |_| true);
            let of_theirs = self.fits(limits.count / limits.share, limits.bytes / limits.share, is_theirs);
            if of_all && of_theirs {
                return Ok(());
            }
            // What is others' makes room only for all.
            if !self.forget_oldest(|entry| entry.fetched && (!of_all || is_theirs(entry))) {
                return Err(SessionError::ResultsFull);
            }
        }
    }

    /// Whether there is room for one more among those that `counts` tells of.
    fn fits(&self, count: usize, bytes: usize, counts: impl Fn(&Entry) -> bool) -> bool {
        let counted = self.by_handle.values().filter(|entry| counts(entry));
        let (kept, taken) = counted.fold((0, 0), |(kept, taken), entry| (kept + 1, taken + entry.bytes()));
        kept < count && taken < bytes
    }

    /// False when there is none.
    fn forget_oldest(&mut self, may_go: impl Fn(&Entry) -> bool) -> bool {
        let going = self.by_handle.iter().filter(|(_, entry)| may_go(entry));
        let oldest = going.min_by_key(|(_, entry)| entry.used).map(|(handle, _)| handle.clone());
        oldest.is_some_and(|handle| self.by_handle.remove(&handle).is_some())
    }
}

/// Lets go of what nobody has asked for in time, for as long as there is anything.
async fn sweep(book: Weak<Mutex<Book>>, idle: Duration) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(book) = book.upgrade() else { return };
        let mut book = book.lock();
        book.expire(idle);
        if book.by_handle.is_empty() {
            book.swept = false;
            return;
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Internal(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array};

    use super::*;
    use crate::{
        engine::{Engine, Options},
        session::{SessionLimits, Sessions},
    };

    const LIMITS: Limits = Limits { count: 8, bytes: 1 << 20, memory: 1 << 20, share: 2, idle: IDLE };

    struct Fixture {
        folder: tempfile::TempDir,
        engine: Engine,
        results: Results,
    }

    impl Fixture {
        fn new(limits: Limits) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let engine = Engine::open(Options::default()).unwrap();
            let results = Results::limited(folder.path().join("new"), limits);
            Self { folder, engine, results }
        }

        /// A session of one of two users.
        fn session(&self, user: &str) -> Session {
            Sessions::new(self.engine.clone(), SessionLimits::default())
                .of_one_request(Principal::named(user), None)
        }

        /// The handle of so many numbers.
        async fn keep(&self, session: &Session, numbers: i64) -> Result<Vec<u8>, SessionError> {
            let reserved = self.results.admit(session)?;
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..numbers));
            let batch = RecordBatch::try_from_iter([("x", numbers)]).unwrap();
            let rows = BatchStream::spooled(batch.schema(), vec![batch.slice(0, 1), batch]);
            self.results.keep(Some(reserved), session, rows).await
        }

        /// How many numbers a handle stands for.
        async fn fetch(&self, session: &Session, handle: &[u8]) -> Option<usize> {
            let fetched = self.results.get(handle, session.principal()).await.unwrap()?;
            let batches: Vec<_> = fetched.batches().try_collect().await.unwrap();
            Some(batches.iter().map(RecordBatch::num_rows).sum::<usize>() - 1)
        }
    }

    #[tokio::test]
    async fn what_nobody_has_fetched_stays_and_the_next_is_refused_before_it_runs() {
        let of = Fixture::new(LIMITS);
        let ana = of.session("ana");
        let mut handles = Vec::new();
        for numbers in 1..=4 {
            handles.push(of.keep(&ana, numbers).await.unwrap());
        }
        assert!(matches!(of.results.admit(&ana), Err(SessionError::ResultsFull)), "her half is taken");
        for (handle, numbers) in handles.iter().zip(1..) {
            assert_eq!(of.fetch(&ana, handle).await, Some(numbers));
            assert_eq!(of.fetch(&ana, handle).await, Some(numbers), "a second time");
        }
        // What was fetched makes room, the longest unused first.
        of.keep(&ana, 5).await.unwrap();
        assert_eq!(of.fetch(&ana, &handles[0]).await, None);
        assert_eq!(of.fetch(&ana, &handles[3]).await, Some(4));
        of.engine.shutdown().await;
    }

    #[tokio::test]
    async fn nobody_takes_the_share_of_others_or_has_their_rows() {
        let of = Fixture::new(LIMITS);
        let (ana, eva) = (of.session("ana"), of.session("eva"));
        let hers = of.keep(&ana, 1).await.unwrap();
        while let Ok(handle) = of.keep(&eva, 1).await {
            assert_eq!(of.fetch(&ana, &handle).await, None);
        }
        assert!(!of.results.renew(&hers, eva.principal()) && of.results.renew(&hers, ana.principal()));
        of.keep(&ana, 1).await.unwrap();
        assert_eq!(of.fetch(&ana, &hers).await, Some(1));
        of.engine.shutdown().await;
    }

    #[tokio::test]
    async fn bytes_are_bounded_and_what_memory_does_not_take_goes_to_files() {
        let of = Fixture::new(Limits { bytes: 200_000, memory: 100_000, ..LIMITS });
        let ana = of.session("ana");
        let handles = [of.keep(&ana, 10_000).await.unwrap(), of.keep(&ana, 10_000).await.unwrap()];
        assert!(matches!(of.results.admit(&ana), Err(SessionError::ResultsFull)));
        let stored = |handle| of.results.find(handle, ana.principal()).unwrap();
        let in_memory = handles.each_ref().map(|handle| stored(handle).in_memory() > 0);
        assert_eq!(in_memory, [true, false]);
        assert!(stored(&handles[1]).bytes() > 80_000);
        assert_eq!(of.folder.path().join("new").read_dir().unwrap().count(), 0, "the file has no name");
        for handle in &handles {
            assert_eq!(of.fetch(&ana, handle).await, Some(10_000));
        }
        of.keep(&ana, 1).await.unwrap();
        of.engine.shutdown().await;
    }

    #[tokio::test]
    async fn a_result_that_is_read_in_part_does_not_count_as_fetched() {
        let of = Fixture::new(Limits { count: 2, ..LIMITS });
        let ana = of.session("ana");
        let handle = of.keep(&ana, 1).await.unwrap();
        let mut rows = Box::pin(of.results.get(&handle, ana.principal()).await.unwrap().unwrap().batches());
        rows.try_next().await.unwrap().unwrap();
        drop(rows);
        assert!(of.results.admit(&ana).is_err());
        of.fetch(&ana, &handle).await.unwrap();
        drop(of.results.admit(&ana).unwrap());
        // A place that is not used is free again.
        drop(of.results.admit(&ana).unwrap());
        of.engine.shutdown().await;
    }

    #[tokio::test]
    async fn what_nobody_asks_for_in_time_is_forgotten() {
        let of = Fixture::new(Limits { idle: Duration::ZERO, ..LIMITS });
        let ana = of.session("ana");
        let handle = of.keep(&ana, 1).await.unwrap();
        assert_eq!(of.fetch(&ana, &handle).await, None);
        let empty = of.results.get(&of.results.keep_empty(), ana.principal()).await.unwrap().unwrap();
        assert_eq!(empty.batches().try_collect::<Vec<_>>().await.unwrap(), []);
        of.engine.shutdown().await;
    }
}
