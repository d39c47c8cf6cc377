"""A server without a database of its own, as a container that scales to zero starts it. How fast it is, the bench says
(bench/over_http); here stands a bound that only a mistake exceeds, also of a debug build on a busy machine."""

import time
from statistics import median

import duckdb

from harness import Server

STARTS = 5
AT_MOST_SECONDS = 1.5


def test_a_server_of_files_alone_answers_soon_after_its_start(tmp_path):
    duckdb.sql(f"COPY (SELECT range AS id, range % 7 AS day FROM range(200000)) TO '{tmp_path}/events.parquet'")
    config = tmp_path / "merganser.toml"
    config.write_text(f"""
[[source]]
name = "events"
format = "parquet"
path = "{tmp_path}/events.parquet"
""")
    took = []
    for _ in range(STARTS):
        begun = time.monotonic()
        server = Server(":memory:", "--config", config, "--read-only", log=tmp_path / "log")
        assert server.rows("SELECT count(*), sum(day) FROM events") == [(200_000, 599_994)]
        took.append(time.monotonic() - begun)
        server.stop()
    assert median(took) < AT_MOST_SECONDS, took
