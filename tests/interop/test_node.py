"""The Flight SQL clients of npm: @gizmodata/gizmosql-client and @lancedb/arrow-flight-sql-client.

What they do is in node/*.mjs; here are the servers, the statements and the judge.
"""

import json

import duckdb
import pytest

import programs

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

TABLE = """CREATE TABLE kinds AS
    SELECT i::INTEGER AS id, 'naïve 🦆 ' || i AS name, i / 4 AS share, i % 2 = 0 AS even,
           CASE WHEN i <> 2 THEN i END AS gaps, [i, NULL] AS list, (i * 1.25)::DECIMAL(8, 2)::VARCHAR AS price
    FROM range(5) AS t(i)"""
KINDS = "SELECT * FROM kinds ORDER BY id"


@pytest.fixture(scope="module")
def judge():
    """DuckDB in process with the same table, and its rows as JSON has them."""
    connection = duckdb.connect()
    connection.execute(TABLE)

    def judge(query):
        return json.loads(json.dumps(connection.sql(query).to_arrow_table().to_pylist()))

    yield judge
    connection.close()


@pytest.fixture
def port(server):
    server.run(TABLE)
    return int(server.uri.rpartition(":")[2])


class TestGizmosql:
    def test_query_gives_duckdb_s_rows(self, port, judge):
        assert programs.node("gizmosql.mjs", port=port, calls=[["execute", KINDS]]) == [judge(KINDS)]

    def test_large_result_arrives_whole(self, port, judge):
        query = "SELECT range::INTEGER AS i FROM range(200000) ORDER BY i"
        assert programs.node("gizmosql.mjs", port=port, calls=[["execute", query]]) == [judge(query)]

    def test_statements_take_effect_and_the_session_lasts(self, guarded):
        calls = [
            ["execute", "CREATE TEMPORARY TABLE mine AS SELECT 1 AS x"],
            ["execute", "INSERT INTO mine VALUES (2)"],
            ["execute", "SELECT x FROM mine ORDER BY x"],
        ]
        answers = programs.node("gizmosql.mjs", port=guarded.port, **guarded.credentials, calls=calls)
        assert answers[2] == [{"x": 1}, {"x": 2}]

    def test_query_over_tls(self, encrypted, judge):
        query = "SELECT 42 AS answer"
        how = {"host": "localhost", "port": encrypted.port, "plaintext": False, "tlsSkipVerify": True, **encrypted.credentials}
        assert programs.node("gizmosql.mjs", **how, calls=[["execute", query]]) == [judge(query)]

    def test_wrong_password_is_refused(self, guarded):
        credentials = guarded.credentials | {"password": "wrong"}
        argument = {"port": guarded.port, **credentials, "calls": []}
        ended = programs.run("node", "node/gizmosql.mjs", json.dumps(argument))
        assert ended.returncode != 0
        assert "UNAUTHENTICATED" in ended.stderr

    def test_metadata(self, port, server):
        server.run("CREATE VIEW names AS SELECT name FROM kinds")
        catalogs, schemas, tables, views, types = programs.node(
            "gizmosql.mjs",
            port=port,
            calls=[
                ["getCatalogs"],
                ["getSchemas", "db"],
                ["getTables", "db", "main", "k%", ["TABLE"]],
                ["getTables", "db", "main", None, ["VIEW"]],
                ["getTableTypes"],
            ],
        )
        assert "db" in catalogs
        assert {"catalog": "db", "schema": "main"} in schemas
        assert tables == [{"catalog": "db", "schema": "main", "tableName": "kinds", "tableType": "TABLE"}]
        assert [view["tableName"] for view in views] == ["names"]
        assert {"TABLE", "VIEW"} <= set(types)

    def test_sql_info_has_a_name_and_is_complete(self, port):
        some, all_of_it = programs.node("gizmosql.mjs", port=port, calls=[["getSqlInfo", [0, 3]], ["getSqlInfo"]])
        assert some == {"0": "Merganser", "3": False}
        assert some.items() <= all_of_it.items()

    def test_error_is_the_server_s(self, port):
        ended = programs.run(
            "node", "node/gizmosql.mjs", json.dumps({"port": port, "calls": [["execute", "FROM missing"]]})
        )
        assert ended.returncode != 0
        assert "missing does not exist" in ended.stderr


class TestLancedb:
    def test_query_gives_duckdb_s_rows(self, guarded, judge):
        guarded.run(TABLE)
        queries = [KINDS, "SELECT count(*)::INTEGER AS n FROM kinds", "SELECT id FROM kinds WHERE false"]
        answers = programs.node(
            "lancedb.mjs", host=f"127.0.0.1:{guarded.port}", **guarded.credentials, queries=queries
        )
        assert answers == [judge(query) for query in queries]

    def test_large_result_arrives_whole(self, guarded, judge):
        query = "SELECT range::INTEGER AS i FROM range(200000) ORDER BY i"
        [answer] = programs.node(
            "lancedb.mjs", host=f"127.0.0.1:{guarded.port}", **guarded.credentials, queries=[query]
        )
        assert answer == judge(query)

    def test_wrong_password_is_refused(self, guarded):
        argument = {"host": f"127.0.0.1:{guarded.port}", "username": "ana", "password": "wrong", "queries": []}
        ended = programs.run("node", "node/lancedb.mjs", json.dumps(argument))
        assert ended.returncode != 0
        assert "UNAUTHENTICATED" in ended.stderr
