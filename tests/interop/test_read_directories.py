"""What statements may read, where the operator limits it."""

from functools import partial
from http.server import SimpleHTTPRequestHandler

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from client import eventually
from extensions import extension_folder
from harness import CLIENT, refused, run_to_exit
from loaders import count, put, unit
from programs import output
from web import serving

HERE = "read_directories"


@pytest.fixture
def folders(tmp_path):
    """Three folders with rows, and a secret in none of them."""
    for name in ("open", "source", "other", "out"):
        (tmp_path / name).mkdir()
        duckdb.sql(f"COPY (SELECT 42 AS x) TO '{tmp_path}/{name}/part-1.parquet'")
        duckdb.sql(f"COPY (SELECT 42 AS x) TO '{tmp_path}/{name}/rows.csv'")
        arrow = pa.table({"x": [42]})
        with pa.ipc.new_file(tmp_path / name / "rows.arrow", arrow.schema) as file:
            file.write_table(arrow)
    (tmp_path / "secret.txt").write_text("a value")
    return tmp_path


def limited(start, folders, *options, more=""):
    file = folders / "merganser.toml"
    file.write_text(f"""
read_directories = ["{folders}/open"]
export_directories = ["{folders}/out"]

[[source]]
name = "parts"
format = "parquet"
path = "{folders}/source/part-*.parquet"

[[source]]
name = "one"
format = "arrow"
path = "{folders}/source/rows.arrow"
{more}""")
    return start(folders / "db.duckdb", "--config", file, *options)


def forbidden(server, sql):
    with pytest.raises(flight.FlightUnauthorizedError, match="PERMISSION: Permission Error") as told:
        server.run(sql)
    return str(told.value)


def test_statements_read_there_and_what_is_declared(start, folders):
    server = limited(start, folders)
    for rows in (f"'{folders}/open/part-*.parquet'", f"'{folders}/open/rows.csv'", "parts", "one",
                 f"read_arrow('{folders}/open/rows.arrow')", f"'{folders}/source/part-1.parquet'",
                 f"'{folders}/out/rows.csv'"):  # fmt: skip
        assert server.rows(f"SELECT x FROM {rows}") == [(42,)], rows


def test_nothing_else_however_it_is_written(start, folders):
    server = limited(start, folders)
    (folders / "open" / "link.csv").symlink_to(folders / "other" / "rows.csv")
    (folders / "open" / "way").symlink_to(folders / "other")
    for path in ("other/rows.csv", "other/part-1.parquet", "open/../other/rows.csv", "open/link.csv", "open/way/rows.csv",
                 "other/*.csv", "*/rows.csv"):  # fmt: skip
        assert HERE in forbidden(server, f"FROM '{folders}/{path}'"), path
    for call in (f"read_text('{folders}/secret.txt')", f"read_blob('{folders}/merganser.toml')",
                 "read_text('/proc/self/environ')", f"glob('{folders}/*')", f"read_csv('{folders}/other/rows.csv')",
                 f"read_arrow('{folders}/other/rows.arrow')", f"parquet_metadata('{folders}/other/part-1.parquet')",
                 f"sniff_csv('{folders}/other/rows.csv')"):  # fmt: skip
        assert HERE in forbidden(server, f"FROM {call}"), call
    server.run("CREATE TABLE t (x BIGINT)")
    assert HERE in forbidden(server, f"COPY t FROM '{folders}/other/rows.csv'")
    assert HERE in forbidden(server, f"ATTACH '{folders}/other/new.duckdb' AS other")
    assert HERE in forbidden(server, f"CREATE VIEW v AS FROM '{folders}/other/rows.csv'")
    for setting in ("enable_external_access = true", f"allowed_directories = ['{folders}']", f"allowed_paths = ['{folders}']"):
        with pytest.raises(pa.ArrowException):
            server.run(f"SET GLOBAL {setting}")
    assert server.rows("SELECT count(*) FROM t") == [(0,)]


def test_writing_goes_on_as_ever(start, folders):
    server = limited(start, folders)
    put(server, unit(1), ["units"], key="a/1/1")
    server.run("CHECKPOINT")
    server.run(f"COPY units TO '{folders}/out/units.parquet'")
    assert count(server, f"'{folders}/out/units.parquet'") == 20
    server.run(f"BACKUP DATABASE TO '{folders}/out/backup.duckdb'")
    assert HERE in forbidden(server, f"BACKUP DATABASE TO '{folders}/other/backup.duckdb'")
    server.kill()
    server = limited(start, folders)
    assert put(server, unit(1), ["units"], key="a/1/1").duplicate
    assert count(server, "units") == 20
    forbidden(server, f"FROM read_text('{folders}/secret.txt')")


def test_none_named_is_nothing_but_what_is_declared(start, folders):
    file = folders / "merganser.toml"
    file.write_text(f"""
read_directories = []
[[source]]
name = "parts"
format = "parquet"
path = "{folders}/source/part-1.parquet"
""")
    server = start(":memory:", "--config", file)
    assert server.rows("FROM parts") == [(42,)]
    forbidden(server, f"FROM '{folders}/open/rows.csv'")
    refused(server.run, "LOAD spatial", slug="NOT_ALLOWED")


LATE = """
[[catalog]]
name = "late"
type = "duckdb"
path = "{folders}/late.duckdb"
required = false
"""


def test_a_catalog_that_comes_late_is_written_and_checkpointed(start, folders):
    (folders / "late.duckdb").write_text("no database yet")
    server = limited(start, folders, more=LATE.format(folders=folders))
    with pytest.raises(pa.ArrowException):
        server.run("CREATE TABLE late.t AS SELECT 42 AS x")
    (folders / "late.duckdb").unlink()
    duckdb.connect(folders / "late.duckdb").close()

    def is_there():
        return server.rows("SELECT count(*) FROM duckdb_databases() WHERE database_name = 'late'") == [(1,)]

    eventually(is_there, "the catalog comes", 60)
    server.run("CREATE TABLE late.t AS SELECT 42 AS x")
    server.run("CHECKPOINT late")
    server.run("INSERT INTO late.t VALUES (43)")
    server.run("CHECKPOINT late")
    assert server.rows("FROM late.t ORDER BY x") == [(42,), (43,)]


@pytest.mark.parametrize("data", ["", 'data_path = "{folders}/rows/of/it"\n'])
def test_a_lake_on_this_machine_makes_its_folder(start, folders, data):
    extensions = extension_folder(folders / "extensions", "ducklake")
    lake = f'[[catalog]]\nname = "lake"\ntype = "ducklake"\nmetadata = "{folders}/lake.ducklake"\n'
    options = dict(more=lake + data.format(folders=folders))
    for _ in range(2):
        server = limited(start, folders, "--extension-directory", extensions, **options)
        server.run("CREATE OR REPLACE TABLE lake.t AS FROM range(100000)")
        assert count(server, "lake.t") == 100_000
        assert HERE in forbidden(server, f"FROM read_text('{folders}/secret.txt')")
        server.stop()


QUERY = """
[[query]]
name = "wrong"
sql = "SELECT x FROM '{folders}/other/rows.csv'"
"""


def test_a_query_over_other_files_stops_the_start(start, folders):
    limited(start, folders).stop()
    with (folders / "merganser.toml").open("a") as file:
        file.write(QUERY.format(folders=folders))
    ended = run_to_exit("--database", folders / "db.duckdb", "--config", folders / "merganser.toml")
    assert ended.returncode == 1 and "wrong" in ended.stderr and HERE in ended.stderr, ended


def test_folders_without_a_name_are_not_moved(start, folders):
    server = limited(start, folders)
    for setting in ("home_directory", "file_search_path"):
        refused(server.run, f"SET {setting} = '{folders.name}'", codes="PERMISSION_DENIED", slug="NOT_ALLOWED")


def test_a_file_on_the_web_opens_no_other(start, folders):
    handler = partial(SimpleHTTPRequestHandler, directory=folders)
    extensions = extension_folder(folders / "extensions", "httpfs")
    with serving(handler) as web:
        address = f"http://{web}"
        source = f'[[source]]\nname = "web"\nformat = "parquet"\npath = "{address}/source/part-1.parquet"\n'
        server = limited(start, folders, "--extension-directory", extensions, more=source)
        assert server.rows("FROM web") == [(42,)]
        for path in ("secret.txt", "source/part-1.parquet/../../secret.txt", "source/part-1.parquet?x=1"):
            assert HERE in forbidden(server, f"FROM read_text('{address}/{path}')"), path


def test_a_lake_and_a_bucket_are_read_and_written(lake, start, folders, bucket):
    for name in ("raw", "private"):
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"{lake.database}-{name}/rows.csv", Body=b"x\n42\n")
    raw, private = (f"s3://{bucket.bucket}/{lake.database}-{name}/rows.csv" for name in ("raw", "private"))
    more = f'[[source]]\nname = "raw"\nformat = "csv"\npath = "{raw}"\n'
    maintenance = '[catalog.maintenance]\nexpire_after = "1h"\ndelete_after = "1h"\n'
    options = lake.options(more, maintenance)
    server = start(folders / "db.duckdb", *options, "--read-directories", folders / "open")
    assert server.rows("FROM raw") == server.rows(f"FROM '{raw}'") == [(42,)]
    for number in range(3):
        put(server, unit(number), key=f"a/1/{number + 1}")
    lake.age()
    assert "tidied up" in output(CLIENT, "--url", server.uri, "maintain", "lake")
    assert count(server) == 60
    assert HERE in forbidden(server, f"FROM '{private}'")
    assert HERE in forbidden(server, f"FROM '{folders}/other/rows.csv'")
    forbidden(server, "ATTACH 'host=127.0.0.1 dbname=postgres' AS pg (TYPE postgres)")


def test_what_cannot_be_is_said_at_the_start(folders, tmp_path):
    for wrong in ("/no/such/folder", "https://host/x", ""):
        ended = run_to_exit("--database", ":memory:", "--read-directories", wrong)
        assert ended.returncode == 64 and HERE in ended.stderr, wrong
    file = tmp_path / "late.toml"
    file.write_text('read_directories = []\n[[catalog]]\nname = "pg"\ntype = "postgres"\npath = "host=h"\nrequired = false\n')
    ended = run_to_exit("--database", ":memory:", "--config", file)
    assert ended.returncode == 64 and "catalog.required" in ended.stderr and "PostgreSQL" in ended.stderr
