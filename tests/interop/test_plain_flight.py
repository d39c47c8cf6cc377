"""What a script can do with `pyarrow.flight` and nothing else."""

from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import wire
from harness import refused
from workers import FAILS_BETWEEN_FETCHES

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

PEOPLE = pa.table({"id": [1, 2, 3], "name": ["Ada", None, "Grace"]})


def path(*parts):
    return flight.FlightDescriptor.for_path(*parts)


def command(sql):
    return flight.FlightDescriptor.for_command(sql)


def test_basic_handshake_gives_a_token_that_works(server):
    header = server.client.authenticate_basic_token("ada", "lovelace?")
    options = flight.FlightCallOptions(headers=[header])
    assert server.client.do_get(flight.Ticket(b"SELECT 1 AS one"), options).read_all().to_pylist() == [{"one": 1}]


class TestPut:
    def test_closed_without_reading_the_answer_is_durable(self, start, database):
        server = start(database)
        writer, _ = server.client.do_put(path("concurrent_test"), PEOPLE.schema)
        writer.write_table(PEOPLE)
        writer.close()
        server.kill()
        with duckdb.connect(database) as db:
            assert db.sql("SELECT count(*) FROM concurrent_test").fetchall() == [(3,)]

    def test_used_as_a_context_manager(self, server):
        writer, _ = server.client.do_put(path("t"), PEOPLE.schema)
        with writer:
            writer.write_table(PEOPLE)
        assert server.sql("FROM t ORDER BY id").equals(PEOPLE)

    def test_creates_a_missing_table_from_the_arrow_schema(self, server):
        server.put(PEOPLE, "people")
        assert server.rows("SELECT column_name, column_type FROM (DESCRIBE people)") == [
            ("id", "BIGINT"),
            ("name", "VARCHAR"),
        ]
        assert server.sql("FROM people ORDER BY id").equals(PEOPLE)

    def test_without_rows_creates_the_table(self, server):
        assert server.put(PEOPLE.slice(0, 0), "empty").rows == 0
        assert server.sql("FROM empty").equals(PEOPLE.slice(0, 0))

    def test_is_acknowledged_with_its_rows_and_a_rising_commit_number(self, server):
        first, second = server.put(PEOPLE, "t"), server.put(PEOPLE.slice(1), "t")
        assert (first.rows, first.committed) == (3, True)
        assert (second.rows, second.committed) == (2, True)
        assert 0 < first.commit_id < second.commit_id

    def test_of_many_batches_is_one_unit_with_one_acknowledgement(self, server):
        writer, answers = server.client.do_put(path("t"), PEOPLE.schema)
        for _ in range(50):
            writer.write_table(PEOPLE)
        writer.done_writing()
        assert wire.IngestAck.decode(answers.read().to_pybytes()).rows == 150
        assert answers.read() is None
        writer.close()
        assert server.rows("SELECT count(*) FROM t") == [(150,)]

    def test_matches_columns_by_name(self, server):
        server.run("CREATE TABLE t (a INTEGER, b VARCHAR, c DOUBLE)")
        server.put(pa.table({"c": [0.5], "b": ["x"], "a": pa.array([1], pa.int32())}), "t")
        assert server.rows("SELECT a, b, c FROM t") == [(1, "x", 0.5)]

    def test_fills_a_missing_column_with_its_default_or_null(self, server):
        server.run("CREATE TABLE t (a BIGINT, b VARCHAR, c INTEGER DEFAULT 7, d INTEGER NOT NULL DEFAULT 8)")
        server.put(pa.table({"a": [1, 2]}), "t")
        assert server.rows("FROM t ORDER BY a") == [(1, None, 7, 8), (2, None, 7, 8)]

    def test_converts_without_loss_to_the_column_type(self, server):
        server.run("CREATE TABLE t (i BIGINT, d DOUBLE, s VARCHAR, moment TIMESTAMP)")
        server.put(
            pa.table(
                {
                    "i": pa.array([1], pa.int16()),
                    "d": pa.array([0.5], pa.float32()),
                    "s": pa.array(["x"], pa.string_view()),
                    "moment": pa.array([0], pa.timestamp("s")),
                }
            ),
            "t",
        )
        assert server.rows("SELECT i, d, s, epoch(moment) FROM t") == [(1, 0.5, "x", 0.0)]

    @pytest.mark.parametrize(
        "parts", [["t"], ["main", "t"], ["db", "main", "t"], ["s", "t"], ["db", "s", "t"]], ids=".".join
    )
    def test_to_a_path_of_table_schema_and_catalog(self, server, parts):
        server.run("CREATE SCHEMA IF NOT EXISTS s")
        server.put(PEOPLE, *parts)
        schema = parts[-2] if len(parts) > 1 else "main"
        assert server.sql(f"FROM db.{schema}.t ORDER BY id").equals(PEOPLE)

    @pytest.mark.parametrize("parts", [["nowhere", "t"], ["nowhere", "main", "t"], ["db", "nowhere", "t"]])
    def test_to_an_unknown_schema_or_catalog_is_not_found(self, server, parts):
        assert "nowhere" in refused(server.put, PEOPLE, *parts, codes="NOT_FOUND").text

    @pytest.mark.parametrize("name", ["select", "Mixed Case", "ünïcode 🦆", 'quo"te', "semi;colon", "a.b"])
    def test_to_any_table_name_with_any_column_name(self, server, name):
        data = pa.table({name: [1], "other": [2]})
        server.put(data, name)
        quoted = '"' + name.replace('"', '""') + '"'
        assert server.sql(f"FROM {quoted}").equals(data)

    def test_by_loaders_that_race_to_create_the_table(self, server):
        def load(i):
            with flight.connect(server.uri) as client:
                writer, _ = client.do_put(path("t"), PEOPLE.schema)
                writer.write_table(PEOPLE)
                writer.close()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(load, range(16)))
        assert server.rows("SELECT count(*) FROM t") == [(48,)]


# Everything that looks like a statement to a person is one to every door of the server.
STATEMENTS = [
    "SELECT 42 AS answer, 'x;y' AS s -- not a second; statement",
    "SELECT id, name FROM people ORDER BY id;",
    "FROM people SELECT id, count(*) OVER () AS n ORDER BY id",
    "VALUES (1, 'a'), (2, 'b')",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r ORDER BY n",
    "SELECT 1 AS same, 2 AS same",
    "SELECT range AS i, NULL AS nothing FROM range(5000) ORDER BY i",
    "SELECT * FROM people WHERE false",
    "PIVOT (SELECT id % 2 AS odd, id FROM people) ON odd USING sum(id)",
    "UNPIVOT (SELECT 1 AS a, 2 AS b) ON a, b",
    "DESCRIBE people",
    "SUMMARIZE people",
    "SHOW TABLES",
    "EXPLAIN SELECT 1",
    "PRAGMA table_info('people')",
    "SELECT unnest(['ä', '🦆', '']) AS s",
]


class TestQuery:
    @pytest.fixture
    def people(self, server):
        server.put(PEOPLE, "people")

    @pytest.fixture
    def expected(self):
        """What DuckDB in process answers."""
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            db.execute("CREATE TABLE people AS FROM PEOPLE")
            yield lambda sql: db.sql(sql).to_arrow_table()

    @pytest.mark.parametrize("sql", STATEMENTS)
    def test_gives_the_result_of_duckdb_through_every_door(self, server, people, expected, sql):
        info = server.client.get_flight_info(command(sql))
        answers = {
            "ticket": server.sql(sql),
            "action": server.run(sql),
            "flight info": server.client.do_get(info.endpoints[0].ticket).read_all(),
        }
        for door, answer in answers.items():
            assert answer.column_names == expected(sql).column_names, door
            assert answer.columns == expected(sql).columns, door
        assert info.schema.equals(answers["flight info"].schema)
        assert server.client.get_schema(command(sql)).schema.equals(info.schema)

    def test_ticket_works_as_often_as_it_is_used(self, server, people):
        [endpoint] = server.client.get_flight_info(command("SELECT sum(id)::BIGINT AS s FROM people")).endpoints
        assert "" not in [location.uri.decode() for location in endpoint.locations]
        for _ in range(3):
            assert server.client.do_get(endpoint.ticket).read_all().to_pylist() == [{"s": 6}]

    def test_path_gives_the_table(self, server, people):
        info = server.client.get_flight_info(path("people"))
        assert info.schema.equals(PEOPLE.schema)
        assert server.client.get_schema(path("db", "main", "people")).schema.equals(PEOPLE.schema)
        assert server.client.do_get(info.endpoints[0].ticket).read_all().sort_by("id").equals(PEOPLE)

    def test_first_rows_come_before_the_last_are_computed(self, server):
        # 10^12 rows: only a stream ever answers this one.
        reader = server.client.do_get(flight.Ticket(b"SELECT range AS i FROM range(1000000000000)"))
        assert reader.read_chunk().data["i"][0].as_py() == 0
        reader.cancel()

    def test_result_arrives_in_large_batches(self, server):
        reader = server.client.do_get(flight.Ticket(b"SELECT range AS i FROM range(500000)"))
        sizes = [chunk.data.num_rows for chunk in reader]
        assert sum(sizes) == 500_000
        assert len(sizes) <= 10

    def test_error_in_mid_stream_reaches_the_client(self, server):
        query = "SELECT CASE WHEN range = 3000000 THEN error('boom') ELSE range END FROM range(4000000)"
        assert "boom" in refused(server.sql, query, codes="INVALID_ARGUMENT").text

    def test_error_between_two_fetches_keeps_its_reason(self, server):
        for _ in range(30):
            assert "late" in refused(server.sql, FAILS_BETWEEN_FETCHES, codes="INVALID_ARGUMENT").text


class TestAction:
    def test_query_runs_any_statement(self, server):
        server.run("CREATE TABLE t (x BIGINT)")
        server.run("INSERT INTO t VALUES (1), (2)")
        assert server.run("INSERT INTO t VALUES (3) RETURNING x").to_pylist() == [{"x": 3}]
        server.run("UPDATE t SET x = x * 10")
        assert server.run("FROM t ORDER BY x").to_pylist() == [{"x": 10}, {"x": 20}, {"x": 30}]

    def test_query_returns_large_results(self, server):
        assert server.run("SELECT range AS i FROM range(1000000)")["i"].to_pylist() == list(range(1_000_000))

    def test_list_names_it(self, server):
        assert "query" in [action.type for action in server.client.list_actions()]

    def test_unknown_is_unimplemented(self, server):
        refused(lambda: list(server.client.do_action(("no such action", b""))), codes="UNIMPLEMENTED")


class TestList:
    def test_flights_are_tables_and_views_with_schemas_and_tickets(self, server):
        server.run("CREATE SCHEMA IF NOT EXISTS s")
        server.put(PEOPLE, "s", "people")
        server.run("CREATE VIEW adults AS SELECT id FROM s.people WHERE id > 1")
        flights = {tuple(part.decode() for part in f.descriptor.path): f for f in server.client.list_flights()}
        assert set(flights) == {("db", "s", "people"), ("db", "main", "adults")}
        assert flights["db", "s", "people"].schema.equals(PEOPLE.schema)

        ticket = flights["db", "main", "adults"].endpoints[0].ticket
        assert sorted(server.client.do_get(ticket).read_all()["id"].to_pylist()) == [2, 3]

    def test_flights_do_not_stop_at_a_broken_view(self, server):
        server.put(PEOPLE, "people")
        server.run("CREATE VIEW v AS FROM people")
        server.put(PEOPLE, "other")
        server.run("DROP TABLE people")
        assert [b"db", b"main", b"other"] in [f.descriptor.path for f in server.client.list_flights()]

    def test_flights_do_not_stop_at_a_name_that_no_path_may_have(self, server):
        server.put(PEOPLE, "people")
        server.run(f'CREATE TABLE "{"n" * 256}" (x INTEGER)')
        assert [f.descriptor.path for f in server.client.list_flights()] == [[b"db", b"main", b"people"]]
