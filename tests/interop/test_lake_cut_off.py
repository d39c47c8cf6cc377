"""A lake's PostgreSQL that ends connections in the middle of transactions: whose fault it is, and who goes on."""

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.csv
import pytest

from client import Client, eventually
from harness import refused
from loaders import count, put, unit
from test_lake_load import ends, load, stores_some, units

ROWS = 60_000
# The exit code of a server whose database cannot be opened again in its process.
LOST = 70
UNITS = ["--loader", "nightly", "--unit-rows", 100]


@pytest.fixture
def server(lake, start, database):
    """A server with a lake that has a table."""
    server = start(database, *lake.options())
    put(server, unit(1), key="a/1/1")
    return server


@pytest.mark.parametrize("sql", ["FROM lake.events", "INSERT INTO lake.events VALUES ('b', 1, 1)"])
def test_a_session_whose_transaction_is_cut_off_ends_alone(lake, server, sql):
    with Client(server.uri) as client:
        client.run("BEGIN")
        client.run(sql)
        lake.postgres.break_connections()
    transactions = "SELECT count(transaction_since) FROM merganser_sessions()"
    eventually(lambda: server.rows(transactions) == [(0,)], "its session ends")
    put(server, unit(2), key="a/1/2")
    assert count(server) == 40


def test_a_read_that_is_cut_off_says_that_the_catalog_is_down(lake, server):
    with lake.attached() as duck:
        option = "'data_inlining_row_limit', 10, schema => 'main', table_name => 'events'"
        duck.execute(f"CALL lake.set_option({option})")
        duck.execute("INSERT INTO lake.events VALUES ('b', 1, 1)")
    told = refused(cut_off, lake, lambda: server.run("FROM lake.events"), codes="UNAVAILABLE", slug="CATALOG_DOWN")
    assert "INTERNAL" not in told.text
    assert gone(server) == LOST


def cut_off(lake, read):
    """What becomes of a call whose connection to PostgreSQL ends as it reads the lake's table."""
    with ThreadPoolExecutor() as pool:
        result = pool.submit(read)
        lake.postgres.break_off_read("events", lake.database)
        return result.result()


def gone(server):
    """The exit code of a server that ends by itself."""
    code = server.process.wait(timeout=30)
    server.kill()
    return code


def test_a_load_outlasts_what_postgres_does(lake, start, database, tmp_path):
    file, config = tmp_path / "rows.csv", lake.options()
    pa.csv.write_csv(pa.table({"id": range(ROWS)}), file)
    server = start(database, *config)
    address = server.uri.removeprefix("grpc://")
    process = load(server, [file], *UNITS)
    stores_some(server, process)
    lake.postgres.break_connections()
    stores_some(server, process)
    lake.postgres.break_off_read("ingest_fence", lake.database)
    assert gone(server) == LOST
    server = start(database, *config, listen=address)
    stores_some(server, process)
    with lake.postgres.down():
        pass
    stores_some(server, process)
    assert process.poll() is None, "it was loading all the time"
    ends(process)
    assert server.rows("SELECT count(*), count(DISTINCT id) FROM lake.events") == [(ROWS, ROWS)]
    assert units(server) == ROWS // 100
