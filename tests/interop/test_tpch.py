"""The 22 queries of TPC-H, through the ADBC driver from a server, are exactly those of DuckDB in process."""

import duckdb
import pytest

import tpch
from harness import Server


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A connection to a server of TPC-H's tables, the queries, and DuckDB's own answers over the same file."""
    folder = tmp_path_factory.mktemp("tpch")
    path = folder / "tpch.duckdb"
    queries = tpch.generate(path, scale=0.1)
    with duckdb.connect(path, read_only=True) as connection:
        answers = {number: connection.execute(query).to_arrow_table() for number, query in queries.items()}
    server = Server(path, log=folder / "log")
    try:
        with server.adbc() as connection:
            yield connection, queries, answers
    finally:
        server.stop()


@pytest.mark.parametrize("number", range(1, 23))
def test_query(judged, number):
    connection, queries, answers = judged
    with connection.cursor() as cursor:
        assert cursor.execute(queries[number]).fetch_arrow_table().equals(answers[number])
