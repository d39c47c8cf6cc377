//! `merganser load` of CSV and JSON: each value is stored as it is written, or named and refused.

use std::{fmt::Write, net::SocketAddr, path::PathBuf, process::Output};

use merganser_tests::{TestServer, integer, soon, texts};
use tempfile::TempDir;
use tokio::process::Command;

/// More than any sample would look at.
const ROWS: i64 = 30_000;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// Rows `0,0.5`, `1,1.5` and so on, and one more.
fn prices(last: &str) -> String {
    let mut text = "id,price\n".to_owned();
    for id in 0..ROWS {
        writeln!(text, "{id},{id}.5").unwrap();
    }
    text + last + "\n"
}

async fn load(
    server: SocketAddr,
    table: &str,
    files: &[&PathBuf],
    options: &[&str],
) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merganser-under-test"));
    command.env_clear().args(["--url", &server.to_string(), "load", "--table", table]);
    command.args(options).args(files).kill_on_drop(true);
    let Output { status, stdout, stderr } = soon("the load ends", command.output()).await.unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_table_cannot_hold_is_named_and_nothing_of_its_file_is_stored() {
    let server = TestServer::start().await;
    let (client, files) = (server.client().await, Files::new());
    client.execute("CREATE TABLE t (id BIGINT, price DOUBLE, note VARCHAR)").await.unwrap();
    let csv = files.write("a.csv", &prices("7,x"));
    let mut lines: String = (0..ROWS).map(|id| format!("{{\"id\":{id},\"price\":{id}.5}}\n")).collect();
    lines.push_str("{\"id\":7,\"price\":\"x\"}\n");
    let json = files.write("a.json", &lines);
    let integer_in_json = files.write("b.json", "{\"id\":1}\n{\"id\":1.75}\n");
    for (file, expected) in [
        (&csv, "BAD_FILE: line 30002 has \"x\" in \"price\", which the table's type DOUBLE does not hold"),
        (&json, "BAD_FILE: line 30001 has \"x\" in \"price\""),
        (&integer_in_json, "BAD_FILE: line 2 has \"1.75\" in \"id\", which the table's type BIGINT"),
    ] {
        let (code, said) = load(server.address(), "t", &[file], &[]).await;
        assert_eq!((code, said.contains(expected)), (Some(1), true), "{said}");
    }
    assert_eq!(integer(&client, "SELECT count(*) FROM t").await, 0);

    // What the table has goes before what the values look like.
    let codes = files.write("b.csv", "id;note\n1;007\n2;1.50\n");
    let (code, said) = load(server.address(), "t", &[&codes], &[]).await;
    assert_eq!(code, Some(0), "{said}");
    let kept = "SELECT count(*) FROM t WHERE note = CASE id WHEN 1 THEN '007' ELSE '1.50' END";
    assert_eq!(integer(&client, kept).await, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_has_the_types_of_all_values() {
    let server = TestServer::start().await;
    let (client, files) = (server.client().await, Files::new());
    let late = files.write("late.csv", &prices("9223372036854775807,x"));
    let (code, said) = load(server.address(), "t", &[&late], &[]).await;
    assert_eq!(code, Some(0), "{said}");
    let texts =
        "SELECT count(*) FROM t WHERE price = id || '.5' OR (id = 9223372036854775807 AND price = 'x')";
    assert_eq!(integer(&client, texts).await, ROWS + 1);
    let unclosed = files.write("open.csv", &prices("7,\"x"));
    let (code, said) = load(server.address(), "open", &[&unclosed], &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("BAD_FILE: line 30002 opens a quote that is never closed"), "{said}");
    assert_eq!(integer(&client, "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'open'").await, 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_file_of_a_new_table_tells_the_types_of_the_others() {
    let server = TestServer::start().await;
    let (client, files) = (server.client().await, Files::new());
    let decimals = files.write("a.csv", "price\n0.5\n");
    let others: Vec<_> = (0..8).map(|n| files.write(&format!("{n}.csv"), &format!("price\n{n}\n"))).collect();
    let all: Vec<_> = std::iter::once(&decimals).chain(&others).collect();
    let (code, said) = load(server.address(), "t", &all, &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE typeof(price) = 'DOUBLE'").await, 9);
    let integers_first: Vec<_> = others.iter().chain([&decimals]).collect();
    let (code, said) = load(server.address(), "u", &integers_first, &[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a.csv: BAD_FILE: line 2 has \"0.5\" in \"price\""), "{said}");
    assert_eq!(integer(&client, "SELECT count(*) FROM u").await, 8);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_loader_only_units_that_are_right_are_stored_and_a_mended_file_goes_on() {
    let server = TestServer::start().await;
    let (client, files) = (server.client().await, Files::new());
    client.execute("CREATE TABLE t (id BIGINT, price DOUBLE)").await.unwrap();
    let options = ["--loader", "nightly", "--unit-rows", "1000", "--resume"];
    let file = files.write("a.csv", &prices("7,x"));
    let (code, said) = load(server.address(), "t", &[&file], &options).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("a.csv: BAD_FILE: line 30002 has \"x\""), "{said}");
    let stored = integer(&client, "SELECT count(*) FROM t").await;
    assert_eq!(
        (stored % 1000, integer(&client, "SELECT count(*) FROM t WHERE price = id + 0.5").await),
        (0, stored)
    );

    let file = files.write("a.csv", &prices("7,7.5"));
    let (code, said) = load(server.address(), "t", &[&file], &options).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE price = id + 0.5").await, ROWS + 1);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_has_made_its_table_is_resumed_with_the_same_types() {
    const HEADER: &str = "b,i,u,d,f,day,at,ns,z,t,nothing\n";
    const ROW: &str = "true,1,18446744073709551615,99999999999999999999,1.5,2024-01-01,2024-01-01 00:00:00,\
                       2024-01-01 00:00:00.123456789,2024-01-01T00:00:00Z,x,\n";
    // As integers they would be other units than as the DOUBLE that the table has.
    const LATER: &str = "b,i,u,d,f,day,at,ns,z,t,nothing\n\
                         false,2,2,2,2,2024-01-01,2024-01-01,2024-01-01,2024-01-01,2,2\n";
    let server = TestServer::start().await;
    let (client, files) = (server.client().await, Files::new());
    let options = ["--loader", "nightly", "--unit-rows", "1", "--resume"];
    let (first, second) = (files.write("a.csv", &format!("{HEADER}{ROW}")), files.write("b.csv", LATER));
    let third = files.write("c.csv", LATER);
    // Each time the last unit that is there is compared with that of the file.
    for files in
        [&[&first][..], &[&first], &[&first, &second], &[&first, &second], &[&first, &second, &third]]
    {
        let (code, said) = load(server.address(), "t", files, &options).await;
        assert_eq!(code, Some(0), "{files:?}: {said}");
        assert_eq!(integer(&client, "SELECT count(*) FROM t").await, files.len() as i64);
    }
    // At once, too.
    let (code, said) = load(server.address(), "u", &[&first, &second], &["--loader", "other"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) =
        load(server.address(), "u", &[&first, &second], &["--loader", "other", "--resume"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(integer(&client, "SELECT count(*) FROM (FROM t EXCEPT FROM u)").await, 0);
    let types = "SELECT count(*) FROM duckdb_columns() WHERE table_name = 't' AND data_type IN ('BOOLEAN', 'BIGINT', \
                 'UBIGINT', 'DECIMAL(38,0)', 'DOUBLE', 'DATE', 'TIMESTAMP', 'TIMESTAMP_NS', 'TIMESTAMP WITH TIME ZONE')";
    assert_eq!(integer(&client, types).await, 9);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delimiters_and_nulls_are_told() {
    let server = TestServer::start().await;
    let (client, files) = (server.client().await, Files::new());
    let file = files.write("a.csv", "id#city\n1#NA\n2#Oslo, Norway\n-#\n");
    let options = ["--delimiter", "#", "--null", "NA", "--null", "-"];
    let (code, said) = load(server.address(), "t", &[&file], &options).await;
    assert_eq!(code, Some(0), "{said}");
    let count = "SELECT count(*) FROM t WHERE (id = 1 AND city IS NULL) OR (id = 2 AND city = 'Oslo, Norway') \
                 OR (id IS NULL AND city = '')";
    assert_eq!(integer(&client, count).await, 3);
    let (code, said) = load(server.address(), "t", &[&file], &["--delimiter", "##"]).await;
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("one character"), "{said}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_goes_into_the_types_of_the_table_however_deep() {
    let server = TestServer::start().await;
    let (client, files) = (server.client().await, Files::new());
    let table = "CREATE TABLE t (id BIGINT, o STRUCT(x BIGINT, y STRUCT(d DATE)[]), l BIGINT[], m MAP(VARCHAR, DECIMAL(9,2)), \
                 n MAP(INTEGER, VARCHAR), a DOUBLE[2], b BLOB, i INTERVAL, h HUGEINT, js JSON, v VARCHAR, u UUID, s STRUCT(b BLOB))";
    client.execute(table).await.unwrap();
    // As the second file of a load: where it says nothing, it fits all the same.
    let nothing = files.write(
        "nothing.json",
        "{\"id\":1,\"o\":null,\"l\":null,\"m\":null,\"n\":null,\"a\":null,\"b\":null,\"i\":null,\"h\":null,\"js\":null,\
          \"v\":null,\"u\":null,\"s\":null}\n\
         {\"id\":2,\"o\":{},\"l\":[],\"m\":{},\"n\":{},\"s\":{\"b\":null}}\n\
         {\"id\":3,\"o\":{\"x\":null,\"y\":[null,{\"d\":null},{}]},\"l\":[null],\"m\":{\"a\":null},\"a\":[null,null]}\n",
    );
    let values = files.write(
        "values.json",
        "{\"id\":4,\"o\":{\"y\":[{\"d\":\"2024-02-29\"}],\"x\":1},\"l\":[1,-2],\"m\":{\"b\":1.50,\"a\":\"2\"},\"n\":{\"7\":\"x\"},\
          \"a\":[1.5,2],\"h\":12345678901234567890123456789012345678,\"js\":{\"k\":[1.50,\"]\"]},\"v\":[1.0, {\"a\":null}],\
          \"u\":\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"}\n\
         {\"id\":5,\"js\":\"[1]\",\"v\":\"[1]\"}\n{\"id\":6,\"js\":[2],\"v\":true}\n",
    );
    for options in [&[][..], &["--loader", "a"]] {
        let (code, said) = load(server.address(), "t", &[&values, &nothing], options).await;
        assert_eq!(code, Some(0), "{said}");
    }
    for (id, expected) in [
        (1, "NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL|NULL"),
        (2, "{'x': NULL, 'y': NULL}|[]|{}|{}|NULL|NULL|NULL|NULL|{'b': NULL}"),
        (
            3,
            "{'x': NULL, 'y': [NULL, {'d': NULL}, {'d': NULL}]}|[NULL]|{a=NULL}|NULL|[NULL, NULL]|NULL|NULL|NULL|NULL",
        ),
        (
            4,
            "{'x': 1, 'y': [{'d': 2024-02-29}]}|[1, -2]|{b=1.50, a=2.00}|{7=x}|[1.5, 2.0]|12345678901234567890123456789012345678|\
             {\"k\":[1.50,\"]\"]}|[1.0, {\"a\":null}]|NULL",
        ),
        (5, "NULL|NULL|NULL|NULL|NULL|NULL|[1]|[1]|NULL"),
        (6, "NULL|NULL|NULL|NULL|NULL|NULL|[2]|true|NULL"),
    ] {
        let columns = ["o", "l", "m", "n", "a", "h", "js", "v", "s"];
        let shown = columns.map(|column| format!("coalesce({column}::VARCHAR, 'NULL')")).join(" || '|' || ");
        let found = texts(&client, &format!("SELECT {shown} FROM t WHERE id = {id}")).await.unwrap();
        assert_eq!(found, [expected, expected], "{id}");
    }
    let ours = "SELECT count(*) FROM t WHERE u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' AND json_type(js) = 'OBJECT'";
    assert_eq!(integer(&client, ours).await, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_type_of_the_table_holds_is_named_by_its_line() {
    let server = TestServer::start().await;
    let (client, files) = (server.client().await, Files::new());
    let table = "CREATE TABLE t (id BIGINT, o STRUCT(x BIGINT), l BIGINT[], m MAP(VARCHAR, BIGINT), a DOUBLE[2], b BLOB, \
                 i INTERVAL, h HUGEINT)";
    client.execute(table).await.unwrap();
    let not_from_text = "are not read from text";
    for (value, expected) in [
        ("\"o\":{\"x\":1,\"y\":2}", "which the table's type STRUCT(x BIGINT) does not hold"),
        ("\"o\":{\"x\":1,\"x\":1}", "which the table's type STRUCT(x BIGINT) does not hold"),
        ("\"o\":{\"x\":1.5}", "has \"{\\\"x\\\":1.5}\" in \"o\""),
        ("\"o\":[]", "STRUCT(x BIGINT)"),
        ("\"l\":[1.5]", "which the table's type BIGINT[] does not hold"),
        ("\"l\":\"[1]\"", "BIGINT[]"),
        ("\"m\":{\"a\":\"b\"}", "MAP(VARCHAR, BIGINT)"),
        ("\"a\":[1]", "DOUBLE[2]"),
        ("\"b\":\"ab\"", not_from_text),
        ("\"i\":\"1 day\"", not_from_text),
        ("\"h\":170141183460469231731687303715884105727", "does not hold exactly"),
    ] {
        let file = files.write("a.json", &format!("{{\"id\":1}}\n{{\"id\":2,{value}}}\n"));
        let (code, said) = load(server.address(), "t", &[&file], &[]).await;
        assert_eq!((code, said.contains("BAD_FILE: line 2 has")), (Some(1), true), "{value}: {said}");
        assert!(said.contains(expected), "{value}: {said}");
    }
    let csv = files.write("a.csv", "id,b,l\n1,,\n");
    let (code, said) = load(server.address(), "t", &[&csv], &[]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(integer(&client, "SELECT count(*) FROM t WHERE b IS NULL").await, 1);
    server.shutdown().await;
}
