"""SQL over a lake, as any client of the server writes it: changes, transactions, partitions, time travel, metadata."""

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from client import Client
from harness import refused
from loaders import count, put, unit
from wire import sql_command


@pytest.fixture(scope="module")
def server(tmp_path_factory, postgres, bucket):
    from lake import lake_server

    with lake_server(tmp_path_factory.mktemp("server"), postgres, bucket) as server:
        yield server


@pytest.fixture(autouse=True)
def no_table_left_over(server):
    yield
    for catalog, schema, table in server.rows(
        "SELECT table_catalog, table_schema, table_name FROM information_schema.tables"
        " WHERE table_catalog IN ('lake', 'db') AND table_schema NOT LIKE '\\_\\_%' ESCAPE '\\'"
    ):
        server.run(f"DROP TABLE {catalog}.{schema}.{table}")


@pytest.fixture
def cursor(server):
    with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


def rows(server, table="lake.t"):
    return server.rows(f"SELECT x, v FROM {table} ORDER BY x")


def test_tables_are_made_changed_and_dropped(server, cursor):
    cursor.execute("CREATE TABLE lake.t (x BIGINT, v VARCHAR)")
    cursor.execute("INSERT INTO lake.t SELECT range, 'a' FROM range(20)")
    cursor.execute("UPDATE lake.t SET v = 'b' WHERE x < 2")
    cursor.execute("DELETE FROM lake.t WHERE x >= 3")
    assert rows(server) == [(0, "b"), (1, "b"), (2, "a")]
    cursor.execute("MERGE INTO lake.t USING (SELECT 2 AS x) s ON t.x = s.x WHEN MATCHED THEN UPDATE SET v = 'c'")
    cursor.execute("ALTER TABLE lake.t ADD COLUMN w INTEGER DEFAULT 7")
    cursor.execute("INSERT INTO lake.t VALUES (?, ?, ?)", parameters=(3, "d", None))
    assert server.rows("SELECT x, v, w FROM lake.t WHERE x > 1 ORDER BY x") == [(2, "c", 7), (3, "d", None)]
    cursor.execute("ALTER TABLE lake.t RENAME COLUMN v TO vv")
    assert server.sql("FROM lake.t").column_names == ["x", "vv", "w"]
    cursor.execute("DROP TABLE lake.t")
    refused(server.run, "FROM lake.t", slug="NOT_FOUND")


def test_the_driver_ingests_into_it(server, cursor):
    sent = unit(1)
    cursor.adbc_ingest("t", sent, mode="create", catalog_name="lake", db_schema_name="main")
    cursor.adbc_ingest("t", sent, mode="append", catalog_name="lake", db_schema_name="main")
    assert count(server, "lake.t") == 40


def test_a_transaction_is_committed_or_rolled_back(server):
    server.run("CREATE TABLE lake.t (x BIGINT, v VARCHAR)")
    with Client(server.uri) as client:
        for end, expected in [(client.rollback, []), (client.commit, [(1, "a"), (2, "b")])]:
            with client.transaction() as transaction:
                client.update("INSERT INTO lake.t VALUES (1, 'a')", transaction)
                client.update("INSERT INTO lake.t VALUES (2, 'b')", transaction)
                assert client.one("SELECT count(*) FROM lake.t", transaction) == 2
                assert rows(server) == []
                end(transaction)
            assert rows(server) == expected


def test_so_is_one_in_sql(server):
    server.run("CREATE TABLE lake.t (x BIGINT, v VARCHAR)")
    server.run("BEGIN; INSERT INTO lake.t VALUES (1, 'a'); ROLLBACK")
    server.run("BEGIN; INSERT INTO lake.t VALUES (2, 'b'); INSERT INTO lake.t VALUES (3, 'c'); COMMIT")
    assert rows(server) == [(2, "b"), (3, "c")]


def test_an_upload_inside_a_transaction_goes_with_it(server):
    server.run("CREATE TABLE lake.t (x BIGINT, v VARCHAR)")
    sent = pa.table({"x": [1, 2], "v": ["a", "b"]})
    with Client(server.uri) as client:
        for end, expected in [(client.rollback, []), (client.commit, [(0, "z"), (1, "a"), (2, "b")])]:
            with client.transaction() as transaction:
                client.update("INSERT INTO lake.t VALUES (0, 'z')", transaction)
                ack = client.ingest(sent, "t", "append", transaction, catalog="lake", schema="main")
                assert (ack.rows, ack.committed) == (2, False)
                end(transaction)
            assert rows(server) == expected


def test_a_transaction_writes_to_one_catalog(server):
    for table in ("lake.t", "here"):
        server.run(f"CREATE TABLE {table} (x BIGINT, v VARCHAR)")
    with Client(server.uri) as client:
        for first, second in [("lake.t", "here"), ("here", "lake.t")]:
            with client.transaction() as transaction:
                client.update(f"INSERT INTO {first} VALUES (1, 'a')", transaction)
                write = f"INSERT INTO {second} VALUES (1, 'a')"
                told = refused(client.update, write, transaction, codes="UNIMPLEMENTED", slug="UNSUPPORTED")
                assert "single attached database" in told.text
    assert rows(server) == rows(server, "here") == []


def test_a_partitioned_table_takes_uploads(server):
    server.run("CREATE TABLE lake.t (loader VARCHAR, unit BIGINT, part BIGINT)")
    server.run("ALTER TABLE lake.t SET PARTITIONED BY (unit)")
    both = pa.concat_tables([unit(1), unit(2)])
    put(server, both, ("lake", "main", "t"), key="partitions/1/1")
    put(server, unit(2), ("lake", "main", "t"), merge_keys="unit,part")
    files = server.rows("SELECT data_file FROM ducklake_list_files('lake', 't')")
    assert any("unit=1/" in file for (file,) in files) and any("unit=2/" in file for (file,) in files)
    assert server.rows("SELECT unit, count(*) FROM lake.t GROUP BY unit ORDER BY unit") == [(1, 20), (2, 20)]


@pytest.mark.parametrize("key", [None, "partitioned/1/1"])
def test_a_new_table_is_partitioned_as_its_upload_says(server, key):
    table = pa.table({"region": ["n", "s"], "at": pa.array([0, 10**15], pa.timestamp("us"))})
    put(server, table, ("lake", "main", "t"), key, partition_by="region, year(at)")
    put(server, table, ("lake", "main", "t"), partition_by="at")  # it has its partitions
    files = [file for (file,) in server.rows("SELECT data_file FROM ducklake_list_files('lake', 't')")]
    for part in ("region=n/year=1970/", "region=s/year=2001/"):
        assert len([file for file in files if part in file]) == 2, files
    assert count(server, "lake.t") == 4
    refused(put, server, table, ("lake", "main", "u"), partition_by="week(at)", slug="BAD_OPTION")
    refused(put, server, table, ("lake", "main", "u"), partition_by="nothing", slug="SCHEMA_MISMATCH")
    refused(put, server, table, ["u"], partition_by="region", slug="SCHEMA_MISMATCH")


def test_the_past_is_there(server):
    for number in (1, 2, 3):
        put(server, unit(number), ("lake", "main", "t"))
    listed = server.rows("SELECT snapshot_id FROM lake.snapshots() ORDER BY snapshot_id")
    versions = [version for (version,) in listed][-3:]
    assert [count(server, f"lake.t AT (VERSION => {version})") for version in versions] == [20, 40, 60]
    times = server.rows("SELECT snapshot_time::VARCHAR FROM lake.snapshots() ORDER BY snapshot_id")[-3:]
    assert [count(server, f"lake.t AT (TIMESTAMP => TIMESTAMPTZ '{time}')") for (time,) in times] == [20, 40, 60]
    server.run("DELETE FROM lake.t WHERE unit = 1")
    assert count(server, "lake.t") == 40
    assert count(server, f"lake.t AT (VERSION => {versions[-1]})") == 60
    changes = f"lake.table_changes('t', {versions[0] + 1}, {versions[-1] + 1})"
    assert server.rows(f"SELECT change_type, count(*) FROM {changes} GROUP BY ALL ORDER BY ALL") == [
        ("delete", 20), ("insert", 40),
    ]  # fmt: skip


def listed(server, name, *fields):
    info = server.client.get_flight_info(flight.FlightDescriptor.for_command(sql_command(name, *fields)))
    table = server.client.do_get(info.endpoints[0].ticket).read_all()
    return [tuple(row.values()) for row in table.to_pylist()]


def test_what_is_there_is_listed_and_not_the_servers_own(server):
    put(server, unit(1), ("lake", "main", "t"), key="listed/1/1")
    server.run("CREATE SCHEMA IF NOT EXISTS lake.other; CREATE TABLE lake.other.u (x INT)")
    catalogs = [name for (name,) in listed(server, "CommandGetCatalogs")]
    assert "lake" in catalogs and "db" in catalogs
    schemas = listed(server, "CommandGetDbSchemas")
    assert {("lake", "main"), ("lake", "other")} <= set(schemas)
    tables = listed(server, "CommandGetTables", (1, "lake"))
    assert sorted(row[:3] for row in tables) == [("lake", "main", "t"), ("lake", "other", "u")]
    flights = ["/".join(part.decode() for part in info.descriptor.path) for info in server.client.list_flights()]
    assert any("lake" in path and path.endswith("t") for path in flights)
    for shown in (catalogs, schemas, tables, flights, listed(server, "CommandGetTables")):
        assert "__" not in str(shown), shown
    with server.adbc(autocommit=True) as connection:
        objects = connection.adbc_get_objects(depth="columns").read_all().to_pylist()
        assert "lake" in [catalog["catalog_name"] for catalog in objects]
        assert "__merganser" not in str(objects) and "__ducklake_metadata" not in str(objects)
        assert connection.adbc_get_table_schema("t", catalog_filter="lake", db_schema_filter="main").names == [
            "loader", "unit", "part",
        ]  # fmt: skip


def test_sql_lists_do_not_hide_the_tables(server):
    put(server, unit(1), ("lake", "main", "t"))
    names = server.rows("SELECT table_name FROM duckdb_tables() WHERE database_name = 'lake' AND schema_name = 'main'")
    assert names == [("t",)]


@pytest.mark.parametrize(
    "sql",
    [
        "DETACH lake",
        "DETACH DATABASE IF EXISTS lake",
        "DETACH LAKE",
        'DETACH "lake"',
        "ATTACH ':memory:' AS lake",
        "ATTACH OR REPLACE ':memory:' AS lake",
        "ATTACH IF NOT EXISTS ':memory:' AS Lake",
        "CREATE SCHEMA lake",
        "CREATE SCHEMA IF NOT EXISTS db.lake",
        "FROM postgres_query('__ducklake_metadata_lake', 'SELECT 1')",
        "CALL postgres_execute('__ducklake_metadata_lake', 'SELECT 1')",
        "FROM __ducklake_metadata_lake.ducklake_snapshot",
        "DETACH __ducklake_metadata_lake",
        "DELETE FROM lake.__merganser.ingest_units",
        "DROP SCHEMA lake.__merganser CASCADE",
        "FROM lake.__merganser.ingest_fence",
    ],
)
def test_what_the_server_keeps_is_refused(server, sql):
    told = refused(server.run, sql)
    assert told.code == "PERMISSION_DENIED", told
    put(server, unit(1), ("lake", "main", "t"))
    assert count(server, "lake.t") == 20


def test_no_client_sees_the_password(server):
    secret = "not-asked-for"
    for table in [
        "duckdb_databases()",
        "duckdb_secrets()",
        "duckdb_settings()",
        "duckdb_logs()",
        "lake.options()",
        "which_secret('x', 'postgres')",
    ]:
        try:
            found = str(server.rows(f"SELECT t::VARCHAR FROM {table} AS t"))
        except Exception as error:
            found = str(error)
        assert secret not in found, table
    assert "redacted" in server.rows("SELECT secret_string FROM duckdb_secrets() WHERE name = 'pg'")[0][0]
    for sql in ["SELECT * FROM duckdb_secrets(redact := false)", "SET allow_unredacted_secrets = true"]:
        refused(server.run, sql)
    assert secret not in server.log.read_text()
