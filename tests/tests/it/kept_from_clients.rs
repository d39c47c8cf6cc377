//! What no client may take away from the others: the ledger, the database that is served, the operator's secrets.

use merganser::Client;
use merganser_server::engine::Script;
use merganser_tests::{TestServer, integer, put_keyed, refused, texts, unit};
use tonic::Code;

async fn is_refused(client: &Client, sql: &str) {
    refused(client.execute(sql).await, Code::PermissionDenied, "NOT_ALLOWED");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_search_path_leads_to_the_ledger() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    put_keyed(&flight, "t", "a/1/1", vec![unit(1, 10)]).await.unwrap();
    client.execute("SET VARIABLE path = '__' || 'merganser'").await.unwrap();
    for path in [
        "SET search_path = '__merganser'",
        "SET SESSION schema = '__MERGANSER'",
        "SET search_path TO 'main,__merganser'",
        "SET search_path = E'\\x5f\\x5fmerganser'",
        "SET search_path = $$__merganser$$",
        "SET search_path = '__mer'\n'ganser'",
        "SET search_path = getvariable('path')",
        "SET schema = '__' || 'merganser'",
        "USE __merganser",
    ] {
        is_refused(&client, path).await;
    }
    // What drivers and people set is set.
    client.execute("CREATE SCHEMA s; CREATE TABLE s.here AS SELECT 7 AS x").await.unwrap();
    for path in ["SET search_path = 's,main'", "SET schema = 's'", "USE s"] {
        client.execute(path).await.unwrap();
        assert_eq!(integer(&client, "SELECT x::BIGINT FROM here").await, 7, "{path}");
        client.execute("RESET search_path").await.unwrap();
    }
    let again = put_keyed(&flight, "t", "a/1/1", vec![unit(1, 10)]).await.unwrap();
    assert!(again.duplicate);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_that_is_served_stays_attached() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let served = texts(&client, "SELECT current_database()").await.unwrap().remove(0);
    client.execute("CREATE TABLE t AS SELECT 1::BIGINT AS x").await.unwrap();
    client.execute("ATTACH ':memory:' AS another; USE another").await.unwrap();
    is_refused(&client, &format!("DETACH {served}")).await;
    is_refused(&client, &format!("DETACH DATABASE IF EXISTS \"{}\"", served.to_uppercase())).await;
    client.execute(&format!("USE {served}")).await.unwrap();
    client.execute("DETACH another").await.unwrap();
    assert_eq!(integer(&other, "SELECT x FROM t").await, 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_leads_to_the_ledger() {
    const NAMES: [&str; 4] =
        ["'__mer' || 'ganser.ingest_units'", "'__merganser.ingest_units'", "getvariable('name')", "$1"];
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    put_keyed(&flight, "t", "secret/1/1", vec![unit(1, 10)]).await.unwrap();
    client.execute("SET VARIABLE name = '__mer' || 'ganser.ingest_units'").await.unwrap();
    for function in ["pragma_storage_info", "pragma_table_info", "pragma_show", "duckdb_table_sample"] {
        for name in NAMES {
            is_refused(&client, &format!("FROM {function}({name})")).await;
        }
        is_refused(&client, &format!("CREATE MACRO told(name) AS TABLE FROM {function}(name)")).await;
        is_refused(&client, &format!("PREPARE told AS FROM {function}(?)")).await;
        client.execute(&format!("CREATE OR REPLACE VIEW told AS FROM {function}('t')")).await.unwrap();
        client.query("FROM told").await.unwrap();
    }
    for name in &NAMES[..3] {
        is_refused(&client, &format!("PRAGMA storage_info({name})")).await;
    }
    server.shutdown().await;
}

/// A function that is told by a text of which table it tells: such a one has to be known to the rules, also one to come.
#[tokio::test(flavor = "multi_thread")]
async fn no_function_reads_the_table_that_a_text_names() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    put_keyed(&flight, "t", "secret/1/1", vec![unit(1, 10)]).await.unwrap();
    let functions = "SELECT DISTINCT function_name FROM duckdb_functions() \
                     WHERE function_type = 'table' AND internal AND len(parameter_types) = 1 AND parameter_types[1] = 'VARCHAR' \
                     ORDER BY 1";
    let functions = texts(&client, functions).await.unwrap();
    assert!(functions.iter().any(|name| name == "pragma_storage_info"), "{functions:?}");
    for name in functions {
        let asked = format!(
            "SELECT coalesce(told::VARCHAR, '') FROM \"{name}\"('__mer' || 'ganser.ingest_units') AS told"
        );
        // Most take the text for a file, of which there is none.
        let told = texts(&client, &asked).await.unwrap_or_default().concat();
        assert!(!told.contains("secret") && !told.contains("loader"), "{name}: {told}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_advice_leads_to_the_ledger() {
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    put_keyed(&flight, "t", "a/1/1", vec![unit(1, 10)]).await.unwrap();
    let text = client.execute("FROM ingest_units").await.unwrap_err().to_string();
    assert!(text.contains("ingest_units does not exist") && text.contains("LINE 1"), "{text}");
    assert!(!text.contains("__merganser"), "{text}");
    server.shutdown().await;
}

/// Whatever table functions DuckDB has or gets: those that change a setting of others have to be known to the rules.
#[tokio::test(flavor = "multi_thread")]
async fn no_function_changes_a_setting_of_others() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    let settings = "SELECT name || ' = ' || coalesce(value, '') FROM duckdb_settings() ORDER BY name";
    let before = texts(&other, settings).await.unwrap();
    let functions = "SELECT DISTINCT function_name FROM duckdb_functions() \
                     WHERE function_type IN ('table', 'pragma', 'table_macro') AND internal ORDER BY 1";
    let functions = texts(&client, functions).await.unwrap();
    assert!(functions.iter().any(|name| name == "enable_peg_parser"), "DuckDB has it no more");
    for name in functions {
        for arguments in ["", "'x'", "1"] {
            for call in
                [format!("SELECT * FROM {name}({arguments}) LIMIT 1"), format!("CALL {name}({arguments})")]
            {
                // Most fail or read something.
                let _ = client.execute(&call).await;
                assert_eq!(texts(&other, settings).await.unwrap(), before, "{call}");
            }
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_attached_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start().await;
    let (flight, client) = (server.flight().await, server.client().await);
    let served = texts(&client, "SELECT current_database()").await.unwrap().remove(0);
    put_keyed(&flight, "t", "a/1/1", vec![unit(1, 10)]).await.unwrap();
    client.execute("CREATE SCHEMA sales; CREATE TABLE sales.t AS SELECT 1::BIGINT AS x").await.unwrap();
    let file = |name: &str| format!("'{}'", folder.path().join(name).display());
    for sql in [
        format!("ATTACH OR REPLACE {} AS {served}", file("other.db")),
        format!("ATTACH OR REPLACE {}", file(&format!("{served}.db"))),
        format!("ATTACH {}", file("information_schema.db")),
        format!("ATTACH {}", file("sales.db")),
        "ATTACH ':memory:' AS sales".into(),
    ] {
        is_refused(&client, &sql).await;
    }
    client.execute(&format!("ATTACH {}", file("side.db"))).await.unwrap();
    is_refused(&client, "CREATE SCHEMA side").await;
    assert_eq!(integer(&server.client().await, "SELECT x FROM sales.t").await, 1);
    let again = put_keyed(&flight, "t", "a/1/1", vec![unit(1, 10)]).await.unwrap();
    assert!(again.duplicate);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_of_a_database_is_attached_or_made() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start().await;
    let client = server.client().await;
    let file = |name: &str| folder.path().join(name).display().to_string();
    client.execute(&format!("ATTACH '{}' AS side", file("side.db"))).await.unwrap();
    client.execute("CREATE TABLE side.t AS SELECT 7::BIGINT AS x").await.unwrap();
    for name in ["side.db.wal", "later.db.WAL", "later.db.wal.checkpoint", "later.db.wal.recovery"] {
        for options in ["", " (READ_ONLY)", " (TYPE sqlite)"] {
            is_refused(&client, &format!("ATTACH '{}' AS log{options}", file(name))).await;
        }
        is_refused(&client, &format!("SELECT 1; ATTACH \"{}\" AS log", file(name))).await;
        is_refused(
            &client,
            &format!(
                "ATTACH E'{}\\x{:x}' AS log",
                file(&name[..name.len() - 1]),
                name.as_bytes()[name.len() - 1]
            ),
        )
        .await;
    }
    let mut files: Vec<_> = folder.path().read_dir().unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["side.db", "side.db.wal"]);
    assert_eq!(integer(&client, "SELECT x FROM side.t").await, 7);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_type_takes_the_place_of_one_that_others_use() {
    let server = TestServer::start().await;
    let client = server.client().await;
    is_refused(&client, "CREATE TYPE json AS DOUBLE").await;
    is_refused(&client, "CREATE TEMP TYPE main.\"JSON\" AS INTEGER").await;
    client.execute("CREATE TYPE mood AS ENUM ('good', 'bad')").await.unwrap();
    assert_eq!(texts(&client, "SELECT ('{\"a\": 1.50}'::JSON)::VARCHAR").await.unwrap(), ["{\"a\": 1.50}"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_the_operators() {
    let server = TestServer::start().await;
    let client = server.client().await;
    for sql in [
        "CREATE OR REPLACE SECRET storage (TYPE s3, KEY_ID 'a', SECRET 'b')",
        "CREATE PERSISTENT SECRET storage (TYPE s3)",
        "DROP SECRET storage",
        "ATTACH 'host=127.0.0.1' AS evil (TYPE postgres, SECRET pg)",
    ] {
        is_refused(&client, sql).await;
    }
    let setting = "SELECT value FROM duckdb_settings() WHERE name = 'allow_persistent_secrets'";
    assert_eq!(texts(&client, setting).await.unwrap(), ["false"]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_macro_takes_the_place_of_a_function_that_others_call() {
    const NAMES: [&str; 4] = ["current_database", "current_schema", "duckdb_databases", "count"];
    // A file may have such macros from elsewhere.
    let server = TestServer::with(|config| {
        let sql = "CREATE OR REPLACE MACRO current_database() AS 'evil';
                   CREATE OR REPLACE MACRO current_schema() AS 'evil';
                   CREATE OR REPLACE MACRO duckdb_databases() AS TABLE SELECT 'evil' AS database_name, NULL AS path";
        config.engine.init_sql = Some(Script { name: "macros".into(), sql: sql.into() });
    })
    .await;
    let (flight, client) = (server.flight().await, server.client().await);
    for name in NAMES {
        is_refused(&client, &format!("CREATE OR REPLACE MACRO {name}() AS 'evil'")).await;
        is_refused(&client, &format!("CREATE TEMP MACRO \"{}\"() AS 7", name.to_uppercase())).await;
    }
    client.execute("CREATE MACRO seven() AS 7::BIGINT").await.unwrap();
    assert_eq!(integer(&client, "SELECT seven()").await, 7);
    put_keyed(&flight, "t", "a/1/1", vec![unit(1, 10)]).await.unwrap();
    client.execute("CREATE SCHEMA s; USE s").await.unwrap();
    client.execute("CREATE TEMP TABLE mine AS SELECT 8::BIGINT AS i").await.unwrap();
    assert_eq!(integer(&client, "FROM mine").await, 8);
    let again = put_keyed(&flight, "t", "a/1/1", vec![unit(1, 10)]).await.unwrap();
    assert!(again.duplicate);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_makes_the_engine_fail_or_work_otherwise() {
    let server = TestServer::start().await;
    let (client, other) = (server.client().await, server.client().await);
    other.execute("CREATE TEMP TABLE held AS SELECT 7::BIGINT AS i").await.unwrap();
    for sql in [
        "CHECKPOINT system",
        "FROM checkpoint('system')",
        "SET search_path = 'system.main'",
        "USE system",
        "SET debug_physical_table_scan_execution_strategy = 'task_executor_but_force_sync_checks'",
        "SET streaming_buffer_size = '100GB'",
        "SET perfect_ht_threshold = 30",
        "EXPLAIN ANALYZE LOAD 'x'",
        "EXPLAIN ANALYZE INSTALL 'x'",
    ] {
        is_refused(&client, sql).await;
    }
    let own = server.engine().default_catalog().to_owned();
    for sql in [format!("ALTER DATABASE \"{own}\" SET ALIAS TO other"), format!("CREATE SCHEMA \"{own}\"")] {
        is_refused(&client, &sql).await;
    }
    client.execute("CHECKPOINT").await.unwrap();
    assert_eq!(integer(&other, "FROM held").await, 7);
    server.shutdown().await;
}
