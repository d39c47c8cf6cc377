"""Many loaders and many readers at once: exact counts, whole units, no errors."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import workers
from harness import refused
from workers import put, unit

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

# (units, rows a unit) of eight loaders: small puts, the smallest, and uploads too large to be queued
LOADERS = [(60, 1000)] * 4 + [(100, 1)] * 3 + [(3, 250_000)]
READERS = 4


def test_eight_loader_processes_and_four_readers(server):
    server.put(unit(0, 0, 1).slice(0, 0), "units")  # so that readers find the table from the start
    spawn = multiprocessing.get_context("spawn")
    processes = len(LOADERS) + READERS
    barrier, loaders_done = spawn.Barrier(processes), spawn.Event()
    with ProcessPoolExecutor(processes, spawn, workers.start_together, (barrier, loaders_done)) as pool:
        loaders = [
            pool.submit(workers.load, server.uri, number, units, size) for number, (units, size) in enumerate(LOADERS)
        ]
        readers = [pool.submit(workers.read, server.uri) for _ in range(READERS)]
        try:
            for loader in loaders:
                loader.result()
        finally:
            loaders_done.set()
        seen_by_reader = [reader.result() for reader in readers]

    for number, (units, size) in enumerate(LOADERS):
        assert server.rows(
            f"SELECT count(*), count(DISTINCT unit), sum(value)::BIGINT FROM units WHERE loader = {number}"
        ) == [(units * size, units, units * size * (size - 1) // 2)]
    for answers in seen_by_reader:
        assert len(answers) > 1
        for size in {size for _, size in LOADERS}:
            rows = [answer.get(size, (0, 0))[0] for answer in answers]
            assert rows == sorted(rows)
            assert [count % size for count in rows] == [0] * len(rows)
        assert {broken for answer in answers for _, broken in answer.values()} <= {0}


def test_updates_of_one_row_from_many_connections_never_conflict(server):
    server.run("CREATE TABLE counter AS SELECT 0 AS n")

    def count(_):
        with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
            for _ in range(20):
                cursor.execute("UPDATE counter SET n = n + 1")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert server.rows("FROM counter") == [(160,)]


def test_updates_and_loaders_of_one_table_never_conflict(server):
    server.put(unit(0, 0, 1000), "units")

    def load(loader):
        with flight.connect(server.uri) as client:
            for number in range(20):
                put(client, unit(loader, number, 10))

    with ThreadPoolExecutor(4) as pool:
        loaders = [pool.submit(load, loader) for loader in range(1, 5)]
        updates = 0
        while updates < 5 or not all(loader.done() for loader in loaders):
            server.run("UPDATE units SET value = value + 1 WHERE loader = 0")
            updates += 1
        for loader in loaders:
            loader.result()
    assert server.rows("SELECT count(*), min(value)::BIGINT FROM units WHERE loader = 0") == [(1000, updates)]
    assert server.rows("SELECT count(*) FROM units WHERE loader > 0") == [(4 * 20 * 10,)]


def test_a_long_write_does_not_hold_up_the_loaders(server):
    data, slowest = unit(0, 0, 1), 0.0
    server.put(data, "units")
    with ThreadPoolExecutor(1) as pool:
        begin = time.monotonic()
        write = pool.submit(
            server.run, "CREATE TABLE long AS SELECT max(sha256(i::VARCHAR)) AS h FROM range(5000000) t(i)"
        )
        while not write.done():
            before = time.monotonic()
            server.put(data, "units")
            slowest = max(slowest, time.monotonic() - before)
        write.result()
        took = time.monotonic() - begin
    assert took > 1, "the write was too short to tell"
    assert slowest < took / 2


def test_a_bad_loader_fails_alone(server):
    server.run(
        "CREATE TABLE units (loader BIGINT, unit BIGINT, size BIGINT, value DOUBLE, category VARCHAR, k BIGINT UNIQUE)"
    )

    def load(loader):
        with flight.connect(server.uri) as client:
            for number in range(30):
                data = unit(loader, number, 10)
                keys = pa.array([(loader * 1000 + number) * 10 + i for i in range(10)])
                if loader == 0:  # the last row of every unit is a duplicate within it
                    keys = pa.concat_arrays([keys[:9], keys[:1]])
                    refused(put, client, data.append_column("k", keys), codes="ALREADY_EXISTS")
                else:
                    put(client, data.append_column("k", keys))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(load, range(6)))
    assert server.rows("SELECT loader, count(*) FROM units GROUP BY ALL ORDER BY ALL") == [
        (loader, 300) for loader in range(1, 6)
    ]
