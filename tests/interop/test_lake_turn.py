"""What waits for SQL that writes into a lake and takes long, and what does not."""

import pyarrow as pa
import pytest

from harness import refused
from loaders import put
from test_activity import in_background, until
from workers import ENDLESS

SLOW = f"INSERT INTO lake.slow SELECT count(*) FROM {ENDLESS}"

SIDE = """
[[catalog]]
name = "side"
type = "duckdb"
path = "{folder}/side.duckdb"

[[pipeline]]
name = "into_own"
from = "t"
incremental = "id"
into = "copied"

[[pipeline]]
name = "into_lake"
from = "t"
incremental = "id"
into = "lake.main.copied"
"""


def rows(ids):
    return pa.table({"id": pa.array(ids, pa.int64())})


@pytest.fixture
def server(lake, start, database, tmp_path):
    """One at which such a statement runs. Others wait for a second."""
    init = tmp_path / "t.sql"
    init.write_text("CREATE TABLE IF NOT EXISTS t (id BIGINT)")
    options = lake.options(SIDE.format(folder=tmp_path))
    server = start(database, *options, "--init-sql", init, "--read-wait", "1s", "--bulk-size", "64KiB")
    server.run("INSERT INTO t VALUES (1), (2)")
    server.run("CREATE TABLE side.t (id BIGINT)")
    server.run("CREATE TABLE lake.slow (n BIGINT)")
    put(server, rows([1]), ("lake", "main", "t"))
    error = in_background(server.run, SLOW)
    until(server.rows, "SELECT session FROM merganser_sessions() WHERE has_turn")
    ((statement,),) = server.rows(f"SELECT id FROM merganser_statements() WHERE sql = '{SLOW}'")
    yield server
    server.run(f"CANCEL STATEMENT {statement}")
    assert "an operator has ended this statement" in str(error())


def test_uploads_and_reads_do_not_wait(server):
    small, large = rows([3]), rows(range(4, 20_004))
    for path in (["t"], ["side", "main", "t"], ["lake", "main", "t"]):
        for table in (small, large):
            put(server, table, path)
    put(server, small, ["t"], key="a/1/1")
    # Into a lake and other catalogs of the configuration also those that match rows, or make a table.
    for catalog in ("side", "lake"):
        put(server, small, [catalog, "main", "t"], merge_keys="id")
        put(server, small, [catalog, "main", "more"])
    for table in ("t", "side.t", "lake.t"):
        assert server.rows(f"SELECT max(id) FROM {table}") == [(20_003,)]


def test_jobs_of_catalogs_do_not_wait(server):
    server.run("MAINTAIN CATALOG lake")
    server.run('RUN PIPELINE into_lake')
    assert server.rows("SELECT count(*) FROM lake.copied") == [(2,)]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (9)",
        "UPDATE t SET id = 9",
        "CREATE TABLE more (id BIGINT)",
        "INSERT INTO side.t VALUES (9)",
        "INSERT INTO lake.t VALUES (9)",
        'RUN PIPELINE into_own',
    ],
)
def test_other_sql_that_writes_waits_within_its_bound(server, sql):
    told = refused(server.run, sql, codes="RESOURCE_EXHAUSTED", slug="WRITE_BUSY")
    assert "has had the turn to write" in told.text


def test_so_do_uploads_that_match_rows_or_make_a_table_in_the_servers_own_database(server):
    refused(put, server, rows([3]), ["t"], merge_keys="id", codes="RESOURCE_EXHAUSTED", slug="WRITE_BUSY")
    refused(put, server, rows([3]), ["more"], codes="RESOURCE_EXHAUSTED", slug="WRITE_BUSY")
    assert server.rows("FROM t ORDER BY id") == [(1,), (2,)]
