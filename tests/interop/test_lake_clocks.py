"""Servers of a lake whose clocks are wrong: nothing that is young goes, and no job waits until they are right."""

from datetime import timedelta

from client import Client, eventually
from configuration import lake_of_files
from harness import ClockedServer

AGES = '[catalog.maintenance]\nexpire_after = "1h"\ndelete_after = "1h"\n'
SCHEDULE = '[catalog.maintenance]\nevery = "12h"\n'
SNAPSHOTS = "SELECT count(*) FROM lake.snapshots() WHERE snapshot_id <= {}"
NEWEST = "SELECT max(snapshot_id) FROM lake.snapshots()"
TOLD = "the clocks of a lake differ"


def ahead(**time):
    """The environment of a server whose clock is so far ahead from its start."""
    return {"CLOCK_AHEAD": str(int(timedelta(**time).total_seconds()))}


def test_a_server_whose_clock_is_ahead_takes_nothing_from_others(lake, start, tmp_path):
    right = start(tmp_path / "a.db", *lake.options(catalog=AGES))
    wrong = start(tmp_path / "b.db", *lake.options(catalog=AGES), kind=ClockedServer, environment=ahead(hours=3))
    right.run("CREATE TABLE lake.t AS SELECT * FROM range(100) AS r(i)")
    with Client(right.uri) as client:
        transaction = client.begin()
        client.update("INSERT INTO lake.t SELECT * FROM range(100, 200)", transaction)
        before, newest = lake.files("main/"), client.one(NEWEST)
        wrong.run("MAINTAIN CATALOG lake")
        assert lake.files("main/") == before and len(before) == 2
        assert wrong.rows(SNAPSHOTS.format(newest)) == [(newest + 1,)], "none has expired"
        client.commit(transaction)
    for server in right, wrong:
        assert server.rows("SELECT count(*), count(i) FROM lake.t") == [(200, 200)]
    assert TOLD in wrong.log.read_text()
    right.run("MAINTAIN CATALOG lake")
    assert TOLD not in right.log.read_text()


def test_a_clock_that_is_set_forward_makes_nothing_old(start, tmp_path):
    server = start(tmp_path / "a.db", *lake_of_files(tmp_path, AGES), kind=ClockedServer)
    server.run("CREATE TABLE lake.t AS SELECT * FROM range(100) AS r(i)")
    young = tmp_path / "files/main/t/ducklake-01a21ce2-0498-7d89-a955-08e842d49755.parquet"
    young.write_bytes(b"x")
    [(newest,)] = server.rows(NEWEST)
    server.run("MAINTAIN CATALOG lake")
    assert TOLD not in server.log.read_text()
    server.advance(hours=3)
    server.run("MAINTAIN CATALOG lake")
    assert young.exists()
    assert server.rows(SNAPSHOTS.format(newest)) == [(newest + 1,)]
    assert TOLD in server.log.read_text()


def test_no_job_waits_for_the_time_of_a_clock_that_was_ahead(lake, start, tmp_path):
    years = ahead(days=800)
    wrong = start(tmp_path / "b.db", *lake.options(catalog=SCHEDULE), kind=ClockedServer, environment=years)
    wrong.run("CREATE TABLE lake.t AS SELECT * FROM range(100) AS r(i)")
    wrong.run("MAINTAIN CATALOG lake")
    wrong.kill()
    right = start(tmp_path / "a.db", *lake.options(catalog=SCHEDULE), kind=ClockedServer)
    due = "SELECT count(*) FROM merganser_jobs() WHERE next_at < now() + INTERVAL 1 HOUR"
    eventually(lambda: right.rows(due) == [(1,)], "it is to run soon")
