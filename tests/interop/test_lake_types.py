"""Every Arrow type into a lake: the values come back, or the unit is refused and nothing of it is there."""

import pyarrow as pa
import pytest

from harness import Server, refused
from loaders import put
from test_types import NESTED_TRIPS, ROUND_TRIPS, same_type

T = ("lake", "main", "t")

# What a lake cannot hold.
NOT_HERE = {"fixed-size list", "fixed-size list of structs"}
# What Parquet cannot: an interval below zero.
NOT_IN_FILES = {"duration[s]", "duration[us]", "interval"}


@pytest.fixture(scope="module", params=[(), ("--bulk-size", "1B")], ids=["small", "bulk"])
def server(request, tmp_path_factory, postgres, bucket):
    from lake import Lake

    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "db.duckdb", *Lake(folder, postgres, bucket).options(), *request.param, log=folder / "log")
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def no_table_left_over(server):
    yield
    server.run("DROP TABLE IF EXISTS lake.t")


@pytest.mark.parametrize("rows", ["in the metadata", "in files"])
@pytest.mark.parametrize("name", ROUND_TRIPS | NESTED_TRIPS)
def test_arrow_type_round_trip(server, name, rows):
    sent, *changed = (ROUND_TRIPS | NESTED_TRIPS)[name]
    wire_type = changed[0] if changed else sent.type
    values = changed[1] if len(changed) > 1 else sent.to_pylist()
    times = 1 if rows == "in the metadata" else 12
    table = pa.table({"row": range(len(sent) * times), "v": pa.chunked_array([sent] * times)})
    if name in NOT_HERE or name in NOT_IN_FILES and rows == "in files":
        refused(put, server, table, T, codes=["INVALID_ARGUMENT", "UNIMPLEMENTED"])
        refused(server.run, "FROM lake.t", slug="NOT_FOUND")
        return
    assert put(server, table, T).rows == table.num_rows
    returned = server.sql("SELECT v FROM lake.t ORDER BY row")
    assert same_type(returned.schema.field("v").type, wire_type)
    assert returned["v"].to_pylist() == values * times


# Values that a lake must keep in its metadata as it does in files, nested where it writes them as text.
NESTED = {
    "STRUCT(m BLOB)": "{'m': '\\x00a''b'::BLOB}",
    "STRUCT(m TIMESTAMP_NS)": "{'m': TIMESTAMP_NS '2020-01-01 00:00:00.000000001'}",
    "STRUCT(m TIMESTAMPTZ)": "{'m': TIMESTAMPTZ '2020-01-01 00:00:00+00'}",
    "STRUCT(m UUID)": "{'m': '00000000-0000-0000-0000-000000000005'::UUID}",
    "STRUCT(m INTERVAL)": "{'m': INTERVAL 1 DAY}",
    "STRUCT(m TIME)": "{'m': TIME '01:02:03'}",
    "STRUCT(m DATE)": "{'m': DATE '2024-02-29'}",
    "STRUCT(m VARCHAR)": "{'m': 'it''s, {a: \"b\"} \\ [NULL]'}",
    "STRUCT(m VARCHAR[])": "{'m': ['', NULL, 'NULL', ' a, b ']}",
    "STRUCT(m STRUCT(n DECIMAL(5, 2)))": "{'m': {'n': -1.50}}",
    "BLOB[]": "['\\x00a''b'::BLOB, NULL]",
    "VARCHAR[]": "['', NULL, 'NULL', ' a, b ', 'it''s', '[\"x\"]']",
    "UUID[]": "['00000000-0000-0000-0000-000000000005'::UUID]",
    "TIMESTAMPTZ[]": "[TIMESTAMPTZ '2020-01-01 00:00:00+00']",
    "STRUCT(m BLOB)[]": "[{'m': 'a'::BLOB}]",
    "MAP(VARCHAR, BLOB)": "MAP {'a = b': '\\x00'::BLOB}",
    "MAP(VARCHAR, VARCHAR)": "MAP {'a=b, c': '{}', '': NULL}",
}


@pytest.mark.parametrize("rows", [1, 12])
@pytest.mark.parametrize("type", NESTED)
def test_nested_values_are_kept(server, type, rows):
    server.run(f"CREATE TABLE lake.t (v {type})")
    server.run(f"INSERT INTO lake.t SELECT {NESTED[type]} FROM range({rows})")
    kept = f"SELECT DISTINCT v = {NESTED[type]}::{type}, v::VARCHAR FROM lake.t"
    assert server.rows(kept) == server.rows(f"SELECT true, ({NESTED[type]}::{type})::VARCHAR")
