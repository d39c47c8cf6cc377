"""What statements may read, where the operator limits it."""

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import CLIENT, run_to_exit
from loaders import count, put, unit
from programs import output

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
    assert "extensions" in forbidden(server, "LOAD spatial")


def test_a_lake_and_a_bucket_are_read_and_written(lake, start, folders, bucket):
    for name in ("raw", "private"):
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"{lake.database}-{name}/rows.csv", Body=b"x\n42\n")
    raw, private = (f"s3://{bucket.bucket}/{lake.database}-{name}/rows.csv" for name in ("raw", "private"))
    more = f'[[source]]\nname = "raw"\nformat = "csv"\npath = "{raw}"\n'
    maintenance = '[catalog.maintenance]\nexpire_after = "0s"\ndelete_after = "0s"\n'
    options = lake.options(more, maintenance)
    server = start(folders / "db.duckdb", *options, "--read-directories", folders / "open")
    assert server.rows("FROM raw") == server.rows(f"FROM '{raw}'") == [(42,)]
    for number in range(3):
        put(server, unit(number), key=f"a/1/{number + 1}")
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
