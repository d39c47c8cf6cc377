"""Maintenance of a DuckLake, and pipelines into it: on demand, by schedule, and by several servers at once."""

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from client import eventually
from harness import CLIENT, refusal, run_to_exit
from loaders import count, put, unit
from programs import output


def files(lake, table="events"):
    prefix = f"{lake.database}/main/{table}/"
    return lake.storage.client.list_objects_v2(Bucket=lake.storage.bucket, Prefix=prefix)["KeyCount"]


def job(server, name):
    columns = "kind, catalog, last_outcome, last_changed::BIGINT, last_detail"
    (row,) = server.rows(f"SELECT {columns} FROM merganser_jobs() WHERE job = '{name}'")
    return row


NOTHING_IS_KEPT = """
[catalog.maintenance]
expire_after = "0s"
delete_after = "0s"
"""


def test_maintenance_merges_small_files_and_deletes_what_nobody_sees(lake, start, database):
    server = start(database, *lake.options(catalog=NOTHING_IS_KEPT))
    for number in range(6):
        put(server, unit(number, 200), key=f"a/1/{number + 1}")
    put(server, unit(6, 3))
    assert files(lake) == 7  # also few rows are a file
    lake.storage.client.put_object(Bucket=lake.storage.bucket, Key=f"{lake.database}/main/events/orphan.parquet", Body=b"x")
    assert "tidied up" in output(CLIENT, "--url", server.uri, "maintain", "lake")
    kind, catalog, outcome, changed, detail = job(server, "maintain lake")
    assert (kind, catalog, outcome) == ("maintenance", "lake", "done")
    assert changed > 0 and "1 orphaned files" in detail
    assert count(server) == 1203
    # What was merged is deleted by the run after the one that has merged it, at the latest.
    server.run("MAINTAIN CATALOG lake")
    assert files(lake) == 1
    assert count(server) == 1203
    assert put(server, unit(5, 200), key="a/1/6").duplicate


def test_maintenance_by_schedule_is_done_by_one_of_two_servers(lake, start, tmp_path):
    options = lake.options(catalog='[catalog.maintenance]\nevery = "2s"\n')
    servers = [start(tmp_path / f"{name}.db", *options) for name in "ab"]
    put(servers[0], unit(1))
    begun = "SELECT last_outcome FROM merganser_jobs() WHERE job = 'maintain lake' AND last_begun_at IS NOT NULL"
    seen = set()

    def both_are_seen():
        seen.update(outcome for server in servers for (outcome,) in server.rows(begun))
        return seen == {"done", "elsewhere"}

    eventually(both_are_seen, "one does it, and the other says so", 60)
    assert count(servers[1]) == 20


EVENTS = """
[[catalog]]
name = "orders"
type = "postgres"
secret = "pg"

[[pipeline]]
name = "events"
from = "orders.public.events"
incremental = "id"
key = ["id"]
into = "lake.main.events"
"""


def test_events_of_postgresql_are_promoted_without_doubles(lake, start, tmp_path):
    psql = lambda sql: lake.postgres.psql(sql, lake.database)  # noqa: E731
    psql("CREATE TABLE events (id BIGINT PRIMARY KEY, at TIMESTAMPTZ DEFAULT now(), payload TEXT)")
    psql("INSERT INTO events (id, payload) SELECT i, 'p' || i FROM generate_series(1, 1000) AS i")
    servers = [start(tmp_path / f"{name}.db", *lake.options(EVENTS)) for name in "ab"]
    with ThreadPoolExecutor() as pool:  # both at once: one moves them, the other finds nothing to do or is refused
        outcomes = list(pool.map(promote, servers))
    assert sorted(outcomes, key=str)[0] in (0, 1000) and sum(o for o in outcomes if isinstance(o, int)) == 1000
    assert servers[0].rows("SELECT count(*), count(DISTINCT id) FROM lake.events") == [(1000, 1000)]
    psql("INSERT INTO events (id, payload) VALUES (1001, 'new')")
    assert output(CLIENT, "--url", servers[1].uri, "promote", "events") == "events: 1 rows moved\n"
    assert servers[0].rows("SELECT count(*), max(payload) FROM lake.events") == [(1001, "p999")]
    assert promote(servers[0]) == 0
    servers[0].kill()
    assert promote(servers[1]) == 0
    assert job(servers[1], "events")[:4] == ("pipeline", "lake", "done", 0)


def promote(server):
    """The number of rows moved, or why not."""
    try:
        return server.run("RUN PIPELINE events")["count"][0].as_py()
    except pa.ArrowException as error:
        refusal(error, codes="ABORTED", slug="JOB_BUSY")
        return "busy"


def test_a_pipeline_that_names_what_is_not_there_stops_the_start(lake, database):
    wrong = EVENTS.replace("orders.public.events", "orders.public.nothing")
    ended = run_to_exit("--database", database, *lake.options(wrong))
    assert ended.returncode != 0
    assert "pipeline events" in ended.stderr and "nothing" in ended.stderr
