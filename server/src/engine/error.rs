//! What can go wrong below the protocol. The texts are written for the person who sent the request;
//! DuckDB's own texts are kept, caret lines included.

use std::time::Duration;

pub use super::ffi::Class;
use super::{
    ffi::DuckError,
    lake::tells_of_missing_file,
    queries::{refusal, without_unused},
};

/// An error of the engine.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// DuckDB refused or failed; the class says how.
    #[error("{message}")]
    Duck {
        /// What kind of failure it was.
        class: Class,
        /// DuckDB's text.
        message: String,
    },
    /// More than one statement where one is planned.
    #[error("the text holds {0} statements; send one at a time here, or run the script as an update")]
    MultiStatement(usize),
    /// DuckDB makes several statements of one, which have to run one after the other in one transaction that writes. No
    /// client sees it.
    #[error("the statement has to run as several")]
    SeveralSteps,
    /// No statement at all.
    #[error("the text holds no SQL statement")]
    Empty,
    /// A statement that this server does not run, with the reason.
    #[error("{0}")]
    Refused(String),
    /// A file that would be written where no client may write one, with the reason.
    #[error("{0}")]
    ExportRefused(String),
    /// A path under which no file can be written, with the reason.
    #[error("{0}")]
    BadPath(String),
    /// The transaction is over: rolled back by the server, or by a failure inside it.
    #[error("{0}")]
    TransactionLost(String),
    /// A transaction is open already, or none is.
    #[error("{0}")]
    TransactionState(&'static str),
    /// The session's connection stayed busy with another statement.
    #[error("the session was busy with another statement for {0:?}")]
    SessionBusy(Duration),
    /// The data does not fit the table.
    #[error("{0}")]
    SchemaMismatch(String),
    /// The bytes of an upload are no Arrow data.
    #[error("the Arrow data cannot be read: {0}")]
    BadArrow(String),
    /// A message of an upload is larger than the server takes.
    #[error("a message is larger than this server takes; send smaller batches")]
    MessageTooLarge,
    /// The client went away in the middle of an upload.
    #[error("the upload broke off; nothing was written")]
    Disconnected,
    /// An Arrow type that DuckDB has no place for.
    #[error("{what}: Arrow type {data_type} cannot be stored in DuckDB")]
    UnsupportedType {
        /// The column or parameter.
        what: String,
        /// The Arrow type.
        data_type: String,
    },
    /// The table is not there and the mode does not create it.
    #[error("table {0} does not exist; use a mode that creates it, or create it first")]
    TableMissing(String),
    /// The table is there and the mode neither appends nor replaces.
    #[error("table {0} exists already; use a mode that appends or replaces")]
    TableExists(String),
    /// A name that cannot be a table's.
    #[error("{0}")]
    BadName(String),
    /// All read permits stayed taken.
    #[error("no read slot was free for {waited:?} (read-concurrency is {permits}); try again in a moment")]
    ReadBusy {
        /// How many reads may run at once.
        permits: usize,
        /// How long the request waited.
        waited: Duration,
    },
    /// Others went on writing to the target of an export.
    #[error(
        "another COPY ... TO was writing to the target, into it or around it for {0:?}; try again when that has ended, or \
         choose another target"
    )]
    ExportBusy(Duration),
    /// Something that the configuration asks for is not to be had, so that the database is not opened.
    #[error("{what}: {reason}")]
    Setup {
        /// The extension, secret, catalog, source or query.
        what: String,
        /// Why.
        reason: String,
    },
    /// The database has what the server wants to call so.
    #[error(
        "the database has a catalog or schema called {0:?}, which is the name of what the configuration declares; rename one of the two"
    )]
    NameClash(String),
    /// No named query is called so.
    #[error("there is no query {0:?}")]
    QueryMissing(String),
    /// A named query could not be answered when the database was opened, and is not required.
    #[error(
        "the query {0:?} cannot be answered: it could not be planned when the server started. Its operator finds the \
         reason in the log, and starts the server again when it is mended"
    )]
    QueryUnavailable(String),
    /// A value for a parameter of a named query that is missing, not known, or of no use.
    #[error("{0}")]
    BadParameter(String),
    /// Another write kept the turn.
    #[error(
        "{holder} has had the turn to write for {}, and this one waited {}; try again. A transaction that rests gives it \
         up by itself after a while (transaction-yield)",
        so_long(*held),
        so_long(*waited)
    )]
    WriteBusy {
        /// How long this one waited.
        waited: Duration,
        /// For how long the other one has had it.
        held: Duration,
        /// Which it is.
        holder: String,
    },
    /// Uploads kept a table to themselves.
    #[error(
        "uploads to the table were under way for longer than {0:?}, so that it could not be changed; nothing was written, try again"
    )]
    TableBusy(Duration),
    /// A transaction kept a table to itself.
    #[error(
        "table {table} was being changed by another statement or transaction for longer than {waited:?}; nothing was written, try again"
    )]
    TableChanging {
        /// The table to which rows were to be appended.
        table: String,
        /// How long the upload waited.
        waited: Duration,
    },
    /// The ingest queue stayed full.
    #[error("the ingest queue is full; try again in a moment")]
    QueueFull,
    /// The text is no ingest key.
    #[error(
        "{0}; an ingest key is loader/epoch/sequence: a name, then two whole numbers, such as sensors-7/1/42"
    )]
    BadKey(String),
    /// The key was committed with other content.
    #[error(
        "unit {key} was committed before with other content (table, mode, schema or rows); a unit that is sent again must be the same, and a new one needs sequence {expected}"
    )]
    KeyReused {
        /// The key.
        key: String,
        /// The sequence that the loader's next unit must have.
        expected: u64,
    },
    /// A unit of the loader is missing before this one.
    #[error("unit {key} leaves a gap: the next unit of this loader must have sequence {expected}")]
    SequenceGap {
        /// The key.
        key: String,
        /// The sequence that the loader's next unit must have; of a new loader 0 or 1.
        expected: u64,
    },
    /// Another process has taken over the loader.
    #[error(
        "unit {key} comes too late: epoch {epoch} of this loader has begun, so another process has taken its place"
    )]
    Fenced {
        /// The key.
        key: String,
        /// The loader's present epoch.
        epoch: u64,
    },
    /// The unit is so old that the ledger has forgotten it.
    #[error(
        "unit {key} is older than what the ledger still knows of this loader, so nobody can tell whether it is the same; the next unit must have sequence {expected}"
    )]
    KeyExpired {
        /// The key.
        key: String,
        /// The sequence that the loader's next unit must have.
        expected: u64,
    },
    /// A key where the ledger cannot commit together with the rows.
    #[error("{0}")]
    KeyNotHere(&'static str),
    /// No job is called so.
    #[error("{0}")]
    JobMissing(String),
    /// Another server runs the same job.
    #[error("another server is at this job just now; its run does as well")]
    JobBusy,
    /// What a lake takes for its orphans is something else; nothing of it was deleted.
    #[error(
        "no orphans of {lake} were deleted, because {foreign} Parquet files below its data_path are not the lake's, and {in_use} \
         are in use; move files of others out of there, and see what the documentation of maintenance says of such files"
    )]
    NotOrphans {
        /// The name of the lake.
        lake: String,
        /// Files that are not named as its own.
        foreign: u64,
        /// Files of its own that it does not know by the names that the storage has for them.
        in_use: u64,
    },
    /// A run of a job took too long.
    #[error(
        "a run of the job went on for longer than {0:?}, which is its limit, and was stopped; nothing more of it is written. See whether all servers that it needs answer, or raise `limit`"
    )]
    JobTimeout(Duration),
    /// Other servers that write to the same catalog were always faster.
    #[error("other servers kept committing to {0} first; nothing was written, try again")]
    Overtaken(String),
    /// A catalog's server or storage does not answer.
    #[error(
        "the catalog {0}, or the storage of its files, cannot be reached just now; nothing was written, try again in a moment"
    )]
    CatalogDown(String),
    /// Files that a read of a lake needs are not there any more.
    #[error(
        "files of a lake that the statement reads have been deleted since it began, because its snapshot has become too old; run \
         it again. Where that does not help, ask the operator, whose log names a file"
    )]
    FilesGone,
    /// The units of a long stream cannot be told apart.
    #[error("{0}")]
    BadUnit(String),
    /// The write-ahead log has reached its hard limit.
    #[error("the write-ahead log is at its limit and is being checkpointed; try again in a moment")]
    WalFull,
    /// There is no room on the disk.
    #[error("the server's disk is full; nothing was written, try again once there is room")]
    DiskFull,
    /// The engine has failed and is being opened again.
    #[error("the database is being opened again after a failure; nothing was written, try again in a moment")]
    EngineDown,
    /// What the session had left on its connection is gone with the instance it lived in.
    #[error(
        "the database was opened again after a failure; temporary tables, settings and open transactions of this session are gone, begin again"
    )]
    SessionLost,
    /// Somebody has ended the statement who may.
    #[error(
        "an operator has ended this statement, or closed its session; nothing of it was committed. Ask before you send it \
         again"
    )]
    EndedByOperator,
    /// What the session had left on its connection is gone, because somebody has closed it who may.
    #[error(
        "an operator has closed this session; its temporary tables, settings and open transactions are gone, begin again"
    )]
    SessionClosed,
    /// No statement has this id.
    #[error("no statement {0} runs; merganser_statements() shows those that do")]
    StatementMissing(u64),
    /// An upload is complete, and nobody can tell any more whether it is committed.
    #[error(
        "statement {0} is an upload that is being committed, which cannot be ended any more; it soon is by itself"
    )]
    StatementCommits(u64),
    /// No session has this number.
    #[error("there is no session {0}; merganser_sessions() shows those that there are")]
    SessionMissing(u64),
    /// The upload sent nothing for too long, or messages without rows.
    #[error("the upload sent no rows for {0:?}; nothing was written, send it again")]
    Stalled(Duration),
    /// The client of a result took nothing for too long.
    #[error("the client took no rows for {0:?}, so the statement was given up; read faster, or ask for less")]
    NotTaken(Duration),
    /// DuckDB forgot why a query failed whose first rows were on their way.
    #[error("the statement failed while its rows were on their way, and why is not known; run it again")]
    CauseLost,
    /// DuckDB has failed at the very same text of late.
    #[error(
        "DuckDB has failed at this statement before, which cost every client what it had running, so it is refused for {seconds} \
         more seconds; write it in another way. What DuckDB said: {message}"
    )]
    Quarantined {
        /// It may be sent again in so many seconds.
        seconds: u64,
        /// DuckDB's text.
        message: String,
    },
    /// The statement ran for longer than it may.
    #[error("the statement ran for longer than {0:?} and was stopped")]
    Timeout(Duration),
    /// Rows took too long to enter their table.
    #[error(
        "it took longer than {limit:?} to append to table {table}, so it was stopped, and nothing of it was written; see whether a \
         DEFAULT, a CHECK, a generated column or an index of the table takes so long, send fewer rows at once, or have the \
         operator raise ingest-timeout"
    )]
    IngestTimeout {
        /// The table.
        table: String,
        /// How long it may take.
        limit: Duration,
    },
    /// The same of late and several times.
    #[error(
        "it took too long several times to append to table {table}, which held up everybody else, so uploads to it are refused \
         for {seconds} more seconds; nothing was written. See whether a DEFAULT, a CHECK, a generated column or an index of \
         the table takes so long"
    )]
    TableSlow {
        /// The table.
        table: String,
        /// It may be tried again in so many seconds.
        seconds: u64,
    },
    /// The snapshot of a read has become too old.
    #[error(
        "the read went on for longer than {0:?}, after which its snapshot is too old to be kept, and was stopped; read less at once, or faster"
    )]
    ReadTooOld(Duration),
    /// A result that must be held in memory is too large for it.
    #[error("the statement returned more than {0} bytes; write the rows to a table and read that")]
    ResultTooLarge(usize),
    /// A row that no message could carry, or whose copies would take the server's memory.
    #[error(
        "a row of the result takes more than {} MiB, which is the most that one may; select less of it, such as a part of a list or of a \
         text",
        .0 >> 20
    )]
    RowTooLarge(usize),
    /// The result's schema is not the one that was announced.
    #[error("the schema of the result has changed since it was announced; ask for the FlightInfo again")]
    SchemaChanged,
    /// The database was opened for reading only.
    #[error("this server is read-only")]
    ReadOnly,
    /// COMMIT failed in a way that does not tell whether the rows are there.
    #[error("the commit failed and its outcome is unknown ({0}); check before sending the rows again")]
    CommitUnknown(String),
    /// Uploads that were staged together have to be committed one after the other. No client sees it.
    #[error("the uploads cannot be committed together")]
    NotTogether,
    /// The server is going down, or its writer is gone.
    #[error("the server is shutting down; try again when it is back")]
    Stopping,
    /// The write-ahead log is damaged. Nothing was touched.
    #[error("the write-ahead log cannot be replayed: {0}")]
    WalUnreadable(String),
    /// What is to be opened as a file of DuckDB is none, with the reason.
    #[error("{0}")]
    NotDuckDb(String),
    /// The start-up SQL failed.
    #[error("the start-up SQL in {name} failed: {reason}")]
    InitSql {
        /// The script's name.
        name: String,
        /// DuckDB's text.
        reason: String,
    },
    /// A schema of the name that the server's own has, with something else in it.
    #[error(
        "the schema {0} of the database holds something that is not this server's; rename it with DuckDB, then start again"
    )]
    LedgerClash(String),
    /// A bug of ours.
    #[error("something went wrong inside the server; the log has the details")]
    Internal(String),
}

/// The engine's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn so_long(time: Duration) -> String {
    if time.is_zero() { "less than a second".into() } else { format!("{time:?}") }
}

impl From<DuckError> for Error {
    fn from(error: DuckError) -> Self {
        match refusal(&error.message) {
            Some(text) => Self::BadParameter(text),
            None if tells_of_missing_file(error.class, &error.message) => {
                tracing::warn!(error = error.message, "a file of a lake is not there any more");
                Self::FilesGone
            }
            None => {
                Self::Duck { class: error.class, message: without_own_names(without_unused(error.message)) }
            }
        }
    }
}

/// A text of DuckDB without the advice to use what is the server's own.
fn without_own_names(message: String) -> String {
    let is_of_own =
        |line: &&str| line.starts_with("Did you mean") && line.contains(crate::sql::INTERNAL_PREFIX);
    match message.lines().any(|line| is_of_own(&line)) {
        true => message.lines().filter(|line| !is_of_own(line)).collect::<Vec<_>>().join("\n"),
        false => message,
    }
}

impl From<crate::sql::Refusal> for Error {
    fn from(refusal: crate::sql::Refusal) -> Self {
        match refusal {
            crate::sql::Refusal::NotAllowed(reason) => Self::Refused(reason),
            crate::sql::Refusal::Malformed(reason) => Self::Duck { class: Class::Syntax, message: reason },
        }
    }
}

impl From<arrow_schema::ArrowError> for Error {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl Error {
    /// What DuckDB would say if it had met the conflict itself.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::Duck { class: Class::Conflict, message: message.into() }
    }

    /// The class, where it came from DuckDB.
    pub(crate) fn class(&self) -> Option<Class> {
        match self {
            Self::Duck { class, .. } => Some(*class),
            _ => None,
        }
    }
}
