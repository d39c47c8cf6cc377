"""Loaders with keys that go on until every unit is acknowledged, whatever becomes of the servers meanwhile."""

import random
import threading
import time
from collections import Counter

import pyarrow as pa
import pyarrow.flight as flight

import wire
from harness import refusal

EVENTS = ("lake", "main", "events")
GONE = (flight.FlightUnavailableError, flight.FlightTimedOutError)


def unit(number, rows=20, loader="a"):
    """Rows that tell which unit they belong to."""
    return pa.table(
        {
            "loader": pa.repeat(loader, rows),
            "unit": pa.repeat(pa.scalar(number, pa.int64()), rows),
            "part": pa.array(range(rows), pa.int64()),
        }
    )


def put(server, table, path=EVENTS, key=None, **options):
    """Puts a table with pyarrow alone; gives the acknowledgement."""
    with flight.connect(server.uri) as client:
        return put_with(client, table, path, key, **options)


def put_with(client, table, path=EVENTS, key=None, **options):
    headers = [(b"x-merganser-ingest-key", key.encode())] if key else []
    headers += [(f"x-merganser-{name.replace('_', '-')}".encode(), value.encode()) for name, value in options.items()]
    call = flight.FlightCallOptions(headers=headers, timeout=60)
    writer, answers = client.do_put(flight.FlightDescriptor.for_path(*path), table.schema, call)
    writer.write_table(table)
    writer.done_writing()
    answer = answers.read()
    writer.close()  # raises what the server refused
    return wire.IngestAck.decode(answer.to_pybytes())


def count(server, table="lake.events"):
    return server.rows(f"SELECT count(*) FROM {table}")[0][0]


class Loader(threading.Thread):
    """Puts units of its own under keys, each until it is acknowledged, to one server and on failure to the next."""

    def __init__(self, crowd, name, rows):
        super().__init__(daemon=True)
        self.crowd, self.name, self.rows = crowd, name, rows
        self.number, self.error, self.slugs = 0, None, Counter()

    def run(self):
        try:
            at = hash(self.name)
            while not self.crowd.enough.is_set():
                self.number += 1
                at = self.put_somewhere(at)
                self.crowd.acknowledged()
        except BaseException as error:
            self.error = error
            self.crowd.acknowledged()

    def put_somewhere(self, at):
        table, key = unit(self.number, self.rows, self.name), f"{self.name}/1/{self.number}"
        end = time.monotonic() + 50
        while True:
            servers = self.crowd.servers
            try:
                ack = put(servers[at % len(servers)], table, self.crowd.path, key)
                assert (ack.rows, ack.sequence) == (self.rows, self.number)
                return at
            except (flight.FlightError, pa.ArrowException) as error:
                self.may_pass(error)
                assert time.monotonic() < end, f"unit {key} is not acknowledged: {error}"
            at += 1
            self.crowd.enough.wait(random.random() / 10)  # as loaders do between two tries

    def may_pass(self, error):
        """A server that is gone, or one that says that the same may succeed when it is sent again."""
        if isinstance(error, GONE) and ": " not in str(error).partition("with message: ")[2].partition(" ")[0]:
            self.slugs["gone"] += 1
            return
        status = refusal(error)
        assert status.code in ("UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED"), status
        self.slugs[status.slug] += 1


class Crowd:
    """Loaders at work on one table. `servers` may change meanwhile."""

    def __init__(self, servers, rows, path=EVENTS):
        self.servers, self.path = servers, path
        self.enough, self.changed, self.done = threading.Event(), threading.Condition(), 0
        self.loaders = [Loader(self, f"loader {at}", rows) for at, rows in enumerate(rows)]

    def __enter__(self):
        for loader in self.loaders:
            loader.start()
        return self

    def __exit__(self, *_):
        self.enough.set()
        for loader in self.loaders:
            loader.join()

    def acknowledged(self):
        with self.changed:
            self.done += 1
            self.changed.notify_all()

    def wait_for(self, units):
        """Returns when so many units more have been acknowledged."""
        with self.changed:
            end = self.done + units
            assert self.changed.wait_for(lambda: self.done >= end or self.errors(), timeout=50), "nothing goes on"
        self.check()

    def refusals(self):
        return sum(loader.slugs.total() for loader in self.loaders)

    def errors(self):
        return [(loader.name, loader.number, loader.error) for loader in self.loaders if loader.error]

    def check(self):
        assert not self.errors(), self.errors()

    def expected(self):
        """Loader, unit, rows, and how many of these differ, of all units that are acknowledged."""
        return {(it.name, number): (it.rows, it.rows) for it in self.loaders for number in range(1, it.number + 1)}


def stored(server, table="lake.events"):
    """What is there, as `Crowd.expected` has it."""
    found = server.rows(f"SELECT loader, unit, count(*), count(DISTINCT part) FROM {table} GROUP BY ALL")
    return {(loader, number): (rows, parts) for loader, number, rows, parts in found}
