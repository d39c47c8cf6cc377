"""Maintenance of a DuckLake, and pipelines into it: on demand, by schedule, and by several servers at once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pytest

from client import eventually
from configuration import ducklake
from harness import CLIENT, refusal, refused, run_to_exit
from lake import EVENTS
from loaders import count, put, unit
from programs import output


def job(server, name):
    columns = "kind, catalog, last_outcome, last_changed::BIGINT, last_detail"
    (row,) = server.rows(f"SELECT {columns} FROM merganser_jobs() WHERE job = '{name}'")
    return row


ONE_HOUR_IS_KEPT = """
[catalog.maintenance]
expire_after = "1h"
delete_after = "1h"
"""


def test_maintenance_merges_small_files_and_deletes_what_nobody_sees(lake, start, database):
    server = start(database, *lake.options(catalog=ONE_HOUR_IS_KEPT))
    for number in range(6):
        put(server, unit(number, 200), key=f"a/1/{number + 1}")
    put(server, unit(6, 3))
    assert len(lake.files("main/events/")) == 7  # also few rows are a file
    lake.upload("main/events/ducklake-01a21ce2-0498-7d89-a955-08e842d49755.parquet")
    lake.storage.age(lake.database)
    lake.upload("main/events/ducklake-01a21ce2-0498-7d89-a955-08e842d49756.parquet")  # of a commit under way
    lake.age()
    assert "tidied up" in output(CLIENT, "--url", server.uri, "maintain", "lake")
    kind, catalog, outcome, changed, detail = job(server, "maintain lake")
    assert (kind, catalog, outcome) == ("maintenance", "lake", "done")
    assert changed > 0 and "1 orphaned file," in detail
    assert count(server) == 1203
    # What was merged is deleted once the snapshots that see it have expired, and another hour has passed.
    for _ in range(2):
        lake.age()
        server.run("MAINTAIN CATALOG lake")
    assert len(lake.files("main/events/")) == 2
    assert count(server) == 1203
    assert put(server, unit(5, 200), key="a/1/6").duplicate


HALF_A_LEDGER = """
BEGIN;
CREATE SCHEMA lake.__merganser;
CREATE TABLE lake.__merganser.ingest_units (
    loader VARCHAR NOT NULL, sequence UBIGINT NOT NULL, commit_id UBIGINT NOT NULL,
    committed_at TIMESTAMP WITH TIME ZONE NOT NULL, unit VARCHAR NOT NULL
);
CREATE TABLE lake.__merganser.ingest_fence (version UBIGINT NOT NULL);
INSERT INTO lake.__merganser.ingest_fence VALUES (0);
COMMIT;
CALL lake.set_option('data_inlining_row_limit', 1000, schema => '__merganser', table_name => 'ingest_fence');
CALL lake.set_option('data_inlining_row_limit', 1000, schema => '__merganser', table_name => 'ingest_units');
"""


def test_a_table_that_is_made_with_the_first_unit_is_merged_when_that_snapshot_is_gone(lake, start, database):
    """Also where a server was killed while it made the ledger. DuckLake fails, if the two come to be in one commit."""
    with lake.attached() as duck:
        duck.execute(HALF_A_LEDGER)
    server = start(database, *lake.options(catalog=ONE_HOUR_IS_KEPT))
    for number in range(6):
        put(server, unit(number, 200), key=f"a/1/{number + 1}")
        if number % 3 == 2:
            for _ in range(4):
                lake.age()
                server.run("MAINTAIN CATALOG lake")
    assert len(lake.files("main/events/")) == 1
    assert server.rows("SELECT loader, sequence::INT FROM merganser_ingest()") == [("a", 6)]


def test_maintenance_by_schedule_is_done_by_one_of_two_servers(lake, start, tmp_path):
    options = lake.options(catalog='[catalog.maintenance]\nevery = "2s"\n')
    servers = [start(tmp_path / f"{name}.db", *options) for name in "ab"]
    put(servers[0], unit(1))
    last = "SELECT last_outcome, last_was_here FROM merganser_jobs() WHERE job = 'maintain lake'"
    seen = set()

    def one_does_it_and_the_other_says_so():
        seen.update(row for server in servers for row in server.rows(last))
        return {("done", True), ("done", False)} <= seen

    eventually(one_does_it_and_the_other_says_so, "the run of one shows at both", 60)
    assert count(servers[1]) == 20


LAST = "last_begun_at, last_seconds, last_outcome, last_detail, last_changed::BIGINT"


def last_runs(server):
    return server.rows(f"SELECT job, {LAST} FROM merganser_jobs() ORDER BY job")


def test_the_last_runs_outlive_the_server_and_are_seen_by_others(lake, start, tmp_path):
    wrong = EVENTS.replace("orders.public.events", "SELECT id, CAST(v AS BIGINT) AS v FROM orders.public.events")
    lake.postgres.psql("CREATE TABLE events (id BIGINT, v TEXT)", lake.database)
    lake.postgres.psql("INSERT INTO events VALUES (1, 'x')", lake.database)
    one, other = (start(tmp_path / f"{name}.db", *lake.options(wrong)) for name in "ab")
    assert [row[1:] for row in last_runs(one)] == [(None,) * 5] * 2, "nothing has run"
    put(one, unit(1), ["lake", "main", "more"])
    one.run("MAINTAIN CATALOG lake")
    refused(one.run, "RUN PIPELINE events")
    runs = last_runs(one)
    assert [(job, outcome) for job, _, _, outcome, _, _ in runs] == [("events", "failed"), ("maintain lake", "done")]
    assert all(begun is not None and seconds > 0 and detail for _, begun, seconds, _, detail, _ in runs)
    assert one.rows("SELECT DISTINCT last_was_here FROM merganser_jobs()") == [(True,)]
    one.stop()
    again = start(tmp_path / "a.db", *lake.options(wrong))
    for server in (other, again):
        rounded = [(job, begun, round(seconds, 1), *rest) for job, begun, seconds, *rest in last_runs(server)]
        assert [(row[0], row[1], *row[3:]) for row in rounded] == [(row[0], row[1], *row[3:]) for row in runs]
        assert all(row[2] is not None for row in rounded)
        assert server.rows("SELECT DISTINCT last_was_here FROM merganser_jobs()") == [(False,)]
    lake.postgres.psql("UPDATE events SET v = '4'", lake.database)
    assert promote(other) == 1
    assert [row[3] for row in last_runs(again)] == ["done", "done"]
    with lake.postgres.down():
        assert [row[3] for row in last_runs(again)] == ["done", "done"], "as it was told last"


BEFORE = """
    CREATE SCHEMA lake.__merganser;
    CREATE TABLE lake.__merganser.jobs
        (job VARCHAR, changes BIGINT, begun_at BIGINT, held_until BIGINT, watermark VARCHAR);
    INSERT INTO lake.__merganser.jobs VALUES ('', 2, NULL, NULL, NULL), ('events', 2, 1000000, NULL, '1');
    CREATE TABLE lake.main.events AS SELECT 1::BIGINT AS id, 'moved' AS v;
"""


def test_what_the_version_before_has_written_goes_on(lake, start, tmp_path):
    lake.postgres.psql("CREATE TABLE events (id BIGINT, v TEXT)", lake.database)
    lake.postgres.psql("INSERT INTO events VALUES (1, 'moved'), (2, 'new')", lake.database)
    file = tmp_path / "before.sql"
    file.write_text(BEFORE)
    options = lake.options(EVENTS.replace('key = ["id"]\n', ""))
    started = start(tmp_path / "a.db", *options, "--init-sql", file)
    started.stop()
    server = start(tmp_path / "a.db", *options)
    assert promote(server) == 1
    assert server.rows("SELECT id, v FROM lake.events ORDER BY id") == [(1, "moved"), (2, "new")]
    assert put(server, unit(1), ["lake", "main", "keyed"], key="a/1/1").rows == 20
    server.stop()
    server = start(tmp_path / "a.db", *options)
    assert (promote(server), job(server, "events")[2]) == (0, "done")


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
    assert output(CLIENT, "--url", servers[1].uri, "promote", "events") == "events: 1 row moved\n"
    assert servers[0].rows("SELECT count(*), max(payload) FROM lake.events") == [(1001, "p999")]
    assert promote(servers[0]) == 0
    servers[0].kill()
    assert promote(servers[1]) == 0
    assert job(servers[1], "events")[:4] == ("pipeline", "lake", "done", 0)


TYPES = """SELECT i AS id, ('00000000-0000-0000-0000-00000000000' || i)::UUID AS u, '{"k": [1, 2]}'::JSON AS j,
    '12:00:00+01'::TIMETZ AS t, (2::HUGEINT ** 100)::HUGEINT + 1 AS h, 'a'::ENUM('a', 'b') AS e FROM range(1, 10) AS r(i)"""


@pytest.mark.parametrize("key", ['key = ["u"]', ""], ids=["key", "no key"])
def test_a_table_that_a_pipeline_makes_has_its_types_where_a_lake_keeps_them(lake, start, database, key):
    file = database.with_suffix(".sql")
    file.write_text(f"CREATE TABLE IF NOT EXISTS typed AS {TYPES}")
    pipeline = EVENTS.replace("orders.public.events", "typed").replace('key = ["id"]', key)
    server = start(database, *lake.options(pipeline), "--init-sql", file)
    assert promote(server) == 9
    columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_catalog = 'lake'"
    of_events = f"{columns} AND table_name = 'events' ORDER BY ordinal_position"
    assert server.rows(of_events) == [
        ("id", "BIGINT"), ("u", "UUID"), ("j", "JSON"), ("t", "VARCHAR"), ("h", "DECIMAL(38,0)"), ("e", "VARCHAR"),
    ]  # fmt: skip
    same = "SELECT count(*) FROM (SELECT id, u, j::VARCHAR, t::VARCHAR, h, e::VARCHAR FROM {} INTERSECT {})"
    query = "SELECT id, u, j::VARCHAR, t, h, e FROM lake.events"
    assert server.rows(same.format("typed", query)) == [(9,)]
    server.run("ALTER TABLE typed ADD COLUMN more UUID")
    server.run("INSERT INTO typed SELECT 10, uuid(), '[]', '12:00:00+02', 1, 'b', uuid()")
    # With a key the last row is read again, and then gets a value of the new column, too.
    assert promote(server) == (2 if key else 1)
    assert server.rows(of_events)[-1] == ("more", "UUID")
    assert server.rows("SELECT count(more), max(more) = (SELECT max(more) FROM typed) FROM lake.events") == [(1, True)]
    assert promote(server) == 0


def snapshots(server):
    return server.rows("SELECT max(snapshot_id)::BIGINT FROM lake.snapshots()")[0][0]


@pytest.mark.parametrize("key", ['key = ["id"]', 'key = ["id"]\noverlap = "10"', ""], ids=["key", "overlap", "no key"])
def test_a_run_without_news_writes_nothing_into_the_lake(lake, start, database, key):
    lake.postgres.psql("CREATE TABLE events (id BIGINT, v TEXT)", lake.database)
    server = start(database, *lake.options(EVENTS.replace('key = ["id"]', key)))
    before = snapshots(server)
    assert promote(server) == 0
    assert (snapshots(server), job(server, "events")[2:4]) == (before, ("done", 0)), "there is no row yet"
    lake.postgres.psql("INSERT INTO events SELECT i, 'v' FROM generate_series(1, 20) AS i", lake.database)
    assert promote(server) == 20
    told = last_runs(server)
    before = snapshots(server)
    for _ in range(3):
        assert promote(server) == 0
    (kind, catalog, *rest), ((_, begun, *_), _) = job(server, "events"), last_runs(server)
    assert (rest, begun > told[0][1]) == (["done", 0, "moved 0 rows"], True)
    server.stop()
    server = start(database, *lake.options(EVENTS.replace('key = ["id"]', key)))
    # The run that has moved rows: of those after it nothing is written.
    assert [(row[0], row[1], row[5]) for row in last_runs(server)][0] == ("events", told[0][1], 20)
    assert promote(server) == 0
    assert snapshots(server) == before


def test_neither_do_those_by_schedule(lake, start, tmp_path):
    lake.postgres.psql("CREATE TABLE events (id BIGINT, v TEXT)", lake.database)
    lake.postgres.psql("INSERT INTO events VALUES (1, 'x')", lake.database)
    often = EVENTS.replace('into =', 'every = "1s"\ninto =')
    servers = [start(tmp_path / f"{name}.db", *lake.options(often)) for name in "ab"]
    nothing = f"SELECT count(*) FROM {HERE} AND last_changed = 0"
    # Then the run that has moved the row has also given its lease back.
    for server in servers:
        eventually(lambda: server.rows(nothing) == [(1,)], "a run of its own has found nothing", 60)
    assert count(servers[0]) == 1
    before = snapshots(servers[0])
    for server in servers:
        seen = set()

        def runs_again_and_again():
            seen.update(server.rows(f"SELECT last_begun_at, last_changed::BIGINT FROM {HERE}"))
            return len({begun for begun, changed in seen if changed == 0}) > 2

        eventually(runs_again_and_again, "it looks for news", 60)
    assert snapshots(servers[0]) == before


HERE = "merganser_jobs() WHERE job = 'events' AND last_was_here"


def test_runs_that_fail_alike_are_written_down_once(lake, start, tmp_path):
    psql = lambda sql: lake.postgres.psql(sql, lake.database)  # noqa: E731
    psql("CREATE TABLE events (id BIGINT, v TEXT)")
    psql("INSERT INTO events VALUES (1, '1')")
    number = EVENTS.replace("orders.public.events", "SELECT id, CAST(v AS BIGINT) AS v FROM orders.public.events")
    server, other = (start(tmp_path / f"{name}.db", *lake.options(number)) for name in "ab")
    assert promote(server) == 1
    psql("INSERT INTO events VALUES (2, 'no number')")
    before = snapshots(server)
    for _ in range(3):
        assert "no number" in str(refused(server.run, "RUN PIPELINE events"))
    assert snapshots(server) == before + 1
    for one in (server, other):
        outcome, detail = one.rows("SELECT last_outcome, last_detail FROM merganser_jobs() WHERE job = 'events'")[0]
        assert outcome == "failed" and "no number" in detail
    psql("DELETE FROM events WHERE id = 2")
    assert [promote(server), promote(server)] == [0, 0]
    assert snapshots(server) == before + 2, "that it goes well again is news, too"
    assert job(other, "events")[2:4] == ("done", 0)


def promote(server):
    """The number of rows moved, or why not."""
    try:
        return server.run("RUN PIPELINE events")["count"][0].as_py()
    except pa.ArrowException as error:
        refusal(error, codes="ABORTED", slug="JOB_BUSY")
        return "busy"


OPTIONAL = EVENTS.replace('secret = "pg"\n', 'secret = "pg"\nrequired = false\n', 1)


def test_a_pipeline_waits_for_a_catalog_that_is_not_required(lake, start, database):
    lake.postgres.psql("CREATE TABLE events (id BIGINT, v TEXT)", lake.database)
    lake.postgres.psql("INSERT INTO events VALUES (1, 'x')", lake.database)
    options = lake.options(OPTIONAL, "required = false")
    with lake.postgres.down():
        server = start(database, *options)
        refused(server.run, "RUN PIPELINE events", codes="UNAVAILABLE", slug="CATALOG_DOWN")
        assert job(server, "events")[2] == "failed"

    def moves():
        try:
            return server.run("RUN PIPELINE events")["count"][0].as_py() == 1
        except pa.ArrowException as error:
            refusal(error, codes="UNAVAILABLE", slug="CATALOG_DOWN")

    eventually(moves, "the catalogs come", 60)
    assert server.rows("SELECT id, v FROM lake.events") == [(1, "x")]


def test_a_pipeline_whose_source_is_missing_names_it_and_is_checked_when_it_comes(lake, start, database, tmp_path):
    orders = tmp_path / "orders.db"
    wrong = f"""
[[catalog]]
name = "orders"
type = "duckdb"
path = "{orders}"
read_only = true
required = false
{EVENTS.partition('secret = "pg"')[2].replace("orders.public.events", "orders.main.events").replace('"id"', '"none"', 1)}
"""
    server = start(database, *lake.options(wrong))
    assert "orders" in str(refused(server.run, "RUN PIPELINE events", codes="UNAVAILABLE", slug="CATALOG_DOWN"))
    assert "orders" in job(server, "events")[4] and "lake" not in job(server, "events")[4]
    with duckdb.connect(orders) as duck:
        duck.execute("CREATE TABLE events AS SELECT 1::BIGINT AS id")

    def is_told_what_is_wrong():
        error = refused(server.run, "RUN PIPELINE events")
        return "no column" in str(error)

    eventually(is_told_what_is_wrong, "the catalog comes", 60)


@contextmanager
def away(path):
    hidden = path.with_name("hidden")
    path.rename(hidden)
    yield
    hidden.rename(path)


def test_what_does_not_answer_is_named_and_no_path_is(lake, start, database, tmp_path):
    source = tmp_path / "source.csv"
    source.write_text("id,v\n1,x\n")
    from_file = EVENTS.replace('"orders.public.events"', f"\"FROM read_csv('{source}')\"")
    server = start(database, *lake.options(from_file))
    with away(source):
        refused(server.run, "RUN PIPELINE events", slug="IO")
        detail = job(server, "events")[4]
        assert "a file that the job needs" in detail and "source" not in detail and "lake" not in detail
    assert promote(server) == 1
    with lake.postgres.down():
        error = refused(server.run, "RUN PIPELINE events", codes="UNAVAILABLE", slug="CATALOG_DOWN")
        assert "lake" in str(error)


def test_the_source_that_does_not_answer_is_named_and_not_the_lake(lake, start, tmp_path):
    """The source is PostgreSQL, and the lake is a file."""
    lake.postgres.psql("CREATE TABLE events (id BIGINT, v TEXT)", lake.database)
    lake.postgres.psql("INSERT INTO events VALUES (1, 'x')", lake.database)
    config = tmp_path / "file_lake.toml"
    config.write_text(
        lake.postgres.secret(lake.database)
        + ducklake(tmp_path / "lake.ducklake", f"{tmp_path}/files/")
        + EVENTS
    )
    server = start(tmp_path / "a.db", "--config", config, "--extension-directory", lake.extensions)
    assert promote(server) == 1
    with lake.postgres.down():
        error = refused(server.run, "RUN PIPELINE events", codes="UNAVAILABLE", slug="CATALOG_DOWN")
        assert "catalog orders" in str(error)
        detail = job(server, "events")[4]
        assert "catalog orders" in detail and "catalog lake" not in detail


def test_a_pipeline_that_names_what_is_not_there_stops_the_start(lake, database):
    wrong = EVENTS.replace("orders.public.events", "orders.public.nothing")
    ended = run_to_exit("--database", database, *lake.options(wrong))
    assert ended.returncode != 0
    assert "pipeline events" in ended.stderr and "nothing" in ended.stderr
