//! Parameters that are whole numbers: no way of calling a query rounds one.

use arrow_array::cast::AsArray;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_schema::DataType;
use futures::TryStreamExt;
use merganser_tests::{TestServer, configure, ids, integers, refused};
use tonic::Code;

/// Parameters that are read as a filter, where they have to be constants, and beside GROUP BY.
const QUERIES: &str = "
    [[query]]
    name = 'numbered'
    sql = 'SELECT range AS n FROM range(100) WHERE range >= $n ORDER BY n LIMIT 1'
    params.n = { type = 'BIGINT', default = 7 }

    [[query]]
    name = 'last'
    sql = 'SELECT range AS n FROM range($of::BIGINT) ORDER BY n DESC LIMIT $n'
    [query.params]
    n = { type = 'int1', default = 1 }
    of = { type = 'HUGEINT', default = 10 }

    [[query]]
    name = 'often'
    sql = 'SELECT range % 3 AS n, count(*) AS often FROM range(10) GROUP BY n HAVING count(*) > $n'
    params.n = { type = 'UBIGINT', default = 3 }
";

async fn server() -> TestServer {
    TestServer::with(|config| configure(config, QUERIES)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_takes_what_is_whole_in_any_type() {
    let server = server().await;
    let client = server.client().await;
    let call = async |call: &str| integers(&client, &format!("SELECT n::BIGINT FROM queries.{call}")).await;
    for (asked, found) in [
        ("numbered()", 7),
        ("numbered(11)", 11),
        ("numbered(n := 11.0)", 11),
        ("numbered(n := '11')", 11),
        ("numbered(n := ' 11.00 '::VARCHAR)", 11),
        ("numbered(n := '1e1')", 10),
        ("numbered(n := 12::DOUBLE)", 12),
        ("numbered(n := 12::HUGEINT)", 12),
        ("numbered(n := 12::DECIMAL(38, 36))", 12),
        ("numbered(n := 12::UTINYINT)", 12),
        ("numbered(n := (SELECT max(i) FROM range(5) t(i)))", 4),
        ("numbered(n := -0.0)", 0),
        ("last(n := 1.0, of := 1e2)", 99),
        ("last(of := '100')", 99),
        ("often(3.0)", 0),
    ] {
        assert_eq!(call(asked).await.unwrap(), [found], "{asked}");
    }
    assert_eq!(call("numbered(n := NULL)").await.unwrap(), [0; 0]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_is_refused_what_a_path_is_refused() {
    let server = server().await;
    let client = server.client().await;
    for (asked, told) in [
        ("numbered(11.5)", "n is of type BIGINT; \"11.5\" is not"),
        ("numbered(n := '11.5')", "n is of type BIGINT; \"11.5\" is not"),
        ("numbered(n := '11.5'::VARCHAR)", "n is of type BIGINT; \"11.5\" is not"),
        ("numbered(n := 'many')", "n is of type BIGINT; \"many\" is not"),
        ("numbered(n := 1e-5)", "n is of type BIGINT; \"1e-05\" is not"),
        ("numbered(n := 11.5::FLOAT)", "n is of type BIGINT; \"11.5\" is not"),
        ("numbered(n := (SELECT avg(i) FROM range(2) t(i)))", "n is of type BIGINT; \"0.5\" is not"),
        ("last(n := 1.5)", "n is of type TINYINT; \"1.5\" is not"),
        ("last(of := 10.25)", "of is of type HUGEINT; \"10.25\" is not"),
        ("often(2.5)", "n is of type UBIGINT; \"2.5\" is not"),
    ] {
        let sql = format!("SELECT n::BIGINT FROM queries.{asked}");
        let refusal = refused(integers(&client, &sql).await, Code::InvalidArgument, "BAD_PARAMETER");
        assert!(refusal.starts_with(&format!("the parameter {told}")), "{asked}: {refusal}");
    }
    for (asked, told) in [
        ("numbered(9223372036854775808)", "out of range"),
        ("last(n := 128)", "out of range"),
        ("often(-1)", "out of range"),
        ("numbered(1e300)", "out of range"),
        // The whole number beside it has no place in its type.
        ("numbered(n := 0.5::DECIMAL(38, 38))", "Could not cast"),
    ] {
        let sql = format!("SELECT n::BIGINT FROM queries.{asked}");
        let refusal = refused(integers(&client, &sql).await, Code::InvalidArgument, "CONVERSION");
        assert!(refusal.contains(told), "{asked}: {refusal}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_a_constant_of_the_plan_all_the_same() {
    let server = server().await;
    let client = server.client().await;
    for call in ["last(n := 3)", "last(n := 3.0)", "last(n := '3')"] {
        let rows = client.query(&format!("EXPLAIN FROM queries.{call}")).await.unwrap();
        let rows: Vec<_> = rows.try_collect().await.unwrap();
        let plan: String = rows.iter().map(|rows| rows.column(1).as_string::<i32>().value(0)).collect();
        assert!(plan.contains("Top: 3") && !plan.contains("list_transform"), "{call}: {plan}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_learn_its_type_before_they_bind() {
    let server = server().await;
    let mut client = FlightSqlServiceClient::new_from_inner(server.flight().await);
    let mut prepared = client.prepare("FROM queries.numbered(n := ?)".to_owned(), None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().field(0).data_type(), &DataType::Int64);
    prepared.set_parameters(ids([11])).unwrap();
    let info = prepared.execute().await.unwrap();
    assert_eq!(info.try_decode_schema().unwrap().field(0).data_type(), &DataType::Int64);
    server.shutdown().await;
}
