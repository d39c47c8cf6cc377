"""Pipelines and loaders that bring the same keys into one table of an attached catalog at the same time."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pyarrow as pa
import pytest

from harness import refusal
from loaders import put

ROUNDS = 6
# Rows that the pipeline has for itself in a round, so that its transaction takes a while,
ROWS = 20_000
# and the keys of a round that loaders bring, too, one at a time. A commit to a lake takes so much longer.
KEYS = {"lake": 8, "side": 200}

PIPELINE = """
[[pipeline]]
name = "events"
from = "orders"
incremental = "id"
key = ["id"]
into = "{catalog}.main.events"
"""


@pytest.fixture(params=["lake", "side"])
def servers(request, start, tmp_path):
    """The one with the pipeline, and all that loaders go to; a file of DuckDB is one server's alone."""
    init = tmp_path / "orders.sql"
    init.write_text("CREATE TABLE IF NOT EXISTS orders (id BIGINT, v VARCHAR)")
    pipeline = PIPELINE.format(catalog=request.param)
    if request.param == "lake":
        lake = request.getfixturevalue("lake")
        options = lake.options(pipeline)
        return "lake", [start(tmp_path / f"{name}.db", *options, "--init-sql", init) for name in "ab"]
    config = tmp_path / "side.toml"
    config.write_text(f'[[catalog]]\nname = "side"\ntype = "duckdb"\npath = "{tmp_path / "side.duckdb"}"\n{pipeline}')
    return "side", [start(tmp_path / "a.db", "--config", config, "--init-sql", init)]


def promote(server):
    try:
        server.run("RUN PIPELINE events")
    except pa.ArrowException as error:
        refusal(error, codes="ABORTED")


def upsert(server, path, ids):
    try:
        put(server, pa.table({"id": pa.array(ids, pa.int64()), "v": ["loader"] * len(ids)}), path, merge_keys="id")
    except pa.ArrowException as error:
        refusal(error, codes="ABORTED")


def test_no_key_comes_twice(servers):
    catalog, servers = servers
    path, keys = [catalog, "main", "events"], KEYS[catalog]
    upsert(servers[0], path, [0])
    begin = Barrier(1 + len(servers))

    def promote_one():
        begin.wait()
        promote(servers[0])

    def load(server, ids):
        begin.wait()
        for number in ids:
            upsert(server, path, [number])

    with ThreadPoolExecutor(1 + len(servers)) as pool:
        for number in range(ROUNDS):
            first = number * ROWS + 1
            servers[0].run(f"INSERT INTO orders SELECT i, 'order' FROM range({first}, {first + ROWS}) AS r(i)")
            # Each server's loader has keys of its own, so that the pipeline alone brings the same.
            loads = [(load, server, range(first + at, first + len(servers) * keys, len(servers)))
                     for at, server in enumerate(servers)]  # fmt: skip
            for ended in [pool.submit(*one) for one in [(promote_one,), *loads]]:
                ended.result()
    promote(servers[0])
    twice = f"SELECT id FROM {catalog}.main.events GROUP BY id HAVING count(*) > 1 ORDER BY id"
    assert servers[0].rows(twice) == []
    assert servers[0].rows(f"SELECT count(*) FROM {catalog}.main.events") == [(ROUNDS * ROWS + 1,)]
