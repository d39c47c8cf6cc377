"""A lake has its place for itself: the start refuses what lies there, and maintenance deletes nothing that is not the lake's."""

import os
import time
from itertools import count as numbers

import duckdb
import pytest

from extensions import extension_folder
from harness import refused, run_to_exit
from lake import EXTENSIONS
from loaders import count, put, unit

ORPHAN = "main/events/ducklake-01a21ce2-0498-7d89-a955-08e842d49755.parquet"
AN_HOUR = '[catalog.maintenance]\ndelete_after = "1h"\n'


def detail(server, lake="lake"):
    (row,) = server.rows(f"SELECT last_outcome, last_detail FROM merganser_jobs() WHERE job = 'maintain {lake}'")
    return row


def snapshots(server):
    return server.rows("SELECT count(*) FROM lake.snapshots()")


@pytest.mark.parametrize("foreign", ["readings/2024/x.parquet", f"other/{ORPHAN}", "main/events/x.parquet"])
def test_maintenance_deletes_no_files_of_others(lake, start, database, foreign):
    """Those of a source, of another lake, and of an export."""
    server = start(database, *lake.options(catalog=AN_HOUR))
    for number in range(3):
        put(server, unit(number), key=f"a/1/{number + 1}")
    for name in (foreign, ORPHAN):
        lake.upload(name)
    lake.storage.age(lake.database)
    error = refused(server.run, "MAINTAIN CATALOG lake", codes="FAILED_PRECONDITION", slug="NOT_ORPHANS")
    assert "no orphans of lake were deleted, because 1 Parquet files" in error.text and foreign not in error.text
    outcome, told = detail(server)
    assert outcome == "failed" and "1 Parquet files" in told and foreign not in told
    assert {foreign, ORPHAN} <= lake.files()
    assert f"{lake.data_path}{foreign}" in server.log.read_text(), "the operator learns of one"
    assert server.rows("SELECT count(*) FROM ducklake_list_files('lake', 'events')") == [(1,)], "all else is done"
    # As long as it lies there, each run tells so, and writes nothing once it has seen what the first one has changed.
    refused(server.run, "MAINTAIN CATALOG lake", slug="NOT_ORPHANS")
    before = snapshots(server)
    for _ in range(2):
        refused(server.run, "MAINTAIN CATALOG lake", slug="NOT_ORPHANS")
    assert snapshots(server) == before
    lake.remove(foreign)
    server.run("MAINTAIN CATALOG lake")
    assert ORPHAN not in lake.files()
    outcome, told = detail(server)
    assert outcome == "done" and "1 orphaned file," in told
    assert count(server) == 60


@pytest.fixture
def local(tmp_path):
    """Options of a server with a lake on this machine, and what else is in its configuration."""
    extensions = extension_folder(tmp_path / "extensions", *EXTENSIONS)
    names = numbers()

    def options(text):
        file = tmp_path / f"{next(names)}.toml"
        file.write_text(text.replace("{tmp}", str(tmp_path)))
        return ["--config", file, "--extension-directory", extensions]

    return options


def a_lake(data_path=None, name="lake", more=""):
    where = f'data_path = "{data_path}"\n' if data_path else ""
    return f'[[catalog]]\nname = "{name}"\ntype = "ducklake"\nmetadata = "{{tmp}}/{name}.ducklake"\n{where}{more}\n'


def a_source(path, more=""):
    return f'[[source]]\nname = "readings"\nformat = "parquet"\npath = "{path}"\n{more}\n'


def make_old(folder):
    long_ago = time.time() - 48 * 3600
    for file in folder.rglob("*.parquet"):
        os.utime(file, (long_ago, long_ago))


@pytest.mark.parametrize("path", ["~/files", "{tmp}//files", "file://{tmp}/files", "{tmp}/files"])
def test_files_in_use_are_no_orphans_however_the_data_path_is_written(local, start, database, tmp_path, path):
    options = local(a_lake(path, more=AN_HOUR))
    server = start(database, *options, environment={"HOME": str(tmp_path)})
    server.run("CREATE TABLE lake.t AS FROM range(10000)")
    make_old(tmp_path / "files")
    if path == "{tmp}/files":
        server.run("MAINTAIN CATALOG lake")
    else:
        assert "1 are in use" in refused(server.run, "MAINTAIN CATALOG lake", slug="NOT_ORPHANS").text
    assert server.rows("SELECT count(*) FROM lake.t") == [(10_000,)]


EXPORTS = 'export_directories = ["{}"]\n'


@pytest.mark.parametrize(
    "text, other",
    [
        (a_lake("s3://b/lake/") + a_source("s3://b/lake/readings/*/*.parquet"), 'the source "readings"'),
        (a_lake("s3://b/lake") + a_source("s3://b/lake/x.parquet"), 'the source "readings"'),
        (a_lake("s3://b") + a_source("s3a://b/readings/*.parquet"), 'the source "readings"'),
        (a_lake("gs://b/lake/") + a_source("gcs://b/lake/*.parquet"), 'the source "readings"'),
        (a_lake("r2://b/lake/") + a_source("r2://b/lake/*.parquet"), 'the source "readings"'),
        (a_lake("{tmp}/lake") + a_source("{tmp}/x/../lake/new/*.parquet"), 'the source "readings"'),
        (EXPORTS.format("s3://b/lake/published/") + a_lake("s3://b/lake/"), "the export directory s3://b/lake/published/"),
        (EXPORTS.format("{tmp}/x") + a_lake("{tmp}/x"), "the export directory"),
        (EXPORTS.format("s3://b/") + a_lake("s3://b/lake/"), "it lies in the export directory s3://b/"),
        (EXPORTS.format("{tmp}/x") + a_lake("{tmp}/x/lake"), "it lies in the export directory {tmp}/x"),
        (EXPORTS.format("{tmp}/x") + a_lake("{tmp}/x/l", more="read_only = true"), "it lies in the export directory {tmp}/x"),
        (a_lake("s3://b/lake/") + a_lake("s3://b/lake/inner/", "inner"), 'the data_path of "inner"'),
        (a_lake("s3://b/lake/inner", "inner") + a_lake("s3://b/lake"), 'the data_path of "inner"'),
        (a_lake("s3://b/lake/") + a_lake("s3://b/lake", "twin"), 'the data_path of "twin"'),
        (a_lake("s3://b/lake/") + a_lake("s3://b/lake/inner/", "inner", "read_only = true"), 'the data_path of "inner"'),
    ],
)
def test_what_lies_where_a_lake_is_stops_the_start(local, tmp_path, text, other):
    (tmp_path / "x").mkdir()
    ended = run_to_exit("--database", tmp_path / "db.duckdb", *local(text))
    assert ended.returncode == 64, ended
    assert f'catalog.data_path: of "lake" is not the lake\'s alone: {other.format(tmp=tmp_path)}' in ended.stderr, ended.stderr
    assert "prefix of its own" in ended.stderr


@pytest.fixture
def files(tmp_path):
    """A lake whose metadata know where its files are, with a file of others there."""
    with duckdb.connect() as duck:
        folder = extension_folder(tmp_path / "extensions", *EXTENSIONS)
        duck.execute(f"LOAD '{folder}/ducklake.duckdb_extension'")
        duck.execute(f"ATTACH 'ducklake:{tmp_path}/lake.ducklake' AS lake (DATA_PATH '{tmp_path}/files')")
        duck.execute("CREATE TABLE lake.t AS FROM range(10000)")
    (tmp_path / "files/readings").mkdir()
    duckdb.sql(f"COPY (SELECT 42 AS x) TO '{tmp_path}/files/readings/x.parquet'")
    return tmp_path / "files"


def test_what_lies_where_a_lake_says_that_it_is_stops_the_start_too(local, start, database, files):
    readings = a_source("{tmp}/files/readings/*.parquet")
    ended = run_to_exit("--database", database, *local(a_lake() + readings))
    assert ended.returncode == 1, ended
    assert 'catalog lake: its data_path is not the lake\'s alone: the source "readings"' in ended.stderr, ended.stderr
    ended = run_to_exit("--database", database, *local(a_lake() + a_lake("{tmp}/files/inner", "inner")))
    assert ended.returncode == 1 and 'the data_path of "inner"' in ended.stderr, ended
    # Or the lake is left out, where it is not required.
    server = start(database, *local(a_lake(more="required = false") + readings))
    assert server.rows("FROM readings") == [(42,)]
    refused(server.run, "FROM lake.t")
    assert "a catalog cannot be attached" in server.log.read_text()


@pytest.mark.parametrize("options", [["--read-only"], []])
def test_a_lake_that_is_not_maintained_is_no_danger(local, start, files, tmp_path, options):
    lake = a_lake("{tmp}/files", more="" if options else "read_only = true")
    server = start(":memory:", *local(lake + a_source("{tmp}/files/readings/*.parquet")), *options)
    assert server.rows("SELECT (FROM readings), (SELECT count(*) FROM lake.t)") == [(42, 10_000)]


def test_neither_is_what_lies_beside_it(local, start, database, tmp_path):
    (tmp_path / "lake2").mkdir()
    duckdb.sql(f"COPY (SELECT 42 AS x) TO '{tmp_path}/lake2/x.parquet'")
    text = EXPORTS.format("{tmp}/lake2") + a_lake("{tmp}/lake") + a_lake("{tmp}/lake3", "other") + a_source("{tmp}/lake2/*")
    server = start(database, *local(text))
    assert server.rows("FROM readings") == [(42,)]
