"""Transactions and sessions through the stock ADBC driver, whose connections begin with autocommit off."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pytest

from harness import refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

PEOPLE = pa.table({"id": [1, 2, 3], "name": ["Ada", None, "Grace"]})


@pytest.fixture
def connect(server):
    """Opens connections with the driver's default, autocommit off; `autocommit=True` gives the other kind."""
    opened = []

    def connect(**options):
        opened.append(server.adbc(**options))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def run(connection, statement, parameters=None):
    """Executes and closes at once: what a statement does must not depend on anybody reading its result."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def rows(connection, query, parameters=None):
    with connection.cursor() as cursor:
        return cursor.execute(query, parameters).fetchall()


@pytest.fixture
def table(server):
    server.run("CREATE TABLE t AS SELECT 1 AS x")


class TestTransactions:
    def test_commit_shows_what_was_written(self, connect, server, table):
        connection = connect()
        run(connection, "INSERT INTO t VALUES (2)")
        run(connection, "CREATE TABLE made AS SELECT 7 AS x")
        assert rows(connection, "SELECT x FROM t ORDER BY x") == [(1,), (2,)]
        assert server.rows("FROM t") == [(1,)]
        refused(server.sql, "FROM made", codes="NOT_FOUND")
        connection.commit()
        assert server.rows("FROM t ORDER BY x") == [(1,), (2,)]
        assert server.rows("FROM made") == [(7,)]

    def test_rollback_undoes_rows_and_tables(self, connect, server, table):
        connection = connect()
        run(connection, "UPDATE t SET x = 100")
        run(connection, "CREATE TABLE made (x INTEGER)")
        run(connection, "ALTER TABLE t ADD COLUMN y INTEGER")
        connection.rollback()
        assert rows(connection, "FROM t") == [(1,)]
        refused(server.sql, "FROM made", codes="NOT_FOUND")

    def test_a_connection_that_is_closed_without_commit_leaves_nothing(self, connect, server, table):
        connection = connect()
        run(connection, "INSERT INTO t VALUES (2)")
        connection.close()
        assert server.rows("FROM t") == [(1,)]
        # The writer's place is free again: the next one does not wait for it to time out.
        server.run("INSERT INTO t VALUES (3)")

    def test_a_transaction_reads_one_snapshot(self, connect, server, table):
        reader = connect()
        assert rows(reader, "FROM t") == [(1,)]
        server.run("INSERT INTO t VALUES (2)")
        server.put(pa.table({"x": pa.array([3], pa.int32())}), "t")
        assert rows(reader, "FROM t") == [(1,)]
        reader.commit()
        assert rows(reader, "FROM t ORDER BY x") == [(1,), (2,), (3,)]

    def test_two_connections_do_not_see_each_other(self, connect, table):
        writer, reader = connect(), connect()
        run(writer, "INSERT INTO t VALUES (2)")
        assert rows(reader, "FROM t") == [(1,)]
        writer.commit()
        assert rows(reader, "FROM t") == [(1,)]
        reader.commit()
        assert rows(reader, "FROM t ORDER BY x") == [(1,), (2,)]

    def test_the_second_writer_waits_for_the_first(self, connect, server, table):
        first, second = connect(), connect()
        run(first, "INSERT INTO t VALUES (2)")
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(run, second, "INSERT INTO t VALUES (3)")
            first.commit()
            waiting.result(timeout=30)
        second.commit()
        assert server.rows("FROM t ORDER BY x") == [(1,), (2,), (3,)]

    def test_rows_that_were_read_and_changed_since_are_a_conflict(self, connect, server, table):
        connection = connect()
        assert rows(connection, "FROM t") == [(1,)]
        server.run("UPDATE t SET x = 2")
        refused(run, connection, "UPDATE t SET x = 3", codes="ABORTED")
        connection.rollback()
        run(connection, "UPDATE t SET x = 3")
        connection.commit()
        assert server.rows("FROM t") == [(3,)]

    def test_a_failed_transaction_is_over_at_its_rollback(self, connect, server):
        server.run("CREATE TABLE keyed (x INTEGER PRIMARY KEY)")
        connection = connect()
        run(connection, "INSERT INTO keyed VALUES (1)")
        refused(run, connection, "INSERT INTO keyed VALUES (1)", codes="ALREADY_EXISTS")
        connection.rollback()
        assert rows(connection, "FROM keyed") == []
        run(connection, "INSERT INTO keyed VALUES (1)")
        connection.commit()
        assert server.rows("FROM keyed") == [(1,)]

    def test_a_failed_transaction_cannot_be_committed(self, connect, server):
        server.run("CREATE TABLE keyed (x INTEGER PRIMARY KEY)")
        connection = connect()
        run(connection, "INSERT INTO keyed VALUES (1)")
        refused(run, connection, "INSERT INTO keyed VALUES (1)", codes="ALREADY_EXISTS")
        refused(connection.commit)
        assert server.rows("FROM keyed") == []

    def test_switching_autocommit_on_commits(self, connect, server, table):
        connection = connect()
        run(connection, "INSERT INTO t VALUES (2)")
        connection.adbc_connection.set_autocommit(True)
        assert server.rows("FROM t ORDER BY x") == [(1,), (2,)]
        run(connection, "INSERT INTO t VALUES (3)")
        assert server.rows("FROM t ORDER BY x") == [(1,), (2,), (3,)]

    def test_switching_autocommit_off_begins(self, connect, server, table):
        connection = connect(autocommit=True)
        connection.adbc_connection.set_autocommit(False)
        run(connection, "INSERT INTO t VALUES (2)")
        connection.rollback()
        assert server.rows("FROM t") == [(1,)]

    @pytest.mark.parametrize("end, kept", [("commit", 3), ("rollback", 0)])
    def test_ingest_belongs_to_the_transaction(self, connect, server, end, kept):
        server.run("CREATE TABLE people (id BIGINT, name VARCHAR)")
        connection = connect()
        with connection.cursor() as cursor:
            assert cursor.adbc_ingest("people", PEOPLE, mode="append") == 3
        assert rows(connection, "SELECT count(*) FROM people") == [(3,)]
        assert server.rows("SELECT count(*) FROM people") == [(0,)]
        getattr(connection, end)()
        assert server.rows("SELECT count(*) FROM people") == [(kept,)]

    @pytest.mark.parametrize("end, kept", [("commit", 500), ("rollback", 0)])
    def test_executemany_belongs_to_the_transaction(self, connect, server, end, kept):
        server.run("CREATE TABLE n (x BIGINT)")
        connection = connect()
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO n VALUES (?)", [(i,) for i in range(500)])
            assert cursor.rowcount == 500
        getattr(connection, end)()
        assert server.rows("SELECT count(*) FROM n") == [(kept,)]

    @pytest.mark.parametrize("end, kept", [("COMMIT", [(1,), (2,)]), ("ROLLBACK", [(1,)])])
    def test_in_sql(self, connect, server, table, end, kept):
        connection = connect(autocommit=True)
        run(connection, "BEGIN TRANSACTION")
        run(connection, "INSERT INTO t VALUES (2)")
        assert rows(connection, "FROM t ORDER BY x") == [(1,), (2,)]
        assert server.rows("FROM t") == [(1,)]
        run(connection, end)
        assert server.rows("FROM t ORDER BY x") == kept


class TestCursorsSideBySide:
    def test_two_results_are_read_in_turn(self, connect):
        connection = connect()
        with connection.cursor() as one, connection.cursor() as other:
            one.execute("SELECT range AS i FROM range(200000)")
            other.execute("SELECT -range AS i FROM range(200000)")
            for begin in range(0, 200_000, 50_000):
                expected = list(range(begin, begin + 50_000))
                assert [i for (i,) in one.fetchmany(50_000)] == expected
                assert [-i for (i,) in other.fetchmany(50_000)] == expected
            assert one.fetchone() is None
            assert other.fetchone() is None

    def test_a_write_between_two_fetches_does_not_change_the_result(self, connect, server):
        server.run("CREATE TABLE n AS SELECT range AS x FROM range(200000)")
        connection = connect()
        with connection.cursor() as reader:
            reader.execute("SELECT x FROM n ORDER BY x")
            first = reader.fetchone()
            run(connection, "DELETE FROM n")
            assert [first, *reader.fetchall()] == [(i,) for i in range(200_000)]
        assert rows(connection, "SELECT count(*) FROM n") == [(0,)]
        connection.rollback()
        assert server.rows("SELECT count(*) FROM n") == [(200_000,)]


class TestSessions:
    @pytest.fixture(autouse=True)
    def schema(self, server):
        server.run("CREATE SCHEMA IF NOT EXISTS s")
        server.run("CREATE OR REPLACE TABLE s.only_here AS SELECT 5 AS x")

    @pytest.fixture(params=[True, False], ids=["autocommit", "driver's default"])
    def two(self, request, connect):
        options = {"autocommit": True} if request.param else {}
        return connect(**options), connect(**options)

    def test_use_holds_for_one_connection(self, two):
        mine, other = two
        run(mine, "USE s")
        assert rows(mine, "FROM only_here") == [(5,)]
        assert rows(mine, "SELECT current_schema()") == [("s",)]
        assert rows(other, "SELECT current_schema()") == [("main",)]
        refused(rows, other, "FROM only_here", codes="NOT_FOUND")

    @pytest.mark.parametrize("scope", ["", "SESSION"])
    def test_settings_hold_for_one_connection(self, two, scope):
        mine, other = two
        before = rows(other, "SELECT current_setting('default_null_order')")
        run(mine, f"SET {scope} default_null_order = 'nulls_first'")
        assert rows(mine, "SELECT v FROM (VALUES (1), (NULL)) AS t(v) ORDER BY v") == [(None,), (1,)]
        assert rows(other, "SELECT current_setting('default_null_order')") == before
        assert rows(other, "SELECT v FROM (VALUES (1), (NULL)) AS t(v) ORDER BY v") == [(1,), (None,)]

    def test_variables_hold_for_one_connection(self, two):
        mine, other = two
        run(mine, "SET VARIABLE answer = 42")
        assert rows(mine, "SELECT getvariable('answer')") == [(42,)]
        assert rows(other, "SELECT getvariable('answer')") == [(None,)]

    def test_temporary_tables_hold_for_one_connection(self, two, server):
        mine, other = two
        run(mine, "CREATE TEMPORARY TABLE scratch AS SELECT 1 AS x")
        run(other, "CREATE TEMPORARY TABLE scratch AS SELECT 2 AS x")
        run(mine, "INSERT INTO scratch VALUES (10)")
        assert rows(mine, "FROM scratch ORDER BY x") == [(1,), (10,)]
        assert rows(other, "FROM temp.main.scratch") == [(2,)]
        refused(server.sql, "FROM scratch", codes="NOT_FOUND")

    def test_temporary_tables_can_be_ingested(self, two, server):
        mine, other = two
        with mine.cursor() as cursor:
            assert cursor.adbc_ingest("scratch", PEOPLE, mode="create", temporary=True) == 3
            assert cursor.adbc_ingest("scratch", PEOPLE, mode="append", temporary=True) == 3
        assert rows(mine, "SELECT count(*), count(name) FROM scratch") == [(6, 4)]
        refused(rows, other, "FROM scratch", codes="NOT_FOUND")
        refused(server.sql, "FROM scratch", codes="NOT_FOUND")

    def test_current_catalog_and_schema_are_read_and_set(self, two):
        mine, other = two
        assert (mine.adbc_current_catalog, mine.adbc_current_db_schema) == ("db", "main")
        mine.adbc_current_db_schema = "s"
        assert (mine.adbc_current_catalog, mine.adbc_current_db_schema) == ("db", "s")
        assert rows(mine, "FROM only_here") == [(5,)]
        assert other.adbc_current_db_schema == "main"
        mine.adbc_current_catalog = "db"
        assert mine.adbc_current_catalog == "db"

    def test_schema_that_sql_chose_is_the_session_option(self, two):
        mine, _ = two
        run(mine, "USE s")
        assert mine.adbc_current_db_schema == "s"

    def test_catalog_and_schema_given_at_connect(self, connect):
        connection = connect(
            conn_kwargs={"adbc.connection.catalog": "db", "adbc.connection.db_schema": "s"}, autocommit=True
        )
        assert rows(connection, "FROM only_here") == [(5,)]

    def test_all_session_options_at_once(self, two):
        options = json.loads(two[0].adbc_connection.get_option("adbc.flight.sql.session.options"))
        assert (options["catalog"], options["schema"]) == ("db", "main")

    def test_unknown_schema_is_refused_and_changes_nothing(self, two):
        mine, _ = two
        with pytest.raises(mine.Error):
            mine.adbc_current_db_schema = "nowhere"
        assert mine.adbc_current_db_schema == "main"

    def test_ingest_goes_to_the_current_schema(self, two, server):
        mine, _ = two
        mine.adbc_current_db_schema = "s"
        with mine.cursor() as cursor:
            assert cursor.adbc_ingest("people", PEOPLE, mode="create_append") == 3
        mine.commit()
        assert server.rows("SELECT count(*) FROM s.people") == [(3,)]


class TestPartitions:
    def test_are_read_by_this_and_another_connection(self, connect, server):
        server.run("CREATE TABLE n AS SELECT range AS i FROM range(100000)")
        mine, other = connect(), connect()
        with mine.cursor() as cursor:
            partitions, schema = cursor.adbc_execute_partitions("SELECT i FROM n WHERE i >= 50000 ORDER BY i")
        assert schema == pa.schema([("i", pa.int64())])
        for connection in (mine, other):
            with connection.cursor() as reader:
                reader.adbc_read_partition(*partitions)
                assert reader.fetch_arrow_table()["i"].to_pylist() == list(range(50_000, 100_000))

    def test_show_the_reader_s_own_transaction(self, connect, table):
        connection = connect()
        run(connection, "INSERT INTO t VALUES (2)")
        with connection.cursor() as cursor:
            [partition], _ = cursor.adbc_execute_partitions("FROM t ORDER BY x")
            cursor.adbc_read_partition(partition)
            assert cursor.fetchall() == [(1,), (2,)]


class TestCancel:
    def test_from_another_thread_ends_the_query_and_frees_its_place(self, start, database):
        server = start(database, "--read-concurrency", "1")
        with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT range AS i FROM range(1000000000000)")
            assert cursor.fetchone() == (0,)  # it runs
            ended = []

            def read_to_its_end():
                try:
                    ended.append(sum(1 for _ in iter(cursor.fetchone, None)))
                except connection.Error as error:
                    ended.append(error)

            reader = threading.Thread(target=read_to_its_end)
            reader.start()
            cursor.adbc_cancel()
            reader.join(30)
            assert not reader.is_alive(), "the query goes on"
            assert isinstance(ended[0], connection.OperationalError), ended
            assert "cancel" in str(ended[0]).lower()
            # The only place for a read is free again.
            assert rows(connection, "SELECT 1") == [(1,)]


class TestLargeResults:
    def test_a_million_rows_are_those_of_duckdb(self, connect):
        query = """
            SELECT i, i % 7 = 0 AS flag, (i * 31 % 1000) / 8 AS share, 'row ' || i AS name,
                   DATE '2024-01-01' + (i % 366)::INTEGER AS day, CASE WHEN i % 3 > 0 THEN i END AS gaps
            FROM range(1000000) AS t(i) ORDER BY i
        """
        with connect().cursor() as cursor:
            received = cursor.execute(query).fetch_arrow_table()
        assert received.equals(duckdb.sql(query).to_arrow_table())
