"""How soon a server of files alone answers, as a container that scales to zero needs it."""

import http.client
import time
from pathlib import Path
from statistics import median

import duckdb

from ours import BINARY, WORK, verdict
from peers.server import Server
from s3 import BUCKET, create_secret, extension, extension_folder, s3, secret

from .settings import DATABASE, Settings, ask, free_port

CONFIG = """
read_only = true
{secret}
[[source]]
name = "events"
format = "parquet"
path = "{path}"
[[query]]
name = "total"
sql = "SELECT count(*) AS events FROM events"
"""
AT_MOST_MS = 300


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """From the start of the process to the first answer read from the file: of a file on the disk, and of one in S3."""
    file = WORK / "events.parquet"
    with duckdb.connect(str(DATABASE), read_only=True) as database:
        database.execute(f"COPY events TO '{file}' (FORMAT parquet)")
    name, measured, reached = _measure(settings, "one Parquet file", CONFIG.format(secret="", path=file))
    rows = [(name, measured, verdict(f"< {AT_MOST_MS} ms", reached=reached))]
    with s3() as endpoint:
        path = f"s3://{BUCKET}/events.parquet"
        with duckdb.connect() as writer:
            writer.execute(f"LOAD '{extension('httpfs')}'")
            writer.execute(create_secret(endpoint))
            writer.execute(f"COPY (FROM '{file}') TO '{path}' (FORMAT parquet)")
        extensions = extension_folder(WORK / "extensions", ("httpfs",))
        config = CONFIG.format(secret=secret(endpoint), path=path)
        options = ["--extension-directory", str(extensions)]
        name, measured, _ = _measure(settings, "one Parquet file in S3 (moto, on loopback)", config, *options)
        # How long the API takes for its answers is not ours.
        rows.append((name, measured, "none"))
    return rows


def _measure(settings: Settings, of: str, config: str, *options: str) -> tuple[str, str, bool]:
    file = WORK / "stateless.toml"
    file.write_text(config)
    took = sorted(_start(file, *options) * 1e3 for _ in range(settings.starts))
    return (
        f"start of a server of {of}, to its first answer",
        f"{median(took):.0f} ms, median of {len(took)} ({took[0]:.0f} to {took[-1]:.0f})",
        median(took) < AT_MOST_MS,
    )


def _start(config: Path, *options: str) -> float:
    address = f"127.0.0.1:{free_port()}"
    listening = ["--listen", "127.0.0.1:0", "--http", address]
    command = [str(BINARY), "--database", ":memory:", *listening, "--config", str(config), *options]
    started = time.perf_counter()
    with Server(command, WORK / "stateless.log"):
        ask(http.client.HTTPConnection(address), "/v1/queries/total")
        return time.perf_counter() - started
