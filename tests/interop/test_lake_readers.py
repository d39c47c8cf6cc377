"""Readers of a lake beside loaders and maintenance: each answer has whole units, of each loader all up to one, or it is an
error that says to try again."""

import re
import threading
from collections import Counter
from itertools import count as numbers

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from moto.s3.responses import S3Response

from client import eventually
from configuration import lake_of_files
from harness import refusal
from loaders import Crowd, put, stored, unit

ROWS = [3, 20, 200, 1000]  # a loader's units each
STATE = ("lake", "main", "state")
IDS = 40
# Snapshots that are kept: a transaction that writes may be as old.
KEPT = 50
# What each run has to have met before it ends.
ROUNDS, ANSWERS, STREAMS = 5, 40, 5

# Wide where it begins, so that a client that takes no more has the rest wait in files that nobody has opened.
STREAM = "SELECT loader, unit, part, CASE WHEN unit <= 20 THEN repeat('x', 4000) END AS filler FROM lake.events"


class Worker(threading.Thread):
    """Does the same again and again, until it is enough or something is wrong."""

    def __init__(self, run, *arguments):
        super().__init__(daemon=True)
        self.work, self.enough = lambda: run(*arguments), run.__self__.enough
        self.error, self.done, self.slugs = None, 0, Counter()

    def run(self):
        try:
            while not self.enough.is_set():
                try:
                    self.work()
                    self.done += 1
                except (flight.FlightError, pa.ArrowException) as error:
                    self.slugs[refusal(error, codes=("UNAVAILABLE", "ABORTED")).slug] += 1
        except BaseException as error:
            self.error = error


class Scene:
    """A lake that is loaded, tidied up and read all at once."""

    def __init__(self, servers, age, steps):
        """`steps` are those of maintenance that are to be met."""
        self.servers, self.age, self.steps = servers, age, steps
        self.enough, self.changed = threading.Event(), threading.Condition()
        self.rounds, self.tidied = 0, Counter()  # of maintenance
        self.sent = self.stored = 0  # of what is upserted
        self.crowd = Crowd(servers, ROWS)

    def upsert(self):
        self.sent += 1
        rows = {"id": pa.array(range(IDS), pa.int64()), "v": pa.repeat(pa.scalar(self.sent, pa.int64()), IDS)}
        put(self.servers[self.sent % len(self.servers)], pa.table(rows), STATE, merge_keys="id")
        self.stored = self.sent

    def maintain(self):
        server = self.servers[self.rounds % len(self.servers)]
        self.age()
        server.run("MAINTAIN CATALOG lake")
        ((detail,),) = server.rows("SELECT last_detail FROM merganser_jobs() WHERE job = 'maintain lake'")
        told = {what: int(number) for what, number in re.findall(r"(\w+) (\d+) (?:row|file|snapshot|old)", detail)}
        assert {"flushed", "merged", "expired", "deleted"} <= told.keys(), detail
        self.tidied.update(told)
        with self.changed:
            self.rounds += 1
            self.changed.notify_all()

    def whole_run_passes(self):
        """Waits for a run of maintenance that begins from now on, and its end."""
        with self.changed:
            end = self.rounds + 2
            self.changed.wait_for(lambda: self.rounds >= end or self.enough.is_set(), timeout=60)

    def acknowledged(self):
        """The last unit of each loader that has been acknowledged."""
        return {loader.name: loader.number - 1 for loader in self.crowd.loaders}

    def check(self, found, before):
        """What a reader has found that began when those `before` were acknowledged."""
        for loader in self.crowd.loaders:
            units = sorted(unit for name, unit in found if name == loader.name)
            assert units == list(range(1, len(units) + 1)), f"{loader.name}: no prefix: {units}"
            assert before[loader.name] <= len(units) <= loader.number, f"{loader.name}: {len(units)} units"
            torn = {unit: found[loader.name, unit] for unit in units if found[loader.name, unit] != (loader.rows,) * 2}
            assert not torn, f"{loader.name}: {torn}"

    def count(self, server):
        before = self.acknowledged()
        self.check(stored(server), before)

    def stream(self, server):
        before, parts = self.acknowledged(), {}
        with flight.connect(server.uri) as client:
            reader = client.do_get(flight.Ticket(STREAM.encode()))
            for number in numbers():
                try:
                    batch = reader.read_chunk().data
                except StopIteration:
                    break
                for loader, unit, part in zip(*(batch[name].to_pylist() for name in ("loader", "unit", "part"))):
                    parts.setdefault((loader, unit), []).append(part)
                if number == 0:
                    self.whole_run_passes()
        self.check({unit: (len(there), len(set(there))) for unit, there in parts.items()}, before)

    def look(self, server):
        before = self.stored
        whole = "SELECT count(*), count(DISTINCT id), min(v)::BIGINT, max(v)::BIGINT FROM lake.state"
        ((rows, ids, first, last),) = server.rows(whole)
        assert (rows, ids, first) == (IDS, IDS, last) and before <= last <= self.sent

    def play(self):
        self.upsert()
        self.crowd.__enter__()
        self.crowd.wait_for(40)
        each = lambda read: [Worker(read, server) for server in self.servers]  # noqa: E731
        counts, streams, looks = each(self.count), each(self.stream) + each(self.stream), each(self.look)
        readers = [*counts, *streams, *looks]
        workers = [Worker(self.maintain), Worker(self.upsert), *readers]
        for worker in workers:
            worker.start()

        def met():
            failed = [worker.error for worker in workers if worker.error] or self.crowd.errors()
            tidy = all(self.tidied[step] for step in self.steps)
            read = all(reader.done >= ANSWERS / len(self.servers) for reader in (*counts, *looks))
            streamed = sum(stream.done + stream.slugs.total() for stream in streams) >= STREAMS
            return failed or (tidy and self.rounds >= ROUNDS and read and streamed)

        try:
            eventually(met, "all has been seen", 75)
        finally:
            self.enough.set()
            with self.changed:
                self.changed.notify_all()
            for worker in workers:
                worker.join()
            self.crowd.__exit__()
        for worker in workers:
            if worker.error:
                raise worker.error
        self.crowd.check()
        assert stored(self.servers[0]) == self.crowd.expected()
        refused = sum((reader.slugs for reader in readers), Counter())
        assert set(refused) <= {"FILES_GONE"}, refused


MAINTENANCE = '[catalog.maintenance]\nexpire_after = "1h"\ndelete_after = "1h"\nmerge_files = 10\n'


@pytest.mark.parametrize("servers", [1, 2])
def test_with_metadata_in_postgresql(lake, start, tmp_path, servers):
    options = lake.options(catalog=MAINTENANCE)
    servers = [start(tmp_path / f"{name}.db", *options) for name in "ab"[:servers]]

    Scene(servers, lambda: lake.age(last=KEPT), ["merged", "expired", "deleted"]).play()


def test_with_metadata_in_a_file(start, tmp_path):
    server = start(tmp_path / "a.db", *lake_of_files(tmp_path, MAINTENANCE))

    # Nobody else can open the file and make snapshots older, so that none expires.
    Scene([server], lambda: None, ["flushed", "merged"]).play()


WIDE, FILES = ("lake", "main", "wide"), 6


@pytest.fixture
def files(lake, start, database):
    """A server with a table of some files of a megabyte, and what merges them and deletes those, as maintenance would later."""
    server = start(database, *lake.options())
    for number in range(FILES):
        put(server, unit(number, 500).append_column("text", [[f"{part}" * 700 for part in range(500)]]), WIDE)
    old = lake.files("main/wide/")
    assert len(old) == FILES

    def delete():
        # By another program, because a server keeps what it has read itself.
        with lake.attached() as duck:
            duck.execute("CALL ducklake_merge_adjacent_files('lake', 'wide')")
        assert lake.files("main/wide/") > old
        for name in old:
            lake.remove(name)

    return server, delete


def test_a_read_whose_files_are_deleted_before_its_first_row_begins_anew(files, monkeypatch):
    server, delete = files
    get_object, asked = S3Response.get_object, threading.Lock()

    def get_late(self):
        # The first request waits until the file is gone; those of maintenance do not.
        if asked.acquire(blocking=False):
            delete()
        return get_object(self)

    monkeypatch.setattr(S3Response, "get_object", get_late)
    assert server.rows("SELECT count(*), sum(length(text)) > 0 FROM lake.wide") == [(FILES * 500, True)]
    assert asked.locked() and "a file of a lake is not there any more" in server.log.read_text()
