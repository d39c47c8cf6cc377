"""Ingest into a DuckLake whose metadata is in PostgreSQL and whose files are behind an S3 API; both are real."""

from harness import refused
from loaders import count, put, unit


def test_rows_are_in_the_lake_and_its_files_in_the_bucket(lake, start, database):
    server = start(database, *lake.options())
    ack = put(server, unit(1, 1000))
    assert (ack.rows, ack.duplicate) == (1000, False)
    assert count(server) == 1000
    assert len(lake.files("main/events/")) == 1
    server.stop()
    assert count(start(database, *lake.options())) == 1000


def test_a_key_is_committed_once_also_by_another_server(lake, start, tmp_path):
    first = start(tmp_path / "a.db", *lake.options())
    second = start(tmp_path / "b.db", *lake.options())
    ack = put(first, unit(1), key="a/1/1")
    assert not ack.duplicate
    again = put(second, unit(1), key="a/1/1")
    assert (again.duplicate, again.commit_id) == (True, ack.commit_id)
    assert not put(second, unit(2), key="a/1/2").duplicate
    assert put(first, unit(2), key="a/1/2").duplicate
    for key, slug in [("a/1/2", "KEY_REUSED"), ("a/1/4", "SEQ_GAP")]:
        refused(put, first, unit(9), key=key, slug=slug)
    assert count(first) == count(second) == 40
    listed = "SELECT catalog, loader, last_key, rows::BIGINT FROM merganser_ingest()"
    assert first.rows(listed) == second.rows(listed) == [("lake", "a", "a/1/2", 40)]


def test_the_commit_tells_the_loader_and_its_key(lake, start, database):
    server = start(database, *lake.options())
    put(server, unit(1), key="sensors/7/1")
    (told,) = server.rows(
        "SELECT author, commit_message, commit_extra_info->'keys'->>0 FROM lake.snapshots()"
        " ORDER BY snapshot_id DESC LIMIT 1"
    )
    assert told == ("merganser", "sensors/7/1", "sensors/7/1")


def test_time_travel_and_changes(lake, start, database):
    server = start(database, *lake.options())
    put(server, unit(1))
    (version,) = server.rows("SELECT max(snapshot_id) FROM lake.snapshots()")[0]
    put(server, unit(2))
    assert count(server) == 40
    assert count(server, f"lake.events AT (VERSION => {version})") == 20
    assert count(server, "lake.events AT (TIMESTAMP => now()::TIMESTAMP)") == 40
    changes = f"lake.table_changes('events', {version + 1}, {version + 1})"
    assert server.rows(f"SELECT change_type, count(*) FROM {changes} GROUP BY ALL") == [("insert", 20)]
