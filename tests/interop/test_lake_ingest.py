"""What an upload into a lake may do: match rows by key, add columns, make and replace tables, be large."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import wire
from client import Client, call_options
from harness import refused
from loaders import count, put, put_with

SMALL, BULK = 10, 100_000  # rows; the second is above --bulk-size
T = ("lake", "main", "t")
LOADERS, UNITS = 8, 10

pytestmark = pytest.mark.usefixtures("no_lake_table_left_over")


@pytest.fixture(scope="module")
def server(tmp_path_factory, postgres, bucket):
    from lake import lake_server

    with lake_server(tmp_path_factory.mktemp("server"), postgres, bucket, "--bulk-size", "256KiB") as server:
        yield server


def rows(ids, **columns):
    ids = list(ids)
    values = {name: [value] * len(ids) for name, value in columns.items()}
    return pa.table({"id": pa.array(ids, pa.int64()), **values})


def counts(server):
    return server.rows("SELECT v, count(*) FROM lake.t GROUP BY v ORDER BY v")


@pytest.mark.parametrize("size", [SMALL, BULK])
class TestHeaders:
    def test_upsert(self, server, size):
        assert put(server, rows(range(size), v="first"), T, merge_keys="id").rows == size
        put(server, rows(range(size // 2), v="second"), T, merge_keys="id")
        put(server, rows(range(size + 1), v="third"), T, merge_keys="id", on_conflict="ignore")
        assert counts(server) == [("first", size - size // 2), ("second", size // 2), ("third", 1)]

    def test_of_rows_with_one_key_in_a_unit_one_is_kept(self, server, size):
        put(server, rows([0], v="old"), T)
        twice = pa.concat_tables([rows(range(size), v="first"), rows(range(size), v="last")])
        put(server, twice, T, merge_keys="id")
        assert counts(server) == [("last", size)]
        again = pa.concat_tables([rows(range(size, 2 * size), v="a"), rows(range(2 * size), v="b")])
        put(server, again, T, merge_keys="id", on_conflict="ignore")
        assert counts(server) == [("a", size), ("last", size)]

    def test_columns_that_the_upload_lacks_keep_their_values(self, server, size):
        put(server, rows(range(size), v="v", w="w"), T)
        put(server, rows(range(size + 1), v="new"), T, merge_keys="id")
        assert server.rows("SELECT w, count(*) FROM lake.t WHERE v = 'new' GROUP BY w ORDER BY w") == [
            ("w", size), (None, 1),
        ]  # fmt: skip

    def test_new_columns(self, server, size):
        put(server, rows([-1]), T)
        refused(put, server, rows(range(size), v="x"), T, codes="INVALID_ARGUMENT", slug="SCHEMA_MISMATCH")
        assert put(server, rows(range(size), v="x"), T, new_columns="add").rows == size
        assert server.rows("SELECT count(*), count(v) FROM lake.t") == [(size + 1, size)]
        put(server, rows([0, size], w="y"), T, new_columns="add", merge_keys="id")
        assert server.rows("SELECT count(*), count(v), count(w) FROM lake.t") == [(size + 2, size, 2)]

    def test_an_upsert_with_a_key_is_done_once(self, server, size):
        key = f"upsert {size}/1/1"
        assert not put(server, rows(range(size), v="a"), T, merge_keys="id", key=key).duplicate
        server.run("UPDATE lake.t SET v = 'mine'")
        assert put(server, rows(range(size), v="a"), T, merge_keys="id", key=key).duplicate
        assert counts(server) == [("mine", size)]

    def test_a_null_in_a_key_column_is_refused(self, server, size):
        put(server, rows([1], v="a"), T)
        sent = pa.table({"id": pa.array([*range(size), None], pa.int64()), "v": ["b"] * (size + 1)})
        told = refused(put, server, sent, T, merge_keys="id", codes="INVALID_ARGUMENT", slug="SCHEMA_MISMATCH")
        assert '"id"' in told.text
        assert counts(server) == [("a", 1)]


@pytest.fixture
def client(server):
    with Client(server.uri) as client:
        yield client


def asks(client, key):
    client.options = call_options([("x-merganser-ingest-key", key)])
    return client


@pytest.mark.parametrize("size", [SMALL, BULK])
def test_modes(client, size):
    place = {"catalog": "lake", "schema": "main"}
    refused(client.ingest, rows(range(size)), "t", "append", **place, slug="TABLE_NOT_FOUND")
    assert client.ingest(rows(range(size)), "t", "create", **place).rows == size
    refused(client.ingest, rows(range(size)), "t", "create", **place, slug="TABLE_EXISTS")
    client.ingest(rows(range(size)), "t", "append", **place)
    client.ingest(rows(range(size)), "t", "create_append", **place)
    assert client.one("SELECT count(*) FROM lake.t") == 3 * size
    client.ingest(rows(range(size), other="x"), "t", "replace", **place)
    assert client.one("SELECT count(*) FROM lake.t WHERE other = 'x'") == size


@pytest.mark.parametrize("size", [SMALL, BULK])
@pytest.mark.parametrize("mode", ["create", "replace", "append"])
def test_each_mode_with_a_key_is_done_once(server, client, mode, size):
    if mode != "create":
        put(server, rows([-1]), T)
    place = {"catalog": "lake", "schema": "main"}
    key = f"{mode} {size}/1/1"
    first = asks(client, key).ingest(rows(range(size)), "t", mode, **place)
    again = asks(client, key).ingest(rows(range(size)), "t", mode, **place)
    assert (first.duplicate, again.duplicate, again.commit_id) == (False, True, first.commit_id)
    assert count(server, "lake.t") == size + (mode == "append")


@pytest.mark.parametrize("size", [SMALL, BULK])
def test_not_null_and_defaults_are_kept(server, size):
    server.run("CREATE TABLE lake.t (id BIGINT NOT NULL, v VARCHAR DEFAULT 'usual', w VARCHAR)")
    put(server, rows(range(size), w="w"), T)
    assert server.rows("SELECT v, w, count(*) FROM lake.t GROUP BY ALL") == [("usual", "w", size)]
    told = refused(put, server, pa.table({"w": ["x"] * size}), T, codes="INVALID_ARGUMENT", slug="CONSTRAINT")
    assert "t.id" in told.text
    nulls = pa.table({"id": pa.array([*range(size), None], pa.int64())})
    refused(put, server, nulls, T, codes="INVALID_ARGUMENT", slug="CONSTRAINT")
    refused(put, server, nulls, T, key=f"nulls {size}/1/1", codes="INVALID_ARGUMENT", slug="CONSTRAINT")
    assert count(server, "lake.t") == size
    assert not put(server, rows([1]), T, key=f"nulls {size}/1/1").duplicate  # the key stayed free


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "keyed"])
def test_small_units_of_several_loaders_are_committed_together(server, keyed):
    put(server, rows([-1], v="first"), T)
    snapshots = lambda: server.rows("SELECT count(*) FROM lake.snapshots()")[0][0]  # noqa: E731
    before = snapshots()

    def load(loader):
        with flight.connect(server.uri) as to:
            key = (lambda number: f"together {loader}/1/{number}") if keyed else (lambda number: None)
            sent = [rows(range(SMALL), v=f"{loader}") for _ in range(UNITS)]
            return [put_with(to, table, T, key(number)) for number, table in enumerate(sent, 1)]

    with ThreadPoolExecutor(LOADERS) as pool:
        acks = [ack for acks in pool.map(load, range(LOADERS)) for ack in acks]
    assert not any(ack.duplicate for ack in acks)
    assert counts(server) == [*((f"{loader}", UNITS * SMALL) for loader in range(LOADERS)), ("first", 1)]
    # Each loader waits for its answer, so that a group has at most a unit of each.
    commits = len({ack.commit_id for ack in acks})
    assert UNITS <= commits <= LOADERS * UNITS / 2
    # The ledger's own tables are made by the first with keys.
    assert commits <= snapshots() - before <= commits + 3


def test_a_large_upload_is_stored_once(server):
    """50 MB."""
    large = pa.table({"x": pa.array(range(1_000_000), pa.int64())})
    large = pa.concat_tables([large.append_column("text", pa.repeat("y" * 25, 1_000_000))] * 2)
    assert large.nbytes > 50e6
    first = put(server, large, T, key="large/1/1")
    again = put(server, large, T, key="large/1/1")
    assert (first.rows, first.duplicate, again.duplicate) == (2_000_000, False, True)
    assert server.rows("SELECT count(*), count(DISTINCT x) FROM lake.t") == [(2_000_000, 1_000_000)]


@pytest.mark.parametrize("key", [None, "breaks/1/1"])
def test_a_bulk_upload_that_breaks_off_leaves_nothing(server, key):
    put(server, rows([1], v="a"), T)

    def sent():
        # More than any window holds: when the last is asked for, the server has taken most of them.
        yield from frames(rows(range(5 * BULK), v="b"), wire.path_descriptor(*T))
        raise RuntimeError("the loader fails")

    headers = [("x-merganser-ingest-key", key)] if key else []
    with server.channel() as channel:
        call = wire.put_call(channel, sent(), headers)
        with pytest.raises(grpc.RpcError):
            list(call)
    assert counts(server) == [("a", 1)]
    if key:
        assert not put(server, rows([2], v="a"), T, key=key).duplicate


def frames(table, descriptor):
    """A table as FlightData, in batches of a few hundred kilobytes."""
    first = descriptor
    for batch in [table.slice(at, 20_000) for at in range(0, table.num_rows, 20_000)]:
        for header, body in wire.ipc(batch)[0 if first else 1 :]:
            yield wire.flight_data(header, body, first)
            first = None
