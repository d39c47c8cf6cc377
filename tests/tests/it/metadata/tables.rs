//! Catalogs, schemas, tables and columns.

use std::collections::HashSet;

use arrow_flight::{
    FlightDescriptor,
    sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables},
};
use arrow_schema::{DataType, Field, Schema};
use merganser_tests::{DatabaseFile, TestServer};

use super::{ask, column, rows, server_with, table_schemas, tables_like};

/// The metadata of a column under the protocol's keys.
fn metadata<'a>(field: &'a Field, key: &str) -> Option<&'a str> {
    field.metadata().get(&format!("ARROW:FLIGHT:SQL:{key}")).map(String::as_str)
}

fn names(batches: &[arrow_array::RecordBatch]) -> HashSet<String> {
    column(batches, 2).into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_carry_what_drivers_ask_for() {
    let server = server_with(
        "CREATE SEQUENCE s;
         CREATE TABLE t (id BIGINT PRIMARY KEY DEFAULT nextval('s'), name VARCHAR NOT NULL, d DECIMAL(7, 2),
                         seen TIMESTAMP, score DOUBLE DEFAULT 1, tags VARCHAR[]);
         COMMENT ON COLUMN t.name IS 'the ''name'', Ü';
         CREATE VIEW v AS FROM t;
         COMMENT ON COLUMN v.id IS 'of the view'",
    )
    .await;
    let mut flight = server.flight().await;
    let schemas = table_schemas(&ask(&mut flight, &tables_like("_")).await);
    let (t, v) = (&schemas[0], &schemas[1]);
    let expected = [
        ("id", false, "BIGINT", None, Some("19"), Some("0"), "1", "0"),
        ("name", false, "VARCHAR", Some("the 'name', Ü"), None, None, "0", "1"),
        ("d", true, "DECIMAL(7,2)", None, Some("7"), Some("2"), "0", "0"),
        ("seen", true, "TIMESTAMP", None, Some("26"), Some("6"), "0", "0"),
        ("score", true, "DOUBLE", None, Some("15"), None, "0", "0"),
        ("tags", true, "VARCHAR[]", None, None, None, "0", "0"),
    ];
    assert_eq!(t.fields().len(), expected.len());
    for (field, expected) in t.fields().iter().zip(expected) {
        let (name, nullable, type_name, remarks, precision, scale, auto, case) = expected;
        assert_eq!((field.name().as_str(), field.is_nullable()), (name, nullable));
        for (key, value) in [
            ("CATALOG_NAME", Some("test")),
            ("SCHEMA_NAME", Some("main")),
            ("DB_SCHEMA_NAME", Some("main")),
            ("TABLE_NAME", Some("t")),
            ("TYPE_NAME", Some(type_name)),
            ("REMARKS", remarks),
            ("PRECISION", precision),
            ("SCALE", scale),
            ("IS_AUTO_INCREMENT", Some(auto)),
            ("IS_CASE_SENSITIVE", Some(case)),
            ("IS_READ_ONLY", Some("0")),
            ("IS_SEARCHABLE", Some("1")),
        ] {
            assert_eq!(metadata(field, key), value, "{key} of {name}");
        }
    }
    assert_eq!(metadata(v.field(0), "REMARKS"), Some("of the view"));
    assert_eq!(metadata(v.field(0), "IS_READ_ONLY"), Some("1"));
    assert!(v.field(0).is_nullable());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_has_the_type_that_a_select_from_it_gives() {
    let server = server_with(
        r#"CREATE TYPE mood AS ENUM ('so', 'la''la');
           CREATE TABLE t (
               a BOOLEAN, b TINYINT, c SMALLINT, d INTEGER, e BIGINT, f HUGEINT, g UTINYINT, h USMALLINT, i UINTEGER,
               j UBIGINT, k UHUGEINT, l FLOAT, m DOUBLE, n DECIMAL(4, 1), o DECIMAL(38, 38), p VARCHAR, q BLOB,
               r BIT, s DATE, t TIME, u TIMESTAMP, v TIMESTAMP_S, w TIMESTAMP_MS, x TIMESTAMP_NS, y TIMESTAMPTZ,
               z INTERVAL, aa UUID, ab JSON, ac mood, ad mood[], ae INTEGER[3], af MAP(VARCHAR, mood),
               ag STRUCT("a b" INTEGER, "c""d" mood[]), ah UNION(n INTEGER, s VARCHAR), ai GEOMETRY, aj BIGNUM,
               ak TIMETZ, al ENUM('x', 'y'), am STRUCT(x STRUCT(y DECIMAL(9, 3)[])[]), an TIME_NS);
           CREATE VIEW v AS FROM t"#,
    )
    .await;
    let mut flight = server.flight().await;
    let schemas = table_schemas(&ask(&mut flight, &tables_like("_")).await);
    for (schema, sql) in schemas.iter().zip(["FROM t", "FROM v"]) {
        let selected = flight.get_schema(FlightDescriptor::new_cmd(sql)).await.unwrap().into_inner();
        let selected = Schema::try_from(&selected).unwrap();
        let types = |schema: &Schema| -> Vec<(String, DataType)> {
            schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
        };
        assert_eq!(types(schema), types(&selected), "{sql}");
        assert_eq!(schema.fields().len(), 40);
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_escape_and_names_are_what_they_are() {
    let server = server_with(
        r#"CREATE TABLE a_b (x INTEGER); CREATE TABLE "aXb" (x INTEGER); CREATE TABLE "a%b" (x INTEGER);
           CREATE TABLE "a\b" (x INTEGER); CREATE TABLE "end\" (x INTEGER); CREATE TABLE "it's" (x INTEGER);
           CREATE TABLE "q""q" (x INTEGER); CREATE TABLE "日本 語" ("å ""col" INTEGER);
           CREATE SCHEMA "s 1"; CREATE TABLE "s 1".a_b (x INTEGER); CREATE VIEW vw AS SELECT 1 AS x"#,
    )
    .await;
    let mut flight = server.flight().await;
    for (pattern, found) in [
        (r"a\_b", &["a_b"][..]),
        ("a_b", &["a_b", "aXb", "a%b", r"a\b"]),
        (r"a\%b", &["a%b"]),
        ("a%b", &["a_b", "aXb", "a%b", r"a\b"]),
        (r"a\\b", &[r"a\b"]),
        (r"end\", &[r"end\"]),
        (r"end\\", &[r"end\"]),
        ("it's", &["it's"]),
        (r#"q"q"#, &[r#"q"q"#]),
        ("日本_語", &["日本 語"]),
        ("A_B", &[]),
        ("", &[]),
    ] {
        let found: HashSet<String> = found.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(names(&ask(&mut flight, &tables_like(pattern)).await), found, "{pattern}");
    }
    assert_eq!(table_schemas(&ask(&mut flight, &tables_like("日本 語")).await)[0].field(0).name(), "å \"col");
    let in_schema = |catalog: Option<&str>, schema: &str| CommandGetTables {
        catalog: catalog.map(str::to_owned),
        db_schema_filter_pattern: Some(schema.to_owned()),
        ..CommandGetTables::default()
    };
    let found = rows(&ask(&mut flight, &in_schema(Some("test"), "s _")).await);
    assert_eq!(found, [["test", "s 1", "a_b", "TABLE"]]);
    for (catalog, schema) in [(Some(""), "%"), (Some("tes%"), "%"), (None, ""), (None, "S 1")] {
        assert!(rows(&ask(&mut flight, &in_schema(catalog, schema)).await).is_empty());
    }
    for (types, found) in [(&["VIEW"][..], 1), (&["TABLE", "VIEW"], 10), (&["x", "it's"], 0), (&[], 10)] {
        let table_types = types.iter().map(|kind| (*kind).to_owned()).collect();
        let command = CommandGetTables { table_types, ..CommandGetTables::default() };
        assert_eq!(rows(&ask(&mut flight, &command).await).len(), found, "{types:?}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_internal_is_listed_for_those_who_name_it() {
    let server = server_with("CREATE SCHEMA s; CREATE TABLE s.t (x INTEGER)").await;
    let mut flight = server.flight().await;
    assert_eq!(column(&ask(&mut flight, &CommandGetCatalogs {}).await, 0), ["test"]);
    let schemas = |catalog: Option<&str>, pattern: Option<&str>| CommandGetDbSchemas {
        catalog: catalog.map(str::to_owned),
        db_schema_filter_pattern: pattern.map(str::to_owned),
    };
    let found = rows(&ask(&mut flight, &schemas(None, None)).await);
    assert_eq!(found, [["test", "main"], ["test", "s"]]);
    for (catalog, pattern, found) in [
        (None, Some("information_schema"), &["information_schema"][..]),
        (None, Some(r"pg\_catalog"), &["pg_catalog"]),
        (None, Some("%_schema"), &[]),
        (Some("temp"), None, &["main"]),
        (Some("system"), None, &["information_schema", "main", "pg_catalog"]),
        (Some("test"), Some("m%"), &["main"]),
        (Some(""), None, &[]),
    ] {
        let names = column(&ask(&mut flight, &schemas(catalog, pattern)).await, 1);
        assert_eq!(names, found, "{catalog:?} {pattern:?}");
    }
    let views = CommandGetTables {
        db_schema_filter_pattern: Some("information_schema".into()),
        include_schema: true,
        ..CommandGetTables::default()
    };
    let views = ask(&mut flight, &views).await;
    assert!(names(&views).contains("tables") && names(&views).contains("columns"));
    assert!(table_schemas(&views).iter().all(|schema| !schema.fields().is_empty()));
    assert_eq!(names(&ask(&mut flight, &tables_like("%")).await), HashSet::from(["t".to_owned()]));
    assert_eq!(
        column(&ask(&mut flight, &CommandGetTableTypes {}).await, 0),
        ["LOCAL TEMPORARY", "TABLE", "VIEW"]
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attached_databases_are_catalogs() {
    let elsewhere = DatabaseFile::new();
    let server = server_with("CREATE TABLE here (x INTEGER)").await;
    let client = server.client().await;
    let path = elsewhere.path().display();
    client.execute(&format!("ATTACH '{path}' AS far")).await.unwrap();
    client.execute("CREATE TABLE far.main.there (id INTEGER PRIMARY KEY)").await.unwrap();
    client.execute("DETACH far").await.unwrap();
    client.execute(&format!("ATTACH '{path}' AS \"far 'off'\" (READ_ONLY)")).await.unwrap();
    let mut flight = server.flight().await;
    assert_eq!(column(&ask(&mut flight, &CommandGetCatalogs {}).await, 0), ["far 'off'", "test"]);
    let far = CommandGetTables { catalog: Some("far 'off'".into()), ..tables_like("%") };
    let far = ask(&mut flight, &far).await;
    assert_eq!(names(&far), HashSet::from(["there".to_owned()]));
    assert_eq!(metadata(table_schemas(&far)[0].field(0), "IS_READ_ONLY"), Some("1"));
    assert_eq!(names(&ask(&mut flight, &tables_like("%")).await).len(), 2);
    drop(client);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_no_longer_binds_hides_no_other() {
    let server = server_with(
        "CREATE TABLE base (x INTEGER); CREATE VIEW broken AS FROM base; CREATE TABLE fine (y INTEGER);
         DROP TABLE base",
    )
    .await;
    let file = server.shutdown().await;
    let server = TestServer::open(file, |_| ()).await;
    let mut flight = server.flight().await;
    let found = ask(&mut flight, &tables_like("%")).await;
    assert_eq!(names(&found), HashSet::from(["broken".to_owned(), "fine".to_owned()]));
    assert_eq!(names(&ask(&mut flight, &CommandGetTables::default()).await).len(), 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_tables_each_come_with_their_own_columns() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let script: Vec<_> = (0..3000)
        .map(|number| {
            format!(
                "CREATE TABLE t{number:04} (id BIGINT NOT NULL, c{number} DECIMAL({}, 1))",
                number % 30 + 2
            )
        })
        .collect();
    client.execute(&script.join(";")).await.unwrap();
    let mut flight = server.flight().await;
    let found = ask(&mut flight, &tables_like("t%")).await;
    let expected: Vec<_> = (0..3000).map(|number| format!("t{number:04}")).collect();
    assert_eq!(column(&found, 2), expected);
    let schemas = table_schemas(&found);
    assert_eq!(schemas.len(), 3000);
    for (number, schema) in schemas.iter().enumerate() {
        assert!(!schema.field(0).is_nullable());
        assert_eq!(schema.field(1).name(), &format!("c{number}"));
        assert_eq!(*schema.field(1).data_type(), DataType::Decimal128((number % 30 + 2) as u8, 1));
        assert_eq!(metadata(schema.field(1), "TABLE_NAME"), Some(expected[number].as_str()));
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_cannot_be_planned_hides_no_other() {
    // A database in memory has the newest storage, which VARIANT needs.
    let server = TestServer::with(|config| config.engine.path = None).await;
    let client = server.client().await;
    // The name of the type has two megabytes, more than a statement may have.
    client.execute("CREATE TYPE large AS ENUM (SELECT 'value ' || range FROM range(100000))").await.unwrap();
    client.execute("CREATE TABLE t (l large, d DECIMAL(9, 1), v VARIANT, x INTEGER)").await.unwrap();
    let mut flight = server.flight().await;
    let schemas = table_schemas(&ask(&mut flight, &tables_like("t")).await);
    let types: Vec<_> = schemas[0].fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types[..2], [DataType::Utf8, DataType::Decimal128(9, 1)]);
    assert_eq!(metadata(schemas[0].field(0), "TYPE_NAME"), Some("ENUM"));
    assert_eq!((schemas[0].field(2).name().as_str(), &types[3]), ("v", &DataType::Int32));
    drop(client);
    server.shutdown().await;
}
