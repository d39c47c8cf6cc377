"""Every Arrow type into a lake: the values come back, or the unit is refused and nothing of it is there."""

import pyarrow as pa
import pytest

from harness import refused
from loaders import put
from test_types import NESTED_TRIPS, ROUND_TRIPS, same_type

T = ("lake", "main", "t")
TRIPS = ROUND_TRIPS | NESTED_TRIPS
# What a lake has no place for, and intervals below zero, which Parquet cannot hold.
NOT_HERE = ["fixed-size list", "fixed-size list of structs", "duration[s]", "duration[us]", "interval"]
ROWS = 12

pytestmark = pytest.mark.usefixtures("no_lake_table_left_over")


@pytest.fixture(scope="module", params=[(), ("--bulk-size", "1B")], ids=["small", "bulk"])
def server(request, tmp_path_factory, postgres, bucket):
    from lake import lake_server

    with lake_server(tmp_path_factory.mktemp("server"), postgres, bucket, *request.param) as server:
        yield server


def test_values_of_each_arrow_type_come_back(server):
    kept = {name: trip for name, trip in TRIPS.items() if name not in NOT_HERE}
    columns = {name: pa.chunked_array([sent] * ROWS)[:ROWS] for name, (sent, *_) in kept.items()}
    assert put(server, pa.table({"row": range(ROWS), **columns}), T).rows == ROWS
    returned = server.sql("FROM lake.t ORDER BY row")
    for name, (sent, *changed) in kept.items():
        wire_type = changed[0] if changed else sent.type
        values = changed[1] if len(changed) > 1 else sent.to_pylist()
        assert same_type(returned.schema.field(name).type, wire_type), name
        assert returned[name].to_pylist() == (values * ROWS)[:ROWS], name


@pytest.mark.parametrize("name", NOT_HERE)
def test_a_type_that_a_lake_cannot_hold_is_refused(server, name):
    refused(put, server, pa.table({"v": TRIPS[name][0]}), T)
    refused(server.run, "FROM lake.t", slug="NOT_FOUND")


# Values that a lake would change which keeps them as text, in its metadata.
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


def test_nested_values_are_kept(server):
    columns = [f"c{at} {type}" for at, type in enumerate(NESTED)]
    server.run(f"CREATE TABLE lake.t ({', '.join(columns)})")
    server.run(f"INSERT INTO lake.t VALUES ({', '.join(NESTED.values())})")
    for at, (type, value) in enumerate(NESTED.items()):
        told = server.rows(f"SELECT c{at} = {value}::{type}, c{at}::VARCHAR FROM lake.t")
        assert told == server.rows(f"SELECT true, ({value}::{type})::VARCHAR"), type
