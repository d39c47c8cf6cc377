"""Rows that are matched by key, and columns that are added, with nothing but headers on a put."""

import pyarrow as pa
import pytest

import wire
from client import call_options
from harness import Server, refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

SMALL, BULK = 10, 100_000  # rows; the second is above --bulk-size


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "db.duckdb", "--bulk-size", "256KiB", log=folder / "log")
    yield server
    server.stop()


@pytest.fixture
def loader(connect):
    """A client that puts with headers of the test's own."""
    client = connect()

    def asks(**options):
        client.options = call_options((f"x-merganser-{name.replace('_', '-')}", v) for name, v in options.items())
        return client

    return asks


def rows(ids, **columns):
    ids = list(ids)
    values = {name: [value] * len(ids) for name, value in columns.items()}
    return pa.table({"id": pa.array(ids, pa.int64()), **values})


@pytest.mark.parametrize("size", [SMALL, BULK])
class TestHeaders:
    def test_upsert(self, server, loader, size):
        client = loader(merge_keys="id")
        assert client.put(rows(range(size), v="first"), "t").rows == size
        client.put(rows(range(size // 2), v="second"), "t")
        loader(merge_keys="id", on_conflict="ignore").put(rows(range(size + 1), v="third"), "t")
        counts = server.rows("SELECT v, count(*) FROM t GROUP BY v ORDER BY v")
        assert counts == [("first", size - size // 2), ("second", size // 2), ("third", 1)]

    def test_new_columns(self, server, loader, size):
        server.put(rows([-1]), "t")
        refused(loader().put, rows(range(size), v="x"), "t", codes="INVALID_ARGUMENT", slug="SCHEMA_MISMATCH")
        assert loader(new_columns="add").put(rows(range(size), v="x"), "t").rows == size
        assert server.rows("SELECT count(*), count(v) FROM t") == [(size + 1, size)]


@pytest.mark.parametrize("size", [SMALL, BULK])
class TestInATransaction:
    def test_an_upsert_is_undone_or_committed_with_it(self, server, loader, size):
        server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR)")
        server.put(rows(range(5), v="old"), "t")
        client = loader(on_conflict="update", new_columns="add")
        for end in (client.rollback, client.commit):
            with client.transaction() as transaction:
                # The transaction's own rows are matched too.
                client.update(f"INSERT INTO t VALUES ({size - 1}, 'mine')", transaction)
                ack = client.ingest(rows([*range(size), 0], v="new", w="more"), "t", "append", transaction)
                assert ack == wire.IngestAck(size + 1, 0, False)
                assert client.one("SELECT count(*) FROM t WHERE v = 'new' AND w = 'more'", transaction) == size
                assert server.rows("SELECT count(*) FROM t WHERE v = 'old'") == [(5,)]
                end(transaction)
        assert server.rows("SELECT count(*), count(w) FROM t") == [(size, size)]

    def test_one_that_fails_leaves_nothing(self, server, loader, size):
        server.run("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR NOT NULL)")
        client = loader(on_conflict="update")
        with client.transaction() as transaction:
            client.update("INSERT INTO t VALUES (-1, 'mine')", transaction)
            refused(client.ingest, rows(range(size)), "t", "append", transaction, codes="INVALID_ARGUMENT")
            refused(client.commit, transaction, codes="ABORTED", slug="TRANSACTION_LOST")
        assert server.rows("SELECT count(*) FROM t") == [(0,)]

    def test_and_in_a_temporary_table(self, loader, size):
        client = loader(merge_keys="id", new_columns="add")
        client.ingest(rows(range(size), v="a"), "mine", "create_append", temporary=True)
        assert client.ingest(rows([0, size], w="b"), "mine", temporary=True).rows == 2
        assert client.rows("SELECT count(*), count(v), count(w) FROM mine") == [(size + 1, size, 2)]
