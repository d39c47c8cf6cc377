//! The settings of an instance: those that it is opened with, and those that are pinned for all clients.

use crate::engine::{Options, Result, ffi::Connection};

/// The Arrow layout is one for all clients and for the life of the process: a schema that was announced
/// is the schema that is delivered. Sessions run in UTC.
const PINNED: [(&str, &str); 7] = [
    ("TimeZone", "'UTC'"),
    ("arrow_large_buffer_size", "false"),
    ("arrow_lossless_conversion", "false"),
    ("arrow_output_list_view", "false"),
    ("arrow_output_version", "'1.0'"),
    ("produce_arrow_string_view", "false"),
    ("errors_as_json", "false"),
];

/// Pins what is one for all clients.
pub(super) fn pin(connection: &Connection) -> Result<()> {
    for (name, value) in PINNED {
        connection.execute(&format!("SET GLOBAL {name} = {value}"))?;
    }
    Ok(())
}

/// What an instance is opened with.
pub(super) fn at_start(options: &Options) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        // Checkpoints are the writer's to decide: DuckDB's own would run inside a loader's commit, and be
        // fatal on a full disk.
        ("checkpoint_threshold", "1024TB".into()),
        // Secrets are the configuration's: none is written to, or read from, the home of the server's user.
        ("allow_persistent_secrets", "false".into()),
        // What others have written runs as the server, and some of it runs commands. It is loaded where the operator
        // names extensions or brings a script, and else not at all.
        (
            "allow_community_extensions",
            (!options.lake.extensions.is_empty() || options.init_sql.is_some()).to_string(),
        ),
        // A database in memory has to be made first; the engine refuses writes to it.
        (
            "access_mode",
            if options.read_only && options.path.is_some() { "READ_ONLY" } else { "READ_WRITE" }.into(),
        ),
    ];
    if let Some(threads) = options.threads {
        settings.push(("threads", threads.to_string()));
    }
    if let Some(bytes) = options.memory_limit {
        settings.push(("memory_limit", format!("{bytes}B")));
    }
    if let Some(folder) = &options.temp_directory {
        settings.push(("temp_directory", folder.to_string_lossy().into_owned()));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{
        answers::{first_text, texts},
        ffi,
    };

    #[test]
    fn every_arrow_setting_of_duckdb_is_pinned() {
        let database = ffi::Database::open(None, &[]).unwrap();
        let connection = database.connect().unwrap();
        let names = first_text(
            &connection,
            "SELECT string_agg(name) FROM system.main.duckdb_settings() WHERE name ILIKE '%arrow%'",
        );
        for name in names.unwrap().split(',') {
            assert!(PINNED.iter().any(|(pinned, _)| *pinned == name), "{name} is not set at start");
        }
    }
    /// Settings that a client may change for its own session: they say what its queries mean, or how they are planned.
    const OF_SESSIONS: [&str; 38] = [
        "asof_loop_join_threshold",
        "binary_as_string",
        "default_collation",
        "default_null_order",
        "default_order",
        "deprecated_using_key_syntax",
        "disable_parquet_prefetching",
        "disable_timestamptz_casts",
        "dynamic_or_filter_threshold",
        "enable_caching_operators",
        "enable_geoparquet_conversion",
        "enable_http_metadata_cache",
        "enable_object_cache",
        "explain_output",
        "ieee_floating_point_ops",
        "ignore_unknown_crs",
        "index_scan_max_count",
        "index_scan_percentage",
        "integer_division",
        "lambda_syntax",
        "late_materialization_max_rows",
        "merge_join_threshold",
        "nested_loop_join_threshold",
        "null_order",
        "old_implicit_casting",
        "order_by_non_integer_literal",
        "ordered_aggregate_threshold",
        "parquet_metadata_cache",
        "partitioned_write_flush_threshold",
        "pivot_filter_threshold",
        "pivot_limit",
        "prefer_range_joins",
        "prefetch_all_parquet_files",
        "preserve_identifier_case",
        "preserve_insertion_order",
        "scalar_subquery_error_on_multiple_rows",
        "schema",
        "search_path",
    ];

    /// A new DuckDB may bring settings that nobody has thought about.
    #[test]
    fn a_setting_of_sessions_is_one_that_was_looked_at() {
        let database = ffi::Database::open(None, &[]).unwrap();
        let connection = database.connect().unwrap();
        let names = texts(&connection, "SELECT name FROM system.main.duckdb_settings()").unwrap();
        for name in names {
            let is_local = ["DEFAULT", "''", "1"].iter().any(|value| {
                let beside = database.connect().unwrap();
                beside.execute(&format!("SET SESSION {name} = {value}")).is_ok()
            });
            let lets = crate::sql::localise(&format!("SET {name} = x")).is_ok();
            assert_eq!(is_local && lets, OF_SESSIONS.contains(&name.as_str()), "{name}: {is_local} {lets}");
        }
    }
}
