//! Every option: as it may be given, and with its default.

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::{
    catalogs::CatalogEntry,
    lake::{SecretEntry, SourceEntry},
    pipelines::PipelineEntry,
    queries::QueryEntry,
    security::{Security, UserEntry},
};
use crate::{engine, session::SessionLimits};

/// Every option, as far as it was given in one place.
#[derive(Debug, Default, Args, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) struct Given {
    /// Database file, created when missing, or ":memory:".
    #[arg(long, env = "MERGANSER_DATABASE", value_name = "PATH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<String>,
    /// Address to listen on; port 0 picks a free one [default: 127.0.0.1:8815].
    #[arg(long, env = "MERGANSER_LISTEN", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listen: Option<String>,
    /// Allow listening beyond loopback without encryption: everything, passwords too, goes in the clear.
    #[arg(long, env = "MERGANSER_INSECURE", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) insecure: Option<bool>,
    /// Certificate of the server, and those between it and its authority, in PEM; turns TLS on.
    #[arg(long, env = "MERGANSER_TLS_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM.
    #[arg(long, env = "MERGANSER_TLS_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_key: Option<PathBuf>,
    /// Authorities in PEM, one of which must have signed every client's certificate; the certificate's
    /// common name is the user where no other credentials are sent.
    #[arg(long, env = "MERGANSER_TLS_CLIENT_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_client_ca: Option<PathBuf>,
    /// How long a token from Handshake is good without use [default: 1h].
    #[arg(long, env = "MERGANSER_TOKEN_IDLE", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) token_idle: Option<Duration>,
    /// Refuse every write; the file must exist.
    #[arg(long, env = "MERGANSER_READ_ONLY", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_only: Option<bool>,
    /// SQL file to run at every start, before anybody is served.
    #[arg(long, env = "MERGANSER_INIT_SQL", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) init_sql: Option<PathBuf>,
    /// Folder with DuckDB extensions; one that is not there is asked of the repository.
    #[arg(long, env = "MERGANSER_EXTENSION_DIRECTORY", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extension_directory: Option<PathBuf>,
    /// Address of the repository that extensions are installed from, with http:// [default: DuckDB's].
    #[arg(long, env = "MERGANSER_EXTENSION_REPOSITORY", value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extension_repository: Option<String>,
    /// Folders and addresses such as s3://bucket/published/ that COPY ... TO may write to, with commas between
    /// them [default: none].
    #[arg(long, env = "MERGANSER_EXPORT_DIRECTORIES", value_name = "DIR,...", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) export_directories: Option<Vec<String>>,
    /// Folders and addresses such as s3://bucket/raw/ that statements may read, besides what the configuration file
    /// declares, with commas between them [default: everything].
    #[arg(long, env = "MERGANSER_READ_DIRECTORIES", value_name = "DIR,...", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_directories: Option<Vec<String>>,
    /// DuckDB's memory limit, such as 8GiB [default: 80 % of the machine].
    #[arg(long, env = "MERGANSER_MEMORY_LIMIT", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_limit: Option<ByteSize>,
    /// DuckDB's worker threads [default: one a core].
    #[arg(long, env = "MERGANSER_THREADS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) threads: Option<usize>,
    /// Where DuckDB puts what does not fit into memory [default: beside the file].
    #[arg(long, env = "MERGANSER_TEMP_DIRECTORY", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temp_directory: Option<PathBuf>,
    /// Size of the write-ahead log at which it is checkpointed even under load [default: 1GiB].
    #[arg(long, env = "MERGANSER_CHECKPOINT_SIZE", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint_size: Option<ByteSize>,
    /// Size of the write-ahead log at which no new bulk upload or write transaction begins before it is
    /// checkpointed [default: 4GiB].
    #[arg(long, env = "MERGANSER_WAL_LIMIT", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wal_limit: Option<ByteSize>,
    /// Free space on the database's disk below which nothing is written [default: 64MiB].
    #[arg(long, env = "MERGANSER_DISK_RESERVE", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disk_reserve: Option<ByteSize>,
    /// Uploads that may wait for the writer [default: 4096].
    #[arg(long, env = "MERGANSER_QUEUE_UNITS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue_units: Option<usize>,
    /// Memory for rows on their way into the database, all uploads together [default: 256MiB].
    #[arg(long, env = "MERGANSER_QUEUE_BYTES", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue_bytes: Option<ByteSize>,
    /// Uploads larger than this append on a connection of their own [default: 8MiB].
    #[arg(long, env = "MERGANSER_BULK_SIZE", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bulk_size: Option<ByteSize>,
    /// Largest single message that is accepted [default: 64MiB].
    #[arg(long, env = "MERGANSER_MAX_MESSAGE_SIZE", value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_message_size: Option<ByteSize>,
    /// Connections that may be open at once [default: 4096].
    #[arg(long, env = "MERGANSER_MAX_CONNECTIONS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_connections: Option<usize>,
    /// Address for SQL, metrics and health over HTTP [default: none].
    #[arg(long, env = "MERGANSER_HTTP", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http: Option<String>,
    /// Names by which clients reach SQL over HTTP while there are no users, besides localhost and IP addresses, with
    /// commas between them [default: none].
    #[arg(long, env = "MERGANSER_HTTP_HOSTS", value_name = "NAME,...", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http_hosts: Option<Vec<String>>,
    /// Streams that one connection may have open [default: 1024].
    #[arg(long, env = "MERGANSER_MAX_STREAMS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_streams: Option<u32>,
    /// Reads that may run at once [default: 32].
    #[arg(long, env = "MERGANSER_READ_CONCURRENCY", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_concurrency: Option<usize>,
    /// How long a read waits for its place, and a write for its turn [default: 10s].
    #[arg(long, env = "MERGANSER_READ_WAIT", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) read_wait: Option<Duration>,
    /// How long a statement may run, its streaming included; 0s is for ever [default: 10min].
    #[arg(long, env = "MERGANSER_QUERY_TIMEOUT", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) query_timeout: Option<Duration>,
    /// How old the snapshot of a read, or of a transaction that reads, may become; 0s is for ever [default:
    /// 10min].
    #[arg(long, env = "MERGANSER_READ_AGE", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) read_age: Option<Duration>,
    /// How long an upload may send nothing, and the client of a result take nothing [default: 60s].
    #[arg(long, env = "MERGANSER_STALL_TIMEOUT", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) stall_timeout: Option<Duration>,
    /// How long the rows of a group of uploads may take to enter their tables; 0s is for ever [default: 10s].
    #[arg(long, env = "MERGANSER_INGEST_TIMEOUT", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) ingest_timeout: Option<Duration>,
    /// Sessions that may exist at once [default: 4096].
    #[arg(long, env = "MERGANSER_MAX_SESSIONS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_sessions: Option<usize>,
    /// A session that is not used for so long ends [default: 1h].
    #[arg(long, env = "MERGANSER_SESSION_IDLE", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) session_idle: Option<Duration>,
    /// An open transaction that does nothing for so long is rolled back [default: 10min].
    #[arg(long, env = "MERGANSER_TRANSACTION_IDLE", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) transaction_idle: Option<Duration>,
    /// The same for one that has written, while another write waits for it [default: 30s].
    #[arg(long, env = "MERGANSER_TRANSACTION_YIELD", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) transaction_yield: Option<Duration>,
    /// One that has had the turn to write for so long in all is rolled back while another write waits for it [default:
    /// 10min].
    #[arg(long, env = "MERGANSER_TRANSACTION_LIMIT", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) transaction_limit: Option<Duration>,
    /// How long requests under way may take after a signal to stop [default: 30s].
    #[arg(long, env = "MERGANSER_DRAIN_TIMEOUT", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) drain_timeout: Option<Duration>,
    /// Form of the log on standard error [default: text].
    #[arg(long, env = "MERGANSER_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_format: Option<LogFormat>,
    /// What is logged, such as info, debug, or merganser_server=debug; debug has a line for every
    /// statement [default: info].
    #[arg(long, env = "MERGANSER_LOG_LEVEL", value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_level: Option<String>,
    /// A statement that takes longer is logged with its text [default: 1s].
    #[arg(long, env = "MERGANSER_SLOW_QUERY", value_name = "TIME", value_parser = humantime::parse_duration)]
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    pub(super) slow_query: Option<Duration>,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// All options after merging, with their defaults.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Merged {
    pub(super) database: Option<String>,
    pub(super) listen: String,
    pub(super) insecure: bool,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) tls_client_ca: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub(super) token_idle: Duration,
    pub(super) user: Vec<UserEntry>,
    pub(super) read_only: bool,
    pub(super) init_sql: Option<PathBuf>,
    pub(super) extension_directory: Option<PathBuf>,
    pub(super) extension_repository: Option<String>,
    pub(super) extensions: Vec<String>,
    pub(super) export_directories: Vec<String>,
    pub(super) read_directories: Option<Vec<String>>,
    pub(super) secret: Vec<SecretEntry>,
    pub(super) catalog: Vec<CatalogEntry>,
    pub(super) source: Vec<SourceEntry>,
    pub(super) query: Vec<QueryEntry>,
    pub(super) pipeline: Vec<PipelineEntry>,
    pub(super) memory_limit: Option<ByteSize>,
    pub(super) threads: Option<usize>,
    pub(super) temp_directory: Option<PathBuf>,
    pub(super) checkpoint_size: ByteSize,
    pub(super) wal_limit: ByteSize,
    pub(super) disk_reserve: ByteSize,
    pub(super) queue_units: usize,
    pub(super) queue_bytes: ByteSize,
    pub(super) bulk_size: ByteSize,
    pub(super) max_message_size: ByteSize,
    pub(super) max_connections: usize,
    pub(super) http: Option<String>,
    pub(super) http_hosts: Vec<String>,
    pub(super) max_streams: u32,
    pub(super) read_concurrency: usize,
    #[serde(with = "humantime_serde")]
    pub(super) read_wait: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) query_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) read_age: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) stall_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) ingest_timeout: Duration,
    pub(super) max_sessions: usize,
    #[serde(with = "humantime_serde")]
    pub(super) session_idle: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) transaction_idle: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) transaction_yield: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) transaction_limit: Duration,
    #[serde(with = "humantime_serde")]
    pub(super) drain_timeout: Duration,
    pub(super) log_format: LogFormat,
    pub(super) log_level: String,
    #[serde(with = "humantime_serde")]
    pub(super) slow_query: Duration,
}

impl Default for Merged {
    fn default() -> Self {
        let engine = engine::Options::default();
        let sessions = SessionLimits::default();
        Self {
            database: None,
            listen: "127.0.0.1:8815".into(),
            insecure: false,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            token_idle: Security::default().token_idle,
            user: Vec::new(),
            read_only: false,
            init_sql: None,
            extension_directory: None,
            extension_repository: None,
            extensions: Vec::new(),
            export_directories: Vec::new(),
            read_directories: None,
            secret: Vec::new(),
            catalog: Vec::new(),
            source: Vec::new(),
            query: Vec::new(),
            pipeline: Vec::new(),
            memory_limit: None,
            threads: None,
            temp_directory: None,
            checkpoint_size: ByteSize(engine.checkpoint_bytes),
            wal_limit: ByteSize(engine.wal_limit_bytes),
            disk_reserve: ByteSize(engine.disk_reserve_bytes),
            queue_units: engine.queue_units,
            queue_bytes: ByteSize(engine.queue_bytes as u64),
            bulk_size: ByteSize(engine.bulk_bytes as u64),
            max_message_size: ByteSize::mib(64),
            max_connections: 4096,
            http: None,
            http_hosts: Vec::new(),
            max_streams: 1024,
            read_concurrency: engine.read_concurrency,
            read_wait: engine.wait,
            query_timeout: Duration::from_secs(600),
            read_age: engine.read_age.unwrap_or_default(),
            stall_timeout: engine.stall_timeout,
            ingest_timeout: engine.ingest_timeout.unwrap_or_default(),
            max_sessions: sessions.count,
            session_idle: sessions.idle,
            transaction_idle: sessions.transactions.at_all,
            transaction_yield: sessions.transactions.while_wanted,
            transaction_limit: sessions.transactions.turn,
            drain_timeout: Duration::from_secs(30),
            log_format: LogFormat::Text,
            log_level: "info".into(),
            slow_query: Duration::from_secs(1),
        }
    }
}
