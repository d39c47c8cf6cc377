"""A pipeline without a key whose server is killed while its rows enter: none is lost, and none comes twice."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from client import eventually
from harness import ClockedServer
from lake import EVENTS, is_answered

ROUNDS, ROWS = 6, 500

PIPELINE = EVENTS.replace('key = ["id"]\n', "")


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
