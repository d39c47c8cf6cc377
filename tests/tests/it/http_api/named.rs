//! Named queries over HTTP: what their parameters and cursors may be.

use std::time::Duration;

use merganser_tests::{HttpClient, TestServer, configure};

use super::server_with;

const QUERIES: &str = "
    [[query]]
    name = 'plus'
    sql = 'SELECT $n + 1 AS n, $day AS day, $price AS price, $city AS city'
    [query.params]
    n = { type = 'TINYINT', default = 1 }
    day = { type = 'DATE', default = '2024-01-01' }
    price = { type = 'DECIMAL(5,2)', default = 0 }
    city = { type = 'VARCHAR', optional = true }

    [[query]]
    name = 'numbers'
    sql = 'SELECT range AS n FROM range(10) ORDER BY n'

    [[query]]
    name = 'others'
    sql = 'SELECT 1 AS n'

    [[query]]
    name = 'large'
    sql = '''SELECT range AS n, repeat('x', 4_000_000) AS blob FROM range(20) ORDER BY n'''

    [[query]]
    name = 'many'
    sql = 'SELECT range AS n FROM range(3_000_000)'

    [[query]]
    name = 'spans'
    sql = 'SELECT range::INTEGER * INTERVAL 1 DAY AS span FROM range(4)'

    [[query]]
    name = 'taken'
    sql = 'SELECT i, d, p, s, m, b FROM rows_of_it'
    [query.input]
    name = 'rows_of_it'
    columns = { i = 'INTEGER[]', d = 'DECIMAL(9,2)[]', p = 'DOUBLE[2]', s = 'STRUCT(day DATE, n BIGINT)', m = 'MAP(VARCHAR, BIGINT)', b = 'BLOB[]' }
";

/// The rows of `many`.
const MANY: usize = 3_000_000;

async fn queries() -> (TestServer, HttpClient) {
    server_with(|config| configure(config, QUERIES)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_another_type_is_named_with_its_parameter() {
    let (server, mut client) = queries().await;
    for (asked, told) in [
        ("n=300", "the parameter n is of type TINYINT; \"300\" is not"),
        ("n=1.5", "the parameter n is of type TINYINT; \"1.5\" is not"),
        ("day=soon", "the parameter day is of type DATE; \"soon\" is not: invalid date field format"),
        (
            "day=2024-13-01",
            "the parameter day is of type DATE; \"2024-13-01\" is not: date field value out of",
        ),
        ("price=12345", "the parameter price is of type DECIMAL(5,2); \"12345\" is not: "),
        ("n=1&day=&city=x", "the parameter day is of type DATE; \"\" is not: "),
        ("n=300&limit=1&total=true", "the parameter n is of type TINYINT"),
        ("day=soon&cursor=", "the parameter day is of type DATE"),
    ] {
        let answer = client.send("GET", &format!("/v1/queries/plus?{asked}"), &[], "").await;
        assert_eq!(answer.problem(), (400, "BAD_PARAMETER".into()), "{asked}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(told) && !detail.contains("LINE 1"), "{asked}: {detail}");
    }
    let json = [("content-type", "application/json")];
    let answer = client.send("POST", "/v1/queries/plus", &json, r#"{"day": 5}"#).await;
    assert_eq!(answer.problem(), (400, "BAD_PARAMETER".into()));
    let answer = client.send("GET", "/v1/queries/plus?n=126&day=2024-02-29&price=9.995", &[], "").await;
    assert_eq!(
        answer.json()["rows"],
        serde_json::json!([{"n": 127, "day": "2024-02-29", "price": 10.00, "city": null}])
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_utf8_is_refused_and_not_replaced() {
    let (server, mut client) = queries().await;
    for asked in ["plus?city=%ff", "plus?%ff=1", "plus?city=a&n=%C3", "%ff"] {
        let answer = client.send("GET", &format!("/v1/queries/{asked}"), &[], "").await;
        assert_eq!(answer.problem(), (400, "BAD_PARAMETER".into()), "{asked}");
    }
    let answer = client.send("GET", "/v1/queries/plus?city=%C3%85s+1%2B1", &[], "").await;
    assert_eq!(answer.json()["rows"][0]["city"], "\u{c5}s 1+1");
    server.shutdown().await;
}

/// The cursor of the next page.
async fn first_page(client: &mut HttpClient) -> String {
    let answer = client.send("GET", "/v1/queries/numbers?cursor=&limit=4", &[], "").await;
    answer.header("x-next-cursor").unwrap().to_owned()
}

/// The rows, or what is wrong, of the page that a cursor names.
async fn page(client: &mut HttpClient, query: &str, cursor: &str) -> Result<String, (u16, String)> {
    let path = format!("/v1/queries/{query}?format=csv&limit=2&cursor={cursor}");
    let answer = client.send("GET", &path, &[], "").await;
    if answer.status == 200 { Ok(answer.text().replace('\n', " ")) } else { Err(answer.problem()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_was_changed_is_none_and_costs_nothing() {
    let (server, mut client) = queries().await;
    let cursor = first_page(&mut client).await;
    let bad = Err((400, "BAD_CURSOR".to_owned()));
    for at in 0..cursor.len() {
        let mut changed = cursor.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(page(&mut client, "numbers", &changed).await, bad, "{at}");
    }
    for wrong in ["x", &cursor[1..], &cursor[..cursor.len() - 1], &format!("{cursor}A")] {
        assert_eq!(page(&mut client, "numbers", wrong).await, bad, "{wrong}");
    }
    assert_eq!(page(&mut client, "others", &cursor).await, bad);
    assert_eq!(page(&mut client, "numbers", &cursor).await.unwrap(), "n 4 5 ");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_uses_no_page_up() {
    let (server, mut client) = queries().await;
    let cursor = first_page(&mut client).await;
    for cursor in ["", &cursor] {
        let answer = client.send("HEAD", &format!("/v1/queries/numbers?cursor={cursor}"), &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET, POST")));
    }
    assert_eq!(page(&mut client, "numbers", &cursor).await.unwrap(), "n 4 5 ");
    assert_eq!(client.send("HEAD", "/v1/queries/numbers", &[], "").await.status, 200);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_over_says_so_and_what_to_do() {
    let (server, mut client) = queries().await;
    let expired = Err((410, "CURSOR_EXPIRED".to_owned()));
    let used = first_page(&mut client).await;
    assert_eq!(page(&mut client, "Numbers", &used).await.unwrap(), "n 4 5 ");
    assert_eq!(page(&mut client, "numbers", &used).await, expired);
    // There is room for eight at the most.
    let pushed_out = first_page(&mut client).await;
    for _ in 0..8 {
        first_page(&mut client).await;
    }
    assert_eq!(page(&mut client, "numbers", &pushed_out).await, expired);
    let of_before = first_page(&mut client).await;
    server.shutdown().await;
    let (server, mut client) = queries().await;
    assert_eq!(page(&mut client, "numbers", &of_before).await, expired);
    let path = format!("/v1/queries/numbers?cursor={of_before}");
    let told = client.send("GET", &path, &[], "").await.json()["detail"].as_str().unwrap().to_owned();
    assert!(told.contains("started anew") && told.contains("begin again with an empty cursor"), "{told}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_nobody_comes_back_for_ends_its_query_and_says_so() {
    let (server, mut client) = server_with(|config| {
        configure(config, QUERIES);
        config.engine.stall_timeout = Duration::from_millis(200);
    })
    .await;
    let answer = client.send("GET", "/v1/queries/many?cursor=&limit=1", &[], "").await;
    let mut cursor = answer.header("x-next-cursor").unwrap().to_owned();
    server.no_reads_left().await;
    // The rows that were ready can still be had.
    let mut rows = 1;
    let end = loop {
        let path = format!("/v1/queries/many?format=csv&limit=100000&cursor={cursor}");
        let answer = client.send("GET", &path, &[], "").await;
        if answer.status != 200 {
            break answer;
        }
        rows += answer.text().lines().count() - 1;
        cursor = answer.header("x-next-cursor").unwrap().to_owned();
    };
    assert_eq!(end.problem(), (409, "STALLED".into()));
    assert!((1..MANY).contains(&rows), "{rows}");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_before_it_is_too_large_to_hold_and_the_cursor_goes_on() {
    let (server, mut client) = queries().await;
    let (mut cursor, mut rows, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let path = format!("/v1/queries/large?format=csv&limit=1000&cursor={cursor}");
        let answer = client.send("GET", &path, &[], "").await;
        assert!(answer.body.len() < 40 << 20, "{} bytes", answer.body.len());
        let lines = answer.text().lines().skip(1);
        rows.extend(lines.map(|line| line.split(',').next().unwrap().to_owned()));
        pages += 1;
        match answer.header("x-next-cursor") {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(rows, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(pages, 3);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_page_takes_its_limit_and_nothing_else_and_the_cursor_stays() {
    let (server, mut client) = queries().await;
    let cursor = first_page(&mut client).await;
    for (more, body) in [
        ("offset=5", ""),
        ("offset=0", ""),
        ("total=true", ""),
        ("total=false", ""),
        ("n=1", ""),
        ("limit=0", ""),
        ("limit=2", "{\"n\": 1}"),
        ("limit=2", "{}"),
    ] {
        let path = format!("/v1/queries/numbers?cursor={cursor}&{more}");
        let answer = client.send("POST", &path, &[("content-type", "application/json")], body).await;
        assert_eq!(answer.problem(), (400, "BAD_PARAMETER".into()), "{more} {body}");
    }
    assert_eq!(page(&mut client, "numbers", &cursor).await.unwrap(), "n 4 5 ");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_has_no_place_for_the_rows_costs_no_page() {
    let (server, mut client) = queries().await;
    let answer = client.send("GET", "/v1/queries/spans?cursor=&limit=2", &[], "").await;
    let cursor = answer.header("x-next-cursor").unwrap();
    let path = format!("/v1/queries/spans?format=parquet&cursor={cursor}");
    let answer = client.send("GET", &path, &[], "").await;
    assert_eq!(answer.problem(), (400, "UNSUPPORTED_TYPE".into()));
    let rest = page(&mut client, "spans", cursor).await.unwrap();
    assert_eq!(rest, "span P2D P3D ");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_rows_are_described_as_they_are_taken() {
    let (server, mut client) = queries().await;
    let document = client.send("GET", "/v1/openapi.json", &[], "").await.json();
    let content = &document["paths"]["/v1/queries/taken"]["post"]["requestBody"]["content"];
    let columns = &content["application/json"]["schema"]["items"]["properties"];
    for (column, data_type, of) in [
        ("i", "array", "/items/type/0=integer"),
        ("d", "array", "/items/type/0=number"),
        ("p", "array", "/minItems=2"),
        ("s", "object", "/properties/day/format=date"),
        ("m", "object", "/additionalProperties/type/0=integer"),
        ("b", "array", "/items/pattern=^([0-9a-fA-F]{2})*$"),
    ] {
        let (at, value) = of.split_once('=').unwrap();
        assert_eq!(columns[column]["type"][0], data_type, "{column}");
        let told = columns[column].pointer(at).unwrap();
        assert_eq!(told.as_str().map_or_else(|| told.to_string(), str::to_owned), value, "{column}");
    }
    let row = serde_json::json!({
        "i": [1, null], "d": [1.5], "p": [0.5, 1.0], "s": {"day": "2024-01-02"}, "m": {"a": 1}, "b": ["00ff"],
    });
    let json = [("content-type", "application/json")];
    let answer = client.send("POST", "/v1/queries/taken", &json, format!("[{row}]")).await;
    let expected = serde_json::json!([{
        "i": [1, null], "d": [1.5], "p": [0.5, 1.0], "s": {"day": "2024-01-02", "n": null}, "m": {"a": 1}, "b": ["AP8="],
    }]);
    assert_eq!(answer.json()["rows"], expected, "{}", answer.text());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_have_names_of_their_own_whatever_queries_are_called() {
    const NAMES: [&str; 9] =
        ["sql", "tables", "queries", "openapi", "get_sql", "post_sql", "x", "x_by_post", "get_x"];
    let query = |name: &&str| format!("[[query]]\nname = '{name}'\nsql = 'SELECT 7 AS {name}_7'\n");
    let config: String = NAMES.iter().map(query).collect();
    let taking =
        "[[query]]\nname = 'taking'\nsql = 'FROM r'\ninput = { name = 'r', columns = { n = 'BIGINT' } }\n";
    let (server, mut client) = server_with(|it| configure(it, &format!("{config}{taking}"))).await;
    let document = client.send("GET", "/v1/openapi.json", &[], "").await.json();
    let paths =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    let mut ids: Vec<_> = paths.map(|operation| operation["operationId"].as_str().unwrap()).collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!((ids.len(), all), (4 + 2 * NAMES.len() + 1, 4 + 2 * NAMES.len() + 1), "{ids:?}");
    for name in NAMES {
        let answer = client.send("GET", &format!("/v1/queries/{name}?format=ndjson"), &[], "").await;
        assert_eq!(answer.text().trim_end(), format!("{{\"{name}_7\":7}}"));
    }
    server.shutdown().await;
}
