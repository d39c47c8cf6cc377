"""What a session keeps between its requests, and that nobody else ever sees it."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count, product

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from client import MODES
from harness import refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over", "schemas")

UNIQUE = count()


@pytest.fixture(scope="module")
def schemas(server):
    for sql in ("CREATE SCHEMA s", 'CREATE SCHEMA "a ""strange; one"', "ATTACH ':memory:' AS other", "CREATE SCHEMA other.s"):
        server.run(sql)


def numbers(*values):
    return pa.table({"x": pa.array(values, pa.int64())})


def fresh(client, columns):
    """Asks with a text that nobody has sent before, so that no plan is used again."""
    [row] = client.rows(f"SELECT {columns} -- {next(UNIQUE)}")
    return row


def names(client):
    return fresh(client, "current_database(), current_schema()")


def temporary(client):
    """Every temporary thing that a client sees."""
    kinds = {
        "duckdb_tables()": "table_name",
        "duckdb_views()": "view_name",
        "duckdb_functions()": "function_name",
        "duckdb_sequences()": "sequence_name",
        "duckdb_types()": "type_name",
    }
    union = " UNION ALL ".join(
        f"SELECT {name} FROM {kind} WHERE database_name = 'temp' AND NOT {'temporary AND false' if 'seq' in kind else 'internal'}"
        for kind, name in kinds.items()
    )
    return {name for (name,) in client.rows(f"{union} -- {next(UNIQUE)}")}


class TestNames:
    def test_use_reaches_every_kind_of_request(self, connect):
        client, other = connect(), connect()
        client.run("USE s")
        client.run("CREATE TABLE by_sql AS SELECT 1 AS x")
        assert client.put(numbers(1, 2), "by_path").committed
        client.ingest(numbers(1, 2), "by_ingest", "create")
        with client.transaction() as transaction:
            client.update("CREATE TABLE by_transaction AS SELECT 1 AS x", transaction)
            client.ingest(numbers(3), "ingest_in_transaction", "create", transaction)
            client.commit(transaction)
        client.execute(client.prepare("CREATE TABLE by_prepared AS SELECT 1 AS x"))
        found = other.rows("SELECT table_name FROM duckdb_tables() WHERE schema_name = 's' ORDER BY ALL")
        expected = ["by_ingest", "by_path", "by_prepared", "by_sql", "by_transaction", "ingest_in_transaction"]
        assert [name for (name,) in found] == expected
        assert client.rows("FROM by_path ORDER BY x") == [(1,), (2,)]
        refused(other.rows, "FROM by_path", codes="NOT_FOUND")
        refused(other.ingest, numbers(1), "by_path", "append", codes="NOT_FOUND")

    @pytest.fixture
    def two(self, server):
        """Tables of one name in two schemas, which say where they are."""
        for schema in ("main", "s"):
            server.run(f"CREATE TABLE {schema}.t AS SELECT 0::BIGINT AS x, '{schema}' AS place")

    FAILING = {
        "script": ["USE s; SELECT error('x')"],
        "of a session with settings": ["SET VARIABLE a = 1", "USE s; SELECT error('x')"],
        "in a transaction": ["BEGIN", "USE s; SELECT error('x')", "ROLLBACK"],
        "behind its BEGIN": ["BEGIN; SET schema = 's'; SELECT error('x')", "ROLLBACK"],
    }

    @pytest.mark.parametrize("statements", FAILING.values(), ids=FAILING)
    def test_use_counts_where_its_script_fails(self, connect, two, statements):
        client, other = connect(), connect()
        for sql in statements:
            refused(client.run, sql) if "error" in sql else client.run(sql)
        self.is_one_session_in("s", client, other)

    def test_use_counts_where_its_client_does_not_wait(self, connect, two):
        client, other = connect(), connect()
        usual, client.options = client.options, flight.FlightCallOptions(timeout=0.5)
        with pytest.raises((flight.FlightTimedOutError, flight.FlightCancelledError)):
            client.run("USE s; SELECT count(*) FROM range(10000000) a, range(10000000) b")
        client.options = usual
        self.is_one_session_in("s", client, other)

    def is_one_session_in(self, schema, client, other):
        """Statements, uploads, transactions and options agree about where names are."""
        row = pa.table({"x": [1], "place": [schema]})
        assert client.one("SELECT place FROM t") == schema
        assert client.get_options()["schema"] == schema
        client.put(row, "t")
        client.run("INSERT INTO t VALUES (1, '')")
        with client.transaction() as transaction:
            client.ingest(row, "t", "append", transaction)
            client.update("INSERT INTO t VALUES (1, '')", transaction)
            client.commit(transaction)
        assert other.one(f"SELECT sum(x) FROM {schema}.t") == 4

    @pytest.mark.parametrize("own", [False, True], ids=["anywhere", "on its own connection"])
    def test_ticket_keeps_the_names_of_its_making(self, connect, two, own):
        client = connect()
        if own:
            client.run("SET VARIABLE a = 1")
        ticket = client.ticket("SELECT place FROM t")
        client.run("USE s")
        of_s = client.ticket("SELECT place FROM t")
        assert client.fetch(ticket) == [("main",)]
        assert client.one("SELECT place FROM t") == "s", "nobody else's names change"
        client.run("USE other.s")
        assert (client.fetch(of_s), client.fetch(ticket)) == ([("s",)], [("main",)])
        refused(client.rows, "FROM t", codes="NOT_FOUND")

    def test_ticket_of_a_transaction_keeps_the_names_of_its_making(self, connect, two):
        client = connect()
        with client.transaction() as transaction:
            client.update("INSERT INTO s.t VALUES (1, 's')", transaction)
            ticket = client.ticket("SELECT place FROM t", transaction)
            client.run("USE s")
            assert client.fetch(ticket) == [("main",)]
            assert client.one("SELECT count(*) FROM t", transaction) == 2
            failing = client.ticket("SELECT error(place) FROM main.t", transaction)
            client.run("USE main")
            refused(client.fetch, failing)
            client.rollback(transaction)
        assert client.one("SELECT place FROM t") == "main"

    def test_prepared_statement_means_what_its_names_mean_when_it_runs(self, connect, two):
        """As in PostgreSQL."""
        client = connect()
        prepared = client.prepare("SELECT place FROM t")
        assert client.execute(prepared) == [("main",)]
        client.run("USE s")
        assert client.execute(prepared) == [("s",)]

    def test_upload_without_a_schema_goes_where_use_points_and_with_one_where_that_says(self, connect):
        client = connect()
        for table in ("main.t", "s.t", "other.s.t"):
            client.run(f"CREATE TABLE {table} (x BIGINT)")
        client.run("USE s")
        client.ingest(numbers(1), "t")
        client.ingest(numbers(2), "t", schema="main")
        client.run("USE other.s")
        client.ingest(numbers(3), "t")
        client.ingest(numbers(4), "t", catalog="db", schema="s")
        tables = ["db.main.t", "db.s.t", "other.s.t"]
        assert [client.rows(f"SELECT list(x ORDER BY x) FROM {t}") for t in tables] == [[([2],)], [([1, 4],)], [([3],)]]

    @pytest.mark.parametrize(
        "use, expected",
        [
            ("USE s", ("db", "s")),
            ("use /* a */ \"s\";", ("db", "s")),
            ("USE other", ("other", "main")),
            ("USE other.s", ("other", "s")),
            ('USE "a ""strange; one"', ("db", 'a "strange; one')),
            ("SELECT 1; USE s", ("db", "s")),
            ("USE s; USE other.s", ("other", "s")),
            ("SET schema = 's'", ("db", "s")),
            ("SET schema = 'other.s'", ("other", "s")),
            ("SET search_path = 's'", ("db", "s")),
            ("BEGIN; USE s; COMMIT", ("db", "s")),
        ],
    )
    def test_every_way_to_use(self, connect, use, expected):
        client, other = connect(), connect()
        client.run(use)
        assert names(client) == expected
        assert (client.get_options()["catalog"], client.get_options()["schema"]) == expected
        client.put(numbers(1), "here")
        schema = expected[1].replace('"', '""')
        assert client.rows(f'FROM "{expected[0]}"."{schema}".here') == [(1,)]
        client.run("USE db.main")
        assert names(client) == names(other) == ("db", "main")

    @pytest.mark.parametrize("use", ["USE nosuch", "USE other.nosuch", "USE db.s.t", "USE", "USE temp", "USE system", "USE ''"])
    def test_use_of_what_is_not_there_changes_nothing(self, connect, use):
        client = connect()
        client.run("USE s")
        refused(client.run, use)
        assert names(client) == ("db", "s")

    def test_schema_that_is_dropped_under_a_session_hurts_only_that(self, connect):
        client, other = connect(), connect()
        other.run("CREATE SCHEMA doomed")
        client.run("USE doomed")
        other.run("DROP SCHEMA doomed")
        try:
            client.rows("SELECT 1")
        except (pa.ArrowException, KeyError):
            pass
        for _ in range(5):
            assert names(other) == ("db", "main")
        client.run("USE db.main")
        assert names(client) == ("db", "main")

    def test_prepared_statement_means_the_names_of_when_it_runs(self, connect):
        client = connect()
        client.run("CREATE TABLE main.t AS SELECT 'main' AS w; CREATE TABLE s.t AS SELECT 's' AS w")
        prepared = client.prepare("FROM t")
        assert client.execute(prepared) == [("main",)]
        client.run("USE s")
        assert client.execute(prepared) == [("s",)]

    def test_fifty_sessions_with_names_and_variables_of_their_own(self, connect):
        admin = connect()
        for number in range(10):
            admin.run(f"CREATE SCHEMA IF NOT EXISTS p{number}; CREATE OR REPLACE TABLE p{number}.t AS SELECT {number} AS x")

        def session(number):
            client, schema = connect(), f"p{number % 10}"
            if number % 5:  # the others are sessions without any state
                client.run(f"USE {schema}")
            if number % 2:
                client.run(f"SET VARIABLE me = {number}; CREATE TEMP TABLE mine AS SELECT {number} AS x")
            for _ in range(8):
                variable = number if number % 2 else None
                assert fresh(client, "current_schema(), getvariable('me')") == (schema if number % 5 else "main", variable)
                assert client.rows("SELECT current_schema()") == [(schema if number % 5 else "main",)]
                if number % 5:
                    assert client.rows("FROM t") == [(number % 10,)]
                    assert client.execute(client.prepare("FROM t")) == [(number % 10,)]
                else:
                    refused(client.rows, "FROM t", codes="NOT_FOUND")
                if number % 2:
                    assert client.rows("FROM mine") == [(number,)]
                else:
                    refused(client.rows, "FROM mine", codes="NOT_FOUND")

        with ThreadPoolExecutor(25) as pool:
            list(pool.map(session, range(50)))
        for number in range(10):
            admin.run(f"DROP SCHEMA p{number} CASCADE")


class TestState:
    def test_settings_are_local(self, connect):
        client, other = connect(), connect()
        client.run("SET default_order = 'DESC'")
        client.run("SET SESSION default_null_order = 'NULLS_FIRST'")
        client.run('set "pivot_limit" to 77')
        order = "list(x ORDER BY x) FROM (VALUES (1), (2), (NULL)) t(x)"
        assert fresh(client, order) == ([None, 2, 1],)
        assert fresh(other, order) == fresh(connect(), order) == ([1, 2, None],)
        assert fresh(client, "current_setting('pivot_limit')") == (77,)
        assert fresh(other, "current_setting('pivot_limit')") == (100000,)
        client.run("RESET default_order; RESET default_null_order; RESET SESSION pivot_limit")
        assert fresh(client, order) == ([1, 2, None],)
        assert fresh(client, "current_setting('pivot_limit')") == (100000,)

    def test_settings_hold_in_a_transaction_and_outside(self, connect):
        client = connect()
        client.run("SET default_order = 'DESC'; SET VARIABLE v = [1, 2]")
        question = "getvariable('v'), list(x ORDER BY x) FROM (VALUES (1), (2)) t(x)"
        with client.transaction() as transaction:
            assert client.rows(f"SELECT {question}", transaction) == [([1, 2], [2, 1])]
        assert fresh(client, question) == ([1, 2], [2, 1])

    def test_variables(self, connect):
        client, other = connect(), connect()
        client.run("SET VARIABLE v = 41 + 1")
        assert (fresh(client, "getvariable('v')"), fresh(other, "getvariable('v')")) == ((42,), (None,))
        client.run("RESET VARIABLE v")
        assert fresh(client, "getvariable('v')") == (None,)

    def test_prepare_execute_deallocate(self, connect):
        client, other = connect(), connect()
        client.run("CREATE TABLE t (x BIGINT)")
        client.run("PREPARE add_one AS INSERT INTO t VALUES ($1)")
        client.run("PREPARE ask AS SELECT x + $1 FROM t")
        client.run("EXECUTE add_one(41)")
        assert client.rows("EXECUTE ask(1)") == [(42,)]
        refused(other.run, "EXECUTE ask(1)", codes="NOT_FOUND")
        client.run("DEALLOCATE ask")
        refused(client.rows, "EXECUTE ask(1)", codes="NOT_FOUND")
        assert other.rows("FROM t") == [(41,)]

    def test_driver_sees_what_its_connection_left(self, server):
        with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SET VARIABLE v = 42")
            cursor.execute("CREATE TEMP TABLE mine AS SELECT getvariable('v') AS x")
            assert cursor.execute("FROM mine").fetchall() == [(42,)]
            cursor.execute("USE s")
            assert connection.adbc_current_db_schema == "s"
            cursor.execute("CREATE TABLE t AS FROM mine")
            assert cursor.execute("SELECT x FROM s.t").fetchall() == [(42,)]


class TestTemporary:
    CREATE = {
        "table": ("CREATE TEMP TABLE mine (x INTEGER)", "FROM mine"),
        "table as": ("CREATE OR REPLACE TEMPORARY TABLE mine AS SELECT 1 AS x", "FROM mine"),
        "local": ("CREATE LOCAL TEMP TABLE mine AS SELECT 1 AS x", "FROM mine"),
        "local or replace": ("create or replace local temporary table mine as select 1", "FROM mine"),
        "if not exists": ("CREATE TEMP TABLE IF NOT EXISTS mine AS SELECT 1", "FROM mine"),
        "view": ("CREATE TEMP VIEW mine AS SELECT 1", "FROM mine"),
        "local view": ("CREATE LOCAL TEMP VIEW mine AS SELECT 1", "FROM mine"),
        "recursive view": ("CREATE TEMP RECURSIVE VIEW mine(n) AS SELECT 1", "FROM mine"),
        "macro": ("CREATE TEMP MACRO mine(x) AS x", "SELECT mine(1)"),
        "table macro": ("CREATE OR REPLACE TEMPORARY FUNCTION mine(x) AS TABLE SELECT x", "FROM mine(1)"),
        "sequence": ("CREATE TEMP SEQUENCE mine", "SELECT nextval('mine')"),
        "type": ("CREATE TEMP TYPE mine AS ENUM ('a')", "SELECT 'a'::mine::VARCHAR"),
        "in a script": ("SELECT 1; /* a */ CREATE -- b\n TEMP TABLE mine AS SELECT 1", "FROM mine"),
        "after an invisible space": ("\u200bCREATE TEMP TABLE mine AS SELECT 1", "FROM mine"),
        "after a byte order mark": ("\ufeffCREATE TEMP TABLE mine AS SELECT 1", "FROM mine"),
        "prepared": ("PREPARE p AS CREATE TEMP TABLE mine AS SELECT 1; EXECUTE p", "FROM mine"),
        "explained": ("EXPLAIN ANALYZE CREATE TEMP TABLE mine AS SELECT 1; CREATE TEMP TABLE mine AS SELECT 1", "FROM mine"),
    }

    @pytest.mark.parametrize("create, use", CREATE.values(), ids=CREATE)
    def test_is_the_sessions_own_and_goes_with_it(self, alone, create, use):
        client, other = alone(), alone()
        try:
            client.run(create)
        except (pa.ArrowException, KeyError):
            pass  # DuckDB does not know this form; then it must leave nothing
        else:
            client.rows(use)
        refused(other.rows, use)
        assert temporary(other) == set()
        client.close()
        for _ in range(3):
            again = alone()
            assert temporary(again) == set()
            refused(again.rows, use)

    def test_hides_a_table_of_the_same_name_from_its_session_only(self, connect):
        client, other = connect(), connect()
        other.run("CREATE TABLE t AS SELECT 'everybody' AS who; CREATE VIEW v AS FROM t")
        client.run("CREATE TEMP TABLE t AS SELECT 'me' AS who")
        assert client.rows("FROM t") == [("me",)]
        assert client.rows("FROM db.main.t") == other.rows("FROM t") == [("everybody",)]
        client.run("DROP TABLE temp.t")
        assert client.rows("FROM t") == [("everybody",)]

    @pytest.mark.parametrize("rows", [3, 200_000], ids=["small", "large"])
    @pytest.mark.parametrize("mode", MODES)
    def test_ingest(self, connect, mode, rows):
        client, other, data = connect(), connect(), numbers(*range(rows))
        expected = rows
        if mode == "append":
            refused(client.ingest, data, "mine", mode, temporary=1, codes="NOT_FOUND")
        if mode in ("append", "replace", "create_append"):
            client.run("CREATE TEMP TABLE mine AS SELECT -1::BIGINT AS x")
            expected += mode != "replace"
        client.ingest(data, "mine", mode, temporary=1)
        assert client.rows("SELECT count(*) FROM mine") == [(expected,)]
        if mode == "create":
            refused(client.ingest, data, "mine", mode, temporary=1, codes="ALREADY_EXISTS")
        refused(other.rows, "FROM mine", codes="NOT_FOUND")
        client.close()
        assert temporary(connect()) == set()

    def test_ingest_by_the_driver(self, server, connect):
        for autocommit in (True, False):
            with server.adbc(autocommit=autocommit) as connection, connection.cursor() as cursor:
                assert cursor.adbc_ingest("mine", numbers(1, 2), "create", temporary=True) == 2
                assert cursor.adbc_ingest("mine", numbers(3), "append", temporary=True) == 1
                assert cursor.execute("SELECT list(x ORDER BY x) FROM mine").fetchall() == [([1, 2, 3],)]
        assert temporary(connect()) == set()

    def test_ingest_is_undone_with_its_transaction(self, connect):
        client = connect()
        client.ingest(numbers(1), "mine", "create", temporary=1)
        with client.transaction() as transaction:
            client.ingest(numbers(2), "mine", "append", transaction, temporary=1)
            client.ingest(numbers(2), "more", "create", transaction, temporary=1)
            assert client.rows("SELECT count(*) FROM mine, more", transaction) == [(2,)]
        assert client.rows("FROM mine") == [(1,)]
        refused(client.rows, "FROM more", codes="NOT_FOUND")

    def test_ingest_that_fails_leaves_nothing(self, connect):
        client = connect()
        client.run("CREATE TEMP TABLE mine (x INTEGER)")
        refused(client.ingest, numbers(*range(100_000), 2**40), "mine", temporary=1, codes="INVALID_ARGUMENT")
        assert client.rows("FROM mine") == []
        client.ingest(numbers(1), "mine", temporary=1)
        assert client.rows("FROM mine") == [(1,)]

    def test_ingest_with_a_schema_is_refused(self, connect):
        refused(connect().ingest, numbers(1), "mine", "create", schema="s", temporary=1, codes="INVALID_ARGUMENT")

    def test_needs_no_turn(self, connect):
        client, writer = connect(), connect()
        writer.run("CREATE TABLE t AS SELECT 1 AS x")
        with writer.transaction() as transaction:
            writer.update("UPDATE t SET x = 2", transaction)
            client.run("CREATE TEMP TABLE mine AS FROM t")
            client.run("INSERT INTO mine VALUES (3)")
            client.ingest(numbers(4), "mine", temporary=1)
            assert client.rows("FROM mine ORDER BY x") == [(1,), (3,), (4,)]


REFUSED = [
    "SET GLOBAL threads = 1",
    "SET threads = 1",
    'SET "threads" = 1',
    'set SESSION "THREADS" to 1',
    "SET worker_threads = 1",
    "SET LOCAL threads = 1",
    "RESET threads",
    "RESET GLOBAL threads",
    "RESET SESSION threads",
    "RESET ALL",
    "PRAGMA threads = 1",
    "PRAGMA threads=1; SELECT 1",
    'PRAGMA "threads" = 1',
    "SET memory_limit = '1GB'",
    "SET max_memory = '1GB'",
    "/* a */ sEt -- b\n gLoBaL memory_limit = '1GB'",
    "RESET memory_limit",
    "SET TimeZone = 'CET'",
    "set timezone to 'CET'",
    'SET "TimeZone" = \'CET\'',
    "SET SESSION TimeZone = 'CET'",
    "SET GLOBAL TimeZone = 'CET'",
    "SET TIME ZONE 'CET'",
    "SET SESSION TIME ZONE 'CET'",
    "SET TimeZone = 'CET' -- 'utc'",
    "SET TimeZone = 'CET' /* 'utc'",
    "SET TimeZone = $$CET$$",
    "SET TimeZone = E'CET'",
    "RESET TimeZone",
    "PRAGMA TimeZone = 'CET'",
    "SET Calendar = 'japanese'",
    "SET arrow_large_buffer_size = true",
    "SET arrow_lossless_conversion = true",
    "SET arrow_output_list_view = true",
    "SET arrow_output_version = '1.5'",
    "SET produce_arrow_string_view = true",
    "RESET arrow_large_buffer_size",
    "PRAGMA arrow_large_buffer_size = true",
    "SET errors_as_json = true",
    "PRAGMA errors_as_json = true",
    "SELECT 1; SET GLOBAL threads = 1",
    "SELECT 1; SET TimeZone = 'CET'; SELECT 2",
    "BEGIN; SET TimeZone = 'CET'; COMMIT",
    "PREPARE p AS SET GLOBAL threads = 1; EXECUTE p",
    "\u00a0SET GLOBAL threads = 1",
    "\u200bSET GLOBAL threads = 1",
    "\ufeffSET GLOBAL threads = 1",
    "SELECT 1;\ufeffSET GLOBAL threads = 1",
    "SELECT 1;\u200bSET TimeZone = 'CET'",
    "SET\u2003GLOBAL\u3000threads = 1",
    "SET\u200bGLOBAL\u200bthreads = 1",
    "EXPLAIN ANALYZE SET GLOBAL threads = 1",
    "EXPLAIN ANALYZE SET TimeZone = 'CET'",
    "EXPLAIN ANALYZE SET errors_as_json = true",
    "EXPLAIN (ANALYZE, FORMAT json) SET GLOBAL threads = 1",
    "EXPLAIN ANALYZE RESET GLOBAL threads",
    "EXPLAIN ANALYZE SET schema = 'information_schema'",
    "EXPLAIN ANALYZE SET VARIABLE v = 42",
    "PRAGMA enable_verification",
    "PRAGMA disable_optimizer",
    "PRAGMA enable_profiling",
    "PRAGMA disable_checkpoint_on_shutdown",
]


class TestForAll:
    """Settings that are one for all clients stay what they are, whatever a client says."""

    def everything(self, client):
        settings = dict(client.rows(f"SELECT name, value FROM duckdb_settings() -- {next(UNIQUE)}"))
        return settings, fresh(client, "current_database(), current_schema(), getvariable('v')")

    @pytest.mark.parametrize("sql", REFUSED)
    def test_is_refused_and_changes_nothing(self, alone, sql):
        other = alone()
        before = self.everything(other)
        for way, prelude in product(("run", "update", "rows"), ("SELECT 1", "SET VARIABLE stateful = true")):
            client = alone()
            client.run(prelude)
            refused(getattr(client, way), sql)
            client.close()
            assert self.everything(other) == self.everything(alone()) == before, (way, prelude)

    def test_says_whom_to_ask(self, connect):
        client = connect()
        for sql in ("SET threads = 1", "SET GLOBAL threads = 1", "RESET threads", "SET TimeZone = 'CET'"):
            assert len(refused(client.run, sql, codes="PERMISSION_DENIED", slug="NOT_ALLOWED").text) > 20

    @pytest.mark.parametrize(
        "sql", ["SET timezone='UTC'", "SET TimeZone TO 'utc'", "SET TIME ZONE 'UTC'", "SET SESSION TIME ZONE 'UTC';", 'SET "TimeZone" = \'UTC\'']
    )
    def test_utc_is_what_drivers_get_who_ask_for_it(self, connect, sql):
        client = connect()
        client.run(sql)
        assert fresh(client, "current_setting('timezone')")[0].upper() == "UTC"

    @pytest.mark.parametrize("sql", ["FORCE CHECKPOINT", "CALL force_checkpoint()", "PRAGMA table_info(nextval('s'))"])
    @pytest.mark.parametrize("space", ["\ufeff", "\u200b", "\u2003", "SELECT 1;\ufeff", "SELECT 1;\u200b"])
    def test_gate_sees_through_invisible_spaces(self, alone, space, sql):
        refused(alone().run, space + sql, codes="PERMISSION_DENIED", slug="NOT_ALLOWED")
