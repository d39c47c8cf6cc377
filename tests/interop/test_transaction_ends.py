"""How transactions end that nobody ends: by a failure, by resting, with their client, with the server."""

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from client import Client
from harness import refused
from workers import ENDLESS, FAILS_BETWEEN_FETCHES, begin_and_wait

pytestmark = pytest.mark.usefixtures("no_tables_left_over")


@pytest.fixture
def table(server):
    server.run("CREATE TABLE t (x BIGINT PRIMARY KEY)")
    server.run("INSERT INTO t VALUES (1), (2)")


def numbers(*values):
    return pa.table({"x": pa.array(values, pa.int64())})


def x(client):
    return [x for (x,) in client.rows("SELECT x FROM t ORDER BY x")]


def lost(call, *arguments):
    return refused(call, *arguments, codes="ABORTED", slug="TRANSACTION_LOST")


def promptly_takes_the_turn(client, sql="INSERT INTO t VALUES (3)"):
    usual, client.options = client.options, flight.FlightCallOptions(timeout=4)
    client.run(sql)
    client.options = usual


def cut_off(client, sql, transaction):
    """Runs a write with a deadline that it cannot keep; the client or the server may be the first to notice."""
    usual, client.options = client.options, flight.FlightCallOptions(timeout=0.3)
    try:
        with pytest.raises((flight.FlightTimedOutError, flight.FlightCancelledError)):
            client.update(sql, transaction)
    finally:
        client.options = usual


FAILING = {
    "conversion": "INSERT INTO t VALUES ('no number')",
    "constraint": "INSERT INTO t VALUES (1)",
    "in mid-stream": "SELECT CASE WHEN range = 900000 THEN error('late') ELSE range END FROM range(1000000)",
    "a write with RETURNING": "INSERT INTO t SELECT range FROM range(10, 20) RETURNING CAST('a' || x AS INTEGER)",
}
ABORTED = dict(codes="FAILED_PRECONDITION", slug="TRANSACTION_ABORTED")


@pytest.mark.usefixtures("table")
class TestFailure:
    @pytest.mark.parametrize("statement", FAILING.values(), ids=FAILING)
    @pytest.mark.parametrize("by_handle", [True, False], ids=["by handle", "by SQL"])
    def test_of_a_statement_leaves_only_the_rollback(self, connect, statement, by_handle):
        client, other = connect(), connect()
        for end in ("COMMIT", "ROLLBACK"):
            handle = client.begin() if by_handle else client.run("BEGIN") and b""
            client.rows("INSERT INTO t VALUES (7) RETURNING x", handle)
            refused(client.rows, statement, handle)
            told = refused(client.rows, "SELECT 'aborted'", handle, **ABORTED)
            assert "roll the transaction back" in told.text, told
            refused(client.ingest, numbers(8), "t", "append", handle, **ABORTED)
            if end == "COMMIT":
                lost(client.commit, handle) if by_handle else lost(client.run, "COMMIT")
            else:
                client.rollback(handle) if by_handle else client.run("ROLLBACK")
            promptly_takes_the_turn(other, "INSERT INTO t VALUES (3)")
            assert x(client) == [1, 2, 3], "the session goes on outside"
            other.run("DELETE FROM t WHERE x = 3")

    @pytest.mark.parametrize("by_handle", [True, False], ids=["by handle", "by SQL"])
    def test_of_half_a_script_leaves_only_the_rollback(self, connect, by_handle):
        """DuckDB would go on: nothing but the name of a table was wrong."""
        client, other = connect(), connect()
        for end in ("COMMIT", "ROLLBACK"):
            handle = client.begin() if by_handle else client.run("BEGIN") and b""
            refused(client.update, "INSERT INTO t VALUES (7); INSERT INTO missing VALUES (1)", handle, codes="NOT_FOUND")
            for call in (client.rows, client.update, client.prepare):
                refused(call, "INSERT INTO t VALUES (8)", handle, **ABORTED)
                refused(call, "FROM t", handle, **ABORTED)
            refused(client.ingest, numbers(9), "t", "append", handle, **ABORTED)
            refused(client.run, "USE main", **ABORTED)
            if end == "COMMIT":
                lost(client.commit, handle) if by_handle else lost(client.run, "COMMIT")
            else:
                client.rollback(handle) if by_handle else client.rows("ROLLBACK")
            assert x(other) == [1, 2]
            assert x(client) == [1, 2], "the session goes on outside"

    @pytest.mark.parametrize("sql", ["SELEC 1", "FROM missing", "SELECT nosuch FROM t"])
    def test_of_planning_keeps_all_or_nothing(self, connect, sql):
        client = connect()
        with client.transaction() as transaction:
            client.update("INSERT INTO t VALUES (3)", transaction)
            refused(client.rows, sql, transaction, codes=["INVALID_ARGUMENT", "NOT_FOUND"])
            try:
                client.commit(transaction)
                assert x(client) == [1, 2, 3]
            except flight.FlightError:
                assert x(client) == [1, 2]

    def test_of_a_query_between_two_fetches_is_no_cancellation(self, connect):
        """Here the query cannot run again for its reason. Of a cancelled call pyarrow would make a Ctrl-C."""
        client, told = connect(), set()
        for _ in range(40):
            with client.transaction() as transaction:
                told.add(refused(client.rows, FAILS_BETWEEN_FETCHES, transaction).slug)
                lost(client.commit, transaction)
        assert "BINDER" in told and told <= {"BINDER", "CAUSE_LOST"}

    def test_of_the_driver_is_over_with_its_rollback(self, server):
        with server.adbc() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES (7)")
            refused(cursor.execute, FAILING["constraint"], codes="ALREADY_EXISTS")
            connection.rollback()
            cursor.execute("INSERT INTO t VALUES (8)")
            connection.commit()
        assert server.rows("FROM t ORDER BY x") == [(1,), (2,), (8,)]

    def test_of_the_commit_itself_writes_nothing(self, connect):
        client, loader = connect(), connect()
        with client.transaction() as transaction:
            client.update("INSERT INTO t VALUES (5)", transaction)
            loader.put(numbers(5), "t")
            refused(client.commit, transaction, codes=["ABORTED", "ALREADY_EXISTS"])
            promptly_takes_the_turn(loader)
            client.commit(client.begin())
        assert x(loader) == [1, 2, 3, 5]


class TestRest:
    def rests(self, client, seconds, meanwhile):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            meanwhile()

    def test_too_long_rolls_back(self, start, database):
        server = start(database, "--transaction-idle", "1s")
        server.run("CREATE TABLE t (x BIGINT)")
        with Client(server.uri) as handles, Client(server.uri) as sql, Client(server.uri) as busy:
            with server.adbc() as connection, connection.cursor() as cursor, server.adbc() as unaware:
                reading, alive = handles.begin(), busy.begin()
                assert handles.rows("FROM t", reading) == []
                sql.run("BEGIN; INSERT INTO t VALUES (666)")
                assert cursor.execute("FROM t").fetchall() == []
                with unaware.cursor() as second:
                    assert second.execute("FROM t").fetchall() == []
                self.rests(busy, 2.2, lambda: busy.rows("FROM t", alive))

                assert "1s" in lost(handles.rows, "FROM t", reading).text
                lost(handles.ingest, numbers(1), "t", "append", reading)
                lost(handles.commit, reading)
                refused(handles.commit, reading, codes="NOT_FOUND", slug="UNKNOWN_TRANSACTION")
                handles.commit(handles.begin())

                lost(sql.run, "INSERT INTO t VALUES (666)")
                lost(sql.run, "BEGIN")
                lost(sql.run, "COMMIT")
                sql.run("BEGIN; INSERT INTO t VALUES (1); COMMIT")

                lost(cursor.execute, "INSERT INTO t VALUES (666)")
                connection.rollback()
                cursor.execute("INSERT INTO t VALUES (2)")
                connection.commit()
                lost(unaware.commit)

                busy.commit(alive)
                assert x(busy) == [1, 2]

    def test_while_others_wait_rolls_back(self, start, database):
        server = start(database, "--transaction-yield", "1s")
        server.run("CREATE TABLE t (x BIGINT)")
        with Client(server.uri) as client, Client(server.uri) as reader, Client(server.uri) as other:
            writing, reading = client.begin(), reader.begin()
            client.update("INSERT INTO t VALUES (666)", writing)
            assert reader.rows("FROM t", reading) == []
            promptly_takes_the_turn(other)
            lost(client.update, "INSERT INTO t VALUES (667)", writing)
            lost(client.commit, writing)
            assert reader.rows("FROM t", reading) == [], "who has not written is in nobody's way"
            reader.commit(reading)
            assert x(reader) == [3]

    def test_counts_when_somebody_waits_just_as_when_nobody_does(self, start, database):
        server = start(database, "--transaction-idle", "1s", "--transaction-yield", "10min")
        server.run("CREATE TABLE t (x BIGINT)")
        with Client(server.uri) as client, Client(server.uri) as other:
            with client.transaction() as writing:
                client.update("INSERT INTO t VALUES (666)", writing)
                promptly_takes_the_turn(other)
                lost(client.commit, writing)
            assert x(other) == [3]


@pytest.mark.usefixtures("table")
class TestClient:
    @pytest.mark.parametrize("how", ["nothing", "a result half read", "an upload half sent", "a statement"])
    def test_that_is_killed_frees_the_turn(self, server, connect, how):
        other, spawn = connect(), multiprocessing.get_context("spawn")
        begun = spawn.Event()
        process = spawn.Process(target=begin_and_wait, args=(server.uri, how, begun))
        process.start()
        assert begun.wait(30)
        process.kill()
        process.join()
        promptly_takes_the_turn(other, "UPDATE t SET x = x + 10")
        assert x(other) == [11, 12]

    @pytest.mark.parametrize("how", ["by handle", "by SQL", "several"])
    def test_that_closes_its_connection_frees_the_turn(self, connect, how):
        client, other = connect(), connect()
        if how == "by SQL":
            client.run("BEGIN; INSERT INTO t VALUES (666)")
        else:
            handles = [client.begin() for _ in range(1 if how == "by handle" else 5)]
            client.update("INSERT INTO t VALUES (666)", handles[-1])
        client.close()
        promptly_takes_the_turn(other)
        assert x(other) == [1, 2, 3]

    def test_that_closes_its_session_frees_the_turn(self, connect):
        client, other = connect(), connect()
        transaction = client.begin()
        client.update("INSERT INTO t VALUES (666)", transaction)
        [closed] = client.action("CloseSession")
        assert closed == b"\x08\x01"
        promptly_takes_the_turn(other)
        refused(client.commit, transaction, codes="NOT_FOUND", slug="UNKNOWN_TRANSACTION")
        assert x(client) == [1, 2, 3], "a new session begins"

    def test_with_a_cookie_that_vanishes_leaves_no_transaction(self, server, connect):
        client, other = connect(), connect()
        cookie = client.cookie()
        client.run("CREATE TEMP TABLE mine AS SELECT 1 AS one")
        client.run("BEGIN; INSERT INTO t VALUES (666)")
        client.close()
        promptly_takes_the_turn(other)
        back = connect(headers=[cookie])
        assert "connection was lost" in lost(back.rows, "FROM mine").text
        back.run("ROLLBACK")
        assert back.rows("FROM mine") == [(1,)], "its session stays"
        assert x(back) == [1, 2, 3]

    def test_that_cancels_a_short_write_does_not_commit_it_later(self, connect):
        """Who was told that a statement was cut off must not find its rows after the commit."""
        client, other = connect(), connect()
        with client.transaction() as transaction:
            client.update("INSERT INTO t VALUES (4)", transaction)
            about_a_second = "INSERT INTO t SELECT max(length(sha256(range::VARCHAR)))::BIGINT FROM range(5000000)"
            cut_off(client, about_a_second, transaction)
            try:
                client.commit(transaction)
            except pa.ArrowException as error:
                assert "TRANSACTION_LOST" in str(error)
        assert x(other) in ([1, 2], [1, 2, 4])

    def test_that_cancels_a_write_undoes_it(self, server, connect):
        client, other = connect(), connect()
        with client.transaction() as transaction:
            client.update("INSERT INTO t VALUES (4)", transaction)
            cut_off(client, f"INSERT INTO t SELECT max(hash(a.range, b.range) % 9)::BIGINT FROM {ENDLESS}", transaction)
            lost(client.commit, transaction)
        promptly_takes_the_turn(other)
        assert x(other) == [1, 2, 3]


class TestServer:
    def test_that_is_killed_keeps_what_was_committed_and_nothing_else(self, start, database):
        server = start(database)
        server.run("CREATE TABLE t (x BIGINT); CREATE TABLE changed AS SELECT 1 AS x")
        with Client(server.uri) as client, Client(server.uri) as open, Client(server.uri) as third:
            for number in range(5):
                with client.transaction() as transaction:
                    client.ingest(numbers(number), "t", "append", transaction)
                    client.update("UPDATE changed SET x = x + 1", transaction)
                    client.commit(transaction)
            uncommitted = open.begin()
            open.update("UPDATE changed SET x = 666", uncommitted)
            open.update("CREATE TABLE new AS SELECT 1", uncommitted)
            open.ingest(numbers(*range(100, 500_000)), "t", "append", uncommitted)  # whole row groups
            third.run("BEGIN")
            third.put(numbers(777), "t")
            client.put(numbers(5), "t")  # its commit syncs the log that all share
            server.kill()
        with duckdb.connect(database) as db:
            assert db.sql("FROM t ORDER BY x").fetchall() == [(number,) for number in range(6)]
            assert db.sql("FROM changed").fetchall() == [(6,)]
            assert "new" not in [name for (name,) in db.sql("SELECT table_name FROM duckdb_tables()").fetchall()]

    def test_that_is_killed_amid_transactions_keeps_the_acknowledged_ones_whole(self, start, database):
        server = start(database)
        server.run("CREATE TABLE t (client BIGINT, number BIGINT)")
        acknowledged, progress = [], threading.Semaphore(0)

        def work(me):
            with Client(server.uri) as client:
                for number in range(100_000):
                    data = pa.table({"client": [me], "number": [number]})
                    try:
                        transaction = client.begin()
                        client.ingest(data, "t", "append", transaction)
                        client.update(f"INSERT INTO t VALUES ({me}, {number})", transaction)
                        client.commit(transaction)
                    except pa.ArrowException:
                        return
                    acknowledged.append((me, number))
                    progress.release()

        with ThreadPoolExecutor(4) as pool:
            for me in range(4):
                pool.submit(work, me)
            for _ in range(40):
                assert progress.acquire(timeout=30)
            server.kill()
        with duckdb.connect(database) as db:
            counts = db.sql("SELECT client, number, count(*) FROM t GROUP BY ALL").fetchall()
        assert {count for *_, count in counts} == {2}
        stored = {(me, number) for me, number, _ in counts}
        assert set(acknowledged) <= stored and len(stored) <= len(acknowledged) + 4

    def test_that_stops_waits_for_no_open_transaction(self, start, database):
        server = start(database)
        server.run("CREATE TABLE t (x BIGINT)")
        with Client(server.uri) as client:
            client.update("INSERT INTO t VALUES (666)", client.begin())
            begin = time.monotonic()
            server.stop()
            assert time.monotonic() - begin < 10
        assert start(database).rows("FROM t") == []
