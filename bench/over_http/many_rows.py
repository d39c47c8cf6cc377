"""Many rows as an object a line, against FastAPI."""

import http.client
import time
from statistics import median

from ours import verdict

from .settings import Settings, ask, fastapi, serving

CONFIG = """
read_only = true
[[query]]
name = "events"
sql = "SELECT * FROM events ORDER BY batch_id LIMIT $rows"
params.rows = { type = "BIGINT" }
"""
AT_LEAST = 5.0


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """One row a competitor: medians of downloads that take turns."""
    rows = settings.many_rows
    paths = {
        "ours": f"/v1/queries/events?rows={rows}&format=ndjson",
        "plain": f"/plain?limit={rows}",
        "fast": f"/fast?limit={rows}",
    }
    times: dict[str, list[float]] = {name: [] for name in paths}
    with serving(CONFIG) as ours, fastapi() as other:
        connections = {name: http.client.HTTPConnection(ours if name == "ours" else other) for name in paths}
        for _ in range(settings.downloads):
            for name, path in paths.items():
                started = time.perf_counter()
                lines = ask(connections[name], path).count(b"\n")
                times[name].append(time.perf_counter() - started)
                assert lines == rows, (name, lines)
    mine = median(times["ours"])
    table = []
    for name, what in [("plain", "fetchmany and json"), ("fast", "Arrow and orjson")]:
        ratio = median(times[name]) / mine
        measured = f"{mine * 1e3:.0f} ms, FastAPI with {what} {median(times[name]) * 1e3:.0f} ms: {ratio:.1f} x"
        table.append((f"{rows:,} rows as NDJSON", measured, verdict(f"{AT_LEAST:.0f} x", reached=ratio >= AT_LEAST)))
    return table
