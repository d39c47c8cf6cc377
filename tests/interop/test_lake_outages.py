"""The lake's PostgreSQL out of reach: what loaders and readers are told, and that nothing is lost or doubled."""

import re

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from client import Client, eventually
from configuration import ducklake
from harness import refusal, refused, run_to_exit
from loaders import Crowd, count, put, stored, unit
from wire import sql_command

ROWS = [3, 20, 20, 1000]
SMALL_BULK = ["--bulk-size", "16KiB"]


def secrets(lake):
    """What no message may name."""
    return [str(lake.postgres.folder), lake.postgres.folder.name, "not-asked-for", lake.database]


def told_nothing(text, lake):
    assert not [word for word in secrets(lake) if word in text], text


def test_loaders_outlast_a_postgres_that_is_down(lake, start, database):
    server = start(database, *lake.options(), *SMALL_BULK)
    with Crowd([server], ROWS) as crowd:
        crowd.wait_for(8)
        with lake.postgres.down():
            refused_so_far = crowd.refusals()
            eventually(lambda: crowd.refusals() > refused_so_far + 8, "loaders are refused")
        crowd.wait_for(8)
    crowd.check()
    assert stored(server) == crowd.expected()


@pytest.fixture
def server(lake, start, database):
    """A server with a lake, and a table of its own."""
    server = start(database, *lake.options(), *SMALL_BULK)
    server.put(unit(1), "here")
    put(server, unit(1), key="a/1/1")
    return server


@pytest.fixture
def cut_off(lake, server):
    """The same while PostgreSQL is away."""
    with lake.postgres.down():
        yield server


def test_uploads_and_sql_are_refused_and_store_nothing(lake, server):
    with lake.postgres.down():
        for rows in (3, 20, 1000):
            for key in (None, "a/1/2"):
                told = refused(put, server, unit(2, rows), key=key, codes="UNAVAILABLE", slug="CATALOG_DOWN")
                told_nothing(told.text, lake)
        for sql in (
            "SELECT count(*) FROM lake.events",
            "INSERT INTO lake.events VALUES ('b', 1, 1)",
            "DELETE FROM lake.events",
            "CREATE TABLE lake.more (x INT)",
            "FROM lake.snapshots()",
        ):
            told = refused(server.run, sql, codes="UNAVAILABLE", slug="CATALOG_DOWN")
            told_nothing(told.text, lake)
    assert eventually(lambda: put_again(server), "it is back", 60).duplicate is False
    assert count(server) == 40


def put_again(server):
    try:
        return put(server, unit(2), key="a/1/2")
    except pa.ArrowException as error:
        refusal(error, codes="UNAVAILABLE", slug="CATALOG_DOWN")


def test_the_main_database_goes_on(cut_off):
    for rows in (20, 1000):
        assert cut_off.put(unit(2, rows), "here").rows == rows
    put(cut_off, unit(3), path=["here"], key="b/1/1")
    assert cut_off.put(unit(1), "here_too").rows == 20
    for rows, mode in [(1000, "create"), (2000, "replace"), (1000, "create_append")]:
        with cut_off.adbc(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("large", unit(rows, rows), mode=mode)
    assert count(cut_off, "large") == 3000
    cut_off.run("INSERT INTO here VALUES ('c', 1, 1)")
    assert count(cut_off, "here") == 1061
    assert cut_off.rows("SELECT loader FROM merganser_ingest() ORDER BY loader") == [("a",), ("b",)]


def ask(server, name, *fields):
    """The rows of a command of Flight SQL's metadata."""
    info = server.client.get_flight_info(flight.FlightDescriptor.for_command(sql_command(name, *fields)))
    return server.client.do_get(info.endpoints[0].ticket).read_all().to_pylist()


def listed(client, catalog=None):
    """The tables as they are listed in a session."""
    command = sql_command("CommandGetTables", *([(1, catalog)] if catalog else []))
    info = client.flight.get_flight_info(flight.FlightDescriptor.for_command(command), client.options)
    table = client.flight.do_get(info.endpoints[0].ticket, client.options).read_all()
    return set(table["table_name"].to_pylist())


def test_lists_have_the_catalogs_that_answer(lake, server):
    server.run("CREATE TABLE keyed (id BIGINT PRIMARY KEY, mood ENUM('good', 'bad'))")
    server.run("CREATE TABLE refers (id BIGINT REFERENCES keyed (id))")
    lists = {
        "CommandGetTables": [(5, 1)],
        "CommandGetDbSchemas": [],
        "CommandGetPrimaryKeys": [(3, "keyed")],
        "CommandGetImportedKeys": [(3, "refers")],
    }
    whole = {name: ask(server, name, *fields) for name, fields in lists.items()}
    with lake.postgres.down():
        for name, fields in lists.items():
            rest = [row for row in whole[name] if "lake" not in row.values()]
            assert ask(server, name, *fields) == rest and rest, name
        assert {row["table_name"] for row in ask(server, "CommandGetTables", (1, "db"))} == {"here", "keyed", "refers"}
        flights = ["/".join(part.decode() for part in info.descriptor.path) for info in server.client.list_flights()]
        assert "db/main/here" in flights and not any("lake" in path for path in flights)
        with server.adbc(autocommit=True) as connection:
            listed = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        assert "db" in [catalog["catalog_name"] for catalog in listed]
        for name in ("CommandGetTables", "CommandGetDbSchemas"):
            told = refused(ask, server, name, (1, "lake"), codes="UNAVAILABLE", slug="CATALOG_DOWN")
            told_nothing(told.text, lake)
    assert "out of reach and not listed" in server.log.read_text()


def test_a_list_leaves_an_open_transaction_as_it_is(lake, server):
    with Client(server.uri) as client:
        client.run("BEGIN")
        client.run("INSERT INTO here VALUES ('b', 1, 1)")
        with lake.postgres.down():
            assert listed(client) == {"here"}
            assert listed(client, "db") == {"here"}
            for catalog in ("lake", "temp"):
                told = refused(listed, client, catalog, codes="UNAVAILABLE", slug="CATALOG_DOWN")
                assert "the catalog lake" in told.text
                told_nothing(told.text, lake)
            client.run("INSERT INTO here VALUES ('c', 1, 1)")
        client.run("COMMIT")
    assert count(server, "here") == 22


def test_lists_of_sql_name_the_catalog_that_is_down(lake, cut_off):
    for sql in ("SHOW TABLES", "SHOW ALL TABLES", "FROM duckdb_tables()", "FROM lake.events"):
        told = refused(cut_off.run, sql, codes="UNAVAILABLE", slug="CATALOG_DOWN")
        assert "the catalog lake" in told.text
        told_nothing(told.text, lake)


def test_what_is_nowhere_is_not_found_and_no_outage(cut_off):
    for sql in ("FROM nowhere", "FROM main.nowhere", "FROM db.main.nowhere"):
        refused(cut_off.run, sql, codes="NOT_FOUND", slug="NOT_FOUND")


def test_a_server_that_only_reads_lists_what_answers(lake, start, database):
    writer = start(database, *lake.options())
    writer.put(unit(1), "here")
    put(writer, unit(1), key="a/1/1")
    writer.stop()
    reader = start(database, "--read-only", *lake.options())
    with lake.postgres.down():
        assert {row["table_name"] for row in ask(reader, "CommandGetTables")} == {"here"}
        refused(ask, reader, "CommandGetTables", (1, "lake"), codes="UNAVAILABLE", slug="CATALOG_DOWN")
        assert count(reader, "here") == 20
    assert reader.log.read_text().count("out of reach and not listed") == 1


def test_another_catalog_takes_keys_and_maintenance(lake, start, database, tmp_path):
    server = start(database, *lake.options(ducklake(tmp_path / "side.ducklake", f"{tmp_path}/side/", "side")))
    side = ["side", "main", "events"]
    put(server, unit(1), side)
    put(server, unit(1), key="a/1/1")
    with lake.postgres.down():
        # The first key, which the catalog's ledger is made for.
        assert put(server, unit(2, 3), side, key="a/1/1").rows == 3
        assert put(server, unit(2, 3), side, key="a/1/1").duplicate
        server.run("MAINTAIN CATALOG side")
        refused(server.run, "MAINTAIN CATALOG lake", codes="UNAVAILABLE", slug="CATALOG_DOWN")
        jobs = "SELECT job, last_outcome FROM merganser_jobs() ORDER BY job"
        assert server.rows(jobs) == [("maintain lake", "failed"), ("maintain side", "done")]
        assert count(server, "side.events") == 23


@pytest.fixture
def unreachable(lake):
    """Options of a server whose lake is at a PostgreSQL that is not there."""

    def options(catalog):
        lake.postgres.folder, there = "/nowhere", lake.postgres.folder
        try:
            return lake.options(catalog=catalog)
        finally:
            lake.postgres.folder = there

    return options


def test_a_lake_that_is_required_stops_the_start(lake, unreachable, database):
    ended = run_to_exit("--database", database, *unreachable(""))
    assert ended.returncode == 1
    assert "catalog lake" in ended.stderr
    assert "not-asked-for" not in ended.stderr + ended.stdout


def test_one_that_is_not_is_left_out(lake, unreachable, start, database):
    server = start(database, *unreachable("required = false"))
    server.put(unit(1), "events")
    assert count(server, "events") == 20
    told = refused(put, server, unit(1), key="a/1/1", codes="UNAVAILABLE", slug="CATALOG_DOWN")
    told_nothing(told.text, lake)
    # There is no such catalog by DuckDB's word, which a client would take for final.
    for statement in ["FROM lake.main.events", "INSERT INTO lake.main.events VALUES (1)", "CREATE TABLE lake.main.x (i INT)"]:
        told = refused(server.run, statement, codes="UNAVAILABLE", slug="CATALOG_DOWN")
        told_nothing(told.text, lake)
        assert "catalog lake" in told.text
    refused(server.rows, "FROM lake.events", codes="UNAVAILABLE", slug="CATALOG_DOWN")
    refused(server.rows, "FROM lake_of_others.events", slug="NOT_FOUND")
    server.stop()
    log = server.log.read_text()
    assert "a catalog cannot be attached" in log and "lake" in log
    assert "not-asked-for" not in log


def test_one_that_was_missing_at_the_start_comes_back_by_itself(lake, start, database):
    options = lake.options(catalog="required = false")
    with lake.postgres.down():
        server = start(database, *options, *SMALL_BULK)
        refused(put, server, unit(1), key="a/1/1", codes="UNAVAILABLE", slug="CATALOG_DOWN")
        refused(server.run, "MAINTAIN CATALOG lake", codes="UNAVAILABLE", slug="CATALOG_DOWN")
        refused(server.run, "ATTACH ':memory:' AS lake", slug="NOT_ALLOWED")
        assert put(server, unit(1), ["here"], key="a/1/1").rows == 20
        eventually(lambda: "still missing" in server.log.read_text(), "it is tried again", 30)
    # Readers see it, and loaders write.
    eventually(lambda: "a catalog that was missing is there" in server.log.read_text(), "it is back", 60)
    for rows, key in [(20, "a/1/1"), (1000, "a/1/2"), (3, None)]:
        assert put(server, unit(1, rows), key=key).rows == rows
    assert put(server, unit(1), key="a/1/1").duplicate
    assert count(server) == 1023
    assert {row["catalog_name"] for row in ask(server, "CommandGetTables")} == {"db", "lake"}
    assert len(re.findall("loaded an extension.*ducklake", server.log.read_text())) == 1, "not once a try"
    server.run("MAINTAIN CATALOG lake")
    refused(server.run, "DETACH lake", slug="NOT_ALLOWED")
    with lake.postgres.down():
        refused(put, server, unit(2), key="a/1/3", codes="UNAVAILABLE", slug="CATALOG_DOWN")
    assert "not-asked-for" not in server.log.read_text()


@pytest.fixture
def without_storage(lake, tmp_path):
    """The same lake in a bucket of its own, and the end of that bucket."""
    from object_storage import Storage

    lake.storage = storage = Storage()
    yield storage.stop


@pytest.mark.parametrize("rows", [20, 1000])
def test_storage_that_is_away_is_told_without_its_address(lake, without_storage, start, database, rows):
    server = start(database, *lake.options(), *SMALL_BULK)
    put(server, unit(1), key="a/1/1")
    without_storage()
    for call in (
        lambda: put(server, unit(2, rows), key="a/1/2"),
        lambda: put(server, unit(2, rows)),
        lambda: server.run("SELECT count(DISTINCT part) FROM lake.events"),
        lambda: server.run("INSERT INTO lake.events SELECT 'b', 1, range FROM range(100)"),
    ):
        told = refused(call, codes="UNAVAILABLE", slug="CATALOG_DOWN")
        assert lake.storage.endpoint not in told.text and "s3:" not in told.text
    assert server.put(unit(1), "here").rows == 20
