"""Catalogs besides the server's own: files of DuckDB, SQLite, PostgreSQL; and what their configuration may be."""

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pyarrow.flight as flight
import pytest

from client import Client
from configuration import ducklake
from extensions import extension_folder
from harness import refused, run_to_exit
from http_client import Http
from loaders import Crowd, count, put, stored, unit
from wire import sql_command

ROWS = [3, 20, 20, 1000]
SMALL_BULK = ["--bulk-size", "16KiB"]
PATH = ("side", "main", "events")


@pytest.fixture
def configured(tmp_path):
    """Options of a server with this configuration."""
    extensions = extension_folder(tmp_path / "extensions", "postgres_scanner", "sqlite_scanner", "ducklake")

    def options(text):
        file = tmp_path / "catalogs.toml"
        file.write_text(text)
        return ["--config", file, "--extension-directory", extensions]

    return options


def listed(server, name, *fields):
    """The rows of a command of Flight SQL's metadata."""
    info = server.client.get_flight_info(flight.FlightDescriptor.for_command(sql_command(name, *fields)))
    table = server.client.do_get(info.endpoints[0].ticket).read_all()
    return [tuple(row.values()) for row in table.to_pylist()]


def catalog(kind, path, more=""):
    return f'[[catalog]]\nname = "side"\ntype = "{kind}"\npath = "{path}"\n{more}\n'


@pytest.fixture
def file(tmp_path, configured):
    """Options of a server with a second file of DuckDB."""
    return configured(catalog("duckdb", tmp_path / "side.duckdb"))


class TestFileOfDuckDb:
    def test_its_rows_outlive_the_server(self, start, database, file):
        server = start(database, *file)
        assert put(server, unit(1), PATH).rows == 20
        server.run("INSERT INTO side.events VALUES ('b', 1, 1)")
        server.stop()
        assert count(start(database, *file), "side.events") == 21

    def test_a_key_is_stored_once(self, start, database, file):
        server = start(database, *file)
        first = put(server, unit(1), PATH, key="a/1/1")
        assert put(server, unit(1), PATH, key="a/1/1").duplicate
        refused(put, server, unit(2), PATH, key="a/1/1", slug="KEY_REUSED")
        refused(put, server, unit(2), PATH, key="a/1/3", slug="SEQ_GAP")
        # The main database has a ledger of its own.
        assert not put(server, unit(1), ["events"], key="a/1/1").duplicate
        server.stop()
        server = start(database, *file)
        again = put(server, unit(1), PATH, key="a/1/1")
        assert (again.duplicate, again.commit_id) == (True, first.commit_id)
        assert (count(server, "side.events"), count(server, "events")) == (20, 20)
        assert server.rows("SELECT catalog, last_key FROM merganser_ingest() ORDER BY catalog") == [
            ("db", "a/1/1"), ("side", "a/1/1"),
        ]  # fmt: skip

    def test_a_server_that_is_killed_loses_and_doubles_nothing(self, start, database, file):
        servers = [start(database, *file, *SMALL_BULK)]
        with Crowd(servers, ROWS, PATH) as crowd:
            for _ in range(3):
                crowd.wait_for(20)
                servers[0].kill()
                servers[0] = start(database, *file, *SMALL_BULK)
            crowd.wait_for(20)
        crowd.check()
        assert stored(servers[0], "side.events") == crowd.expected()

    @pytest.mark.parametrize("rows", [10, 2000])
    def test_rows_are_matched_and_columns_added(self, start, database, file, rows):
        server = start(database, *file, *SMALL_BULK)
        server.run("CREATE TABLE side.t (unit BIGINT, part BIGINT, loader VARCHAR, PRIMARY KEY (unit, part))")
        path = ("side", "main", "t")
        put(server, unit(1, rows), path, on_conflict="update")
        put(server, unit(1, rows, "b"), path, on_conflict="update")
        put(server, unit(1, rows + 1, "c"), path, on_conflict="ignore")
        wider = unit(1, 1, "d").append_column("more", [["x"]])
        put(server, wider, path, on_conflict="update", new_columns="add")
        assert server.rows("SELECT loader, count(*), count(more) FROM side.t GROUP BY loader ORDER BY loader") == [
            ("b", rows - 1, 0), ("c", 1, 0), ("d", 1, 1),
        ]  # fmt: skip
        refused(put, server, unit(1, rows), path, slug="DUPLICATE_KEY")

    def test_two_servers_cannot_have_it_at_once(self, start, database, file, tmp_path):
        start(database, *file)
        ended = run_to_exit("--database", tmp_path / "other.db", *file)
        assert ended.returncode == 1 and "catalog side" in ended.stderr


@pytest.fixture(params=["sqlite", "postgres"])
def foreign(request, configured, tmp_path, postgres):
    """Options of a server with a catalog of another make, and its table of events."""
    if request.param == "sqlite":
        return configured(catalog("sqlite", tmp_path / "side.sqlite")), "side.events", ("side", "main", "events")
    secret = postgres.secret(postgres.database())
    text = secret + '[[catalog]]\nname = "side"\ntype = "postgres"\nsecret = "pg"\n'
    return configured(text), "side.public.events", ("side", "public", "events")


class TestForeign:
    @pytest.mark.parametrize("rows", [20, 2000])
    def test_rows_go_in_and_come_back(self, start, database, foreign, rows):
        options, table, path = foreign
        server = start(database, *options, *SMALL_BULK)
        assert put(server, unit(1, rows), path).rows == rows
        assert put(server, unit(2, rows), path).rows == rows
        server.run(f"UPDATE {table} SET loader = 'b' WHERE unit = 2 AND part > 0")
        server.run(f"DELETE FROM {table} WHERE unit = 1 AND part > 0")
        server.run(f"INSERT INTO {table} VALUES ('c', 3, 3)")
        server.stop()
        server = start(database, *options)
        assert server.rows(f"SELECT loader, count(*) FROM {table} GROUP BY loader ORDER BY loader") == [
            ("a", 2), ("b", rows - 1), ("c", 1),
        ]  # fmt: skip

    def test_it_takes_no_keys(self, start, database, foreign):
        options, table, path = foreign
        server = start(database, *options)
        for rows in (1, 20):
            refused(put, server, unit(1, rows), path, key="a/1/1", codes="FAILED_PRECONDITION", slug="KEY_NOT_HERE")
        put(server, unit(1), path)
        assert count(server, table) == 20

    def test_a_transaction_is_committed_or_rolled_back(self, start, database, foreign):
        options, table, path = foreign
        server = start(database, *options)
        put(server, unit(1, 3), path)
        with Client(server.uri) as client:
            for end, rows in [(client.rollback, 3), (client.commit, 4)]:
                with client.transaction() as transaction:
                    client.update(f"INSERT INTO {table} VALUES ('b', 1, 1)", transaction)
                    end(transaction)
                assert count(server, table) == rows

    def test_what_it_has_for_itself_is_listed_only_by_name(self, start, database, foreign):
        options, table, (_, schema, name) = foreign
        server = start(database, "--http", "127.0.0.1:0", *options)
        server.run(f"CREATE TABLE {table} (unit BIGINT)")
        server.run("CREATE SCHEMA pg_mine; CREATE TABLE pg_mine.mine (x INT)")
        mine, its = ("db", "pg_mine", "mine"), ("side", schema, name)
        relations = Http(server.http()).get("/v1/tables").json()["tables"]
        assert [(it["catalog"], it["schema"], it["name"]) for it in relations] == [mine, its]
        for columns in ([], [(5, 1)]):
            assert [row[:3] for row in listed(server, "CommandGetTables", *columns)] == [mine, its]
        assert listed(server, "CommandGetDbSchemas") == [("db", "main"), ("db", "pg_mine"), ("side", schema)]
        named = {row[1:3] for row in listed(server, "CommandGetTables", (1, "side"), (2, "pg_catalog"))}
        assert (("pg_catalog", "pg_class") in named) == (schema == "public")

    def test_a_column_that_does_not_fit_leaves_nothing(self, start, database, foreign):
        options, table, path = foreign
        server = start(database, *options, *SMALL_BULK)
        put(server, unit(1), path)
        for rows in (20, 2000):
            refused(put, server, unit(2, rows).append_column("more", [["x"] * rows]), path, slug="SCHEMA_MISMATCH")
            refused(put, server, unit(2, rows).set_column(1, "unit", [["x"] * rows]), path, codes="INVALID_ARGUMENT")
        assert count(server, table) == 20


def test_sqlite_and_others_see_the_rows(start, database, configured, tmp_path):
    server = start(database, *configured(catalog("sqlite", tmp_path / "side.sqlite")))
    put(server, unit(1), PATH)
    with sqlite3.connect(tmp_path / "side.sqlite") as connection:
        assert connection.execute("SELECT count(*), max(part) FROM events").fetchall() == [(20, 19)]


@pytest.mark.parametrize("kind", ["postgres", "ducklake"])
def test_a_server_that_asks_for_no_password_needs_no_secret(start, database, configured, postgres, tmp_path, kind):
    words = f"host={postgres.folder} user=postgres dbname={postgres.database()}"
    lake = lake_of(f'metadata = "postgres:{words}"\ndata_path = "{tmp_path}/files/"').replace("lake", "side", 1)
    server = start(database, *configured(lake if kind == "ducklake" else catalog(kind, words)))
    path = ("side", "main" if kind == "ducklake" else "public", "events")
    put(server, unit(1), path)
    assert count(server, ".".join(path)) == 20


@pytest.fixture
def abroad(monkeypatch):
    """A PostgreSQL that may be told to speak German. It has no translations, so that it does not."""
    from lake import Postgres

    with tempfile.TemporaryDirectory(prefix="locale-") as folder:
        # Systems without this one have the German one by themselves.
        if (plain := Path("/usr/lib/locale/C.utf8")).exists():
            shutil.copytree(plain, f"{folder}/de_DE.utf8")
            os.chmod(folder, 0o755)
            monkeypatch.setenv("LOCPATH", folder)
        postgres = Postgres()
        yield postgres
        postgres.stop()


@pytest.mark.parametrize("kind", ["postgres", "ducklake"])
def test_a_postgres_with_messages_in_another_language_is_warned_of(start, database, configured, abroad, tmp_path, kind):
    name = abroad.database()
    words = f"host={abroad.folder} user=postgres dbname={name}"
    lake = lake_of(f'metadata = "postgres:{words}"\ndata_path = "{tmp_path}/files/"').replace("lake", "side", 1)
    options = configured(lake if kind == "ducklake" else catalog(kind, words))
    warned = lambda server: [line for line in server.log.read_text().splitlines() if "not in English" in line]  # noqa: E731
    server = start(database, *options)
    assert warned(server) == []
    server.stop()
    abroad.psql(f"ALTER DATABASE {name} SET lc_messages = 'de_DE.UTF-8'")
    server = start(database, *options)
    (line,) = warned(server)
    assert "side" in line and "de_DE.UTF-8" in line and "ALTER DATABASE" in line
    server.stop()
    # Whoever only reads meets no other transaction.
    assert warned(start(database, *options, "--read-only")) == []


def test_a_unique_key_of_postgres_is_kept(start, database, configured, postgres):
    name = postgres.database()
    postgres.psql("CREATE TABLE t (loader text, unit bigint, part bigint, PRIMARY KEY (unit, part))", name)
    server = start(
        database, *configured(postgres.secret(name) + '[[catalog]]\nname = "side"\ntype = "postgres"\nsecret = "pg"\n')
    )
    path = ("side", "public", "t")
    put(server, unit(1), path)
    told = refused(put, server, unit(1), path)
    assert told.slug == "DUPLICATE_KEY"
    assert count(server, "side.public.t") == 20


def test_a_pipeline_into_sqlite_stops_the_start_and_says_why(configured, database, tmp_path):
    pipeline = """
[[pipeline]]
name = "events"
from = "SELECT 1 AS id"
incremental = "id"
into = "side.main.events"
"""
    ended = run_to_exit("--database", database, *configured(catalog("sqlite", tmp_path / "side.sqlite") + pipeline))
    assert ended.returncode == 1
    assert "pipeline events" in ended.stderr and "SQLite has no schema" in ended.stderr


class TestReadOnly:
    @pytest.fixture(params=["duckdb", "sqlite"])
    def server(self, request, start, tmp_path, configured):
        path = tmp_path / f"side.{request.param}"
        server = start(tmp_path / "first.db", *configured(catalog(request.param, path)))
        put(server, unit(1), PATH)
        server.stop()
        return start(tmp_path / "db.duckdb", *configured(catalog(request.param, path, "read_only = true")))

    def test_it_is_read(self, server):
        assert count(server, "side.events") == 20

    def test_it_is_not_written(self, server):
        for rows in (3, 200_000):
            refused(put, server, unit(2, rows), PATH, codes="PERMISSION_DENIED", slug="READ_ONLY")
            refused(put, server, unit(2, rows), PATH, key="a/1/1")
        for sql in (
            "INSERT INTO side.events VALUES ('b', 1, 1)",
            "DROP TABLE side.events",
            "CREATE TABLE side.t (x INT)",
        ):
            refused(server.run, sql, codes="PERMISSION_DENIED", slug="READ_ONLY")
        server.put(unit(1), "events")
        assert (count(server, "side.events"), count(server, "events")) == (20, 20)


def test_a_lake_can_be_read_only(lake, start, tmp_path):
    put(start(tmp_path / "a.db", *lake.options()), unit(1), key="a/1/1")
    server = start(tmp_path / "b.db", *lake.options(catalog="read_only = true"))
    assert count(server) == 20
    refused(put, server, unit(2), codes="PERMISSION_DENIED", slug="READ_ONLY")
    refused(server.run, "DELETE FROM lake.events", codes="PERMISSION_DENIED", slug="READ_ONLY")


def test_a_server_that_is_read_only_has_them_so(lake, start, tmp_path):
    start(tmp_path / "a.db", *lake.options()).stop()
    writer = start(tmp_path / "c.db", *lake.options())
    put(writer, unit(1))
    server = start(tmp_path / "a.db", *lake.options(), "--read-only")
    refused(put, server, unit(2), codes="PERMISSION_DENIED", slug="READ_ONLY")
    assert count(server) == 20
    put(writer, unit(2))
    assert count(server) == 40


def lake_of(more):
    return f'[[catalog]]\nname = "lake"\ntype = "ducklake"\n{more}\n'


META = 'metadata = "lake.ducklake"\n'


@pytest.mark.parametrize(
    "text, names",
    [
        ('[[catalog]]\ntype = "duckdb"\npath = "x.db"', ["name"]),
        ('[[catalog]]\nname = "x"\npath = "x.db"', ["type"]),
        (catalog("oracle", "x"), ["catalog.type", '"side"', "oracle"]),
        (catalog("duckdb", "x").replace("side", "temp"), ["catalog.name", '"temp"']),
        (catalog("duckdb", "x").replace("side", "sources"), ["catalog.name", '"sources"']),
        (catalog("duckdb", "x").replace("side", "__merganser"), ["catalog.name"]),
        (catalog("duckdb", "x").replace("side", "no good"), ["catalog.name", '"no good"']),
        (catalog("duckdb", "x") + catalog("duckdb", "y").replace("side", "SIDE"), ["catalog.name", '"SIDE"']),
        (catalog("duckdb", "x", 'metadata = "y"'), ["catalog.metadata", '"side"']),
        (catalog("duckdb", "x", 'data_path = "y"'), ["catalog.data_path", '"side"']),
        (catalog("sqlite", "x", '[catalog.maintenance]\nevery = "1h"'), ["catalog.maintenance", '"side"']),
        (lake_of(META + 'path = "x"'), ["catalog.path", '"lake"']),
        (lake_of(""), ["catalog.metadata", '"lake"']),
        ('[[catalog]]\nname = "side"\ntype = "sqlite"', ["catalog.path", '"side"']),
        ('[[catalog]]\nname = "side"\ntype = "postgres"', ["catalog.path", '"side"']),
        (catalog("postgres", "host=db password=hidden-word"), ["catalog.path", "secret"]),
        (catalog("postgres", "postgres://me:hidden-word@db/x"), ["catalog.path", "secret"]),
        (lake_of('metadata = "postgres:host=db PASSWORD=hidden-word"'), ["catalog.metadata", "secret"]),
        (lake_of(META + 'secret = "nobody"'), ["catalog.secret", '"nobody"']),
        (
            '[[secret]]\nname = "s3"\ntype = "s3"\nkey_id = "a"\nsecret = "hidden-word"\n'
            + lake_of('metadata = "postgres:"\nsecret = "s3"'),
            ["catalog.secret", '"s3"'],
        ),
        (lake_of(META + 'read_only = "maybe"'), ["read_only"]),
        (lake_of(META + "required = 1"), ["required"]),
        (lake_of(META + "colour = 1"), ["colour"]),
        (lake_of(META + '[catalog.maintenance]\nevery = "0s"'), ["catalog.maintenance.every", '"lake"']),
        (lake_of(META + '[catalog.maintenance]\nevery = "soon"'), ["every"]),
        (lake_of(META + "[catalog.maintenance]\nmerge_files = 0"), ["catalog.maintenance.merge_files", '"lake"']),
        (lake_of(META + '[catalog.maintenance]\nexpire_after = "x"'), ["expire_after"]),
        (lake_of(META + '[catalog.maintenance]\nexpire_after = "59m"'), ["expire_after", "at least 1h"]),
        (lake_of(META + '[catalog.maintenance]\ndelete_after = "x"'), ["delete_after"]),
        (lake_of(META + '[catalog.maintenance]\ndelete_after = "59m"'), ["delete_after", "at least 1h"]),
        (lake_of(META + "[catalog.maintenance]\ncolour = 1"), ["colour"]),
    ],
)
def test_a_configuration_that_makes_no_sense_is_named(configured, text, names):
    ended = run_to_exit("--database", ":memory:", *configured(text))
    assert ended.returncode == 64, ended
    assert all(name in ended.stderr for name in names), ended.stderr
    assert "hidden-word" not in ended.stderr + ended.stdout


@pytest.mark.parametrize(
    "text, reason",
    [
        (catalog("duckdb", "/no/such/folder/x.db"), "catalog side"),
        (catalog("duckdb", "{this}", "read_only = true"), "catalog side"),
        (catalog("sqlite", "/no/such/folder/x.db"), "catalog side"),
        (lake_of('metadata = "/no/such/folder/x.db"\ndata_path = "/no/such/folder"'), "catalog lake"),
    ],
)
def test_what_cannot_be_attached_stops_the_start(configured, start, database, tmp_path, text, reason):
    (tmp_path / "no.db").write_text("this is no database " * 1000)
    text = text.replace("{this}", str(tmp_path / "no.db"))
    ended = run_to_exit("--database", database, *configured(text))
    assert ended.returncode == 1 and reason in ended.stderr, ended
    # Or is left out, where it is not required.
    server = start(database, *configured(text.replace("type =", "required = false\ntype =")))
    server.put(unit(1), "events")
    assert count(server, "events") == 20


def test_a_name_that_the_database_has_stops_the_start(configured, tmp_path):
    text = catalog("duckdb", tmp_path / "x.db").replace('"side"', '"mine"')
    ended = run_to_exit("--database", tmp_path / "mine.duckdb", *configured(text))
    assert ended.returncode == 1 and "mine" in ended.stderr, ended


class TestLakeWithoutServers:
    """DuckLakes whose metadata is in a file."""

    @pytest.fixture(params=["sqlite:{}/lake.sqlite", "{}/lake.ducklake"], ids=["sqlite", "file"])
    def lake(self, request, tmp_path, configured):
        metadata, files = request.param.format(tmp_path), tmp_path / "files"
        return configured(ducklake(metadata, files, "side", "[catalog.maintenance]\nmerge_files = 10"))

    def test_units_are_stored_once_and_tidied_up(self, start, database, lake):
        server = start(database, *lake)
        first = put(server, unit(1), PATH, key="a/1/1")
        assert put(server, unit(1), PATH, key="a/1/1").duplicate
        for number in (2, 3):
            put(server, unit(number), PATH, key=f"a/1/{number}")
        refused(put, server, unit(9), PATH, key="a/1/9", slug="SEQ_GAP")
        server.run("CREATE TABLE side.kept AS SELECT 1 AS x; INSERT INTO side.kept VALUES (2)")
        server.run("MAINTAIN CATALOG side")
        ((detail,),) = server.rows("SELECT last_detail FROM merganser_jobs() WHERE job = 'maintain side'")
        assert "flushed" in detail and "merged 5 files" in detail, detail
        server.stop()
        server = start(database, *lake)
        again = put(server, unit(1), PATH, key="a/1/1")
        assert (again.duplicate, again.commit_id) == (True, first.commit_id)
        assert (count(server, "side.events"), count(server, "side.kept")) == (60, 2)
