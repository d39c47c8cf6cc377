"""The data of every workload: one event table, with the same rows for every peer."""

from pathlib import Path

import duckdb
import pyarrow as pa

EVENTS = "events"
"""The table that loaders write to; empty at the start."""

FRESH = "fresh"
"""The table that an upload creates; not there at the start."""

HISTORY = "history"
"""The table that readers read; nobody writes to it."""

COLUMNS = "batch_id BIGINT, timestamp VARCHAR, value DOUBLE, category VARCHAR"

CATEGORIES = ("click", "error", "purchase", "search", "view")

AGGREGATE = (
    f"SELECT category, count(*) AS events, avg(value) AS mean FROM {HISTORY} GROUP BY category"
)
"""The small question of a dashboard; answers a row a category."""

AGGREGATE_ROWS = 200_000
"""Rows that the aggregate reads: two of DuckDB's row groups, about 2 ms of work in process."""

SCAN = f"SELECT * FROM {HISTORY}"

BATCH_ROWS = 65_536
"""Rows a batch in a long upload."""


def connect(database: Path | str = ":memory:") -> duckdb.DuckDBPyConnection:
    """Opens a database with default settings, but for the progress bar on the terminal."""
    connection = duckdb.connect(database)
    connection.execute("SET enable_progress_bar = false")
    return connection


def _rows_sql(rows: int) -> str:
    """A query for the first `rows` events: a batch a thousand rows, a millisecond a row."""
    return f"""
        SELECT range // 1000 AS batch_id,
               strftime(TIMESTAMP '2026-01-01' + INTERVAL 1 MILLISECOND * range,
                        '%Y-%m-%dT%H:%M:%S.%g') AS timestamp,
               hash(range) / 18446744073709551616.0 * 1000 AS value,
               {list(CATEGORIES)}[1 + (hash(-range) % {len(CATEGORIES)})::INTEGER] AS category
        FROM range({rows})"""


def events(rows: int) -> pa.Table:
    """The first `rows` events, in batches of `BATCH_ROWS`."""
    with connect() as connection:
        return connection.execute(_rows_sql(rows)).to_arrow_reader(BATCH_ROWS).read_all()


def create_database(path: Path, history_rows: int) -> None:
    """Writes a database with an empty events table and a history of `history_rows` rows."""
    with connect(path) as connection:
        connection.execute(f"CREATE TABLE {EVENTS} ({COLUMNS})")
        connection.execute(f"CREATE TABLE {HISTORY} ({COLUMNS})")
        connection.execute(f"INSERT INTO {HISTORY} {_rows_sql(history_rows)}")
        connection.execute("CHECKPOINT")


def count_events(path: Path) -> int:
    """The rows that were put into either table, in a database that no server has open."""
    with connect(path) as connection:
        names = connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        put_to = [table for table in (EVENTS, FRESH) if (table,) in names]
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in put_to]
        return sum(count[0] for count in counts if count)
