"""What a loader does without a server: a DuckDB process that attaches the lake and inserts unit after unit."""

import json
import sys
import time

import duckdb
import pyarrow as pa


def main() -> None:
    """Reads what to do from the command line, says that it is ready, and inserts until the time is over."""
    given = json.loads(sys.argv[1])
    connection = duckdb.connect(":memory:", config={"threads": 1})
    for statement in given["attach"]:
        connection.execute(statement)
    connection.execute("SET ducklake_max_retry_count = 100")
    unit = rows(given["rows"])
    print("ready", flush=True)
    begin, end = (float(moment) for moment in sys.stdin.readline().split())
    inserted = 0
    while (now := time.time()) < end:
        connection.execute("INSERT INTO lake.events SELECT * FROM unit")
        inserted += begin <= now and time.time() <= end
    print(inserted, flush=True)


def rows(count: int) -> pa.Table:
    """A unit like those of the load generator."""
    return pa.table(
        {
            "batch_id": pa.array(range(count), pa.int64()),
            "timestamp": ["2026-01-01T00:00:00"] * count,
            "value": [value / 7 for value in range(count)],
            "category": [f"category {value % 10}" for value in range(count)],
        }
    )


if __name__ == "__main__":
    main()
