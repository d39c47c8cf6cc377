"""Sources in object storage, with the keys from the environment or a file."""

import deltalake
import duckdb
import pyarrow as pa
import pytest

import harness
from configuration import ducklake
from extensions import extension_directory, extension_folder
from harness import Server, refused, run_to_exit
from loaders import count, put, unit
from object_storage import KEY_ID, SCHEMES, SECRET, DiskStorage, Storage

TRIPS = """
[[source]]
name = "trips"
format = "parquet"
path = "s3://lake/trips/*/*.parquet"
options = { hive_partitioning = true }
"""


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    storage = Storage()
    folder = tmp_path_factory.mktemp("trips")
    duckdb.sql(
        "COPY (SELECT range AS id, 2020 + range % 3 AS year FROM range(3000))"
        f" TO '{folder}' (FORMAT parquet, PARTITION_BY (year), OVERWRITE_OR_IGNORE)"
    )
    for file in folder.rglob("*.parquet"):
        storage.upload(file, f"trips/{file.relative_to(folder)}")
    yield storage
    storage.stop()


@pytest.fixture
def configured(storage, tmp_path):
    """Options of a server with a configuration file of this text."""

    def options(text):
        file = tmp_path / "merganser.toml"
        file.write_text(text)
        return ["--config", file, "--extension-directory", extension_directory("httpfs")]

    return options


def test_a_source_is_read_with_keys_from_a_file(storage, configured, start, tmp_path):
    (tmp_path / "secret").write_text(SECRET + "\n")
    secret = storage.secret(secret=f'{{ file = "{tmp_path}/secret" }}')
    server = start(":memory:", "--read-only", *configured(secret + TRIPS))
    assert server.rows("SELECT year, count(*) FROM trips GROUP BY year ORDER BY year") == [
        (2020, 1000), (2021, 1000), (2022, 1000),
    ]  # fmt: skip
    assert server.rows("SELECT max(id) FROM sources.trips WHERE year = 2021") == [(2998,)]


def test_no_client_sees_the_key(storage, configured, start, monkeypatch):
    monkeypatch.setitem(harness.ENVIRONMENT, "LAKE_SECRET", SECRET)
    server = start(":memory:", *configured(storage.secret(secret='{ env = "LAKE_SECRET" }') + TRIPS))
    (shown,) = server.rows("SELECT secret_string FROM duckdb_secrets()")
    assert "redacted" in shown[0]
    for sql in [
        "SELECT * FROM duckdb_secrets(redact := false)",
        "SET allow_unredacted_secrets = true",
        "SET GLOBAL allow_unredacted_secrets = true",
        "SELECT getenv('LAKE_SECRET')",
    ]:
        refused(server.run, sql)
    for table in ["duckdb_secrets()", "duckdb_settings()", "duckdb_views()", "which_secret('s3://lake/x', 's3')"]:
        assert SECRET not in str(server.rows(f"SELECT t::VARCHAR FROM {table} AS t"))
    server.stop()
    assert SECRET not in server.log.read_text() and KEY_ID not in server.log.read_text()


@pytest.mark.parametrize("kind, scheme", [(kind, scheme) for kind in ("gcs", "r2") for scheme in SCHEMES[kind]])
def test_secrets_of_other_stores(kind, scheme, storage, configured, start, monkeypatch):
    monkeypatch.setitem(harness.ENVIRONMENT, "LAKE_SECRET", SECRET)
    secret = storage.secret(kind, secret='{ env = "LAKE_SECRET" }')
    trips = TRIPS.replace("s3://", f"{scheme}://")
    gone = trips.replace("trips/", "nothing/").replace('"trips"', '"gone"') + "required = false\n"
    published = PUBLISHED.replace("s3://", f"{scheme}://")
    server = start(":memory:", "--read-only", *configured(published + secret + trips + gone))
    assert server.rows("SELECT year, max(id) FROM trips GROUP BY year ORDER BY year") == [
        (2020, 2997), (2021, 2998), (2022, 2999),
    ]  # fmt: skip
    target = f"{scheme}://lake/published/{scheme}.parquet"
    server.run(f"COPY (SELECT count(*) AS n FROM trips) TO '{target}'")
    assert server.rows(f"FROM '{target}'") == [(3000,)]
    shown = server.rows("SELECT type, secret_string FROM duckdb_secrets()")
    assert [type for type, _ in shown] == [kind] and "secret=redacted" in shown[0][1]
    refused(server.run, "FROM duckdb_secrets(redact := false)")
    told = refused(server.run, f"FROM '{scheme}://lake/no-such-file.parquet'")
    server.stop()
    log = server.log.read_text()
    assert "a source cannot be read" in log
    for text in (str(shown), told.text, log):
        assert SECRET not in text
    assert KEY_ID not in log and KEY_ID not in told.text


@pytest.mark.parametrize(
    "source, reason",
    [
        (TRIPS.replace("trips/", "nothing/"), "No files found"),
        (TRIPS.replace("s3://lake", "s3://no-such-bucket"), "HTTP"),
    ],
)
def test_what_cannot_be_read_stops_the_start(storage, configured, source, reason):
    ended = run_to_exit("--database", ":memory:", *configured(storage.secret() + source))
    assert ended.returncode == 1
    assert "source trips" in ended.stderr and reason in ended.stderr
    assert SECRET not in ended.stderr and SECRET not in ended.stdout


def test_or_is_left_out_where_it_is_not_required(storage, configured, start):
    gone = TRIPS.replace("trips/", "nothing/").replace('"trips"', '"gone"') + "required = false\n"
    server = start(":memory:", *configured(storage.secret() + TRIPS + gone))
    assert server.rows("SELECT count(*) FROM trips") == [(3000,)]
    refused(server.run, "FROM gone", slug="NOT_FOUND")
    server.stop()
    assert "a source cannot be read" in server.log.read_text()


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A storage that checks keys, with the trips of one year."""
    folder = tmp_path_factory.mktemp("strict")
    storage = DiskStorage(folder / "objects")
    duckdb.sql(f"COPY (SELECT range AS id FROM range(1000)) TO '{folder}/x.parquet'")
    storage.upload(folder / "x.parquet", "trips/year=2020/x.parquet")
    yield storage
    storage.kill()


@pytest.mark.parametrize("wrong", [{"secret": "the-wrong-secret"}, {"key_id": "the-wrong-id"}], ids=["secret", "key_id"])
def test_a_key_that_the_storage_refuses_stops_the_start(strict, configured, start, wrong):
    trips = TRIPS.replace("*/*.parquet", "year=2020/x.parquet")
    for source in (TRIPS, trips):
        told_nobody_the_key(strict, start, configured, wrong, source)
    server = start(":memory:", *configured(strict.secret() + TRIPS))
    assert server.rows("SELECT count(*) FROM trips") == [(1000,)]


def told_nobody_the_key(strict, start, configured, wrong, source):
    secret = strict.secret(**{name: f'"{value}"' for name, value in wrong.items()})
    ended = run_to_exit("--database", ":memory:", *configured(secret + source))
    assert ended.returncode == 1, ended
    assert "source trips" in ended.stderr and "403" in ended.stderr, ended.stderr
    # Or it is left out, where it is not required.
    server = start(":memory:", *configured(secret + source + "required = false\n"))
    told = refused(server.run, "FROM trips", slug="NOT_FOUND")
    read = refused(server.run, "FROM 's3://lake/trips/year=2020/x.parquet'")
    server.stop()
    log = server.log.read_text()
    assert "a source cannot be read" in log and "403" in log
    for text in (ended.stderr, ended.stdout, told.text, read.text, log):
        assert not [value for value in (SECRET, KEY_ID, *wrong.values()) if value in text], text


def keys(storage, prefix):
    listed = storage.client.list_objects_v2(Bucket=storage.bucket, Prefix=prefix)
    return [entry["Key"] for entry in listed.get("Contents", [])]


PUBLISHED = 'export_directories = ["s3://lake/published/"]\n'


def test_an_artifact_is_published_and_read(storage, configured, start):
    server = start(":memory:", "--read-only", *configured(PUBLISHED + storage.secret() + TRIPS))
    years = "SELECT year, count(*) AS trips FROM trips GROUP BY year"
    server.run(f"COPY ({years}) TO 's3://lake/published/years.parquet'")
    assert server.rows("FROM 's3://lake/published/years.parquet' ORDER BY year") == [
        (2020, 1000), (2021, 1000), (2022, 1000),
    ]  # fmt: skip
    server.run("COPY trips TO 's3://lake/published/by-year' (FORMAT parquet, PARTITION_BY (year))")
    assert server.rows("SELECT count(DISTINCT year) FROM 's3://lake/published/by-year/*/*.parquet'") == [(3,)]
    assert keys(storage, "published/by-year/") == [
        f"published/by-year/year={year}/data_0.parquet" for year in (2020, 2021, 2022)
    ]  # fmt: skip


def test_nothing_is_published_elsewhere(storage, configured, start):
    storage.client.create_bucket(Bucket="lake-of-others")
    server = start(":memory:", *configured(PUBLISHED + storage.secret() + TRIPS))
    before = keys(storage, "")
    for target in [
        "s3://lake/x.parquet",
        "s3://lake/published",
        "s3://lake/published/",
        "s3://lake/published-too/x.parquet",
        "s3://lake/published/../x.parquet",
        "s3://lake-of-others/published/x.parquet",
        "S3://lake/published/x.parquet",
        f"s3://lake/published/x.parquet?s3_endpoint={storage.endpoint}",
        "/tmp/x.parquet",
    ]:
        refused(server.run, f"COPY trips TO '{target}'", slug="EXPORT_REFUSED")
    assert keys(storage, "") == before
    assert "Contents" not in storage.client.list_objects_v2(Bucket="lake-of-others")


def test_an_export_directory_alone_loads_what_writes_there(storage, configured, start):
    server = start(":memory:", *configured(PUBLISHED))
    assert server.rows("SELECT loaded FROM duckdb_extensions() WHERE extension_name = 'httpfs'") == [(True,)]


def test_a_delta_table(start, tmp_path):
    rows = pa.table({"id": [1, 2, 3], "kind": ["a", "b", "a"]})
    deltalake.write_deltalake(tmp_path / "events", rows, partition_by=["kind"])
    file = tmp_path / "merganser.toml"
    file.write_text(f'[[source]]\nname = "events"\nformat = "delta"\npath = "{tmp_path}/events"\n')
    server = start(":memory:", "--config", file, "--extension-directory", extension_directory("delta"))
    assert server.rows("SELECT kind, count(*) FROM events GROUP BY kind ORDER BY kind") == [("a", 2), ("b", 1)]


def test_a_delta_table_in_the_storage(storage, start, tmp_path):
    rows = pa.table({"id": [1, 2, 3], "kind": ["a", "b", "a"]})
    deltalake.write_deltalake(tmp_path / "events", rows, partition_by=["kind"])
    deltalake.write_deltalake(tmp_path / "events", rows.slice(0, 1), mode="append")
    for file in (tmp_path / "events").rglob("*"):
        if file.is_file():
            storage.upload(file, f"delta/events/{file.relative_to(tmp_path / 'events')}")
    source = '[[source]]\nname = "events"\nformat = "delta"\npath = "s3://lake/delta/events"\n'
    file = tmp_path / "merganser.toml"
    file.write_text(storage.secret() + source)
    extensions = extension_folder(tmp_path / "extensions", "httpfs", "delta")
    server = start(":memory:", "--read-only", "--config", file, "--extension-directory", extensions)
    assert server.rows("SELECT kind, count(*) FROM events GROUP BY kind ORDER BY kind") == [("a", 3), ("b", 1)]


@pytest.mark.parametrize("scheme", SCHEMES["gcs"])
def test_a_lake_whose_files_are_behind_a_secret_of_gcs(scheme, storage, start, tmp_path):
    file = tmp_path / "merganser.toml"
    file.write_text(
        storage.secret("gcs") + ducklake(f"sqlite:{tmp_path}/lake.sqlite", f"{scheme}://lake/lake-by-{scheme}/")
    )
    extensions = extension_folder(tmp_path / "extensions", "httpfs", "ducklake", "sqlite_scanner")
    options = ["--config", file, "--extension-directory", extensions]
    server = start(tmp_path / "db.duckdb", *options)
    for number in (1, 2):
        assert not put(server, unit(number, 1000), key=f"a/1/{number}").duplicate
    assert count(server) == 2000
    assert len(keys(storage, f"lake-by-{scheme}/main/events/")) == 2
    server.stop()
    server = start(tmp_path / "db.duckdb", *options)
    assert put(server, unit(2, 1000), key="a/1/2").duplicate and count(server) == 2000


def test_an_extension_that_is_nowhere_is_named(configured):
    ended = run_to_exit("--database", ":memory:", *configured('extensions = ["no_such_extension"]'))
    assert ended.returncode == 1 and "extension no_such_extension" in ended.stderr
