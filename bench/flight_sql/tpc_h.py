"""The 22 queries of TPC-H through the ADBC driver, and in DuckDB in process over the same read-only file."""

from collections.abc import Callable
from statistics import geometric_mean, median
from time import perf_counter

import adbc_driver_flightsql.dbapi
import duckdb
import pyarrow as pa
import tpch

from ours import WORK

from .settings import Settings, serving

TITLES = ("query", "served ms", "in process ms", "ratio")


def measure(settings: Settings) -> list[tuple]:
    """One row a query: medians of the rounds. Both sides take turns, and take turns at going first."""
    path = WORK / "tpch.duckdb"
    path.unlink(missing_ok=True)
    queries = tpch.generate(path, settings.scale)
    with (
        duckdb.connect(path, read_only=True) as local,
        serving(path, "--read-only") as server,
        adbc_driver_flightsql.dbapi.connect(server.uri, autocommit=True) as remote,
        remote.cursor() as cursor,
    ):
        sides = {
            "served": lambda query: cursor.execute(query).fetch_arrow_table(),
            "in process": lambda query: local.execute(query).to_arrow_table(),
        }
        times = {(side, number): [] for side in sides for number in queries}
        for number, query in queries.items():
            if not sides["served"](query).equals(sides["in process"](query)):  # warms both, too
                raise AssertionError(f"query {number}: the server's answer is not DuckDB's")
        for turn in range(settings.rounds):
            for number, query in queries.items():
                for side in sorted(sides, reverse=turn % 2 == 0):
                    times[side, number].append(_milliseconds(sides[side], query))
    path.unlink()
    return _rows(queries, times)


def _milliseconds(run: Callable[[str], pa.Table], query: str) -> float:
    begin = perf_counter()
    run(query)
    return (perf_counter() - begin) * 1000


def _rows(queries: dict[int, str], times: dict[tuple[str, int], list[float]]) -> list[tuple]:
    pairs = {number: [median(times[side, number]) for side in ("served", "in process")] for number in queries}
    rows = [(f"Q{number}", served, local, served / local) for number, (served, local) in pairs.items()]
    served, local = (sum(column) for column in zip(*pairs.values()))
    rows.append(("all", served, local, served / local))
    rows.append(("geometric mean", None, None, geometric_mean(row[3] for row in rows[:-1])))
    return rows
