//! Named queries: what the configuration says of them is checked at the start, and any client can call them.

use merganser_server::{Config, Server, engine::Script};
use merganser_tests::{TestServer, configure, integer, integers, refused, texts};
use tonic::Code;

const QUERIES: &str = "
    [[query]]
    name = 'by_region'
    description = 'totals'
    sql = '''
      SELECT region, sum(amount) AS total FROM sales   -- $not_one
      WHERE $region IS NULL OR region = $region
      GROUP BY region HAVING sum(amount) >= $min_total ORDER BY region;
    '''
    returns = { region = 'VARCHAR', total = 'BIGINT' }
    [query.params]
    min_total = { type = 'BIGINT', default = 0, description = 'at least so much' }
    region = { type = 'VARCHAR', optional = true }

    [[query]]
    name = 'since'
    sql = 'SELECT amount FROM sales WHERE day >= $day ORDER BY amount'
    [query.params]
    day = { type = 'DATE' }

    [[query]]
    name = 'best'
    sql = 'SELECT max(total) AS best FROM queries.by_region(min_total := 1)'

    [[query]]
    name = 'twice'
    sql = 'SELECT $Amount * 2 AS amount'
    [query.params]
    Amount = { type = 'BIGINT' }

    [[query]]
    name = 'larger'
    sql = 'SELECT n.id, n.moment FROM news AS n WHERE n.id > $least'
    params.least = { type = 'BIGINT', default = 0 }
    input = { name = 'news', columns = { id = 'BIGINT', moment = 'TIMESTAMP' } }
";

async fn server() -> TestServer {
    TestServer::with(|config| {
        configure(config, QUERIES);
        let sql = "CREATE TABLE IF NOT EXISTS sales AS SELECT 'r' || range % 3 AS region, range AS amount, \
                   DATE '2024-01-01' + range::INTEGER AS day FROM range(9)";
        config.engine.init_sql = Some(Script { name: "init.sql".into(), sql: sql.into() });
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_calls_them_as_tables() {
    let server = server().await;
    let client = server.client().await;
    let call = async |call: &str| {
        texts(&client, &format!("SELECT region || ' ' || total FROM queries.{call}")).await
    };
    assert_eq!(call("by_region()").await.unwrap(), ["r0 9", "r1 12", "r2 15"]);
    assert_eq!(call("by_region(min_total := 10)").await.unwrap(), ["r1 12", "r2 15"]);
    assert_eq!(call("by_region(region := 'r1')").await.unwrap(), ["r1 12"]);
    assert_eq!(call("by_region(region := 'r1', min_total := 13)").await.unwrap(), [""; 0]);
    assert_eq!(integer(&client, "SELECT total FROM queries.by_region(region := 'r2')").await, 15);
    assert_eq!(integers(&client, "FROM queries.since('2024-01-08')").await.unwrap(), [7, 8]);
    assert_eq!(integer(&client, "SELECT best FROM queries.best()").await, 15);
    assert_eq!(integer(&client, "FROM queries.twice(amount := 21)").await, 42);
    let wrong = call("by_region(min_total := 'many')").await.unwrap_err().to_string();
    assert!(wrong.contains("many"), "{wrong}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_function_lists_them() {
    let server = server().await;
    let client = server.client().await;
    let list = async |what: &str| {
        texts(&client, &format!("SELECT ({what})::VARCHAR FROM merganser_queries()")).await.unwrap()
    };
    assert_eq!(list("name").await, ["by_region", "since", "best", "twice", "larger"]);
    assert_eq!(list("coalesce(description, '-')").await, ["totals", "-", "-", "-", "-"]);
    let parameters = "[p.name || ' ' || p.type || ' ' || p.required || ' ' || coalesce(p.default, '-') || ' ' \
                      || coalesce(p.description, '-') FOR p IN parameters]";
    assert_eq!(
        list(parameters).await,
        [
            "[region VARCHAR false - -, min_total BIGINT false 0 at least so much]",
            "[day DATE true - -]",
            "[]",
            "[amount BIGINT true - -]",
            "[least BIGINT false 0 -]",
        ]
    );
    assert_eq!(
        list("[c.name || ' ' || c.type FOR c IN columns]").await,
        [
            "[region VARCHAR, total BIGINT]",
            "[amount BIGINT]",
            "[best BIGINT]",
            "[amount BIGINT]",
            "[id BIGINT, moment TIMESTAMP]"
        ]
    );
    let input = "coalesce(input.name || [c.name || ' ' || c.type FOR c IN input.columns]::VARCHAR, '-')";
    assert_eq!(list(input).await, ["-", "-", "-", "-", "news[id BIGINT, moment TIMESTAMP]"]);
    assert_eq!(integer(&client, "SELECT count(*) FROM merganser_queries() WHERE input IS NULL").await, 4);
    server.shutdown().await;
    let none = TestServer::start().await;
    assert_eq!(integer(&none.client().await, "SELECT count(*) FROM merganser_queries()").await, 0);
    none.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_is_told_how_to_call_one_that_takes_rows() {
    let server = server().await;
    let client = server.client().await;
    for call in ["FROM queries.larger()", "SELECT id FROM queries.larger(least := 5) WHERE moment IS NULL"] {
        let told = refused(texts(&client, call).await, Code::InvalidArgument, "BINDER");
        assert!(told.contains("the query larger answers from rows") && told.contains("DoExchange"), "{told}");
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_name_no_parameter_of_ours() {
    let server = server().await;
    let client = server.client().await;
    for call in ["twice(number := 1)", "twice()", "best(1, 2, 3)"] {
        let told =
            refused(texts(&client, &format!("FROM queries.{call}")).await, Code::InvalidArgument, "BINDER");
        assert!(told.contains("Candidate") && !told.contains("__merganser"), "{told}");
    }
    server.shutdown().await;
}

/// Why a server with this configuration does not start.
async fn refusal(toml: &str) -> String {
    let mut config = Config::from_arguments(["--database", ":memory:", "--listen", "127.0.0.1:0"]).unwrap();
    configure(&mut config, toml);
    match Server::start(config).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it started: {toml}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_one_stops_the_start_and_is_named() {
    for (rest, expected) in [
        ("sql = 'SELECT nope FROM nowhere'", "nowhere"),
        ("sql = 'SELEC 1'", "SELEC"),
        ("sql = 'SELECT 1; SELECT 2'", "2 statements"),
        ("sql = 'CREATE TABLE t (i INTEGER)'", "no query"),
        ("sql = 'SELECT 1 AS a, 2 AS A'", "two columns"),
        ("sql = 'SELECT 1 AS a'\nreturns = { b = 'BIGINT' }", "\"a\""),
        ("sql = 'SELECT 1 AS a'\nreturns = { a = 'BIGINT', b = 'BIGINT' }", "\"b\""),
        ("sql = 'SELECT 1 AS a'\nreturns = { a = 'BIGGINT' }", "BIGGINT"),
        ("sql = 'SELECT $x AS a'\nparams.x = { type = 'DATE', default = 'soon' }", "parameter x"),
        ("sql = 'SELECT $x AS a'\nparams.x = { type = 'DAY' }", "parameter x"),
        (
            "sql = 'SELECT $x AS a'\nparams.x = { type = 'INT4', default = 1.5 }",
            "parameter x is of type INT4",
        ),
    ] {
        let told = refusal(&format!("[[query]]\nname = 'wrong'\n{rest}")).await;
        assert!(told.contains("query wrong") && told.contains(expected), "{rest}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_cannot_be_what_returns_says_stop_the_start() {
    for (columns, returns, expected) in [
        ("i AS a", "a = 'DATE'", "its column \"a\" cannot be cast to DATE"),
        ("1 AS b, [i] AS a", "b = 'VARCHAR', a = 'DATE[]'", "(BIGINT -> DATE)"),
        ("{'x': i} AS a", "a = 'BIGINT'", "(STRUCT(x BIGINT) -> BIGINT)"),
        ("INTERVAL 1 DAY AS a", "a = 'DATE'", "(INTERVAL -> DATE)"),
    ] {
        let query = format!("[[query]]\nname = 'wrong'\nsql = \"SELECT {columns} FROM range(3) t(i)\"");
        let told = refusal(&format!("{query}\nreturns = {{ {returns} }}")).await;
        assert!(told.contains("query wrong: its column \"a\""), "{columns}: {told}");
        assert!(told.contains(expected) && !told.contains("LINE 1"), "{columns}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_some_values_cannot_be_starts() {
    let query = "[[query]]\nname = 'days'\nsql = \"SELECT '2024-01-0' || i AS day, i AS n FROM range(1, 3) t(i)\"\n\
                 returns = { day = 'DATE', n = 'TINYINT' }";
    let server = TestServer::with(|config| configure(config, query)).await;
    let days = texts(&server.client().await, "SELECT day || ' ' || n FROM queries.days()").await.unwrap();
    assert_eq!(days, ["2024-01-01 1", "2024-01-02 2"]);
    server.shutdown().await;
}
