"""How soon a server of files alone answers, as a container that scales to zero needs it."""

import http.client
import time
from statistics import median

import duckdb

from ours import BINARY, WORK, verdict
from peers.server import Server

from .settings import DATABASE, Settings, ask, free_port

FILE = WORK / "events.parquet"
CONFIG = f"""
read_only = true
[[source]]
name = "events"
format = "parquet"
path = "{FILE}"
[[query]]
name = "total"
sql = "SELECT count(*) AS events FROM events"
"""
AT_MOST_MS = 300


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """One row: from the start of the process to the first answer read from the file."""
    with duckdb.connect(str(DATABASE), read_only=True) as database:
        database.execute(f"COPY events TO '{FILE}' (FORMAT parquet)")
    config = WORK / "stateless.toml"
    config.write_text(CONFIG)
    took = sorted(_start(str(config)) * 1e3 for _ in range(settings.starts))
    return [
        (
            "start of a server of one Parquet file, to its first answer",
            f"{median(took):.0f} ms, median of {len(took)} ({took[0]:.0f} to {took[-1]:.0f})",
            verdict(f"< {AT_MOST_MS} ms", reached=median(took) < AT_MOST_MS),
        )
    ]


def _start(config: str) -> float:
    address = f"127.0.0.1:{free_port()}"
    options = ["--database", ":memory:", "--listen", "127.0.0.1:0", "--http", address, "--config", config]
    started = time.perf_counter()
    with Server([str(BINARY), *options], WORK / "stateless.log"):
        ask(http.client.HTTPConnection(address), "/v1/queries/total")
        return time.perf_counter() - started
