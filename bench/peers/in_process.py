"""DuckDB in process, from Python: no network and no server, one process only."""

import pyarrow as pa

from .data import connect


class InProcessClient:
    """A connection to the database file; all clients of one process share one DuckDB instance."""

    def __init__(self, address: str) -> None:
        self._connection = connect(address)

    def put(self, table: str, rows: pa.Table) -> None:
        """Appends rows in one commit."""
        self._connection.execute(f"INSERT INTO {table} SELECT * FROM rows")

    def create(self, table: str, rows: pa.Table) -> None:
        """Makes a table of the rows in one commit."""
        self._connection.execute(f"CREATE TABLE {table} AS SELECT * FROM rows")

    def query(self, sql: str) -> pa.Table:
        """Runs a query and fetches the whole answer."""
        return self._connection.execute(sql).to_arrow_table()

    def first_batch(self, sql: str) -> pa.RecordBatchReader:
        """Starts a query and fetches one batch."""
        stream = self._connection.execute(sql).to_arrow_reader()
        stream.read_next_batch()
        return stream
