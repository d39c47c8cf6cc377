"""Every Arrow type in, every DuckDB type out: values unchanged, on the types that README promises."""

import datetime as dt
import math
import uuid
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import refused
from loaders import put

pytestmark = pytest.mark.usefixtures("no_tables_left_over")


@pytest.fixture(scope="module")
def server(server_by_door):
    return server_by_door


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
    """Equal but for the names and nullability of inner fields, which DuckDB does not keep."""
    if pa.types.is_map(a) and pa.types.is_map(b):
        return same_type(a.key_type, b.key_type) and same_type(a.item_type, b.item_type)
    if a.num_fields == 0 or a.id != b.id or a.num_fields != b.num_fields:
        return a == b
    if pa.types.is_fixed_size_list(a) and a.list_size != b.list_size:
        return False
    named = pa.types.is_struct(a) or pa.types.is_union(a)
    fields = [(a.field(i), b.field(i)) for i in range(a.num_fields)]
    return all(same_type(f.type, g.type) and (not named or f.name == g.name) for f, g in fields)


# What only parameters and nested columns need besides: how they are sent, and how DuckDB holds them.
NESTED_TRIPS = {
    "run-end encoded": (
        pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None])),
        pa.utf8(),
    ),
    "list view": (pa.array(LISTS, pa.list_view(pa.int32())), pa.list_(pa.int32())),
    "list of times": (pa.array([[1000, None], None], pa.list_(pa.time64("ns"))), pa.list_(pa.time64("us"))),
    "list of zoned nanoseconds": (
        pa.array([[NOON, None], None, []], pa.list_(pa.timestamp("ns", "UTC"))),
        pa.list_(pa.timestamp("us", "UTC")),
        [[NOON.replace(tzinfo=UTC), None], None, []],
    ),
    "struct of nanoseconds": (pa.array([{"t": 1}, None], pa.struct({"t": pa.timestamp("ns")})),),
    "struct of a decimal256": (
        pa.array([{"d": Decimal("1.50")}, None, {"d": None}], pa.struct({"d": pa.decimal256(20, 2)})),
        pa.struct({"d": pa.decimal128(20, 2)}),
    ),
    "list of half floats": (pa.array([np.float16([1.5, -2])], pa.list_(pa.float16())), pa.list_(pa.float32())),
    "list of dictionaries": (
        pa.array([["a", None], ["a"]], pa.list_(pa.dictionary(pa.int8(), pa.utf8()))),
        pa.list_(pa.utf8()),
    ),
    "list of views": (pa.array([["x" * 20, None], ["y"]], pa.list_(pa.string_view())), pa.list_(pa.utf8())),
    "dictionary of times": (pa.array([1000, None, 1000], pa.time64("ns")).dictionary_encode(), pa.time64("us")),
    "map of date64": (
        pa.array([[("a", DAY)], None], pa.map_(pa.utf8(), pa.date64())),
        pa.map_(pa.utf8(), pa.date32()),
    ),
    "map of lists": (pa.array([[(1, ["a", None])], []], pa.map_(pa.int32(), pa.list_(pa.utf8()))),),
    "fixed-size list of structs": (pa.array([[{"n": 1}, None], None], pa.list_(pa.struct({"n": pa.int8()}), 2)),),
    "bool8": (
        pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0, 5], pa.int8())),
        pa.bool_(),
        [True, None, False, True],
    ),
    "list of uuids": (
        pa.ListArray.from_arrays(
            pa.array([0, 2, 2], pa.int32()), pa.array([uuid.UUID(int=5).bytes, None], pa.uuid())
        ),
        pa.list_(pa.utf8()),
        [["00000000-0000-0000-0000-000000000005", None], []],
    ),
    "another's extension type": (
        pa.ExtensionArray.from_storage(
            pa.opaque(pa.binary(16), "hugeint", "DuckDB"), pa.array([b"0123456789abcdef", None], pa.binary(16))
        ),
        pa.binary(),
        [b"0123456789abcdef", None],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", NESTED_TRIPS.values(), ids=NESTED_TRIPS)
def test_nested_arrow_type_round_trip(server, case):
    test_arrow_type_round_trip(server, case, slice(None))


# Parameters lose what a text or a bit pattern does not carry: the unit of coarse timestamps.
PARAMETERS = ROUND_TRIPS | NESTED_TRIPS | {
    "timestamp[s]": (timestamps(pa.timestamp("s"), BEFORE_1970), pa.timestamp("us")),
    "timestamp[ms]": (timestamps(pa.timestamp("ms"), BEFORE_1970), pa.timestamp("us")),
    "json": (pa.array(['{"a": [1, null]}', None], pa.json_(pa.utf8())), pa.utf8()),
    "duration[ms]": (durations(pa.duration("ms")), pa.month_day_nano_interval(), DURATIONS_AS_INTERVALS),
    "duration[ns]": (durations(pa.duration("ns")), pa.month_day_nano_interval(), DURATIONS_AS_INTERVALS),
    "sparse union": (
        pa.UnionArray.from_sparse(pa.array([1], pa.int8()), [pa.nulls(1, pa.int64()), pa.array(["x"])], ["n", "s"]),
    ),
    "dense union": (
        pa.UnionArray.from_dense(
            pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1]), pa.array(["x"])], ["n", "s"]
        ),
        pa.sparse_union([pa.field("n", pa.int64()), pa.field("s", pa.utf8())]),
    ),
    # The driver cannot send a part of one.
    "list view": (pa.array(LISTS[:1], pa.list_view(pa.int32())), pa.list_(pa.int32())),
}  # fmt: skip


@pytest.mark.parametrize("case", PARAMETERS.values(), ids=PARAMETERS)
def test_parameter_of_every_type(server, case):
    """Each value comes back as it was bound, and with the type that a column of it would have."""
    sent, *changed = case
    wire_type = changed[0] if changed else sent.type
    values = changed[1] if len(changed) > 1 else sent.to_pylist()
    with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
        for row, value in enumerate(values):
            cursor.execute("SELECT ? AS v", parameters=pa.table({"1": sent[row : row + 1]}))
            returned = cursor.fetch_arrow_table()
            assert returned["v"].to_pylist() == [value]
            if value is not None:
                assert same_type(returned.schema.field("v").type, wire_type)


def bad_decimal():
    """Arrow data whose digits are more than its type says."""
    digits = pa.py_buffer((99_999).to_bytes(16, "little"))
    return pa.Array.from_buffers(pa.decimal128(4, 2), 1, [None, digits])


def of_numbers(type, *numbers):
    return pa.array(numbers, pa.int64()).view(type)


FAR = 2**63 - 1
# Values that DuckDB would store as others, with the word by which the refusal says why.
REFUSED_VALUES = {
    "decimal of 50 digits": (pa.array([Decimal("9" * 50), None], pa.decimal256(50)), ""),
    "decimal with too many digits": (bad_decimal(), "digits"),
    "time64[ns]": (pa.array([1_001, None], pa.time64("ns")), "nanoseconds"),
    "time before 0:00": (of_numbers(pa.time64("us"), -1), "24:00"),
    "time after 24:00": (of_numbers(pa.time64("us"), 86_400_000_001), "24:00"),
    "timestamp[ns, UTC]": (pa.array([1_001, None], pa.timestamp("ns", "UTC")), "nanoseconds"),
    "timestamp that is infinity": (of_numbers(pa.timestamp("us"), FAR), "range"),
    "timestamp that is -infinity": (of_numbers(pa.timestamp("us"), -FAR), "range"),
    "timestamp[s] that is far": (of_numbers(pa.timestamp("s"), FAR // 1000), "range"),
    "timestamp[ns] that is infinity": (of_numbers(pa.timestamp("ns"), FAR), "range"),
    "timestamp[ms, UTC] that is far": (of_numbers(pa.timestamp("ms", "UTC"), FAR), "range"),
    "date that is infinity": (pa.array([2**31 - 1], pa.int32()).view(pa.date32()), "range"),
    "date64 within a day": (of_numbers(pa.date64(), 1), "day"),
    "duration[ns]": (pa.array([1_001, None], pa.duration("ns")), "nanoseconds"),
    "duration[s] that is far": (of_numbers(pa.duration("s"), FAR), "range"),
    "interval": (pa.array([INTERVAL([0, 0, 1]), None], pa.month_day_nano_interval()), "nanoseconds"),
    "dictionary of times": (pa.array([1_001], pa.time64("ns")).dictionary_encode(), "nanoseconds"),
}
WRAPPINGS = {
    "": lambda array: array,
    "in a list": lambda array: pa.ListArray.from_arrays([0, len(array)], array),
    "in a struct": lambda array: pa.StructArray.from_arrays([array], ["m"]),
    "in a map": lambda array: pa.MapArray.from_arrays([0, 1], pa.array(["k"]), array[:1]),
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("array, reason", REFUSED_VALUES.values(), ids=REFUSED_VALUES)
def test_value_that_would_change_is_refused(server, array, reason, wrap):
    data = pa.table({"the column": wrap(array)})
    refusal = refused(server.put, data, "t", codes="INVALID_ARGUMENT")
    assert 'column "the column"' in refusal.text and reason in refusal.text
    with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
        parameters = data.slice(0, 1)
        refusal = refused(lambda: cursor.execute("SELECT ?", parameters=parameters), codes="INVALID_ARGUMENT")
        assert "parameter 1" in refusal.text and reason in refusal.text


def test_type_that_no_parameter_can_have_is_refused_by_name(server):
    members = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["same", "SAME"])
    with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
        refusal = refused(
            lambda: cursor.execute("SELECT ?, ?", parameters=pa.table({"1": [1], "2": members})),
            slug="UNSUPPORTED_TYPE",
        )
        assert "parameter 2" in refusal.text
        keys = pa.MapArray.from_arrays([0, 2], pa.array(["k", "k"]), pa.array([1, 2]))
        refused(lambda: cursor.execute("SELECT ?", parameters=pa.table({"1": keys})), slug="CONVERSION")


def test_union_is_refused_by_name(server):
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    refusal = refused(server.put, pa.table({"the column": union}), "t", slug="UNSUPPORTED_TYPE")
    assert "the column" in refusal.text


def test_types_that_leave_as_text_come_back_as_text(server):
    server.run("CREATE TABLE t (z TIMETZ, n BIGNUM, l TIMETZ[], j JSON)")
    sent = pa.table({"z": ["12:00:00+02", None], "n": ["9" * 60, None], "l": [["01:00:00-08"], []], "j": ["[1]", None]})
    server.put(sent, "t")
    assert server.sql("FROM t").to_pydict() == sent.to_pydict()
    refused(server.put, pa.table({"z": ["noon"]}), "t", slug="CONVERSION")
    refused(server.put, pa.table({"j": pa.array(["{"], pa.json_(pa.utf8()))}), "t", slug="CONVERSION")


def test_bits_are_sent_as_text(server):
    """Their bytes in Arrow are DuckDB's own: read as a BLOB they would become other bits."""
    server.run("CREATE TABLE t (b BIT, l BIT[])")
    server.put(pa.table({"b": ["101"]}), "t")
    assert server.rows("SELECT b::VARCHAR FROM t") == [("101",)]
    refused(server.put, server.sql("SELECT b FROM t"), "t", slug="SCHEMA_MISMATCH")
    refused(server.put, pa.table({"l": [[b"\x05\xfd"]]}), "t", slug="SCHEMA_MISMATCH")


def test_types_that_only_duckdb_names_come_in_exactly(server):
    server.run("CREATE TABLE t (g GEOMETRY, n TIME_NS)")
    point = bytes.fromhex("0101000000000000000000f03f0000000000000040")
    sent = pa.table({"g": [point, None], "n": pa.array([1_001, None], pa.time64("ns"))})
    server.put(sent, "t")
    assert server.rows("SELECT g::VARCHAR, n::VARCHAR FROM t WHERE g IS NOT NULL") == [
        ("POINT (1 2)", "00:00:00.000001001")
    ]
    assert server.sql("SELECT g, n::VARCHAR AS n FROM t")["g"].to_pylist() == [point, None]
    refused(server.put, pa.table({"g": [b"no geometry"]}), "t", codes="INVALID_ARGUMENT")


@pytest.mark.parametrize("type", ["GEOMETRY", "STRUCT(a INTEGER, g GEOMETRY)", "INTERVAL"])
def test_keys_that_duckdb_cannot_compare_are_refused(server, type):
    server.run(f"CREATE TABLE t (k {type}, v INTEGER)")
    value = {
        "GEOMETRY": "CAST('POINT (1 2)' AS GEOMETRY)",
        "INTERVAL": "INTERVAL 1 MONTH",
    }.get(type, "{'a': 1, 'g': CAST('POINT (1 2)' AS GEOMETRY)}")
    rows = server.sql(f"SELECT {value} AS k, 1::INTEGER AS v")
    refused(put, server, rows, ("t",), merge_keys="k", slug="SCHEMA_MISMATCH")
    assert server.rows("SELECT count(*) FROM t") == [(0,)]


def test_bits_are_bound_as_text_alone(server):
    """DuckDB delivers a BIT as bytes of its own, and reads bytes as other bits."""
    server.run("CREATE TABLE t (b BIT); CREATE TABLE n (s STRUCT(b BLOB, d BIT[]))")
    with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:

        def stored(table, column):
            cursor.execute(f"INSERT INTO {table} VALUES (?)", parameters=pa.table({"1": column}))

        stored("t", ["101"])
        stored("n", [{"b": b"x", "d": ["101"]}])
        for table, value in {"t": "'101'::BIT", "n": "{'b': 'x'::BLOB, 'd': ['101'::BIT]}"}.items():
            refused(stored, table, server.sql(f"SELECT {value} AS v")["v"], slug="CONVERSION")
        # DuckDB gives a parameter under two casts no type of its own.
        for sql in ["CAST(? AS BIT)::VARCHAR", "TRY_CAST($1 AS BIT)::VARCHAR", "?::BITSTRING::VARCHAR || ''"]:
            cursor.execute(f"SELECT {sql}", parameters=["101"])
            assert cursor.fetchall() == [("101",)]
            refused(cursor.execute, f"SELECT {sql}", parameters=[b"\x05\xfd"], slug="CONVERSION")
        cursor.execute("SELECT CAST(CAST(? AS BLOB) AS BIT)::VARCHAR, ?", parameters=[b"\x05", b"\x05"])
        assert cursor.fetchall() == [("00000101", b"\x05")]
    assert server.rows("SELECT b::VARCHAR, (SELECT s::VARCHAR FROM n) FROM t") == [("101", "{'b': x, 'd': [101]}")]


def test_variant_comes_in_as_it_goes_out(start):
    server = start(":memory:")
    server.run("CREATE TABLE t (v VARIANT)")
    for sent in (['{"a":[1,"x"]}', None], ["7"]):
        server.put(pa.table({"v": sent}), "t")
    assert server.sql("SELECT v, v.a FROM t WHERE v IS NOT NULL").to_pydict() == {
        "v": ['{"a":[1,"x"]}', "7"],
        "a": ['[1,"x"]', None],
    }


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
    "TIMETZ '12:00:00.5+02:30'": (pa.utf8(), "12:00:00.5+02:30"),
    "[TIMETZ '12:00:00-08', NULL]": (pa.list_(pa.utf8()), ["12:00:00-08", None]),
    "{'z': TIMETZ '12:00:00-08', 'e': 'a'::ENUM ('a')}": (
        pa.struct({"z": pa.utf8(), "e": pa.utf8()}),
        {"z": "12:00:00-08", "e": "a"},
    ),
    "'-123456789012345678901234567890123456789012345'::BIGNUM": (
        pa.utf8(),
        "-123456789012345678901234567890123456789012345",
    ),
    "MAP {'a': ['1'::BIGNUM]}": (pa.map_(pa.utf8(), pa.list_(pa.utf8())), [("a", ["1"])]),
    "[INTERVAL '1 day', NULL]": (pa.list_(pa.month_day_nano_interval()), [INTERVAL([0, 1, 0]), None]),
    "TIME_NS '12:00:00.000001'": (pa.time64("ns"), dt.time(12, 0, 0, 1)),
    "'101'::BIT": (pa.binary(), b"\x05\xfd"),
    "['a'::ENUM ('a')]::ENUM ('a')[1]": (pa.list_(pa.utf8(), 1), ["a"]),
    "union_value(e := 'a'::ENUM ('a'))": (pa.sparse_union([pa.field("e", pa.utf8())]), "a"),
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


def test_variant_leaves_as_json(server):
    for expression in ("{'a': [1, NULL], 'd': DATE '2024-02-29', 's': 'x'}", "'text'", "1.5::DECIMAL(4, 1)", "'null'"):
        query = f"SELECT {expression}::VARIANT AS v"
        expected = duckdb.sql(f"SELECT v::JSON::VARCHAR FROM ({query})").fetchone()[0]
        announced = server.client.get_schema(flight.FlightDescriptor.for_command(query)).schema
        returned = server.sql(query)
        assert returned["v"].to_pylist() == [expected]
        assert announced.equals(returned.schema) and returned.schema == pa.schema({"v": pa.utf8()})


VARIANTS_AND_NULLS = {
    "{}": ['{"a":null}', None],
    "[{}]": [['{"a":null}'], [None]],
    "[[{}], NULL]": [[['{"a":null}'], None], [[None], None]],
    "CAST([{}] AS VARIANT[1])": [['{"a":null}'], [None]],
    "MAP {{'k': {}}}": [[("k", '{"a":null}')], [("k", None)]],
    "{{'x': {}, 't': TIMETZ '12:00:00+02'}}": [{"x": '{"a":null}', "t": "12:00:00+02"}, {"x": None, "t": "12:00:00+02"}],
    "[{{'x': {}, 'i': INTERVAL 1 DAY}}]": [
        [{"x": '{"a":null}', "i": pa.MonthDayNano([0, 1, 0])}],
        [{"x": None, "i": pa.MonthDayNano([0, 1, 0])}],
    ],
    "CAST(union_value(v := {}) AS UNION(v VARIANT, \"b'\"\" i\" INTEGER))": ['{"a":null}', None],
}


@pytest.mark.parametrize("place", VARIANTS_AND_NULLS)
def test_variant_that_is_null_leaves_as_null(server, place):
    """DuckDB's own cast makes the text "null" of it."""
    rows = " UNION ALL ".join(
        f"SELECT {i} AS id, {place.format(f'CAST({value} AS VARIANT)')} AS v"
        for i, value in enumerate(["{'a': NULL}", "NULL"])
    )
    returned = server.sql(f"SELECT v FROM ({rows} UNION ALL SELECT 2, NULL) ORDER BY id")["v"].to_pylist()
    assert returned == [*VARIANTS_AND_NULLS[place], None]


# SQL of a value that Arrow has not; DuckDB in process shows that it is one.
IMPOSSIBLE = {
    "HUGEINT": [f"1{'0' * 38}", f"-1{'0' * 38}"],
    "UHUGEINT": ["340282366920938463463374607431768211455", f"1{'0' * 38}"],
    "TIME": ["TIME '24:00:00'"],
    "TIME_NS": ["TIME_NS '24:00:00'"],
    "DATE": ["DATE 'infinity'", "DATE '-infinity'"],
    "TIMESTAMP_S": ["TIMESTAMP_S 'infinity'", "TIMESTAMP_S '-infinity'"],
    "TIMESTAMP_MS": ["TIMESTAMP_MS 'infinity'", "TIMESTAMP_MS '-infinity'"],
    "TIMESTAMP": ["TIMESTAMP 'infinity'", "TIMESTAMP '-infinity'"],
    "TIMESTAMP_NS": ["TIMESTAMP_NS 'infinity'", "TIMESTAMP_NS '-infinity'"],
    "TIMESTAMPTZ": ["TIMESTAMPTZ 'infinity'", "TIMESTAMPTZ '-infinity'"],
    "INTERVAL": ["to_microseconds(9223372036854776)", "to_microseconds(-9223372036854775807)"],
}
PLACES = [
    "{}",
    "[NULL, {}]",
    "{{'m': {}}}",
    "MAP {{'k': {}}}",
    "MAP {{{}: 1}}",
    "union_value(m := {})",
    "[[{{'m': MAP {{'k': [{}]}}}}]]",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("type", IMPOSSIBLE)
def test_value_that_arrow_has_not_ends_the_result_with_an_error(server, type, place):
    for value in IMPOSSIBLE[type]:
        value = f"({value})::{type}"
        inner = place.format(value, type=type)
        outer = place.format(f"NULL::{type}", type=type) if "MAP {{{}" not in place else "NULL"
        for row in (1, 100_000):
            chosen = f"CASE WHEN i = {row} THEN {inner} ELSE {outer} END"
            for column in (chosen, f"({chosen})::{type}[2]") if place.startswith("[NULL") else (chosen,):
                query = f'SELECT 1 AS n, {column} AS "a v" FROM range(1, 150001) t(i)'
                refusal = refused(server.sql, query, codes="INVALID_ARGUMENT", slug="VALUE_OUT_OF_RANGE")
                assert refusal.text.startswith(f'column "a v", row {row}: ') and "VARCHAR" in refusal.text
    # The same place with a value that Arrow has, and what the refusal advises.
    possible = {"TIME": "TIME '23:59:59'", "TIME_NS": "TIME_NS '23:59:59'"}.get(type, f"NULL::{type}")
    if "MAP {{{}" not in place or "NULL" not in possible:
        assert server.sql(f"SELECT {place.format(possible, type=type)}").num_rows == 1
    assert server.rows(f"SELECT ({value})::VARCHAR") == duckdb.sql(f"SELECT ({value})::VARCHAR").fetchall()


def test_a_masked_value_that_arrow_has_not_is_no_error(server):
    """What a NULL struct or list hides is not delivered, so it is not refused."""
    server.run("CREATE TABLE t AS SELECT {'d': DATE 'infinity'} AS s, [DATE 'infinity'] AS l, i FROM range(3) t(i)")
    query = "SELECT CASE WHEN i > 5 THEN s END AS s, l[2:] AS l, CASE WHEN i > 5 THEN l END AS n FROM t"
    assert server.rows(query) == [(None, [], None)] * 3
    refused(server.sql, "SELECT s FROM t", slug="VALUE_OUT_OF_RANGE")


def test_a_write_that_returns_what_arrow_has_not_is_undone(server):
    server.run("CREATE TABLE t (d DATE)")
    refused(server.run, "INSERT INTO t VALUES ('infinity') RETURNING d", slug="VALUE_OUT_OF_RANGE")
    assert server.rows("SELECT count(*) FROM t") == [(0,)]


def test_text_types_are_announced_to_prepared_statements_and_lists_of_tables(server):
    server.run("CREATE TABLE t (z TIMETZ, n BIGNUM[], e ENUM ('a'))")
    server.run("INSERT INTO t VALUES ('12:00:00+02', [1, NULL], 'a')")
    expected = pa.schema({"z": pa.utf8(), "n": pa.list_(pa.utf8()), "e": pa.utf8()})
    with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
        listed = connection.adbc_get_table_schema("t")
        assert [same_type(a.type, b.type) for a, b in zip(listed, expected)] == [True] * 3
        cursor.execute("SELECT * FROM t WHERE z = ?", parameters=("12:00:00+02",))
        returned = cursor.fetch_arrow_table()
        assert [same_type(a.type, b.type) for a, b in zip(returned.schema, expected)] == [True] * 3
        assert returned.to_pylist() == [{"z": "12:00:00+02", "n": ["1", None], "e": "a"}]


def test_cast_results_keep_their_order_and_their_chunks(server):
    """The rows of such a result go through a second statement, chunk by chunk."""
    query = "SELECT i, ('12:00:00+' || lpad((i % 12)::VARCHAR, 2, '0'))::TIMETZ AS z FROM range(100000) t(i) ORDER BY i DESC"
    returned = server.sql(query)
    assert returned["i"].to_pylist() == list(range(99_999, -1, -1))
    expected = duckdb.sql(f"SELECT z::VARCHAR FROM ({query})").fetchall()
    assert returned["z"].to_pylist() == [z for (z,) in expected]
