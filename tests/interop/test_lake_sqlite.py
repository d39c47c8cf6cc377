"""A lake whose metadata are in a file of SQLite, where times are texts."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest

from client import Client
from configuration import ducklake
from extensions import extension_folder
from harness import refused
from loaders import count, put, unit

AGES = '[catalog.maintenance]\nexpire_after = "1h"\ndelete_after = "1h"\n'
ORPHAN = "ducklake-01a21ce2-0498-7d89-a955-08e842d49755.parquet"
ROWS = "SELECT count(*) FROM lake.t"
SNAPSHOTS = "SELECT list(snapshot_id ORDER BY snapshot_id) FROM lake.snapshots()"
# Zones in which a moment of UTC may have the date before its own, or the one after it.
ZONES = [timezone(timedelta(hours=hours)) for hours in (-12, -5, 0, 14)]


class Metadata:
    """The file, as another program sees it."""

    def __init__(self, path):
        self.path = path

    def run(self, sql, *values):
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(sql, values).fetchall()

    def age_snapshots(self, zone=UTC, **age):
        """Makes all but the newest as old as this."""
        newest = "snapshot_id < (SELECT max(snapshot_id) FROM ducklake_snapshot)"
        self.run(f"UPDATE ducklake_snapshot SET snapshot_time = ? WHERE {newest}", ago(zone, **age))

    def age_files(self, zone=UTC, **age):
        """Has the deletion of files scheduled so long ago."""
        self.run("UPDATE ducklake_files_scheduled_for_deletion SET schedule_start = ?", ago(zone, **age))

    def scheduled(self):
        """How many files are to be deleted."""
        [(number,)] = self.run("SELECT count(*) FROM ducklake_files_scheduled_for_deletion")
        return number


def ago(zone, **age):
    """A moment as DuckLake writes it there."""
    moment = datetime.now(zone) - timedelta(**age)
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}{str(moment)[-6:-3]}"


@pytest.fixture
def metadata(tmp_path):
    return Metadata(tmp_path / "lake.sqlite")


@pytest.fixture
def server(start, tmp_path, metadata):
    """A server with such a lake, which has a table of three files and a list of what is deleted of one."""
    extensions = extension_folder(tmp_path / "extensions", "sqlite_scanner", "ducklake")
    file = tmp_path / "lake.toml"
    file.write_text(ducklake(f"sqlite:{metadata.path}", f"{tmp_path}/files/", more=AGES))
    server = start(tmp_path / "a.db", "--config", file, "--extension-directory", extensions)
    server.run("CREATE TABLE lake.t AS SELECT 1 AS i")
    for row in (2, 3):
        server.run(f"INSERT INTO lake.t VALUES ({row})")
    server.run("DELETE FROM lake.t WHERE i = 1")
    return server


@pytest.fixture
def files(tmp_path):
    """Lists those of its table."""
    return lambda: {path.name for path in (tmp_path / "files/main/t").iterdir()}


@pytest.mark.parametrize("zone", ZONES, ids=str)
def test_maintenance_takes_nothing_that_is_younger_than_asked(server, metadata, files, zone):
    metadata.age_snapshots(zone, minutes=30)
    [(snapshots,)] = server.rows(SNAPSHOTS)
    before = files()
    server.run("MAINTAIN CATALOG lake")
    assert metadata.scheduled() > 0, "the merge has left files"
    metadata.age_files(zone, minutes=30)
    server.run("MAINTAIN CATALOG lake")
    [(kept,)] = server.rows(SNAPSHOTS)
    assert set(snapshots) <= set(kept)
    assert before <= files()
    for version in snapshots[1:]:
        server.rows(f"FROM lake.t AT (VERSION => {version})")


@pytest.mark.parametrize("zone", ZONES, ids=str)
def test_maintenance_takes_what_is_old(server, metadata, files, zone):
    server.run("MAINTAIN CATALOG lake")
    metadata.age_snapshots(zone, minutes=90)
    newest = server.rows("SELECT max(snapshot_id) FROM lake.snapshots()")
    server.run("MAINTAIN CATALOG lake")
    assert server.rows("SELECT min(snapshot_id) FROM lake.snapshots()") == newest
    before = files()
    metadata.age_files(zone, days=3, hours=1)
    server.run("MAINTAIN CATALOG lake")
    assert metadata.scheduled() == 0
    assert len(files()) < len(before)
    assert server.rows("SELECT list(i ORDER BY i) FROM lake.t") == [([2, 3],)]


def test_orphans_go_by_the_time_of_their_file(server, tmp_path):
    orphan = tmp_path / "files/main/t" / ORPHAN
    orphan.write_bytes(b"x")
    server.run("MAINTAIN CATALOG lake")
    assert orphan.exists()
    hour = datetime.now(UTC).timestamp() - timedelta(minutes=61).total_seconds()
    os.utime(orphan, (hour, hour))
    server.run("CREATE TABLE lake.u AS SELECT 1 AS i")
    server.run("MAINTAIN CATALOG lake")
    assert not orphan.exists()


def test_a_commit_does_not_wait_for_a_transaction_that_reads(server):
    with Client(server.uri) as client:
        transaction = client.begin()
        assert client.one(ROWS, transaction) == 2
        assert put(server, unit(1), key="a/1/1").rows == 20
        server.run("INSERT INTO lake.t VALUES (4)")
        assert client.one(ROWS, transaction) == 2
        client.commit(transaction)
    assert (count(server), server.rows(ROWS)) == (20, [(3,)])


def test_a_transaction_that_others_came_before_is_told_so_and_locks_nobody_out(server):
    with Client(server.uri) as client:
        transaction = client.begin()
        client.update("INSERT INTO lake.t VALUES (4)", transaction)
        assert put(server, unit(1), key="a/1/1").rows == 20
        refused(client.commit, transaction, codes="ABORTED", slug="CONFLICT")
    assert server.rows(ROWS) == [(2,)]
    server.run("INSERT INTO lake.t VALUES (4)")
    put(server, unit(2), key="a/1/2")
    assert (count(server), server.rows(ROWS)) == (40, [(3,)])
