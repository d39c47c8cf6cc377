"""Iceberg tables as sources: written by PyIceberg, on disk and behind an S3 API."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import StringType

from extensions import extension_folder
from harness import refused, run_to_exit
from object_storage import KEY_ID, SECRET, Storage

ROWS = pa.table({"id": [1, 2, 3], "kind": ["a", "b", "a"]})
NEW_ROWS = pa.table({"id": [4], "kind": ["c"]})


@pytest.fixture
def warehouse(tmp_path):
    """A catalog in SQLite, whose tables are in a folder."""
    catalog = SqlCatalog("local", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("sales")
    return catalog


def events(catalog):
    table = catalog.create_table("sales.events", schema=ROWS.schema)
    table.append(ROWS)
    return table


def folder(table):
    return table.location().removeprefix("file://")


def version(table):
    """What the metadata file of now is called, without its end."""
    return table.metadata_location.rpartition("/")[2].removesuffix(".metadata.json")


def write_hint(table):
    """What the writers of some engines do with each commit, and PyIceberg does not."""
    (Path(folder(table)) / "metadata/version-hint.text").write_text(version(table))


def source(path, more=""):
    return f'[[source]]\nname = "events"\nformat = "iceberg"\npath = "{path}"\n{more}\n'


@pytest.fixture
def configured(tmp_path):
    """Options of a server with a configuration file of this text."""

    def options(text):
        file = tmp_path / "merganser.toml"
        file.write_text(text)
        return ["--config", file, "--extension-directory", extension_folder(tmp_path / "ext", "httpfs", "avro", "iceberg")]

    return options


def ids(server):
    return [id for (id,) in server.rows("SELECT id FROM events ORDER BY id")]


def test_a_table_with_a_hint_is_read_as_it_is_when_a_query_begins(warehouse, configured, start):
    table = events(warehouse)
    write_hint(table)
    server = start(":memory:", "--read-only", *configured(source(folder(table))))
    assert server.rows("SELECT kind, count(*) FROM events GROUP BY kind ORDER BY kind") == [("a", 2), ("b", 1)]
    table.append(NEW_ROWS)
    assert ids(server) == [1, 2, 3]  # the hint is what counts
    write_hint(table)
    # A plan of before goes on for a second at the most; other texts are other plans.
    assert server.rows("SELECT id, kind FROM events WHERE id > 3") == [(4, "c")]
    table.delete("id = 1")
    write_hint(table)
    assert server.rows("SELECT min(id), count(*) FROM events") == [(2, 3)]
    with table.update_schema() as change:
        change.add_column("note", StringType())
    write_hint(table)
    assert server.rows("SELECT DISTINCT note FROM events") == [(None,)]


def test_the_newest_metadata_is_found_where_that_is_asked_for(warehouse, configured, start):
    table = events(warehouse)
    server = start(":memory:", *configured(source(folder(table), 'options = { version = "?" }')))
    assert ids(server) == [1, 2, 3]
    table.append(NEW_ROWS)
    assert server.rows("SELECT max(id) FROM events") == [(4,)]


def test_a_metadata_file_is_a_table_that_stays_as_it_is(warehouse, configured, start):
    table = events(warehouse)
    server = start(":memory:", *configured(source(table.metadata_location)))
    table.append(NEW_ROWS)
    assert ids(server) == [1, 2, 3]
    refused(server.run, "INSERT INTO sources.events VALUES (5, 'd')")


def test_what_cannot_be_read_stops_the_start_or_is_left_out(warehouse, configured, start, tmp_path):
    unknown = events(warehouse)
    for path in (f"{tmp_path}/nothing", folder(unknown)):
        ended = run_to_exit("--database", ":memory:", *configured(source(path)))
        assert ended.returncode == 1 and "source events" in ended.stderr
        assert "There is no Iceberg table in that folder, or its writer keeps no version-hint.text" in ended.stderr
    server = start(":memory:", *configured(source(f"{tmp_path}/nothing", "required = false")))
    refused(server.run, "FROM events", slug="NOT_FOUND")
    server.stop()
    assert "a source cannot be read" in server.log.read_text()


def test_a_table_in_object_storage(configured, start, tmp_path):
    storage = Storage()
    catalog = SqlCatalog(
        "remote", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"s3://{storage.bucket}/warehouse",
        **{
            "s3.endpoint": f"http://{storage.endpoint}", "s3.region": "us-east-1",
            "s3.access-key-id": KEY_ID, "s3.secret-access-key": SECRET,
        },
    )  # fmt: skip
    catalog.create_namespace("sales")
    table = events(catalog)
    by_folder = source(table.location(), 'options = { version = "?" }')
    by_file = source(table.metadata_location).replace('"events"', '"first"')
    server = start(":memory:", "--read-only", *configured(storage.secret() + by_folder + by_file))
    assert ids(server) == [1, 2, 3]
    table.append(NEW_ROWS)
    assert server.rows("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM first)") == [(4, 3)]
    server.stop()
    assert SECRET not in server.log.read_text()
    storage.stop()
