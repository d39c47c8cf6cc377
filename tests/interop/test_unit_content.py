"""What makes a unit that comes again the same one: its rows and where they go, in whatever capitals and encodings."""

import decimal
import shutil

import duckdb
import pyarrow as pa
import pyarrow.compute
import pytest

from harness import refused
from loaders import put

ROWS = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "text": ["a", None, "a"]})
# The functions by which the server asks DuckDB of tables and of its ledger.
SHADOWED = """
CREATE MACRO duckdb_constraints() AS TABLE SELECT 1 AS one;
CREATE MACRO duckdb_indexes() AS TABLE SELECT 1 AS one;
CREATE MACRO duckdb_databases() AS TABLE SELECT 1 AS one;
CREATE MACRO duckdb_tables() AS TABLE SELECT 1 AS one;
CREATE MACRO duckdb_schemas() AS TABLE SELECT 1 AS one;
CREATE MACRO duckdb_columns() AS TABLE SELECT 1 AS one;
CREATE MACRO pragma_table_info(name) AS TABLE SELECT 1 AS one;
CREATE MACRO current_database() AS 'nowhere';
CREATE MACRO lower(text) AS 'nothing';
CREATE MACRO count(x) AS 7;
CREATE MACRO max(x) AS 7;
CREATE MACRO min(x) AS 7;
CREATE MACRO "+"(a, b) AS 7;
CREATE MACRO now() AS TIMESTAMPTZ '1900-01-01 00:00:00+00';
"""


def table(type, values):
    return pa.table({"v": pa.array(values, type)})


LIST, MAP = [[1, 2], None], [[("a", 1)], None]
ALIKE = {
    "dictionary": (ROWS, ROWS.set_column(1, "text", ROWS["text"].dictionary_encode())),
    "views": (ROWS, ROWS.set_column(1, "text", ROWS["text"].cast(pa.string_view()))),
    "large": (ROWS, ROWS.set_column(1, "text", ROWS["text"].cast(pa.large_string()))),
    "runs": (ROWS, ROWS.set_column(1, "text", pa.compute.run_end_encode(ROWS["text"].combine_chunks()))),
    "capitals of columns": (ROWS, ROWS.rename_columns(["ID", "Text"])),
    "items of lists": (
        table(pa.list_(pa.field("item", pa.int64())), LIST), table(pa.list_(pa.field("element", pa.int64())), LIST)
    ),
    "list views": (table(pa.list_(pa.int64()), LIST), table(pa.list_view(pa.int64()), LIST)),
    "entries of maps": (
        table(pa.map_(pa.string(), pa.int64()), MAP),
        table(pa.map_(pa.field("k", pa.string(), False), pa.field("v", pa.int64())), MAP),
    ),
    "widths of decimals": (
        table(pa.decimal64(9, 2), [decimal.Decimal("1.50"), None]),
        table(pa.decimal128(9, 2), [decimal.Decimal("1.50"), None]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("first, again", ALIKE.values(), ids=ALIKE)
def test_the_form_does_not_count(server, request, first, again):
    loader = request.node.callspec.id.replace(" ", "-")
    path = (loader,)
    assert not put(server, first, path, key=f"{loader}/1/1").duplicate
    assert put(server, again, path, key=f"{loader}/1/1").duplicate
    # The other way round, too.
    assert not put(server, again, path, key=f"{loader}/1/2").duplicate
    assert put(server, first, path, key=f"{loader}/1/2").duplicate
    refused(put, server, first.slice(1), path, key=f"{loader}/1/2", slug="KEY_REUSED")


def test_the_capitals_of_a_table_do_not_count(server):
    put(server, ROWS, ("capitals",), key="capitals/1/1")
    for path in (("Capitals",), ("MAIN", "capitals"), ("DB", "Main", "CAPITALS"), ("db", "main", "capitals")):
        assert put(server, ROWS, path, key="capitals/1/1").duplicate, path
    refused(put, server, ROWS, ("capital",), key="capitals/1/1", slug="KEY_REUSED")
    assert not put(server, ROWS, ("DB", "MAIN", "Capitals"), key="capitals/1/2").duplicate
    assert server.rows("SELECT count(*) FROM capitals") == [(6,)]


def test_a_database_under_another_name_knows_its_units(start, tmp_path):
    server = start(tmp_path / "one.duckdb")
    put(server, ROWS, ("t",), key="a/1/1")
    server.stop()
    shutil.copy(tmp_path / "one.duckdb", tmp_path / "other.duckdb")
    server = start(tmp_path / "other.duckdb")
    assert put(server, ROWS, ("t",), key="a/1/1").duplicate
    assert not put(server, ROWS, ("t",), key="a/1/2").duplicate


def test_a_unit_that_was_committed_by_a_server_before_is_known(start, database):
    server = start(database)
    put(server, ROWS, ("t",), key="a/1/1")
    server.stop()
    with duckdb.connect(str(database)) as connection:
        # As that server hashed the same unit.
        (changed,) = connection.execute(
            "UPDATE __merganser.ingest_units SET unit = regexp_replace(unit, '\"hash\":\"[0-9a-f]{32}\"', ?)",
            ['"hash":"2f1e5cccef59465f8ac95d61646a1fea"'],
        ).fetchone()
        assert changed == 1
    server = start(database)
    assert put(server, ROWS, ("t",), key="a/1/1").duplicate
    refused(put, server, ROWS.slice(1), ("t",), key="a/1/1", slug="KEY_REUSED")


def test_macros_of_clients_do_not_replace_what_the_server_asks(start, database):
    server = start(database)
    server.run("CREATE TABLE keyed (id BIGINT PRIMARY KEY, text VARCHAR DEFAULT 'none')")
    put(server, ROWS, ("keyed",), key="a/1/1")
    server.stop()
    # The server itself refuses to make them.
    with duckdb.connect(str(database)) as connection:
        connection.execute(SHADOWED)
    server = start(database)
    for _ in range(2):
        assert put(server, ROWS, ("keyed",), key="a/1/1").duplicate
        put(server, ROWS, ("plain",), key=None)
        # By the primary key, which the server has to know.
        put(server, ROWS.set_column(1, "text", pa.array(["x", "y", "z"])), ("keyed",), on_conflict="update")
        rows = server.rows("SELECT id, text FROM keyed ORDER BY id")
        assert rows == [(1, "x"), (2, "y"), (3, "z")]
        server.kill()
        server = start(database)
    assert len(server.rows("SELECT id FROM plain")) == 6
    assert not put(server, ROWS.slice(0, 0), ("keyed",), key="a/1/2").duplicate
