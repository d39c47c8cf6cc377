//! The configuration: command line over environment over TOML file over defaults, checked before anything
//! is opened or bound.

mod catalogs;
mod file_errors;
mod lake;
mod log_filter;
mod options;
mod ordered;
mod pipelines;
mod queries;
mod security;

use std::{
    ffi::OsString,
    mem,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use clap::{Parser, Subcommand};
use figment::{
    Figment,
    providers::{Format, Serialized, Toml},
};

use crate::{engine, engine::IdleLimits, session::SessionLimits};
pub use options::LogFormat;
use options::{Given, Merged};
use security::TlsFiles;
pub use security::{PasswordError, PasswordHash, Security, Tls, User};

/// How long a new connection may take for its handshake.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);

/// An Arrow Flight SQL server over one DuckDB database: many loaders write and many clients query at once.
#[derive(Debug, Parser)]
#[command(name = "merganser-server", version, about, max_term_width = 110)]
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    other: Option<OtherCommand>,
    /// TOML file with any of the options below, written with underscores: `read_concurrency = 16`.
    #[arg(long, env = "MERGANSER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

/// What the command does besides serving.
#[derive(Debug, Clone, Copy, Subcommand)]
enum OtherCommand {
    /// Read a password (from the terminal, or one line of standard input) and print its hash, for the
    /// configuration's [[user]].
    HashPassword,
}

/// What the process is to do.
#[derive(Debug)]
pub enum Command {
    /// Serve a database.
    Serve(Box<Config>),
    /// Print the hash of a password.
    HashPassword,
}

impl Command {
    /// Reads the process's command line, environment and file.
    ///
    /// # Errors
    /// [`ConfigError`]; nothing has been opened or bound.
    pub fn from_process() -> Result<Self, ConfigError> {
        let command_line = CommandLine::try_parse()?;
        match command_line.other {
            Some(OtherCommand::HashPassword) => Ok(Self::HashPassword),
            None => Ok(Self::Serve(Box::new(Config::from_command_line(command_line)?))),
        }
    }
}

/// A valid configuration, one struct a concern.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database and its limits.
    pub engine: engine::Options,
    /// Sessions and their transactions.
    pub sessions: SessionLimits,
    /// The network.
    pub network: Network,
    /// Users and encryption.
    pub security: Security,
    /// The log.
    pub log: Log,
}

/// What the server listens on.
#[derive(Debug, Clone)]
pub struct Network {
    /// Address and port; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Largest message in bytes.
    pub max_message_bytes: usize,
    /// Connections that may be open at once.
    pub max_connections: usize,
    /// How long a new connection may take for its handshake, of TLS or of HTTP/2. Others go on meanwhile.
    pub begin_within: Duration,
    /// Where the API, metrics and health are served over HTTP, if anywhere.
    pub http: Option<SocketAddr>,
    /// By which names, besides `localhost` and IP addresses, clients reach the API while there are no users.
    pub http_hosts: Vec<String>,
    /// Streams a connection.
    pub max_streams: u32,
    /// What becomes of connections that are silent.
    pub keepalive: Keepalive,
    /// How long requests under way may take after a signal to stop.
    pub drain_timeout: Duration,
}

/// How a connection is found out whose client is gone without a word, as when its machine has lost its power.
#[derive(Debug, Clone, Copy)]
pub struct Keepalive {
    /// A connection that is silent for so long is asked for a sign of life,
    pub silence: Duration,
    /// and ended, with all that its client was about, when none comes in this time.
    pub answer_within: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { silence: Duration::from_secs(30), answer_within: Duration::from_secs(20) }
    }
}

/// What is logged.
#[derive(Debug, Clone)]
pub struct Log {
    /// Text or JSON.
    pub format: LogFormat,
    /// A filter as `tracing` reads it.
    pub level: String,
    /// A statement that takes longer is logged with its text.
    pub slow_query: Duration,
}

/// Why there is no valid configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line is wrong, or help or the version was asked for.
    #[error("{0}")]
    CommandLine(#[from] clap::Error),
    /// A value is wrong; the text names the option.
    #[error("{0}")]
    Value(String),
}

impl Config {
    /// Reads options as the command line has them, without the program's name; the environment and the file that
    /// they name count as well.
    ///
    /// # Errors
    /// [`ConfigError`]; nothing has been opened or bound.
    pub fn from_arguments<T>(arguments: impl IntoIterator<Item = T>) -> Result<Self, ConfigError>
    where
        T: Into<OsString> + Clone,
    {
        let program = std::iter::once(OsString::from("merganser-server"));
        let arguments = program.chain(arguments.into_iter().map(Into::into));
        Self::from_command_line(CommandLine::try_parse_from(arguments)?)
    }

    fn from_command_line(command_line: CommandLine) -> Result<Self, ConfigError> {
        let file = command_line.config.as_deref();
        let text = file.map_or_else(|| Ok(String::new()), text_of)?;
        let layers = Figment::from(Serialized::defaults(Merged::default()))
            .merge(Toml::string(&text))
            .merge(Serialized::defaults(&command_line.given));
        let mut merged: Merged =
            layers.extract().map_err(|errors| file_errors::told(errors, &layers, file))?;
        let written = ordered::Written::of(&text)?;
        queries::put_in_order(&mut merged.query, written.query);
        lake::put_in_order(&mut merged.source, written.source);
        merged.validate()
    }
}

fn text_of(file: &Path) -> Result<String, ConfigError> {
    if !file.is_file() {
        return Err(invalid("config", &format!("there is no file {}", file.display())));
    }
    std::fs::read_to_string(file)
        .map_err(|error| invalid("config", &format!("{} cannot be read: {error}", file.display())))
}

impl Merged {
    /// Checks all of it.
    fn validate(mut self) -> Result<Config, ConfigError> {
        let tls = self.tls()?;
        let network = self.network(tls.is_some())?;
        let path = self.path()?;
        self.check_numbers()?;
        self.check_sizes()?;
        let log = self.log()?;
        let security = self.security(tls)?;
        let lake = self.lake(path.as_deref())?;
        Ok(Config { sessions: self.sessions(), engine: self.engine(path, lake)?, network, security, log })
    }

    fn tls(&self) -> Result<Option<Tls>, ConfigError> {
        let files = TlsFiles {
            certificate: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            client_ca: self.tls_client_ca.clone(),
        };
        files.read()
    }

    fn network(&self, encrypted: bool) -> Result<Network, ConfigError> {
        let http = self.http.as_deref();
        let is_name = |host: &&String| !host.is_empty() && !host.contains([':', '/']);
        if let Some(other) = self.http_hosts.iter().find(|host| !is_name(host)) {
            let reason = format!("{other:?} is no name of a host; give it without scheme and port");
            return Err(invalid("http_hosts", &reason));
        }
        Ok(Network {
            listen: self.address("listen", &self.listen, encrypted)?,
            max_message_bytes: self.max_message_size.as_u64() as usize,
            max_connections: self.max_connections,
            begin_within: BEGIN_WITHIN,
            http: http.map(|address| self.address("http", address, encrypted)).transpose()?,
            http_hosts: self.http_hosts.clone(),
            max_streams: self.max_streams,
            keepalive: Keepalive::default(),
            drain_timeout: self.drain_timeout,
        })
    }

    /// An address on which SQL is taken, so that it had better not be open to all.
    fn address(&self, option: &str, address: &str, encrypted: bool) -> Result<SocketAddr, ConfigError> {
        let address = resolve(option, address)?;
        if !address.ip().is_loopback() && !encrypted && !self.insecure {
            return Err(invalid(
                option,
                &format!(
                    "{address} can be reached from other machines, and nothing is encrypted; give --tls-cert and --tls-key, or add --insecure if that is meant"
                ),
            ));
        }
        Ok(address)
    }

    /// The database's file; `None` is in memory.
    fn path(&self) -> Result<Option<PathBuf>, ConfigError> {
        let database = self
            .database
            .as_deref()
            .ok_or_else(|| invalid("database", "give the database file, or \":memory:\""))?;
        if database == ":memory:" {
            return Ok(None);
        }
        engine::check_path(database)
            .map_err(|reason| invalid("database", &format!("{reason}, or \":memory:\" to keep nothing")))?;
        Ok(Some(database.into()))
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        let zeros = [
            ("threads", self.threads == Some(0)),
            ("queue_units", self.queue_units == 0),
            ("read_concurrency", self.read_concurrency == 0),
            ("max_connections", self.max_connections == 0),
            ("max_streams", self.max_streams == 0),
        ];
        match zeros.iter().find(|(_, is_zero)| *is_zero) {
            Some((option, _)) => Err(invalid(option, "must be at least 1")),
            None => Ok(()),
        }
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        for (option, size, least) in [
            ("queue_bytes", self.queue_bytes, ByteSize::mib(1)),
            ("max_message_size", self.max_message_size, ByteSize::kib(64)),
            ("memory_limit", self.memory_limit.unwrap_or(ByteSize::gib(1)), ByteSize::mib(64)),
        ] {
            if size < least {
                return Err(invalid(option, &format!("must be at least {least}")));
            }
        }
        if self.wal_limit <= self.checkpoint_size {
            return Err(invalid("wal_limit", "must be larger than checkpoint_size"));
        }
        if self.bulk_size > self.queue_bytes {
            return Err(invalid("bulk_size", "must not be larger than queue_bytes"));
        }
        Ok(())
    }

    fn log(&self) -> Result<Log, ConfigError> {
        log_filter::check(&self.log_level)?;
        Ok(Log { format: self.log_format, level: self.log_level.clone(), slow_query: self.slow_query })
    }

    fn security(&mut self, tls: Option<Tls>) -> Result<Security, ConfigError> {
        if self.token_idle < Duration::from_secs(1) {
            return Err(invalid("token_idle", "must be at least 1s"));
        }
        let users = security::users(mem::take(&mut self.user))?;
        let readable_secrets = match self.read_directories {
            Some(_) => Vec::new(),
            None => self.secret.iter().filter_map(lake::SecretEntry::in_a_file).collect(),
        };
        Ok(Security { users, token_idle: self.token_idle, tls, readable_secrets })
    }

    fn sessions(&self) -> SessionLimits {
        SessionLimits {
            count: self.max_sessions,
            idle: self.session_idle,
            transactions: IdleLimits {
                while_wanted: self.transaction_yield,
                at_all: self.transaction_idle,
                turn: self.transaction_limit,
            },
        }
    }

    /// What is read and written beside the database at `path`.
    fn lake(&mut self, path: Option<&Path>) -> Result<engine::Lake, ConfigError> {
        let secrets = lake::secrets(mem::take(&mut self.secret))?;
        let catalogs = catalogs::catalogs(mem::take(&mut self.catalog), &secrets)?;
        let reads = lake::reads(self.read_directories.take(), &catalogs)?;
        let lake = engine::Lake {
            extension_directory: lake::extension_directory(self.extension_directory.take())?,
            extension_repository: lake::extension_repository(self.extension_repository.take())?,
            extensions: lake::extensions(mem::take(&mut self.extensions))?,
            secrets,
            catalogs,
            sources: lake::sources(mem::take(&mut self.source))?,
            exports: lake::exports(&self.export_directories, path)?,
            reads,
        };
        // A server that is read-only maintains no lake.
        if !self.read_only {
            catalogs::apart(&lake)?;
        }
        Ok(lake)
    }

    fn engine(self, path: Option<PathBuf>, lake: engine::Lake) -> Result<engine::Options, ConfigError> {
        Ok(engine::Options {
            read_only: self.read_only,
            memory_limit: self.memory_limit.map(|size| size.as_u64()),
            threads: self.threads,
            temp_directory: self.temp_directory,
            init_sql: self.init_sql.as_deref().map(read_init_sql).transpose()?,
            read_concurrency: self.read_concurrency,
            wait: self.read_wait,
            query_timeout: (!self.query_timeout.is_zero()).then_some(self.query_timeout),
            queue_units: self.queue_units,
            queue_bytes: self.queue_bytes.as_u64() as usize,
            bulk_bytes: self.bulk_size.as_u64() as usize,
            stall_timeout: self.stall_timeout,
            ingest_timeout: (!self.ingest_timeout.is_zero()).then_some(self.ingest_timeout),
            checkpoint_bytes: self.checkpoint_size.as_u64(),
            wal_limit_bytes: self.wal_limit.as_u64(),
            disk_reserve_bytes: self.disk_reserve.as_u64(),
            read_age: (!self.read_age.is_zero()).then_some(self.read_age),
            lake,
            path,
            queries: queries::queries(self.query)?,
            pipelines: pipelines::pipelines(self.pipeline)?,
            overdue_grace: engine::OVERDUE_GRACE,
            job_clock: engine::JobClock::default(),
        })
    }
}

fn resolve(option: &str, address: &str) -> Result<SocketAddr, ConfigError> {
    let addresses = address.to_socket_addrs().ok();
    addresses.and_then(|mut addresses| addresses.next()).ok_or_else(|| {
        invalid(option, &format!("{address:?} is no address with a port, such as 127.0.0.1:8815"))
    })
}

fn read_init_sql(file: &Path) -> Result<engine::Script, ConfigError> {
    let name = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(sql) => Ok(engine::Script { name, sql }),
        Err(error) => Err(invalid("init_sql", &format!("{name}: {error}"))),
    }
}

fn invalid(option: &str, reason: &str) -> ConfigError {
    ConfigError::Value(format!("option {option}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        Config::from_arguments(arguments.iter().copied())
    }

    #[test]
    fn the_command_line_goes_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("merganser.toml");
        std::fs::write(&file, "database = \"a.db\"\nread_concurrency = 3\nquery_timeout = \"5s\"\n").unwrap();
        let config = config(&["--config", file.to_str().unwrap(), "--read-concurrency", "7"]).unwrap();
        assert_eq!(config.engine.read_concurrency, 7);
        assert_eq!(config.engine.query_timeout, Some(Duration::from_secs(5)));
        assert_eq!(config.engine.path, Some("a.db".into()));
    }

    #[test]
    fn a_wrong_value_names_its_option() {
        for (arguments, option) in [
            (vec![], "database"),
            (vec!["--database", "a", "--listen", "nonsense"], "listen"),
            (vec!["--database", "a", "--listen", "0.0.0.0:0"], "listen"),
            (vec!["--database", "a", "--http", "0.0.0.0:0"], "http"),
            (vec!["--database", "a", "--http-hosts", "lake,lake:9100"], "http_hosts"),
            (vec!["--database", "a", "--threads", "0"], "threads"),
            (vec!["--database", "a", "--threads", "x"], "--threads"),
            (vec!["--database", "a", "--queue-bytes", "1"], "queue_bytes"),
            (vec!["--database", "a", "--log-level", "=="], "log_level"),
            (vec!["--database", "a", "--init-sql", "/nowhere.sql"], "init_sql"),
        ] {
            let error = config(&arguments).unwrap_err().to_string();
            assert!(error.contains(option), "{arguments:?}: {error}");
        }
    }

    /// What a file with this content is refused for.
    fn refusal(toml: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("merganser.toml");
        std::fs::write(&file, toml).unwrap();
        config(&["--database", "a.db", "--config", file.to_str().unwrap()]).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_source_secret_or_query_is_named() {
        for (kind, rest, expected) in [
            ("source", "name = 'a b'\nformat = 'csv'\npath = 'x'", "source.name"),
            ("source", "name = 'a'\nformat = 'xls'\npath = 'x'", "source.format"),
            ("source", "name = 'a'\nformat = 'csv'\npath = []", "source.path"),
            ("source", "name = 'a'\nformat = 'csv'\npath = 'x'\noptions = { 'a b' = 1 }", "source.options"),
            ("secret", "name = 'a'\ntype = 'ftp'", "secret.type"),
            ("secret", "name = 'a'\ntype = 's3'\nkey = 'x'", "secret.key"),
            ("secret", "name = 'a'\ntype = 's3'\nsecret = { env = 'NOT_THERE_5' }", "NOT_THERE_5"),
            ("secret", "name = 'a'\ntype = 's3'\nsecret = 12345", "{ env = \"NAME\" } or { file"),
            ("source", "name = 'a'\nformat = 'csv'\npath = 7", "a list of texts"),
            ("query", "name = 'q'\nsql = 'SELECT $x'", "does not declare"),
            ("query", "name = 'q'\nsql = 'SELECT ? AS a'", "without a name, ?; write $name"),
            ("query", "name = 'q'\nsql = 'SELECT $1 AS a'", "without a name, $1; write $name"),
            ("query", "name = 'q'\nsql = 'SELECT 1'\nparams.x = { type = 'BIGINT' }", "does not mention"),
            ("query", "name = 'q'\nsql = 'SELECT $limit'\nparams.limit = { type = 'BIGINT' }", "limit"),
            ("query", "name = 'q'\nsql = 'SELECT 1'\ninput = { name = 't', columns = {} }", "no columns"),
            ("query", "name = 'q'\nsql = 'SELECT 1'\n[[query]]\nname = 'Q'\nsql = 'SELECT 1'", "twice"),
        ] {
            let error = refusal(&format!("[[{kind}]]\n{rest}"));
            assert!(error.contains(expected), "{rest}: {error}");
        }
        let told = refusal("[[secret]]\nname = 'a'\ntype = 's3'\nsecret = 'hunter2'\nkey = 1");
        assert!(!told.contains("hunter2"), "{told}");
        let told = refusal("[[secret]]\nname = 'a'\ntype = 's3'\nsecret = \"hunter2\nregion = 'x'");
        assert!(!told.contains("hunter2") && told.contains("line 4"), "{told}");
    }

    #[test]
    fn an_unknown_key_in_the_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("merganser.toml");
        std::fs::write(&file, "database = \"a.db\"\nread_concurency = 3\n").unwrap();
        let error = config(&["--config", file.to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("read_concurency"), "{error}");
    }
}
