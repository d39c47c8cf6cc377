"""Two servers on one lake, with loaders that change from one to the other: each unit is stored exactly once."""

import random
import threading

import pytest

from loaders import Crowd, count, put, stored, unit

# Rows a unit, of eight loaders: in the lake's metadata, in files, and those above --bulk-size.
ROWS = [3, 3, 20, 20, 20, 20, 1000, 1000]
SMALL_BULK = ["--bulk-size", "16KiB"]


@pytest.fixture
def pair(lake, start, tmp_path):
    """Starts one of the two servers."""
    return lambda which: start(tmp_path / f"{which}.db", *lake.options(), *SMALL_BULK)


def test_servers_that_are_killed_lose_and_double_nothing(pair):
    servers = [pair(0), pair(1)]
    with Crowd(servers, ROWS) as crowd:
        for victim in [0, 1, 1, 0]:
            crowd.wait_for(random.randint(4, 12))
            crowd.enough.wait(random.random() / 4)  # a random moment
            servers[victim].kill()
            crowd.wait_for(3)  # the other one goes on
            servers[victim] = pair(victim)
        crowd.wait_for(16)
    crowd.check()
    assert stored(servers[0]) == stored(servers[1]) == crowd.expected()
    for which, server in enumerate(servers):
        server.stop()
        servers[which] = pair(which)
    assert stored(servers[0]) == stored(servers[1]) == crowd.expected()
    kept = servers[0].rows("SELECT loader, sequence::BIGINT, rows::BIGINT FROM merganser_ingest() ORDER BY loader")
    assert kept == [(loader.name, loader.number, loader.number * loader.rows) for loader in crowd.loaders]


@pytest.mark.parametrize("attempt", range(2))
def test_both_begin_a_new_lake_at_the_same_moment(pair, attempt):
    servers = [pair(0), pair(1)]
    with Crowd(servers, [3, 3, 20, 20]) as crowd:
        crowd.wait_for(12)
    crowd.check()
    assert stored(servers[0]) == stored(servers[1]) == crowd.expected()


def test_a_loader_goes_on_at_a_server_that_has_not_seen_it(pair):
    first, second = pair(0), pair(1)
    put(second, unit(1), key="other/1/1")
    for number in range(1, 5):
        assert not put(first, unit(number), key=f"a/1/{number}").duplicate
    assert not put(second, unit(5), key="a/1/5").duplicate
    assert not put(second, unit(6), key="a/2/6").duplicate
    assert put(first, unit(6), key="a/2/6").duplicate
    assert count(first) == count(second) == 140


def test_one_key_at_two_servers_at_once(pair):
    servers = [pair(0), pair(1)]
    put(servers[0], unit(0), key="other/1/1")
    for number in range(1, 7):
        begin, acks = threading.Barrier(2), []

        def send(server):
            begin.wait()
            acks.append(put(server, unit(number), key=f"a/1/{number}"))

        both = [threading.Thread(target=send, args=[server]) for server in servers]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert sorted(ack.duplicate for ack in acks) == [False, True]
        assert acks[0].commit_id == acks[1].commit_id
    assert count(servers[0]) == count(servers[1]) == 140


def test_a_table_that_one_changes_is_seen_by_the_other(pair):
    first, second = pair(0), pair(1)
    put(first, unit(1), key="a/1/1")
    put(second, unit(2), key="b/1/1")
    first.run("ALTER TABLE lake.events ADD COLUMN more VARCHAR")
    wider = unit(3).append_column("more", [["x"] * 20])
    assert put(second, wider, key="b/1/2").rows == 20
    assert first.rows("SELECT count(*), count(more) FROM lake.events") == [(60, 20)]
    second.run("DROP TABLE lake.events")
    assert put(first, unit(4), key="a/1/2").rows == 20
    assert count(first) == count(second) == 20


def test_where_a_loader_stands_is_told_by_each(pair):
    """By this a loader decides where it goes on, and under which epoch."""
    first, second = pair(0), pair(1)
    for number in (1, 2):
        put(first, unit(number), key=f"a/3/{number}")
        told = "SELECT epoch::BIGINT, sequence::BIGINT FROM merganser_ingest() WHERE loader = 'a'"
        assert first.rows(told) == second.rows(told) == [(3, number)]
