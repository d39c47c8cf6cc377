"""TPC-H data and queries, made by DuckDB in process; for the test and for bench/flight_sql.py."""

from pathlib import Path

import duckdb
import duckdb_extension_tpch


def generate(path, scale):
    """Writes the eight tables to a new database file and returns the 22 queries as {number: text}."""
    extension = next(Path(duckdb_extension_tpch.__file__).parent.rglob("tpch.duckdb_extension"))
    with duckdb.connect(path) as connection:
        connection.execute(f"LOAD '{extension}'")
        connection.execute(f"CALL dbgen(sf = {scale})")
        return dict(connection.execute("SELECT query_nr, query FROM tpch_queries()").fetchall())
