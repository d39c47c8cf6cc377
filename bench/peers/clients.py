"""The clients: how each peer is spoken to. One client belongs to one thread."""

from typing import Any, Protocol

import duckdb
import pyarrow as pa
import pyarrow.flight as flight

from . import quack


class Client(Protocol):
    """What a workload asks of a client; it is opened with the address of its peer."""

    def __init__(self, address: str) -> None: ...

    def put(self, table: str, rows: pa.Table) -> None:
        """Appends rows; returns when they are durable."""

    def create(self, table: str, rows: pa.Table) -> None:
        """Makes a table of the rows; returns when they are durable."""

    def query(self, sql: str) -> pa.Table:
        """Runs a query and fetches the whole answer."""

    def first_batch(self, sql: str) -> Any:
        """Starts a query and fetches one batch; the query stays open while the result lives."""


class FlightClient:
    """Plain Flight, for Merganser and the baseline: put to a path, get with SQL as the ticket."""

    def __init__(self, address: str) -> None:
        self._client = flight.connect(address)

    def put(self, table: str, rows: pa.Table) -> None:
        writer, _ = self._client.do_put(flight.FlightDescriptor.for_path(table), rows.schema)
        writer.write_table(rows)
        writer.close()

    def create(self, table: str, rows: pa.Table) -> None:
        self.put(table, rows)

    def query(self, sql: str) -> pa.Table:
        return self._client.do_get(flight.Ticket(sql.encode())).read_all()

    def first_batch(self, sql: str) -> flight.FlightStreamReader:
        stream = self._client.do_get(flight.Ticket(sql.encode()))
        stream.read_chunk()
        return stream


class QuackClient:
    """A DuckDB of its own, attached to the server; queries run on the server."""

    def __init__(self, address: str) -> None:
        self._connection = quack.connect()
        self._connection.execute(f"CREATE SECRET (TYPE quack, TOKEN '{quack.TOKEN}')")
        self._connection.execute(f"ATTACH '{address}' AS remote")

    def put(self, table: str, rows: pa.Table) -> None:
        self._connection.execute(f"INSERT INTO remote.{table} SELECT * FROM rows")

    def create(self, table: str, rows: pa.Table) -> None:
        self._connection.execute(f"CREATE TABLE remote.{table} AS SELECT * FROM rows")

    def query(self, sql: str) -> pa.Table:
        return self._run(sql).to_arrow_table()

    def first_batch(self, sql: str) -> pa.RecordBatchReader:
        stream = self._run(sql).to_arrow_reader()
        stream.read_next_batch()
        return stream

    def _run(self, sql: str) -> duckdb.DuckDBPyConnection:
        return self._connection.execute("FROM quack_query_by_name('remote', $sql)", {"sql": sql})
