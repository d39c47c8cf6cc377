"""Maintenance of a DuckLake by its schedule, at a clock that the tests move; and how much a run does."""

import re
from datetime import timedelta

import pyarrow as pa
import pyarrow.flight as flight

from client import eventually
from harness import ClockedServer
from loaders import count, put, unit

MAINTENANCE = "FROM merganser_jobs() WHERE job = 'maintain lake'"


def times(server):
    """When maintenance ran last, when it will run next, and whether that was here."""
    (row,) = server.rows(f"SELECT last_begun_at, next_at, last_was_here {MAINTENANCE}")
    return row


def ended(server):
    return len(re.findall("ran a job|a job failed", server.log.read_text()))


def let_run(server, **time):
    """Moves the clock to a run and waits for its end."""
    before = ended(server)
    server.advance(**time)
    eventually(lambda: ended(server) > before, "the run ends", 60)


def tidied(server):
    """What the last run has done, by what it says."""
    ((detail,),) = server.rows(f"SELECT last_detail {MAINTENANCE}")
    numbers = list(map(int, re.findall(r"\d+", detail)))
    return dict(zip(["flushed", "merged", "expired", "deleted", "orphaned", "forgotten"], numbers, strict=True))


def test_over_a_day_it_runs_when_it_is_due_and_not_before(lake, start, database):
    twice_a_day = '[catalog.maintenance]\nevery = "12h"\nexpire_after = "1h"\ndelete_after = "1h"\n'
    server = start(database, *lake.options(catalog=twice_a_day), kind=ClockedServer)
    due = eventually(lambda: times(server)[1], "its time is set")
    for number in range(6):
        put(server, unit(number, 200), key=f"a/1/{number + 1}")
    lake.upload("main/events/ducklake-01a21ce2-0498-7d89-a955-08e842d49755.parquet")
    lake.storage.age(lake.database)
    server.advance(minutes=10, seconds=-1)
    assert times(server) == (None, due, None), "the first run is due after ten minutes"
    assert len(lake.files("main/")) == 7

    lake.age()
    let_run(server, seconds=1)
    eventually(lambda: times(server)[0], "the first run is told of")
    assert times(server)[0] == due, "by its clock it began when it was due"
    first = tidied(server)
    assert first["flushed"] > 0 and first["merged"] >= 6 and first["expired"] > 0 and first["orphaned"] == 1
    assert count(server) == 1200

    eventually(lambda: times(server)[1] == due + timedelta(hours=12), "its next time is set")
    lake.age()
    let_run(server, hours=12)
    eventually(lambda: times(server)[0] == due + timedelta(hours=12), "the second run is told of")
    assert first["deleted"] + tidied(server)["deleted"] >= 6
    assert len(lake.files("main/")) == 1
    assert count(server) == 1200


def test_of_two_servers_with_one_schedule_one_does_each_run(lake, start, tmp_path):
    hourly = lake.options(catalog='[catalog.maintenance]\nevery = "1h"\n')
    servers = [start(tmp_path / f"{name}.db", *hourly, kind=ClockedServer) for name in "ab"]
    begun = set()
    for hour in range(6):
        put(servers[hour % 2], unit(hour))
        due = [eventually(lambda: times(server)[1], "its time is set") for server in servers]
        for server in servers:
            server.advance(hours=1)
        for server, before in zip(servers, due):
            eventually(lambda: (times(server)[1] or before) > before, "its turn is over", 60)
        (one, _, one_here), (other, _, other_here) = map(times, servers)
        assert one == other and sorted([one_here, other_here]) == [False, True]
        begun.add(one)
    assert len(begun) == 6


def test_a_lake_at_rest_gets_nothing_from_its_maintenance(lake, start, database):
    server = start(database, *lake.options())
    newest = lambda: server.rows("SELECT max(snapshot_id)::BIGINT FROM lake.snapshots()")[0][0]  # noqa: E731
    for number in range(3):
        put(server, unit(number), key=f"a/1/{number + 1}")
    server.run("MAINTAIN CATALOG lake")
    assert tidied(server)["merged"] >= 3
    server.run("MAINTAIN CATALOG lake")  # sees what the first one has changed
    before, (begun, *_) = newest(), times(server)
    for _ in range(3):
        server.run("MAINTAIN CATALOG lake")
    assert newest() == before and set(tidied(server).values()) == {0}
    assert times(server)[0] > begun and times(server)[2]
    for number in range(2):
        put(server, unit(number), key=f"a/1/{number + 4}")
    server.run("MAINTAIN CATALOG lake")
    assert tidied(server)["merged"] >= 2
    assert count(server) == 100


def test_neither_does_one_of_which_everything_ages_at_once(lake, start, database):
    """As with any `expire_after` and `delete_after` later: what the runs themselves leave behind is no reason for more."""
    options = '[catalog.maintenance]\nevery = "12h"\nexpire_after = "1h"\ndelete_after = "1h"\n'
    server = start(database, *lake.options(catalog=options), kind=ClockedServer)
    written = "SELECT max(snapshot_id)::BIGINT, count(*) FROM lake.snapshots()"
    eventually(lambda: times(server)[1], "its time is set")
    let_run(server, minutes=10)
    eventually(lambda: times(server)[1] > times(server)[0], "its next time is set")

    def pass_half_a_day():
        due = times(server)[1]
        lake.age(hours=12)
        let_run(server, hours=12)
        eventually(lambda: times(server)[0] == due and times(server)[1] > due, "the run is told of")

    for number in range(3):
        put(server, unit(number), key=f"a/1/{number + 1}")
    for _ in range(3):
        pass_half_a_day()
    before = server.rows(written)
    for _ in range(4):
        pass_half_a_day()
        assert set(tidied(server).values()) == {0}
    assert server.rows(written) == before
    put(server, unit(3), key="a/1/4")
    pass_half_a_day()
    assert tidied(server)["expired"] > 0
    assert count(server) == 80


PARTITIONS = 101


def test_a_run_merges_no_more_than_its_bound_and_the_next_goes_on(lake, start, database):
    """A step makes as many files as `merge_files` says, and a run has a hundred steps for a table."""
    server = start(database, *lake.options(catalog="[catalog.maintenance]\nmerge_files = 1\n"))
    rows = pa.table({"part": range(PARTITIONS), "v": ["x"] * PARTITIONS})
    for _ in range(2):
        partitioned = flight.FlightCallOptions(headers=[(b"x-merganser-partition-by", b"part")])
        writer, answers = server.client.do_put(
            flight.FlightDescriptor.for_path("lake", "main", "events"), rows.schema, partitioned
        )
        writer.write_table(rows)
        writer.done_writing()
        answers.read()
        writer.close()
    files = lambda: server.rows("SELECT count(*) FROM ducklake_list_files('lake', 'events')")[0][0]  # noqa: E731
    assert files() == 2 * PARTITIONS
    server.run("MAINTAIN CATALOG lake")
    assert files() == PARTITIONS + 1
    server.run("MAINTAIN CATALOG lake")
    assert files() == PARTITIONS
    assert count(server) == 2 * PARTITIONS
