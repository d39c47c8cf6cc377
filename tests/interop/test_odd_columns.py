"""Columns that Arrow allows and few libraries make: stored as they are or refused, and the server goes on."""

import struct

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import wire
from client import Client
from harness import refused
from loaders import put
from memory import peak

ONE_MIB = 1 << 20


@pytest.fixture(scope="module")
def server(server_by_door):
    return server_by_door


@pytest.fixture(autouse=True)
def no_table_left_over(server):
    yield
    for table in ("t", "s"):
        server.run(f"DROP TABLE IF EXISTS {table}")


def posted(server, rows, sql):
    """The rows of a query over rows that come with it."""
    writer, reader = server.client.do_exchange(
        flight.FlightDescriptor.for_path("posted", "posted", sql), flight.FlightCallOptions(timeout=60)
    )
    writer.begin(rows.schema)
    writer.write_table(rows)
    writer.done_writing()
    return reader.read_all().to_pylist()


def stored(server, values, path=("t",), **options):
    """What is stored of a column; its upload must pass."""
    put(server, pa.table({"id": range(len(values)), "v": values}), path, **options)
    return [value for (value,) in server.rows("SELECT v FROM t ORDER BY id")]


class TestDictionaries:
    """DuckDB has NULL be the place behind the last value of a dictionary, which may be beyond its buffer."""

    @pytest.mark.parametrize(
        "type",
        [
            pa.int8(), pa.int32(), pa.int64(), pa.uint64(), pa.float64(), pa.date32(), pa.timestamp("us"), pa.time64("us"),
            pa.duration("us"), pa.decimal128(10, 2), pa.bool_(), pa.string(), pa.large_string(), pa.binary(), pa.binary(4),
            pa.list_(pa.int32()), pa.struct([("x", pa.int64())]), pa.null(),
        ],
        ids=str,
    )  # fmt: skip
    @pytest.mark.parametrize("rows", [1, 5_000])
    def test_a_dictionary_without_values_is_nulls(self, server, type, rows):
        column = pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), pa.array([], type))
        assert stored(server, column) == [None] * rows
        table = pa.table({"v": column})
        assert posted(server, table, "SELECT count(*) AS n, count(v) AS v FROM posted") == [{"n": rows, "v": 0}]

    @pytest.mark.parametrize("length", [1, 2, 7, 8, 64, 512, 4_096])
    def test_numbers_and_nulls_by_reference(self, server, length):
        keys = pa.array([0, None, length - 1] * 1_000, pa.int32())
        column = pa.DictionaryArray.from_arrays(keys, pa.array(range(length), pa.int64()))
        assert stored(server, column) == column.to_pylist()

    def test_structs_by_reference(self, server):
        values = pa.array([{"x": 1, "s": "a"}, None, {"x": None, "s": "b"}])
        column = pa.DictionaryArray.from_arrays(pa.array([2, 0, 1, None, 0], pa.int8()), values)
        assert stored(server, column) == column.to_pylist()

    def test_into_tables_that_are_there(self, server):
        server.run("CREATE TABLE t (id BIGINT, v BIGINT)")
        column = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), pa.array([7, 8], pa.int32()))
        assert stored(server, column) == [8, None, 7]
        server.run("DELETE FROM t")
        assert stored(server, pa.DictionaryArray.from_arrays(pa.nulls(2, pa.int8()), pa.array([], pa.int64()))) == [None] * 2


def list_of(name, type=pa.int64(), value=1):
    return pa.array([[value]], pa.list_(pa.field(name, type)))


NUL = {
    "the item of a list": ("BAD_NAME", list_of("x\0y")),
    "a member": ("BAD_NAME", pa.array([{"a\0": 1}])),
    "the key of a map": (
        "BAD_NAME", pa.array([[(1, 2)]], pa.map_(pa.field("k\0", pa.int64(), False), pa.field("v", pa.int64())))
    ),
    "a time zone": ("SCHEMA_MISMATCH", pa.array([1], pa.timestamp("us", "UT\0C"))),
    "a time zone inside": ("SCHEMA_MISMATCH", list_of("item", pa.timestamp("us", "UT\0C"))),
    "a time zone of a dictionary": ("SCHEMA_MISMATCH", pa.array([1], pa.timestamp("us", "UT\0C")).dictionary_encode()),
}  # fmt: skip


class TestNames:
    @pytest.mark.parametrize("slug, column", NUL.values(), ids=NUL)
    def test_nul_in_what_a_schema_says_is_refused(self, server, slug, column):
        unit = pa.table({"id": [1], "v": column})
        refused(put, server, unit, ("t",), slug=slug, codes="INVALID_ARGUMENT")
        refused(put, server, unit, ("t",), key="a/1/1", slug=slug)
        refused(put, server, unit, ("t",), merge_keys="id", slug=slug)
        refused(posted, server, unit, "FROM posted", slug=slug)
        assert server.rows("SELECT 42") == [(42,)]

    @pytest.mark.parametrize("slug, column", NUL.values(), ids=NUL)
    def test_so_it_is_in_parameters_and_files(self, start, tmp_path, slug, column):
        table = pa.table({"v": column})
        with pa.OSFile(str(tmp_path / "nul.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        server = start(":memory:", "--read-directories", tmp_path)
        with pytest.raises(pa.ArrowInvalid, match="character NUL"):
            server.sql(f"FROM read_arrow('{tmp_path}/nul.arrow')")
        with Client(server.uri) as client:
            bind = wire.sql_command("CommandPreparedStatementQuery", (1, client.prepare("SELECT ?")))
            refused(client.exchange, bind, table, slug=slug)
        assert server.rows("SELECT 42") == [(42,)]

    def test_a_column_or_member_needs_a_name(self, server):
        for column in ({"": [1]}, {"v": pa.array([{"": 1}])}):
            refused(put, server, pa.table(column), ("t",), slug="BAD_NAME", codes="INVALID_ARGUMENT")
        # The items of a list need none.
        assert stored(server, list_of("")) == [[1]]

    @pytest.mark.parametrize("name", ['a "quoted" table', '"', 'x""y"', "it's"])
    def test_quotes_in_the_names_of_tables_and_schemas(self, server, name):
        quoted = '"' + name.replace('"', '""') + '"'
        server.run(f"CREATE SCHEMA {quoted}")
        server.run(
            f"CREATE TABLE {quoted}.{quoted} (id BIGINT PRIMARY KEY, v BIGINT NOT NULL DEFAULT 5, g BIGINT AS (id + 1))"
        )
        try:
            for number in (1, 2, 3):
                put(server, pa.table({"id": [number]}), (name, name))
            put(server, pa.table({"id": [3], "v": [7]}), (name, name), on_conflict="update")
            assert server.rows(f"FROM {quoted}.{quoted} ORDER BY id") == [(1, 5, 2), (2, 5, 3), (3, 7, 4)]
            generated = pa.table({"id": [4], "g": [5]})
            assert "computes" in refused(put, server, generated, (name, name), slug="SCHEMA_MISMATCH").text
            put(server, pa.table({"id": [1]}), (name,))
            put(server, pa.table({"id": [2]}), (name,))
            assert server.rows(f"SELECT count(*) FROM {quoted}") == [(2,)]
        finally:
            server.run(f"DROP SCHEMA {quoted} CASCADE")

    @pytest.mark.parametrize("catalog", ["temp", "TEMP"])
    def test_temporary_tables_are_those_of_a_session(self, server, catalog):
        unit = pa.table({"id": [1]})
        told = refused(put, server, unit, (catalog, "main", "t"), slug="BAD_NAME", codes="INVALID_ARGUMENT")
        assert "temporary" in told.text
        refused(put, server, unit, (catalog, "main", "t"), key="b/1/1", slug="BAD_NAME")

    @pytest.mark.parametrize("catalog", ["temp", "TEMP"])
    def test_so_they_are_in_a_transaction(self, server, catalog):
        with Client(server.uri) as client:
            client.run("BEGIN")
            client.put(pa.table({"id": [1, 2]}), catalog, "main", "t")
            assert client.rows("FROM temp.t ORDER BY id") == [(1,), (2,)]
            client.run("ROLLBACK")


def three(type, width, hidden, one=1):
    """Three numbers, of which that in the middle is to be hidden."""
    numbers = b"".join(number.to_bytes(width, "little", signed=True) for number in (one, hidden, one))
    return pa.Array.from_buffers(type, 3, [None, pa.py_buffer(numbers)])


HIGHEST = 2**63 - 1
# Numbers that none of these types can have in DuckDB.
UNFIT = {
    "date32": three(pa.date32(), 4, 2**31 - 1),
    "date64": three(pa.date64(), 8, HIGHEST, one=86_400_000),
    "time32": three(pa.time32("s"), 4, 2**31 - 1),
    "time64": three(pa.time64("ns"), 8, HIGHEST, one=1_000),
    "timestamp[s]": three(pa.timestamp("s"), 8, HIGHEST),
    "timestamp[s, UTC]": three(pa.timestamp("s", "UTC"), 8, HIGHEST),
    "timestamp[ms, UTC]": three(pa.timestamp("ms", "UTC"), 8, HIGHEST),
    "timestamp[ns, UTC]": three(pa.timestamp("ns", "UTC"), 8, HIGHEST, one=1_000),
    "duration[s]": three(pa.duration("s"), 8, HIGHEST),
    "duration[ms]": three(pa.duration("ms"), 8, HIGHEST),
    "duration[ns]": three(pa.duration("ns"), 8, HIGHEST, one=1_000),
    "interval": three(pa.month_day_nano_interval(), 16, 2**127 - 1, one=0),
    "decimal128": three(pa.decimal128(4, 1), 16, 10**20),
    "decimal256": three(pa.decimal256(4, 1), 32, 10**60),
}
NULL, OFFSETS = pa.array([False, True, False]), pa.array([0, 1, 2, 3], pa.int32())
# Ways to hide the number in the middle.
HIDE = {
    "null": lambda v: pa.Array.from_buffers(v.type, 3, [pa.py_buffer(bytes([0b101])), v.buffers()[1]]),
    "struct": lambda v: pa.StructArray.from_arrays([v], ["x"], mask=NULL),
    "list": lambda v: pa.ListArray.from_arrays(OFFSETS, v, mask=NULL),
    "large list": lambda v: pa.LargeListArray.from_arrays(OFFSETS.cast(pa.int64()), v, mask=NULL),
    "fixed-size list": lambda v: pa.FixedSizeListArray.from_arrays(v, 1, mask=NULL),
    "list view": lambda v: pa.ListViewArray.from_arrays(OFFSETS[:3], pa.array([1] * 3, pa.int32()), v, mask=NULL),
    "between list views": lambda v: pa.ListViewArray.from_arrays(
        pa.array([0, 2, 0], pa.int32()), pa.array([1, 1, 0], pa.int32()), v
    ),
    "map": lambda v: pa.MapArray.from_arrays(OFFSETS, pa.array(["a", "b", "c"]), v, mask=NULL),
    "list of structs": lambda v: pa.ListArray.from_arrays(OFFSETS, pa.StructArray.from_arrays([v], ["x"]), mask=NULL),
    "struct of lists": lambda v: pa.StructArray.from_arrays([pa.ListArray.from_arrays(OFFSETS, v)], ["x"], mask=NULL),
    "dictionary": lambda v: pa.DictionaryArray.from_arrays(pa.array([0, None, 2], pa.int8()), v),
}


class TestHidden:
    """What lies under a null, or where no list reaches, is no value."""

    @pytest.mark.parametrize("numbers", UNFIT.values(), ids=UNFIT)
    @pytest.mark.parametrize("hide", HIDE.values(), ids=HIDE)
    def test_what_nobody_sees_is_not_looked_at(self, server, hide, numbers):
        put(server, pa.table({"id": range(3), "v": hide(numbers)}), ("t",))
        nulls = server.rows("SELECT id, v IS NULL OR v::VARCHAR = '[]' FROM t ORDER BY id")
        assert [hidden for _, hidden in nulls].count(True) == 1
        assert server.rows("SELECT count(*) FROM t") == [(3,)]

    @pytest.mark.parametrize("numbers", UNFIT.values(), ids=UNFIT)
    def test_what_shows_is(self, server, numbers):
        for column in (numbers, pa.StructArray.from_arrays([numbers], ["x"])):
            refused(put, server, pa.table({"v": column}), ("t",), codes="INVALID_ARGUMENT")


def list_views(lists, items, type=pa.int8()):
    """Lists that all have the same items."""
    offsets, sizes = np.zeros(lists, np.int32), np.full(lists, len(items), np.int32)
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(sizes.tobytes())]
    return pa.Array.from_buffers(pa.list_view(type), lists, buffers, children=[items])


def text_views(texts, length):
    """Texts that all are the same bytes."""
    view = struct.pack("<i4sii", length, b"xxxx", 0, 0)
    buffers = [None, pa.py_buffer(view * texts), pa.py_buffer(b"x" * length)]
    return pa.Array.from_buffers(pa.string_view(), texts, buffers)


BYTES = pa.array(np.zeros(ONE_MIB, np.int8))
FEW = list_views(2_000, pa.array(np.zeros(2_000, np.int8)))
BOMBS = {
    "list views": list_views(700, BYTES),
    "list views inside": list_views(300, FEW, FEW.type),
    "text views": text_views(1_100, ONE_MIB),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([1 << 20], pa.int32()), pa.array(["x" * 1_000])),
    "runs in views": list_views(
        2, pa.RunEndEncodedArray.from_arrays(pa.array([10], pa.int32()), pa.array([1])), pa.run_end_encoded(pa.int32(), pa.int64())
    ),
}  # fmt: skip


class TestExpansion:
    @pytest.mark.parametrize("column", BOMBS.values(), ids=BOMBS)
    def test_few_bytes_that_stand_for_many_are_refused_before_they_are_written_out(self, server, column):
        before = peak(server)
        unit = pa.table({"v": column})
        for options in ({}, {"key": "bomb/1/1"}):
            refused(put, server, unit, ("t",), slug="BAD_ARROW", codes="INVALID_ARGUMENT", **options)
        refused(posted, server, unit, "SELECT count(*) FROM posted", slug="BAD_ARROW")
        assert peak(server) < before + (150 << 20)

    def test_what_shares_its_bytes_is_stored_as_it_reads(self, server):
        column = list_views(50, pa.array([1, None, 3], pa.int8()))
        assert stored(server, column, key="views/1/1") == [[1, None, 3]] * 50
        assert put(server, pa.table({"id": range(50), "v": column}), ("t",), key="views/1/1").duplicate
        lists = pa.array([[1, None, 3]] * 50, pa.list_(pa.int8()))
        assert put(server, pa.table({"id": range(50), "v": lists}), ("t",), key="views/1/1").duplicate


# A descriptor that is a path of one part.
NOT_UTF8 = b"\x08\x01\x1a\x02\xff\xfe"


def call(server, method, kind, message):
    with server.channel() as channel:
        same = bytes
        endpoint = f"/arrow.flight.protocol.FlightService/{method}"
        if kind == "unary":
            return channel.unary_unary(endpoint, same, same)(message, timeout=30)
        if kind == "streamed":
            return list(channel.unary_stream(endpoint, same, same)(message, timeout=30))
        return list(channel.stream_stream(endpoint, same, same)(iter([message]), timeout=30))


class TestBytes:
    @pytest.mark.parametrize("method", ["GetFlightInfo", "GetSchema", "PollFlightInfo"])
    def test_a_path_that_is_no_text(self, server, method):
        refused(call, server, method, "unary", NOT_UTF8, slug="BAD_NAME", codes="INVALID_ARGUMENT")

    @pytest.mark.parametrize("method", ["DoPut", "DoExchange"])
    def test_so_it_is_in_streams(self, server, method):
        message = b"\x0a" + bytes([len(NOT_UTF8)]) + NOT_UTF8
        refused(call, server, method, "both", message, slug="BAD_NAME", codes="INVALID_ARGUMENT")

    def test_bytes_that_are_no_message(self, server):
        refused(call, server, "GetFlightInfo", "unary", b"\xff\xff", slug="BAD_MESSAGE", codes="INVALID_ARGUMENT")
        refused(call, server, "DoAction", "streamed", b"\x0a\x01\xff", slug="BAD_MESSAGE", codes="INVALID_ARGUMENT")
