"""Every Arrow type in, every DuckDB type out: values unchanged, on the types that README promises."""

import datetime as dt
import math
import uuid
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import Server, refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over")


@pytest.fixture(scope="module", params=[(), ("--bulk-size", "1B")], ids=["small", "bulk"])
def server(request, tmp_path_factory):
    """Small uploads and bulk uploads enter by different doors, and must come out alike."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "db.duckdb", *request.param, log=folder / "log")
    yield server
    server.stop()


UTC = dt.timezone.utc
DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 30, 15)
BEFORE_1970 = dt.datetime(1901, 1, 1)
WORDS = ["Merganser", None, "", "naïve 🦆 дятел", "x" * 300, "line\nbreak \\ 'quote'"]
BYTES = [b"\x00\xff", None, b"", b"long" * 100]
LISTS = [[1, None, 3], None, [], [4]]
INTERVAL = pa.MonthDayNano


def integers(type, low, high):
    return pa.array([low, None, 0, high], type)


def decimals(type):
    return pa.array([Decimal("-1234.50"), None, Decimal("0.00"), Decimal("99999.99")], type)


def timestamps(type, *more):
    return pa.array([NOON, None, dt.datetime(1970, 1, 1), *more], type)


def durations(type):
    return pa.array([dt.timedelta(days=-2, seconds=3), None, dt.timedelta(0)], type)


DURATIONS_AS_INTERVALS = [INTERVAL([0, 0, (-2 * 86400 + 3) * 10**9]), None, INTERVAL([0, 0, 0])]

# name: what is put; its type on the way back, where that is another; its values, where they are written otherwise
ROUND_TRIPS = {
    "bool": (pa.array([True, None, False]),),
    "int8": (integers(pa.int8(), -(2**7), 2**7 - 1),),
    "int16": (integers(pa.int16(), -(2**15), 2**15 - 1),),
    "int32": (integers(pa.int32(), -(2**31), 2**31 - 1),),
    "int64": (integers(pa.int64(), -(2**63), 2**63 - 1),),
    "uint8": (integers(pa.uint8(), 1, 2**8 - 1),),
    "uint16": (integers(pa.uint16(), 1, 2**16 - 1),),
    "uint32": (integers(pa.uint32(), 1, 2**32 - 1),),
    "uint64": (integers(pa.uint64(), 1, 2**64 - 1),),
    "half float": (pa.array(np.float16([1.5, -0.0, 65504, np.inf])), pa.float32()),
    "float": (pa.array([1.5, None, -0.0, math.inf, -math.inf], pa.float32()),),
    "double": (pa.array([0.1, None, -0.0, 1.7e308, 5e-324, math.inf]),),
    "utf8": (pa.array(WORDS),),
    "large_utf8": (pa.array(WORDS, pa.large_utf8()), pa.utf8()),
    "string_view": (pa.array(WORDS, pa.string_view()), pa.utf8()),
    "binary": (pa.array(BYTES, pa.binary()),),
    "large_binary": (pa.array(BYTES, pa.large_binary()), pa.binary()),
    "binary_view": (pa.array(BYTES, pa.binary_view()), pa.binary()),
    "fixed-size binary": (pa.array([b"abc", None, b"\0\0\0"], pa.binary(3)), pa.binary()),
    "date32": (pa.array([DAY, None, dt.date(1, 1, 1), dt.date(9999, 12, 31)], pa.date32()),),
    "date64": (pa.array([DAY, None, dt.date(1901, 1, 1)], pa.date64()), pa.date32()),
    "time32[s]": (pa.array([dt.time(23, 59, 59), None], pa.time32("s")), pa.time64("us")),
    "time32[ms]": (pa.array([dt.time(0, 0, 0, 1000), None], pa.time32("ms")), pa.time64("us")),
    "time64[us]": (pa.array([dt.time(23, 59, 59, 999_999), None], pa.time64("us")),),
    "time64[ns]": (pa.array([1000, None, 86_399_999_999_000], pa.time64("ns")), pa.time64("us")),
    "timestamp[s]": (timestamps(pa.timestamp("s"), BEFORE_1970),),
    "timestamp[ms]": (timestamps(pa.timestamp("ms"), BEFORE_1970),),
    "timestamp[us]": (timestamps(pa.timestamp("us"), BEFORE_1970, dt.datetime(1, 1, 1)),),
    "timestamp[ns]": (pa.array([1, None, 1_709_209_815_123_456_789], pa.timestamp("ns")),),
    "timestamp[s, UTC]": (timestamps(pa.timestamp("s", "UTC")), pa.timestamp("us", "UTC")),
    "timestamp[us, UTC]": (timestamps(pa.timestamp("us", "UTC"), BEFORE_1970),),
    "timestamp[ms, Europe/Berlin]": (
        timestamps(pa.timestamp("ms", "Europe/Berlin")),
        pa.timestamp("us", "UTC"),
    ),
    "timestamp[ns, +05:30]": (timestamps(pa.timestamp("ns", "+05:30")), pa.timestamp("us", "UTC")),
    "duration[s]": (durations(pa.duration("s")), pa.month_day_nano_interval(), DURATIONS_AS_INTERVALS),
    "duration[us]": (durations(pa.duration("us")), pa.month_day_nano_interval(), DURATIONS_AS_INTERVALS),
    "interval": (
        pa.array([INTERVAL([-1, 15, 30_000]), None, INTERVAL([0, 0, 0])], pa.month_day_nano_interval()),
    ),
    "decimal32": (decimals(pa.decimal32(9, 2)), pa.decimal128(9, 2)),
    "decimal64": (decimals(pa.decimal64(18, 2)), pa.decimal128(18, 2)),
    "decimal128 of 4 digits": (pa.array([Decimal("-12.34"), None], pa.decimal128(4, 2)),),
    "decimal128 of 38 digits": (pa.array([Decimal("9" * 38), None, Decimal(-1)], pa.decimal128(38)),),
    "decimal256 of 20 digits": (decimals(pa.decimal256(20, 2)), pa.decimal128(20, 2)),
    "dictionary": (pa.array(["a", None, "b", "a", ""]).dictionary_encode(), pa.utf8()),
    "dictionary of integers": (pa.array([7, None, 9, 7]).dictionary_encode(), pa.int64()),
    "list": (pa.array(LISTS, pa.list_(pa.int32())),),
    "large_list": (pa.array(LISTS, pa.large_list(pa.int32())), pa.list_(pa.int32())),
    "fixed-size list": (pa.array([[1, None], None, [3, 4]], pa.list_(pa.int16(), 2)),),
    "list of lists": (pa.array([[["a"], [], None], None, []], pa.list_(pa.list_(pa.utf8()))),),
    "struct": (
        pa.array([{"n": 1, "s": None}, None, {"n": None, "s": ""}], pa.struct({"n": pa.int32(), "s": pa.utf8()})),
    ),
    "list of structs": (pa.array([[{"d": DAY}, None], None, []], pa.list_(pa.struct({"d": pa.date32()}))),),
    "map": (pa.array([[("a", 1), ("b", None)], None, []], pa.map_(pa.utf8(), pa.int64())),),
    "null": (pa.nulls(3), pa.int32()),
    "uuid": (
        pa.array([uuid.UUID(int=5).bytes, None], pa.uuid()),
        pa.utf8(),
        ["00000000-0000-0000-0000-000000000005", None],
    ),
    "json": (pa.array(['{"a": [1, null]}', None], pa.json_(pa.utf8())), pa.utf8()),
}  # fmt: skip

SLICES = {"all rows": slice(None), "without the first": slice(1, None), "no rows": slice(0, 0)}


@pytest.mark.parametrize("rows", SLICES.values(), ids=SLICES)
@pytest.mark.parametrize("case", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_arrow_type_round_trip(server, case, rows):
    sent, *changed = case
    wire_type = changed[0] if changed else sent.type
    values = changed[1] if len(changed) > 1 else sent.to_pylist()

    array = sent[rows]
    assert server.put(pa.table({"row": range(len(array)), "v": array}), "t").rows == len(array)

    returned = server.sql(f"SELECT v FROM t ORDER BY row")
    assert same_type(returned.schema.field("v").type, wire_type)
    assert returned["v"].to_pylist() == values[rows]


@pytest.mark.parametrize("case", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_arrow_type_in_many_rows(server, case):
    """More than a row group of DuckDB's, in batches that do not divide it."""
    few = pa.table({"v": case[0]})
    server.put(few, "few")
    many = pa.table({"v": pa.concat_arrays([case[0]] * (150_000 // len(few)))})
    writer, _ = server.client.do_put(flight.FlightDescriptor.for_path("many"), many.schema)
    writer.write_table(many, max_chunksize=7_001)
    writer.close()
    kept = server.sql("FROM few")
    expected = kept.take(pa.array(np.arange(len(many)) % len(few)))
    assert server.sql("FROM many").equals(expected)


def same_type(a, b):
    """Equal but for the name of a list's element, which DuckDB does not keep."""
    if pa.types.is_list(a) and pa.types.is_list(b):
        return same_type(a.value_type, b.value_type)
    if pa.types.is_fixed_size_list(a) and pa.types.is_fixed_size_list(b):
        return a.list_size == b.list_size and same_type(a.value_type, b.value_type)
    return a == b


# Types that a server may not know how to store; it must not store something else instead.
@pytest.mark.parametrize(
    "array",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None])),
        pa.array([[1, None], None, []], pa.list_view(pa.int32())),
        pa.UnionArray.from_dense(
            pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["x"])]
        ),
        pa.array([Decimal("9" * 50), None], pa.decimal256(50)),
        pa.array([1_001, None], pa.time64("ns")),
        pa.array([1_001, None], pa.timestamp("ns", "UTC")),
        pa.array([1_001, None], pa.duration("ns")),
        pa.array([INTERVAL([0, 0, 1]), None], pa.month_day_nano_interval()),
    ],
    ids=["run-end encoded", "list view", "dense union", "decimal of 50 digits", "time in nanoseconds",
         "zoned nanoseconds", "duration in nanoseconds", "interval in nanoseconds"],
)  # fmt: skip
def test_rare_type_is_stored_unchanged_or_refused_by_name(server, array):
    data = pa.table({"the column": array})
    try:
        server.put(data, "t")
    except pa.ArrowException:
        refusal = refused(server.put, data, "t", codes="INVALID_ARGUMENT")
        assert "the column" in refusal.text
        refused(server.sql, f"FROM t", codes="NOT_FOUND")
    else:
        assert server.sql(f"FROM t")["the column"].to_pylist() == array.to_pylist()


def test_nan_is_neither_null_nor_lost(server):
    server.put(pa.table({"v": pa.array([math.nan, None, 1.0], from_pandas=False)}), "t")
    assert server.rows(f"SELECT count(*), count(v), count(*) FILTER (isnan(v)) FROM t") == [(3, 2, 1)]


def test_dictionary_that_changes_between_batches(server):
    chunks = [pa.array(values).dictionary_encode() for values in (["a", "b"], ["c"], ["b", None, "d"])]
    server.put(pa.table({"row": range(6), "v": pa.chunked_array(chunks)}), "t")
    assert server.sql(f"SELECT v FROM t ORDER BY row")["v"].to_pylist() == ["a", "b", "c", "b", None, "d"]


def test_table_of_600_columns(server):
    sent = pa.table({f"column {i}": pa.array([i, None, -i]) for i in range(600)})
    server.put(sent, "t")
    assert server.sql(f"FROM t").equals(sent)


def test_a_million_rows_come_back_unchanged_and_in_order(server):
    n = 1_000_000
    sent = pa.table(
        {
            "id": pa.array(np.arange(n)),
            "x": pa.array(np.random.default_rng(1).random(n), mask=np.arange(n) % 7 == 0),
            "s": pa.array(np.char.mod("row %d", np.arange(n) % 1000)),
        }
    )
    assert server.put(sent, "t").rows == n
    assert server.sql(f"FROM t ORDER BY id").equals(sent)


# SQL value: (type on the wire, value)
RESULTS = {
    "NULL": (pa.int32(), None),
    "123::HUGEINT": (pa.decimal128(38, 0), Decimal(123)),
    "-99999999999999999999999999999999999999::HUGEINT": (pa.decimal128(38, 0), Decimal("-" + "9" * 38)),
    "(SELECT sum(range) FROM range(5))": (pa.decimal128(38, 0), Decimal(10)),
    "1.5::DECIMAL(4, 1)": (pa.decimal128(4, 1), Decimal("1.5")),
    "'00000000-0000-0000-0000-000000000005'::UUID": (pa.utf8(), "00000000-0000-0000-0000-000000000005"),
    """'{"a": 1}'::JSON""": (pa.utf8(), '{"a": 1}'),
    "'b'::ENUM ('a', 'b')": (pa.utf8(), "b"),
    "TIMESTAMPTZ '2024-01-01 00:00:00+02'": (
        pa.timestamp("us", "UTC"),
        dt.datetime(2023, 12, 31, 22, tzinfo=UTC),
    ),
    "TIMESTAMP_NS '2024-01-01 00:00:00.000001'": (pa.timestamp("ns"), dt.datetime(2024, 1, 1, 0, 0, 0, 1)),
    "INTERVAL '1 month 2 days 3 seconds'": (pa.month_day_nano_interval(), INTERVAL([1, 2, 3 * 10**9])),
    "'POINT(1 2)'::GEOMETRY": (pa.binary(), bytes.fromhex("0101000000000000000000f03f0000000000000040")),
    "'\\xAA'::BLOB": (pa.binary(), b"\xaa"),
    "MAP {'a': 1}": (pa.map_(pa.utf8(), pa.int32()), [("a", 1)]),
    "[{'e': 'a'::ENUM ('a')}]": (pa.list_(pa.struct({"e": pa.utf8()})), [{"e": "a"}]),
    "[1, NULL]::INTEGER[2]": (pa.list_(pa.int32(), 2), [1, None]),
    "union_value(n := 1)": (pa.sparse_union([pa.field("n", pa.int32())]), 1),
}  # fmt: skip


@pytest.mark.parametrize("expression", RESULTS)
def test_duckdb_type_on_the_wire(server, expression):
    wire_type, value = RESULTS[expression]
    query = f"SELECT {expression} AS v"
    result = server.sql(query)
    assert same_type(result.schema.field("v").type, wire_type)
    assert result.to_pylist() == [{"v": value}]
    announced = server.client.get_flight_info(flight.FlightDescriptor.for_command(query)).schema
    assert announced.equals(result.schema)


def test_every_type_of_a_stored_table_is_announced_as_it_is_delivered(server):
    server.run(f"CREATE TABLE t AS SELECT {', '.join(f'{e} AS c{i}' for i, e in enumerate(RESULTS))}")
    for descriptor in (flight.FlightDescriptor.for_path("t"), flight.FlightDescriptor.for_command(f"FROM t")):
        info = server.client.get_flight_info(descriptor)
        delivered = server.client.do_get(info.endpoints[0].ticket).read_all()
        assert info.schema.equals(delivered.schema)
        assert server.client.get_schema(descriptor).schema.equals(delivered.schema)
        assert delivered.num_rows == 1


def test_null_column_in_front_leaves_the_others_alone(server):
    """DuckDB ties the whole Arrow array to its first column and lets go of it early where that is NULL."""
    text = [None if i % 3 else f"value number {i}" for i in range(10_000)]
    table = pa.table({"nothing": pa.nulls(10_000), "number": pa.array(range(10_000)), "text": pa.array(text)})
    server.put(table, "t")
    server.put(table, "t")
    stored = server.sql("SELECT number, text FROM t ORDER BY number")
    assert stored["text"].to_pylist() == [value for value in text for _ in range(2)]
