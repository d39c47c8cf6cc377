"""Explicit transactions: by handle, by SQL, by the driver; their isolation, their turn, and their end."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

import wire
from harness import Server, refusal, refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

WAIT = 1  # seconds that a write waits for its turn


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Uploads above 256 KiB are bulk uploads here."""
    folder = tmp_path_factory.mktemp("server")
    options = ["--read-wait", f"{WAIT}s", "--bulk-size", "256KiB"]
    server = Server(folder / "db.duckdb", *options, log=folder / "log")
    yield server
    server.stop()


@pytest.fixture
def table(server):
    """The table t of one column x, with the rows 1 and 2."""
    server.run("CREATE TABLE t AS SELECT unnest([1, 2])::BIGINT AS x")


def numbers(*values):
    return pa.table({"x": pa.array(values, pa.int64())})


def count(client, table="t", transaction=b""):
    return client.one(f"SELECT count(*) FROM {table}", transaction)


def lost(call, *arguments):
    return refused(call, *arguments, codes="ABORTED", slug="TRANSACTION_LOST")


def write_busy(call, *arguments):
    return refused(call, *arguments, codes="RESOURCE_EXHAUSTED", slug="WRITE_BUSY")


@pytest.mark.usefixtures("table")
class TestHandles:
    def test_commit_keeps_and_rollback_undoes(self, connect):
        client, other = connect(), connect()
        kept = client.begin()
        assert client.update("INSERT INTO t VALUES (3)", kept) == 1
        client.commit(kept)
        undone = client.begin()
        assert client.update("DELETE FROM t", undone) == 3
        client.rollback(undone)
        assert other.rows("FROM t ORDER BY x") == [(1,), (2,), (3,)]

    def test_own_writes_are_visible_and_those_of_others_only_after_their_commit(self, connect):
        client, other = connect(), connect()
        with client.transaction() as transaction:
            client.update("UPDATE t SET x = x * 10", transaction)
            assert client.rows("FROM t ORDER BY x", transaction) == [(10,), (20,)]
            assert other.rows("FROM t ORDER BY x") == [(1,), (2,)]
            client.commit(transaction)
        assert other.rows("FROM t ORDER BY x") == [(10,), (20,)]

    def test_snapshot_is_that_of_the_first_statement_and_stays(self, connect):
        client, other = connect(), connect()
        with client.transaction() as transaction:
            other.run("INSERT INTO t VALUES (3)")
            assert count(client, transaction=transaction) == 3
            other.run("INSERT INTO t VALUES (4)")
            other.put(numbers(5), "t")
            other.run("CREATE TABLE new AS SELECT 1")
            assert count(client, transaction=transaction) == 3
            assert client.rows("SELECT max(x) FROM t", transaction) == [(3,)]
            refused(client.rows, "FROM new", transaction, codes="NOT_FOUND")
        assert count(client) == 5

    def test_several_in_one_session_see_only_their_own(self, connect):
        client = connect()
        with client.transaction() as one, client.transaction() as two:
            client.update("INSERT INTO t VALUES (3)", one)
            assert [count(client, transaction=handle) for handle in (one, two)] == [3, 2]
            assert count(client) == 2, "without a handle, and with two open, a statement belongs to neither"
            client.commit(one)
            assert [count(client, transaction=two), count(client)] == [3 - 1, 2], "the only open one is meant"
        assert count(client) == 3

    def test_several_sessions_side_by_side(self, connect):
        clients = [connect() for _ in range(10)]
        handles = [client.begin() for client in clients]
        assert [count(c, transaction=h) for c, h in zip(clients, handles)] == [2] * 10
        for number, (client, handle) in enumerate(zip(clients, handles)):
            client.update(f"INSERT INTO t VALUES ({number + 10})", handle)
            client.end(handle, 1 + number % 2)
        assert count(clients[0]) == 2 + 5

    def test_statement_without_a_handle_belongs_to_the_only_open_one(self, connect):
        client, other = connect(), connect()
        with client.transaction():
            client.run("INSERT INTO t VALUES (3)")
            assert (count(client), count(other)) == (3, 2)
        assert count(client) == 2

    def test_conflict_of_two_says_that_it_may_be_tried_again(self, connect):
        client, other = connect(), connect()
        with client.transaction() as transaction:
            assert count(client, transaction=transaction) == 2
            other.run("UPDATE t SET x = 5 WHERE x = 1")
            status = refused(client.update, "UPDATE t SET x = 6 WHERE x = 1", transaction, codes="ABORTED")
            assert re.search("try|again|retry", status.text), status
            lost(client.commit, transaction)
        assert other.rows("FROM t ORDER BY x") == [(2,), (5,)]

    @pytest.mark.parametrize("action", ["commit", "rollback"])
    def test_handle_that_is_not_open_is_unknown(self, connect, action):
        client, other = connect(), connect()
        ended, open = client.begin(), client.begin()
        client.commit(ended)
        unknown = dict(codes="NOT_FOUND", slug="UNKNOWN_TRANSACTION")
        for handle in (ended, b"made up", b"", b"\0" * 10_000):
            refused(getattr(client, action), handle, **unknown)
        refused(getattr(other, action), open, **unknown)
        refused(other.rows, "FROM t", open, **unknown)
        refused(other.update, "DELETE FROM t", open, **unknown)
        refused(other.ingest, numbers(3), "t", "append", open, **unknown)
        refused(other.prepare, "FROM t", open, **unknown)
        client.rollback(open)
        assert count(client) == 2

    @pytest.mark.parametrize("action", [0, 3, 2**31 - 1])
    def test_end_without_saying_how_leaves_it_open(self, connect, action):
        client = connect()
        with client.transaction() as transaction:
            client.update("INSERT INTO t VALUES (3)", transaction)
            refused(client.end, transaction, action, codes="INVALID_ARGUMENT")
            client.commit(transaction)
        assert count(client) == 3

    def test_hostile_bodies_are_refused(self, connect):
        client = connect()
        for name in ("BeginTransaction", "EndTransaction"):
            for body in (b"", b"\xff" * 50, wire.sql_command("ActionClosePreparedStatementRequest")):
                refused(client.action, name, body, codes="INVALID_ARGUMENT")

    def test_there_are_no_savepoints(self, connect):
        client = connect()
        listed = {action.type for action in client.flight.list_actions()}
        assert {"BeginTransaction", "EndTransaction"} <= listed
        assert not listed & {"BeginSavepoint", "EndSavepoint"}
        with client.transaction() as transaction:
            refused(client.sql_action, "BeginSavepoint", (1, transaction), (2, "s"), codes="UNIMPLEMENTED")
            refused(client.sql_action, "EndSavepoint", (1, b"s"), (2, 1), codes="UNIMPLEMENTED")

    def test_session_has_a_bounded_number_and_others_go_on(self, connect):
        client, other = connect(), connect()
        handles = [client.begin() for _ in range(64)]
        refused(client.begin, codes="RESOURCE_EXHAUSTED")
        other.commit(other.begin())
        client.commit(handles.pop())
        client.commit(client.begin())

    def test_prepared_statement_of_a_transaction(self, connect):
        client, other = connect(), connect()
        with client.transaction() as transaction:
            prepared = client.prepare("INSERT INTO t VALUES (?)", transaction)
            command = wire.sql_command("CommandPreparedStatementUpdate", (1, prepared))
            assert client.count(client.exchange(command, numbers(3, 4, 5))) == 3
            assert (count(client, transaction=transaction), count(other)) == (5, 2)
        assert count(other) == 2

    def test_returning_and_statements_that_write_in_disguise(self, connect):
        client, other = connect(), connect()
        other.run("CREATE SEQUENCE s")
        with client.transaction() as transaction:
            assert client.rows("INSERT INTO t VALUES (3), (4) RETURNING x + 1", transaction) == [(4,), (5,)]
            assert client.rows("SELECT nextval('s')", transaction) == [(1,)]
            assert client.rows("EXPLAIN ANALYZE DELETE FROM t WHERE x = 1", transaction)
            assert (count(client, transaction=transaction), count(other)) == (3, 2)
            client.commit(transaction)
        assert other.rows("FROM t ORDER BY x") == [(2,), (3,), (4,)]
        other.run("DROP SEQUENCE s")

    def test_ddl_is_undone_and_done_like_everything_else(self, connect):
        client, other = connect(), connect()
        for end, columns in ((client.rollback, ["x"]), (client.commit, ["x", "y"])):
            with client.transaction() as transaction:
                client.update("CREATE TABLE new (a INTEGER)", transaction)
                client.update("ALTER TABLE t ADD COLUMN y VARCHAR", transaction)
                client.update("INSERT INTO t VALUES (3, 'three')", transaction)
                refused(other.rows, "FROM new", codes="NOT_FOUND")
                assert other.sql_names("FROM t") == ["x"]
                end(transaction)
            assert other.sql_names("FROM t") == columns
        assert other.rows("FROM new") == []
        assert other.put(pa.table({"x": [4], "y": ["four"]}), "t").rows == 1


@pytest.mark.usefixtures("table")
class TestDriver:
    def test_commit_and_rollback(self, server, connect):
        other = connect()
        with server.adbc() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES (3)")
            assert count(other) == 2
            connection.commit()
            assert count(other) == 3
            cursor.execute("DELETE FROM t")
            assert cursor.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
            connection.rollback()
            assert cursor.execute("SELECT count(*) FROM t").fetchall() == [(3,)]

    def test_closed_without_commit_leaves_nothing(self, server, connect):
        with server.adbc() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES (3)")
        connect().run("INSERT INTO t VALUES (4)")
        assert connect().rows("FROM t ORDER BY x") == [(1,), (2,), (4,)]

    def test_executemany(self, server, connect):
        other = connect()
        with server.adbc() as connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(3, 103)])
            assert cursor.execute("SELECT count(*) FROM t").fetchall() == [(102,)]
            connection.rollback()
            assert count(other) == 2
            cursor.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(3, 103)])
            connection.commit()
        assert count(other) == 102

    @pytest.mark.parametrize("mode", ["create", "append", "replace", "create_append"])
    @pytest.mark.parametrize("rows", [3, 100_000], ids=["small", "bulk"])
    def test_ingest(self, server, connect, mode, rows):
        other, data = connect(), numbers(*range(rows))
        name = "t" if mode in ("append", "replace") else "new"
        expected = {"append": rows + 2}.get(mode, rows)
        with server.adbc() as connection, connection.cursor() as cursor:
            for end in (connection.rollback, connection.commit):
                assert cursor.adbc_ingest(name, data, mode) == rows
                assert cursor.execute(f"SELECT count(*) FROM {name}").fetchall() == [(expected,)]
                if name == "t":
                    assert count(other) == 2
                else:
                    refused(other.rows, "FROM new", codes="NOT_FOUND")
                end()
        assert count(other, name) == expected


@pytest.mark.usefixtures("table")
class TestTurn:
    def test_second_writer_is_told_to_come_back(self, connect):
        client, other, third = connect(), connect(), connect()
        with client.transaction() as transaction, other.transaction() as waiting:
            client.update("INSERT INTO t VALUES (3)", transaction)
            begin = time.monotonic()
            write_busy(third.run, "INSERT INTO t VALUES (4)")
            assert WAIT * 0.9 < time.monotonic() - begin < WAIT + 3
            write_busy(other.update, "CREATE TABLE new (a INTEGER)", waiting)
            client.commit(transaction)
            other.update("INSERT INTO t VALUES (5)", waiting)
            other.commit(waiting)
        assert third.rows("FROM t ORDER BY x") == [(1,), (2,), (3,), (5,)]

    def test_second_writer_goes_on_when_the_first_ends(self, connect):
        client, others = connect(), [connect() for _ in range(4)]
        with client.transaction() as transaction, ThreadPoolExecutor(4) as pool:
            client.update("UPDATE t SET x = x + 1", transaction)
            writes = [pool.submit(other.run, "UPDATE t SET x = x + 10") for other in others]
            assert not any(write.done() for write in writes)
            client.commit(transaction)
            for write in writes:
                assert write.result() == [(2,)]
        assert client.rows("FROM t ORDER BY x") == [(42,), (43,)]

    def test_two_transactions_of_one_session_take_it_one_after_the_other(self, connect):
        client = connect()
        with client.transaction() as one, client.transaction() as two:
            client.update("INSERT INTO t VALUES (3)", one)
            write_busy(client.update, "INSERT INTO t VALUES (4)", two)
            client.rollback(one)
            client.update("INSERT INTO t VALUES (4)", two)
            client.commit(two)
        assert client.rows("FROM t ORDER BY x") == [(1,), (2,), (4,)]

    def test_readers_need_none(self, connect):
        client, other = connect(), connect()
        with client.transaction() as transaction, other.transaction() as reading:
            client.update("DELETE FROM t", transaction)
            begin = time.monotonic()
            assert [count(other), count(other, transaction=reading)] == [2, 2]
            assert time.monotonic() - begin < WAIT

    def test_open_update_delays_no_loader(self, connect):
        client, loader = connect(), connect()
        loader.put(numbers(1), "others")
        with client.transaction() as transaction:
            client.update("UPDATE t SET x = x + 100", transaction)
            for name in ("t", "others"):
                begin = time.monotonic()
                for number in range(20):
                    assert loader.put(numbers(number), name).committed
                assert time.monotonic() - begin < WAIT * 4
            assert loader.put(numbers(*range(-100_000, 0)), "t").committed, "a bulk upload"
            assert count(loader) == 2 + 20 + 100_000
            assert count(client, transaction=transaction) == 2
            client.commit(transaction)
        assert loader.one("SELECT count(*) FROM t WHERE x IN (101, 102)") == 2
        assert count(loader, "others") == 21

    def test_running_update_delays_no_loader(self, connect):
        client, loader = connect(), connect()
        loader.run("CREATE TABLE large AS SELECT range AS x FROM range(400000)")
        slowest, puts = 0.0, 0
        with client.transaction() as transaction, ThreadPoolExecutor(1) as pool:
            begin = time.monotonic()
            update = pool.submit(
                client.update, "UPDATE large SET x = length(sha256(x::VARCHAR) || sha256(x::VARCHAR))", transaction
            )
            while not update.done():
                before = time.monotonic()
                loader.put(numbers(-1), "large")
                slowest, puts = max(slowest, time.monotonic() - before), puts + 1
            took = time.monotonic() - begin
            # A put may come before the update has its snapshot; then its row is updated too.
            updated = update.result()
            client.commit(transaction)
        assert puts > 3 and slowest < took / 2, (puts, slowest, took)
        assert 400_000 <= updated < 400_000 + puts
        left = 400_000 + puts - updated
        assert loader.rows("SELECT x, count(*) FROM large GROUP BY x ORDER BY x") == [(-1, left), (128, updated)]

    @pytest.mark.parametrize("begin", ["BEGIN TRANSACTION READ ONLY", "begin /* a */ read -- b\n only"])
    def test_read_only_transaction_takes_none_and_refuses_writes(self, connect, begin):
        client, other = connect(), connect()
        with other.transaction() as transaction:
            other.update("INSERT INTO t VALUES (3)", transaction)
            for write in ("INSERT INTO t VALUES (4)", "CREATE TABLE new (a INTEGER)", "DELETE FROM t"):
                client.run(begin)
                started = time.monotonic()
                assert count(client) == 2
                refused(client.run, write, codes="PERMISSION_DENIED", slug="READ_ONLY")
                assert time.monotonic() - started < WAIT, "it waited for the turn"
                client.run("ROLLBACK")
            client.run(begin)
            refused(client.ingest, numbers(4), "t", codes="PERMISSION_DENIED", slug="READ_ONLY")
            client.run("ROLLBACK")
            other.commit(transaction)
        assert client.rows("FROM t ORDER BY x") == [(1,), (2,), (3,)]


CHANGES = {  # and what the table is called afterwards
    "ALTER TABLE t ADD COLUMN y INTEGER": "t",
    "ALTER TABLE t RENAME TO renamed": "renamed",
    "DROP TABLE t": None,
}


class TestSchemaChange:
    """ALTER and DROP conflict with appends: those to the table wait or are refused, all others go on."""

    @pytest.fixture(autouse=True)
    def others(self, table, server):
        server.run("CREATE TABLE others (x BIGINT)")

    @pytest.mark.parametrize("change", CHANGES)
    def test_in_an_open_transaction_delays_no_loader_of_another_table(self, connect, change):
        client, loader = connect(), connect()
        with client.transaction() as transaction:
            client.update(change, transaction)
            begin = time.monotonic()
            assert loader.put(numbers(1), "others").committed
            assert time.monotonic() - begin < WAIT

    @pytest.mark.parametrize("change", CHANGES)
    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_amid_loaders_loses_no_acknowledged_row(self, connect, change, end):
        client, stop = connect(), threading.Event()
        acknowledged, refusals, progress = {"t": 0, "others": 0}, [], threading.Semaphore(0)

        def load(name, loader):
            while not stop.is_set():
                try:
                    loader.ingest(numbers(-1), name, "append")
                    acknowledged[name] += 1
                    progress.release()
                except (pa.ArrowException, KeyError) as error:
                    refusals.append((name, refusal(error).slug))

        with ThreadPoolExecutor(2) as pool:
            loaders = [pool.submit(load, name, connect()) for name in acknowledged]
            try:
                for _ in range(20):
                    assert progress.acquire(timeout=10)
                with client.transaction() as transaction:
                    client.update(change, transaction)
                    getattr(client, end)(transaction)
                goal = acknowledged["others"] + 10
                while acknowledged["others"] < goal:
                    assert progress.acquire(timeout=10)
            finally:
                stop.set()
            for loader in loaders:
                loader.result()
        name = "t" if end == "rollback" else CHANGES[change]
        missing = set() if name == "t" else {("t", "TABLE_NOT_FOUND")}
        assert set(refusals) <= {("t", "CONFLICT"), ("t", "WRITE_BUSY")} | missing
        assert count(client, "others") == acknowledged["others"]
        if name:
            assert client.one(f"SELECT count(*) FROM {name} WHERE x = -1") == acknowledged["t"]

    def test_that_is_committed_is_what_loaders_then_see(self, connect):
        client, loader = connect(), connect()
        assert loader.put(numbers(*range(1000)), "t").committed
        with client.transaction() as transaction:
            client.update("ALTER TABLE t ADD COLUMN y INTEGER DEFAULT 7", transaction)
            client.commit(transaction)
        assert loader.put(numbers(1), "t").committed
        assert loader.rows("SELECT y, count(*) FROM t GROUP BY y") == [(7, 1003)]


@pytest.mark.usefixtures("table")
class TestSql:
    def test_begin_in_one_call_and_commit_in_another(self, connect):
        client, other = connect(), connect()
        for begin in ("BEGIN", "begin transaction;", "START TRANSACTION", "/* a */ BEGIN -- b"):
            client.run(begin)
            assert client.run("INSERT INTO t VALUES (3)") == [(1,)]
            assert (count(client), count(other)) == (3, 2)
            client.run("ROLLBACK")
        for commit in ("COMMIT", "commit;", "END", "COMMIT TRANSACTION"):
            client.run("BEGIN; INSERT INTO t VALUES (3)")
            assert count(other) == 2
            client.run(commit)
            assert count(other) == 3
            client.run("DELETE FROM t WHERE x = 3")

    def test_script_that_is_a_transaction(self, connect):
        client, other = connect(), connect()
        client.run("BEGIN; INSERT INTO t VALUES (3); UPDATE t SET x = x * 2; COMMIT")
        assert other.rows("FROM t ORDER BY x") == [(2,), (4,), (6,)]
        client.update("BEGIN; DELETE FROM t; ROLLBACK")
        assert count(other) == 3
        client.update("BEGIN; INSERT INTO t VALUES (7); COMMIT; BEGIN; INSERT INTO t VALUES (8); ROLLBACK")
        assert other.rows("FROM t ORDER BY x") == [(2,), (4,), (6,), (7,)]

    def test_script_that_fails_in_the_middle_of_its_transaction(self, connect):
        client, other = connect(), connect()
        refused(client.run, "BEGIN; INSERT INTO t VALUES (3); INSERT INTO t VALUES ('x'); COMMIT")
        assert count(other) == 2
        lost(client.run, "COMMIT")
        client.run("BEGIN; INSERT INTO t VALUES (3); COMMIT")
        assert count(other) == 3

    def test_script_without_begin_is_one_transaction(self, connect):
        client, other = connect(), connect()
        refused(client.run, "INSERT INTO t VALUES (3); INSERT INTO t VALUES ('x')")
        refused(client.run, "SET VARIABLE v = 1; INSERT INTO t VALUES (3); INSERT INTO t VALUES ('x')")
        assert count(other) == 2

    def test_script_that_ends_what_it_has_not_begun_writes_nothing(self, connect):
        client = connect()
        refused(client.run, "INSERT INTO t VALUES (3); COMMIT", slug="TRANSACTION_STATE")
        refused(client.run, "INSERT INTO t VALUES (3); ROLLBACK", slug="TRANSACTION_STATE")
        assert count(client) == 2

    def test_script_in_a_transaction_is_part_of_it(self, connect):
        client, other = connect(), connect()
        with client.transaction() as transaction:
            client.update("INSERT INTO t VALUES (3); INSERT INTO t VALUES (4)", transaction)
            assert (count(client, transaction=transaction), count(other)) == (4, 2)

    def test_begin_within_a_transaction_and_an_end_without_one_are_mistakes(self, connect):
        client, other = connect(), connect()
        state = dict(codes="FAILED_PRECONDITION", slug="TRANSACTION_STATE")
        for end in ("COMMIT", "ROLLBACK", "END", "ABORT"):
            refused(client.run, end, **state)
        client.run("BEGIN; INSERT INTO t VALUES (3)")
        refused(client.run, "BEGIN", **state)
        refused(client.run, "BEGIN; INSERT INTO t VALUES (4)", **state)
        client.run("COMMIT")
        assert other.rows("FROM t ORDER BY x") == [(1,), (2,), (3,)]

    def test_transaction_by_sql_reaches_every_way_to_run_a_statement(self, connect):
        client, other = connect(), connect()
        client.run("BEGIN")
        client.run("INSERT INTO t VALUES (3)")
        assert client.update("INSERT INTO t VALUES (4)") == 1
        assert client.rows("INSERT INTO t VALUES (5) RETURNING x") == [(5,)]
        prepared = client.prepare("INSERT INTO t VALUES (?)")
        client.exchange(wire.sql_command("CommandPreparedStatementUpdate", (1, prepared)), numbers(6))
        assert client.execute(client.prepare("SELECT count(*) FROM t")) == [(6,)]
        assert not client.put(numbers(7), "t").committed
        assert count(other) == 2
        client.run("ROLLBACK")
        assert count(client) == 2

    def test_handle_and_sql_do_not_end_each_other(self, connect):
        client, other = connect(), connect()
        with client.transaction() as transaction:
            client.update("INSERT INTO t VALUES (3)", transaction)
            refused(client.run, "BEGIN", codes="FAILED_PRECONDITION")
            try:
                client.run("COMMIT")  # the session's only transaction: ended here, or refused
                assert count(other) == 3
                refused(client.commit, transaction)
            except pa.ArrowException:
                assert count(other) == 2
                client.commit(transaction)
        assert count(other) == 3

    @pytest.mark.parametrize("sql", ["SAVEPOINT s", "ROLLBACK TO SAVEPOINT s", "RELEASE SAVEPOINT s", "PREPARE TRANSACTION 'x'"])
    def test_savepoints_are_refused_and_undo_nothing(self, connect, sql):
        client = connect()
        client.run("BEGIN; INSERT INTO t VALUES (3)")
        refused(client.run, sql)
        assert count(client) == 3
        client.run("COMMIT")
        assert count(client) == 3

    def test_ddl_by_sql(self, connect):
        client, other = connect(), connect()
        client.run("BEGIN; CREATE TABLE new (a INTEGER); CREATE VIEW v AS FROM new; DROP TABLE t")
        assert client.rows("FROM v") == []
        refused(client.rows, "FROM t", codes="NOT_FOUND")
        assert count(other) == 2
        client.run("ROLLBACK")
        assert count(client) == 2
        refused(client.rows, "FROM v", codes="NOT_FOUND")

    def test_use_inside_a_transaction_does_not_end_it(self, connect):
        client, other = connect(), connect()
        other.run("CREATE SCHEMA IF NOT EXISTS elsewhere")
        client.run("BEGIN; INSERT INTO t VALUES (3)")
        client.run("USE elsewhere")
        client.run("CREATE TABLE new AS SELECT 1 AS one")
        assert count(client, "main.t") == 3
        client.run("ROLLBACK")
        assert client.one("SELECT current_schema()") == "elsewhere"
        assert count(other) == 2
        refused(other.rows, "FROM elsewhere.new", codes="NOT_FOUND")
