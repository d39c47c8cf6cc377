"""Ten rows of a named query, against the same statement in process."""

import http.client
import time
from statistics import median

import duckdb

from ours import verdict

from .settings import DATABASE, Settings, ask, serving

SQL = "SELECT category, count(*) AS events, sum(value) AS total FROM events WHERE value >= {} GROUP BY category"
CONFIG = f"""
read_only = true
[[query]]
name = "by_category"
sql = "{SQL.format("$least")} ORDER BY category LIMIT 10"
params.least = {{ type = "DOUBLE", default = 0.0 }}
"""
AT_MOST_MS = 1.0


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """One row: the medians of both, and what lies between them. They take turns, hundreds at a time."""
    over_http, in_process = [], []
    statement = SQL.format("?") + " ORDER BY category LIMIT 10"
    with serving(CONFIG) as address, duckdb.connect(str(DATABASE), read_only=True) as database:
        connection = http.client.HTTPConnection(address)
        for number in range(settings.small_answers):
            least = number % 100 / 100
            started = time.perf_counter()
            ask(connection, f"/v1/queries/by_category?least={least}")
            over_http.append(time.perf_counter() - started)
            started = time.perf_counter()
            database.execute(statement, [least]).fetchall()
            in_process.append(time.perf_counter() - started)
    mine, other = median(over_http) * 1e3, median(in_process) * 1e3
    return [
        (
            "named query of 10 rows, one client, p50",
            f"{mine:.2f} ms, in process {other:.2f} ms: {mine - other:+.2f} ms",
            verdict(f"at most {AT_MOST_MS:.0f} ms more", reached=mine - other <= AT_MOST_MS),
        )
    ]
