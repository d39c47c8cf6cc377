"""Uploads inside a transaction: they become durable with it, or are undone with it."""

import random
import threading

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import wire
from client import MODES, eventually, ingest_command
from harness import Server, refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

SMALL, BULK = 1_000, 100_000  # rows; the second is above --bulk-size


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "db.duckdb", "--read-wait", "1s", "--bulk-size", "256KiB", log=folder / "log")
    yield server
    server.stop()


@pytest.fixture
def table(server):
    server.run("CREATE TABLE t (x BIGINT)")
    server.put(numbers(2), "t")


def numbers(rows, first=0):
    return pa.table({"x": pa.array(range(first, first + rows), pa.int64())})


def count(client, table="t", transaction=b""):
    return client.one(f"SELECT count(*) FROM {table}", transaction)


@pytest.mark.usefixtures("table")
class TestAcknowledgement:
    @pytest.mark.parametrize("rows", [1, SMALL, BULK])
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("names_it", [True, False], ids=["by handle", "the only one"])
    def test_is_not_durable_until_the_commit(self, connect, mode, rows, names_it):
        client, other = connect(), connect()
        name = "new" if mode == "create" else "t"
        expected = rows if mode in ("create", "replace") else rows + 2
        for end in (client.rollback, client.commit):
            with client.transaction() as transaction:
                ack = client.ingest(numbers(rows), name, mode, transaction if names_it else b"")
                assert ack == wire.IngestAck(rows, 0, False)
                assert count(client, name, transaction) == expected
                if name == "new":
                    refused(other.rows, "FROM new", codes="NOT_FOUND")
                else:
                    assert count(other) == 2
                end(transaction)
        assert count(other, name) == expected

    def test_of_plain_flight_in_a_transaction_by_sql(self, connect):
        client, other = connect(), connect()
        for end, rows in (("ROLLBACK", 2), ("COMMIT", 2 + SMALL + BULK)):
            client.run("BEGIN")
            assert not client.put(numbers(SMALL), "t").committed
            assert not client.put(numbers(BULK), "t").committed
            assert (count(client), count(other)) == (2 + SMALL + BULK, 2)
            client.run(end)
            assert count(other) == rows
        assert client.put(numbers(1), "t").committed

    def test_is_durable_where_no_transaction_is_meant(self, connect):
        client, other = connect(), connect()
        with client.transaction(), client.transaction():
            assert client.ingest(numbers(3), "t").committed, "two are open and none is named"
            assert other.ingest(numbers(3), "t").committed, "another session's does not matter"
        assert count(other) == 8

    def test_statement_that_names_none_of_two_is_refused_where_the_session_has_settings(self, connect):
        """They live on the connection of one of the two, and nothing says which is meant."""
        client, other = connect(), connect()
        client.run("SET VARIABLE v = 1")
        with client.transaction() as one, client.transaction() as two:
            client.ingest(numbers(3), "t", "append", one)
            for call in (client.rows, client.run, client.update):
                refused(call, "INSERT INTO t VALUES (9)", codes="FAILED_PRECONDITION", slug="TRANSACTION_STATE")
            assert [count(client, transaction=one), count(client, transaction=two)] == [5, 2]
        assert count(other) == 2

    def test_without_rows(self, connect):
        client = connect()
        with client.transaction() as transaction:
            assert client.ingest(numbers(0), "t", "append", transaction) == wire.IngestAck()
            client.ingest(numbers(0), "new", "create", transaction)
            client.commit(transaction)
        assert (count(client), count(client, "new")) == (2, 0)

    def test_more_than_the_largest_default_of_a_bulk_upload(self, connect):
        client, other = connect(), connect()
        data = numbers(1_500_000)  # 12 MB
        with client.transaction() as transaction:
            client.update("INSERT INTO t VALUES (-1)", transaction)
            assert client.ingest(data, "t", "append", transaction).rows == 1_500_000
            assert other.rows("SELECT count(*), min(x) FROM t") == [(2, 0)]
            client.commit(transaction)
        assert other.rows("SELECT count(*), count(DISTINCT x), min(x) FROM t") == [(1_500_003, 1_500_001, -1)]


def begin_upload(client, operator, command=None):
    """Sends rows, and returns what ends their upload once all have come; its acknowledgement is what that gives."""
    to = flight.FlightDescriptor.for_command(command) if command else flight.FlightDescriptor.for_path("t")
    writer, answers = client.flight.do_put(to, numbers(0).schema, client.options)
    writer.write_table(numbers(70))
    came = "SELECT count(*) FROM merganser_statements() WHERE kind = 'ingest' AND rows = 70"
    eventually(lambda: operator.one(came) == 1, "all rows have come")

    def finish():
        writer.done_writing()
        answer = answers.read()
        writer.close()  # raises what the server refused
        return wire.IngestAck.decode(answer.to_pybytes())

    return finish


@pytest.mark.usefixtures("table")
class TestTransactionOfItsBeginning:
    """An upload belongs to what was open when it began, whatever is open when its last row comes."""

    def refused(self, finish, why):
        assert why in refused(finish, codes="FAILED_PRECONDITION", slug="TRANSACTION_STATE").text

    @pytest.mark.parametrize("end", ["commit", "rollback"])
    def test_that_has_ended_by_its_handle(self, connect, end):
        client, other = connect(), connect()
        first = client.begin()
        finish = begin_upload(client, other, ingest_command("t", "append", first))
        getattr(client, end)(first)
        with client.transaction() as second:
            client.update("INSERT INTO t VALUES (200)", second)
            self.refused(finish, "ended while the upload was arriving")
            client.commit(second)
        assert count(other) == 3

    @pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
    @pytest.mark.parametrize("another", [True, False], ids=["another is open", "none is open"])
    def test_that_has_ended_by_sql(self, connect, end, another):
        client, other = connect(), connect()
        client.run("BEGIN")
        finish = begin_upload(client, other)
        client.run(end)
        if another:
            client.run("BEGIN; INSERT INTO t VALUES (201)")
        self.refused(finish, "ended while the upload was arriving")
        if another:
            client.run("COMMIT")
        assert count(other) == 3 if another else 2

    @pytest.mark.parametrize("before, after", [("BEGIN", "COMMIT"), ("SELECT 1", "BEGIN")], ids=["ended", "began"])
    def test_of_a_temporary_table(self, connect, before, after):
        client, other = connect(), connect()
        client.run("CREATE TEMP TABLE mine (x BIGINT)")
        client.run(before)
        finish = begin_upload(client, other, ingest_command("mine", temporary=1))
        client.run(after)
        self.refused(finish, "while the upload was arriving")
        client.run("SELECT 1" if after == "COMMIT" else "COMMIT")
        assert count(client, "mine") == 0

    def test_that_has_begun_since_does_not_hold_what_commits_by_itself(self, connect):
        client, other = connect(), connect()
        finish = begin_upload(client, other)
        client.run("BEGIN")
        assert finish().committed
        client.run("ROLLBACK")
        assert count(other) == 72


@pytest.mark.usefixtures("table")
class TestOthers:
    def test_append_needs_no_turn_and_delays_nobody(self, connect):
        client, writer, loader = connect(), connect(), connect()
        with client.transaction() as transaction, writer.transaction() as writing:
            writer.update("UPDATE t SET x = x + 10", writing)
            client.ingest(numbers(SMALL), "t", "append", transaction)
            assert loader.put(numbers(3), "t").committed
            client.commit(transaction)
            writer.commit(writing)
        assert count(loader) == 2 + SMALL + 3

    @pytest.mark.parametrize("alter", ["ALTER TABLE t ADD COLUMN y INTEGER", "DROP TABLE t"])
    def test_table_that_another_changes_in_between_is_a_conflict(self, connect, alter):
        client, other = connect(), connect()
        with client.transaction() as transaction:
            client.ingest(numbers(SMALL), "t", "append", transaction)
            other.run(alter)
            refused(client.commit, transaction, codes="ABORTED")
        if "ADD" in alter:
            assert count(other) == 2
        else:
            refused(count, other, codes="NOT_FOUND")

    def test_replace_of_a_table_that_is_read_elsewhere(self, connect):
        client, reader = connect(), connect()
        reader.run("BEGIN READ ONLY")
        assert count(reader) == 2
        with client.transaction() as transaction:
            client.ingest(numbers(5), "t", "replace", transaction)
            client.commit(transaction)
        assert count(reader) == 2
        reader.run("COMMIT")
        assert count(reader) == 5


@pytest.mark.usefixtures("table")
class TestFailure:
    @pytest.fixture(autouse=True)
    def keyed(self, server):
        server.run("CREATE TABLE keyed (x BIGINT PRIMARY KEY)")

    def check_undone(self, client, other, transaction):
        refused(client.commit, transaction, codes="ABORTED", slug="TRANSACTION_LOST")
        assert (count(other), count(other, "keyed")) == (2, 0)
        with client.transaction() as again:
            client.ingest(numbers(3), "keyed", "append", again)
            client.commit(again)
        assert count(other, "keyed") == 3

    @pytest.mark.parametrize("rows", [SMALL, BULK])
    def test_of_a_constraint_leaves_only_the_rollback(self, connect, rows):
        client, other = connect(), connect()
        data = pa.concat_tables([numbers(rows), numbers(1)])
        with client.transaction() as transaction:
            client.ingest(numbers(3, 10), "t", "append", transaction)
            refused(client.ingest, data, "keyed", "append", transaction, codes="ALREADY_EXISTS")
            self.check_undone(client, other, transaction)

    def test_of_a_value_leaves_only_the_rollback(self, connect):
        client, other = connect(), connect()
        other.run("CREATE TABLE narrow (x INTEGER)")
        data = pa.concat_tables([numbers(BULK), numbers(1, 2**40)])
        with client.transaction() as transaction:
            client.update("INSERT INTO t VALUES (3)", transaction)
            refused(client.ingest, data, "narrow", "append", transaction, codes="INVALID_ARGUMENT")
            self.check_undone(client, other, transaction)

    def test_of_the_stream_in_its_middle_leaves_only_the_rollback(self, server, connect):
        client, other = connect(), connect()
        with client.transaction() as transaction, server.channel() as channel:
            (schema, _), batch = wire.ipc(numbers(BULK))
            command = wire.command_descriptor(ingest_command("t", "append", transaction))
            frames = [wire.flight_data(schema, descriptor=command), wire.flight_data(*batch)]
            damaged = wire.flight_data(batch[0], batch[1][:100])
            refused(wire.do_put, channel, [*frames, damaged], [client.cookie()], codes="INVALID_ARGUMENT", slug="BAD_ARROW")
            self.check_undone(client, other, transaction)

    def test_of_the_client_in_its_middle_leaves_only_the_rollback(self, server, connect):
        client, other = connect(), connect()
        (schema, _), batch = wire.ipc(numbers(1_000_000))
        all_sent, never = threading.Event(), threading.Event()

        def frames(transaction):
            command = wire.command_descriptor(ingest_command("t", "append", transaction))
            yield wire.flight_data(schema, descriptor=command)
            yield wire.flight_data(*batch)
            yield wire.flight_data(*batch)
            all_sent.set()  # more than any window holds: the server has begun to take it
            never.wait()

        with client.transaction() as transaction, server.channel() as channel:
            call = wire.put_call(channel, frames(transaction), [client.cookie()])
            assert all_sent.wait(30)
            call.cancel()
            never.set()
            self.check_undone(client, other, transaction)

    @pytest.mark.parametrize(
        "name, mode, data",
        [
            ("missing", "append", numbers(3)),
            ("t", "create", numbers(3)),
            ("t", "append", pa.table({"nosuch": [1]})),
            ("t", "append", pa.table({"x": [{"a": 1}]})),
        ],
        ids=["missing table", "existing table", "unknown column", "wrong type"],
    )
    def test_before_it_began_undoes_all_or_nothing_of_the_rest(self, connect, name, mode, data):
        client, other = connect(), connect()
        with client.transaction() as transaction:
            client.ingest(numbers(3), "t", "append", transaction)
            refused(client.ingest, data, name, mode, transaction)
            try:
                client.commit(transaction)
                assert count(other) == 5
            except flight.FlightError:
                assert count(other) == 2


def test_random_transactions_leave_exactly_what_was_committed(connect):
    """Uploads and statements in random order against a model of what must be there."""
    random.seed(7)
    client, other, expected = connect(), connect(), {}
    client.run("CREATE TABLE model (x BIGINT)")
    for step in range(60):
        within = dict(expected)
        with client.transaction() as transaction:
            for _ in range(random.randint(1, 4)):
                key, kind = random.randint(0, 9), random.random()
                if kind < 0.5:
                    rows = random.choice([1, 50, 40_000])
                    same = pa.table({"x": pa.array([key] * rows, pa.int64())})
                    client.ingest(same, "model", "append", transaction)
                    within[key] = within.get(key, 0) + rows
                elif kind < 0.75:
                    assert client.update(f"DELETE FROM model WHERE x = {key}", transaction) == within.pop(key, 0)
                else:
                    changed = client.update(f"UPDATE model SET x = 0 WHERE x = {key}", transaction)
                    assert changed == within.get(key, 0), step
                    within[0] = within.pop(key, 0) + (within.get(0, 0) if key else 0)
                    within = {k: n for k, n in within.items() if n}
            grouped = "SELECT x, count(*) FROM model GROUP BY x"
            assert dict(client.rows(grouped, transaction)) == within, step
            assert dict(other.rows(grouped)) == expected, step
            if random.random() < 0.6:
                client.commit(transaction)
                expected = within
    assert dict(other.rows("SELECT x, count(*) FROM model GROUP BY x")) == expected

