"""Pipelines into PostgreSQL: the rows, and how far they go, in one transaction there."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from client import eventually
from extensions import extension_folder
from harness import ClockedServer, refusal, refused
from lake import is_answered
from loaders import put

ROUNDS, ROWS = 6, 500
EVENTS = ("house", "public", "events")

PIPELINE = """
[[catalog]]
name = "house"
type = "postgres"
secret = "pg"

[[pipeline]]
name = "events"
from = "{source}"
incremental = "id"
into = "house.public.events"
"""
KEY = 'key = ["id"]\n'


class House:
    """A database of PostgreSQL, and servers with a pipeline into it."""

    def __init__(self, postgres, folder, start):
        self.postgres, self.folder, self.start = postgres, folder, start
        self.database = postgres.database()
        self.extensions = extension_folder(folder / "extensions", "postgres_scanner")

    def psql(self, sql):
        return self.postgres.psql(sql, self.database)

    def server(self, name="a", more="", source="orders", **how):
        """One with a table `orders` of its own."""
        init, config = self.folder / "init.sql", self.folder / f"{name}.toml"
        init.write_text("CREATE TABLE IF NOT EXISTS orders (id BIGINT, v VARCHAR)")
        config.write_text(self.postgres.secret(self.database) + PIPELINE.format(source=source) + more)
        options = ["--config", config, "--init-sql", init, "--extension-directory", self.extensions]
        return self.start(self.folder / f"{name}.db", *options, **how)


@pytest.fixture
def house(postgres, tmp_path, start):
    return House(postgres, tmp_path, start)


def promote(server):
    """The number of rows moved, or why not."""
    try:
        return server.run("RUN PIPELINE events")["count"][0].as_py()
    except pa.ArrowException as error:
        return refusal(error, codes="ABORTED").slug


def orders(server, first, rows, v="v"):
    server.run(f"INSERT INTO orders SELECT i, '{v}' FROM range({first}, {first + rows}) AS r(i)")


def moved(server):
    return server.rows("SELECT count(*), count(DISTINCT id), max(id) FROM house.public.events")[0]


@pytest.mark.parametrize("key", [KEY, ""], ids=["key", "no key"])
def test_rows_are_moved_once_also_after_a_restart(house, key):
    server = house.server(more=key)
    assert promote(server) == 0
    orders(server, 1, 1000)
    assert [promote(server), promote(server)] == [1000, 0]
    orders(server, 1001, 2)
    server.stop()
    server = house.server(more=key)
    assert [promote(server), promote(server)] == [2, 0]
    server.kill()
    server = house.server(more=key)
    assert promote(server) == 0
    assert moved(server) == (1002, 1002, 1002)
    told = "SELECT catalog, last_outcome, last_changed::BIGINT FROM merganser_jobs()"
    assert server.rows(told) == [("house", "done", 0)]
    another = house.server("b", more=key)
    assert another.rows(told) == [("house", None, None)], "a run of another database's rows is none of its own"


def test_a_row_whose_key_is_there_takes_its_place(house):
    server = house.server(more=KEY + 'overlap = "100"\n')
    orders(server, 1, 10)
    assert promote(server) == 10
    server.run("UPDATE orders SET v = 'new' WHERE id > 8")
    orders(server, 11, 1, "new")
    assert [promote(server), promote(server)] == [3, 0]
    counts = "SELECT v, count(*) FROM house.public.events GROUP BY v ORDER BY v"
    assert server.rows(counts) == [("new", 3), ("v", 8)]
    server.run("INSERT INTO orders VALUES (12, 'x'), (NULL, 'y')")
    # NULL in the column by which rows are new is never new.
    assert promote(server) == 1


def test_a_null_in_a_key_moves_nothing(house):
    server = house.server(more='key = ["v"]\n')
    server.run("INSERT INTO orders VALUES (1, 'a'), (2, NULL)")
    refused(server.run, "RUN PIPELINE events", codes="INVALID_ARGUMENT", slug="SCHEMA_MISMATCH")
    server.run("DELETE FROM orders WHERE v IS NULL")
    assert promote(server) == 1


@pytest.mark.parametrize("key", [KEY, ""], ids=["key", "no key"])
def test_columns_are_added_and_a_table_that_was_dropped_is_filled_anew(house, key):
    server = house.server(more=key)
    orders(server, 1, 5)
    assert promote(server) == 5
    server.run("ALTER TABLE orders ADD COLUMN more VARCHAR")
    server.run("INSERT INTO orders VALUES (6, 'v', 'm')")
    # With a key the last row is read again.
    assert promote(server) == (2 if key else 1)
    assert server.rows("SELECT count(*), count(more) FROM house.public.events") == [(6, 1)]
    house.psql("ALTER TABLE events ADD COLUMN theirs text DEFAULT 'usual'")
    server.run("INSERT INTO orders VALUES (7, 'v', 'm')")
    assert promote(server) == 1
    assert server.rows("SELECT theirs, count(*) FROM house.public.events GROUP BY theirs") == [("usual", 7)]
    house.psql("DROP TABLE events")
    assert promote(server) == 7
    assert moved(server) == (7, 7, 7)


@pytest.mark.parametrize("key", [KEY, ""], ids=["key", "no key"])
def test_two_servers_at_once_move_each_row_once(house, key):
    house.psql("CREATE TABLE source (id BIGINT, v TEXT)")
    servers = [house.server(name, key, source="house.public.source") for name in "ab"]
    counted = 0
    with ThreadPoolExecutor() as pool:
        for number in range(ROUNDS):
            house.psql(f"INSERT INTO source SELECT i + {number * ROWS}, 'v' FROM generate_series(1, {ROWS}) AS i")
            outcomes = list(pool.map(promote, servers))
            assert set(outcomes) <= {0, ROWS, "JOB_BUSY"}, outcomes
            counted += sum(outcome for outcome in outcomes if isinstance(outcome, int))
            assert moved(servers[0]) == moved(servers[1]) == ((number + 1) * ROWS,) * 3
    assert counted == ROUNDS * ROWS


# Rows enter slowly, so that a kill meets them.
SLOW = """
    CREATE TABLE events (id BIGINT, v TEXT);
    CREATE FUNCTION slow() RETURNS trigger AS 'BEGIN PERFORM pg_sleep(0.0001); RETURN NEW; END' LANGUAGE plpgsql;
    CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slow()
"""
ENTERING = """
    SELECT count(*) FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
    WHERE relname = 'events' AND mode = 'RowExclusiveLock'
"""


@pytest.mark.parametrize("key", [KEY, ""], ids=["key", "no key"])
def test_a_server_that_is_killed_while_rows_enter_loses_and_doubles_none(house, key):
    house.psql(SLOW)
    rows, cut = 1_000, 0
    with ThreadPoolExecutor() as pool:
        for number in range(ROUNDS):
            server = house.server(more=key, kind=ClockedServer)
            orders(server, number * rows + 1, rows)
            running = pool.submit(is_answered, server)
            # The first round makes the table of watermarks.
            eventually(lambda: running.done() or is_entering(house), "rows enter", 60)
            threading.Event().wait(random.random() / 2)  # a random moment
            server.kill()
            cut += not running.result()
            server = house.server(more=key, kind=ClockedServer)
            server.advance(minutes=20)  # after which the dead one is not waited for
            server.run("RUN PIPELINE events")
            assert moved(server) == ((number + 1) * rows,) * 3
            server.stop()
    assert cut, "no run was cut off"


def is_entering(house):
    return "1" in house.psql(ENTERING).split()


def test_loaders_of_the_same_server_and_its_pipeline_never_both_add_a_row(house):
    server = house.server(more=KEY)
    put(server, pa.table({"id": pa.array([0], pa.int64()), "v": ["loader"]}), EVENTS, merge_keys="id")
    begin = threading.Barrier(2)

    def load(ids):
        begin.wait()
        for number in ids:
            put(server, pa.table({"id": pa.array([number], pa.int64()), "v": ["loader"]}), EVENTS, merge_keys="id")

    def promote_one():
        begin.wait()
        assert promote(server) != 0

    with ThreadPoolExecutor() as pool:
        for number in range(ROUNDS):
            orders(server, number * ROWS + 1, ROWS)
            first = number * ROWS + 1
            for ended in [pool.submit(promote_one), pool.submit(load, range(first, first + 20))]:
                ended.result()
    promote(server)
    assert moved(server) == (ROUNDS * ROWS + 1, ROUNDS * ROWS + 1, ROUNDS * ROWS)


def test_how_far_it_has_come_is_out_of_reach(house):
    server = house.server()
    orders(server, 1, 5)
    assert promote(server) == 5
    assert "5" in house.psql("SELECT watermark FROM __merganser.jobs WHERE job LIKE 'events%'").split()
    for sql in ("UPDATE house.__merganser.jobs SET watermark = '0'", "DROP SCHEMA house.__merganser CASCADE"):
        refused(server.run, sql, codes="PERMISSION_DENIED", slug="NOT_ALLOWED")
    assert promote(server) == 0


def test_a_pipeline_outlasts_a_postgresql_that_is_down(house):
    server = house.server(more=KEY)
    orders(server, 1, 5)
    with house.postgres.down():
        refused(server.run, "RUN PIPELINE events", codes="UNAVAILABLE", slug="CATALOG_DOWN")
    eventually(lambda: is_answered(server), "it is back", 60)
    assert moved(server) == (5, 5, 5)
