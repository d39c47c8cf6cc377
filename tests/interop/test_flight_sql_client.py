"""`flight_sql_client`, the command that the Rust crate arrow-flight brings along."""

import pytest

import programs

CLIENT = programs.CRATE_PROGRAMS / "flight_sql_client"

pytestmark = pytest.mark.usefixtures("no_tables_left_over")


@pytest.fixture
def client(server):
    """Runs the command; its output, an ASCII table, as a list of rows below a header."""

    def client(*arguments):
        return table(programs.output(CLIENT, "--host", "127.0.0.1", "--port", port(server), *arguments))

    server.run("CREATE TABLE people AS SELECT * FROM (VALUES (1, 'Ada'), (2, NULL), (3, 'Grace')) AS t(id, name)")
    return client


def port(server):
    return server.uri.rpartition(":")[2]


def table(printed):
    """The cells of an ASCII table."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if "|" in line]


def test_statement_query(client):
    assert client("statement-query", "FROM people ORDER BY id") == [
        ["id", "name"],
        ["1", "Ada"],
        ["2", ""],
        ["3", "Grace"],
    ]


def test_statement_query_without_rows_has_its_columns(client):
    assert client("statement-query", "SELECT id, name FROM people WHERE false") == [["id", "name"]]


def test_statement_takes_effect(client, server):
    client("statement-query", "INSERT INTO people VALUES (4, 'Edsger')")
    assert server.rows("SELECT id FROM people ORDER BY id") == [(1,), (2,), (3,), (4,)]


def test_prepared_query(client):
    assert client("prepared-statement-query", "SELECT count(*) AS n FROM people") == [["n"], ["3"]]


@pytest.mark.parametrize(
    "condition, parameters",
    [
        ("id = $1", ["-p", "1=3"]),
        ("id > $1 AND name = $2", ["-p", "1=1", "-p", "2=Grace"]),
        ("name = $who", ["-p", "who=Grace"]),
    ],
)
def test_prepared_query_with_parameters(client, condition, parameters):
    """The parameters bear DuckDB's names, without the dollar sign."""
    query = f"SELECT id, name FROM people WHERE {condition}"
    assert client("prepared-statement-query", query, *parameters) == [["id", "name"], ["3", "Grace"]]


def test_catalogs_schemas_tables_and_types(client, server):
    server.run("CREATE VIEW names AS SELECT name FROM people")
    assert ["db"] in client("catalogs")
    assert ["db", "main"] in client("db-schemas", "db")
    assert client("db-schemas", "db", "--db-schema-filter", "ma_n")[1:] == [["db", "main"]]
    assert client("tables", "db")[1:] == [["db", "main", "names", "VIEW"], ["db", "main", "people", "TABLE"]]
    assert client("tables", "db", "--table-filter", "p%")[1:] == [["db", "main", "people", "TABLE"]]
    assert client("tables", "db", "--table-types", "VIEW")[1:] == [["db", "main", "names", "VIEW"]]
    assert {("TABLE",), ("VIEW",)} <= {tuple(row) for row in client("table-types")}


def test_compressed_answers(client):
    assert client("--accept-compression", "gzip,zstd", "statement-query", "SELECT 1 AS x") == [["x"], ["1"]]


def test_user_and_password(guarded):
    arguments = ["--host", "127.0.0.1", "--port", guarded.port]
    query = ["statement-query", "SELECT 1 AS x"]
    known = ["--username", guarded.credentials["username"], "--password", guarded.credentials["password"]]
    assert table(programs.output(CLIENT, *arguments, *known, *query)) == [["x"], ["1"]]
    for wrong in ([], ["--username", "ana", "--password", "wrong"], ["--token", "forged"]):
        ended = programs.run(CLIENT, *arguments, *wrong, *query)
        assert ended.returncode != 0
        assert "UNAUTHENTICATED" in ended.stderr


def test_error_is_the_server_s(server):
    ended = programs.run(CLIENT, "--host", "127.0.0.1", "--port", port(server), "statement-query", "SELEC 1")
    assert ended.returncode != 0
    assert "SYNTAX" in ended.stderr
