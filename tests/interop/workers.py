"""What the loader and reader processes of the concurrency tests do. Each imports this, so it imports little."""

import threading

import pyarrow as pa
import pyarrow.flight as flight

from client import Client, ingest_command

ENDLESS = "range(10000000) a, range(10000000) b"
# Fails on a thread of DuckDB's own, and where rows are being sent meanwhile, DuckDB forgets why: about one time in four.
FAILS_BETWEEN_FETCHES = (
    "SELECT CASE WHEN range = 77777 THEN error('late') ELSE range END AS i, repeat('x', 1000) AS text"
    " FROM (SELECT range FROM range(200000) GROUP BY range)"
)

# A unit is one put; each of its rows says which unit it belongs to and how many rows that has.
SEEN = b"""
    SELECT size, sum(n)::BIGINT AS rows, count(*) FILTER (n <> size) AS broken
    FROM (SELECT loader, unit, size, count(*) AS n FROM units GROUP BY ALL)
    GROUP BY size
"""


def unit(loader, number, size):
    return pa.table(
        {
            "loader": pa.repeat(pa.scalar(loader), size),
            "unit": pa.repeat(pa.scalar(number), size),
            "size": pa.repeat(pa.scalar(size), size),
            "value": pa.array(range(size), pa.float64()),
            "category": pa.array(["abc"[i % 3] for i in range(size)]),
        }
    )


def put(client, data):
    """One unit, the way simple scripts do it: the answer is never read."""
    writer, _ = client.do_put(flight.FlightDescriptor.for_path("units"), data.schema)
    writer.write_table(data)
    writer.close()


def start_together(barrier, event):
    """Runs first in each process: a barrier to begin at one time, an event that ends the readers."""
    global everybody_ready, loaders_done
    everybody_ready, loaders_done = barrier, event


def load(uri, loader, units, size):
    """Puts its units one after the other."""
    with flight.connect(uri) as client:
        data = unit(loader, 0, size)
        everybody_ready.wait()
        for number in range(units):
            put(client, data.set_column(1, "unit", pa.repeat(pa.scalar(number), size)))


def read(uri):
    """Aggregates until the loaders are done; returns every answer: {size: (rows seen, broken units)}."""
    answers = []
    with flight.connect(uri) as client:
        everybody_ready.wait()
        while not loaders_done.is_set():
            rows = client.do_get(flight.Ticket(SEEN)).read_all().to_pylist()
            answers.append({row["size"]: (row["rows"], row["broken"]) for row in rows})
    return answers


def begin_and_wait(uri, how, begun):
    """A client in the middle of a transaction that has written, until somebody kills it."""
    client = Client(uri)
    transaction = client.begin()
    client.update("INSERT INTO t VALUES (666)", transaction)
    if how == "a result half read":
        client.open("FROM range(1000000000000)", transaction).read_chunk()
    if how == "an upload half sent":
        rows = pa.table({"x": pa.array(range(200_000), pa.int64())})
        writer, _ = client.writer(ingest_command("t", "append", transaction), rows.schema)
        for _ in range(20):  # more than any window holds: the server is taking it
            writer.write_table(rows)
    if how == "a statement":
        begun.set()
        client.update(f"INSERT INTO t SELECT max(hash(a.range, b.range) % 9)::BIGINT FROM {ENDLESS}", transaction)
    begun.set()
    threading.Event().wait()
