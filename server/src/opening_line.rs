//! What the log says of a server that has started: what runs, over what, where, and how.

use std::{borrow::Cow, net::SocketAddr, time::Duration};

use bytesize::ByteSize;

use crate::{config::Config, engine::Engine};

/// The version of this server.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Writes the line. `url` is where Flight is served, `http` where HTTP is.
pub(crate) fn write(config: &Config, engine: &Engine, url: &str, http: Option<SocketAddr>) {
    let Config { engine: options, network, security, .. } = config;
    let path = options.path.as_ref().map(|path| path.to_string_lossy());
    // What DuckDB has made of its defaults.
    let (memory_limit, threads) = engine.resources();
    tracing::info!(
        version = VERSION,
        duckdb = engine.duckdb_version(),
        database = path.unwrap_or(Cow::Borrowed(":memory:")).as_ref(),
        url,
        http = http.map(tracing::field::display),
        tls = security.tls.is_some(),
        users = security.users.len(),
        read_only = options.read_only,
        memory_limit,
        threads,
        read_concurrency = options.read_concurrency,
        query_timeout = %time(options.query_timeout),
        ingest_timeout = %time(options.ingest_timeout),
        checkpoint_size = %size(options.checkpoint_bytes),
        wal_limit = %size(options.wal_limit_bytes),
        queue_bytes = %size(options.queue_bytes as u64),
        drain_timeout = %time(Some(network.drain_timeout)),
        catalogs = options.lake.catalogs.len(),
        sources = options.lake.sources.len(),
        queries = options.queries.len(),
        pipelines = options.pipelines.len(),
        "serving"
    );
}

fn time(limit: Option<Duration>) -> String {
    limit.map_or_else(|| "none".into(), |limit| humantime::format_duration(limit).to_string())
}

fn size(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}
