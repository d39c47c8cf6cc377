"""A ledger as servers before wrote it, with a column for each value of a unit."""

import duckdb
import pyarrow.flight as flight
import pytest

from configuration import lake_of_files
from extensions import extension_directory
from harness import refused
from loaders import put, unit

LEDGER = "SELECT * EXCLUDE (duplicates, failures, lag_ms) FROM merganser_ingest() ORDER BY loader"
# Turns today's ledger into one of then.
TURN_BACK = """
BEGIN;
CREATE TABLE __merganser.ingest_ledger (
    loader VARCHAR NOT NULL, epoch UBIGINT NOT NULL, sequence UBIGINT NOT NULL, table_name VARCHAR NOT NULL,
    rows UBIGINT NOT NULL, hash_high UBIGINT NOT NULL, hash_low UBIGINT NOT NULL, commit_id UBIGINT NOT NULL,
    total_rows UBIGINT NOT NULL, total_units UBIGINT NOT NULL, committed_at TIMESTAMP WITH TIME ZONE NOT NULL
);
INSERT INTO __merganser.ingest_ledger BY NAME
SELECT
    loader, sequence, commit_id, committed_at,
    (unit->>'epoch')::UBIGINT AS epoch,
    unit->>'table' AS table_name,
    (unit->>'rows')::UBIGINT AS rows,
    ('0x' || (unit->>'hash')[:16])::UBIGINT AS hash_high,
    ('0x' || (unit->>'hash')[17:])::UBIGINT AS hash_low,
    (unit->>'total_rows')::UBIGINT AS total_rows,
    (unit->>'total_units')::UBIGINT AS total_units
FROM __merganser.ingest_units;
DROP TABLE __merganser.ingest_units;
COMMIT;
"""
EVENTS = ("events",)
LAKE_EVENTS = ("lake", "main", "events")


@pytest.fixture
def of_then(start, database):
    """A database of then, with what its ledger says."""
    server = start(database)
    for loader in "ab":
        for number in range(1, 6):
            put(server, unit(number, loader=loader), EVENTS, key=f"{loader}/3/{number}")
    said = server.rows(LEDGER)
    server.stop()
    with duckdb.connect(str(database)) as connection:
        connection.execute(TURN_BACK)
    return database, said


def test_what_was_committed_then_is_known_today(start, of_then):
    database, said = of_then
    server = start(database)
    assert server.rows(LEDGER) == said
    again = put(server, unit(2), EVENTS, key="a/3/2")
    assert (again.duplicate, again.rows) == (True, 20)
    refused(put, server, unit(9), EVENTS, key="a/3/2", slug="KEY_REUSED")
    assert not put(server, unit(6), EVENTS, key="a/3/6").duplicate
    server.kill()
    server = start(database)
    assert put(server, unit(6), EVENTS, key="a/3/6").duplicate
    assert server.rows("SELECT count(*) FROM events") == [(220,)]


def test_a_database_of_then_can_be_read_only(start, of_then):
    database, _ = of_then
    server = start(database, "--read-only")
    assert server.rows("SELECT count(*) FROM events") == [(200,)]
    assert server.rows(LEDGER) == []


def test_that_of_a_lake_is_known_as_well(start, database, tmp_path):
    options = lake_of_files(tmp_path)
    server = start(database, *options)
    for number in range(1, 6):
        put(server, unit(number), LAKE_EVENTS, key=f"a/3/{number}")
    said = server.rows(LEDGER)
    server.stop()
    [extension] = extension_directory("ducklake").rglob("ducklake.duckdb_extension")
    with duckdb.connect(config={"allow_unsigned_extensions": "true"}) as connection:
        connection.execute(f"LOAD '{extension}'; ATTACH 'ducklake:{tmp_path}/lake.ducklake' AS lake; USE lake")
        connection.execute(TURN_BACK)
    server = start(database, *options)
    assert put(server, unit(2), LAKE_EVENTS, key="a/3/2").duplicate
    assert server.rows(LEDGER) == said
    assert not put(server, unit(6), LAKE_EVENTS, key="a/3/6").duplicate
    assert server.rows("SELECT count(*) FROM lake.events") == [(120,)]
