"""A pipeline without a key whose server is killed while its rows enter: none is lost, none comes twice, and where nobody else
can be at it the next run does not wait."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import duckdb

from client import eventually
from harness import ClockedServer
from lake import EVENTS, is_answered

ROUNDS, ROWS = 6, 500

PIPELINE = EVENTS.replace('key = ["id"]\n', "")

INTO_ITS_OWN = """
[[pipeline]]
name = "events"
from = "events"
incremental = "id"
into = "copied"
"""


def test_a_server_that_is_killed_while_rows_enter_loses_and_doubles_none(lake, start, tmp_path):
    psql = lambda sql: lake.postgres.psql(sql, lake.database)  # noqa: E731
    psql("CREATE TABLE events (id BIGINT PRIMARY KEY, v TEXT)")
    options, cut = lake.options(PIPELINE), 0
    with ThreadPoolExecutor() as pool:
        for number in range(ROUNDS):
            server = start(tmp_path / "a.db", *options, kind=ClockedServer)
            psql(f"INSERT INTO events SELECT i + {number * ROWS}, 'v' FROM generate_series(1, {ROWS}) AS i")
            before, running = lake.files("main/events/"), pool.submit(is_answered, server)
            eventually(lambda: running.done() or lake.files("main/events/") > before, "rows enter", 60)
            threading.Event().wait(random.random() / 20)  # a random moment
            server.kill()
            cut += not running.result()
            server = start(tmp_path / "a.db", *options, kind=ClockedServer)
            server.advance(minutes=20)  # after which the dead one is not waited for
            server.run("RUN PIPELINE events")
            counts = "SELECT count(*), count(DISTINCT id), max(id) FROM lake.main.events"
            assert server.rows(counts) == [((number + 1) * ROWS,) * 3]
            server.stop()
    assert cut, "no run was cut off"


def test_a_server_that_is_killed_in_a_run_into_its_own_database_goes_on_at_once(start, tmp_path):
    """Nobody else has that database, so that nobody else is at the run which was cut off."""
    database, config = tmp_path / "a.db", tmp_path / "config.toml"
    config.write_text(INTO_ITS_OWN)
    with duckdb.connect(str(database)) as made:
        made.execute("CREATE TABLE events AS SELECT range AS id FROM range(100)")
        # Each row takes its time, so that the kill meets the run.
        spent = "list_sum(range(1000000 + (random() * 2)::BIGINT))"
        made.execute(f"CREATE TABLE copied (id BIGINT, spent HUGEINT DEFAULT ({spent}))")
    server = start(database, "--config", config)
    server.run("RUN PIPELINE events")
    server.run("INSERT INTO events SELECT range + 100 FROM range(100)")
    log = database.with_name("a.db.wal")
    before = log.stat().st_size
    with ThreadPoolExecutor() as pool:
        running = pool.submit(is_answered, server)
        # Nothing else is committed.
        eventually(lambda: running.done() or log.stat().st_size > before, "the run takes its lease", 20)
        server.kill()
        assert not running.result()
    with duckdb.connect(str(database), read_only=True) as left:
        leases = left.execute("SELECT count(held_until) FROM __merganser.job_runs").fetchone()
    assert leases == (1,)
    server = start(database, "--config", config)
    server.run("RUN PIPELINE events")
    counts = "SELECT count(*), count(DISTINCT id), max(id) FROM copied"
    assert server.rows(counts) == [(200, 200, 199)]
    server.stop()
