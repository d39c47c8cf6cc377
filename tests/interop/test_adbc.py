"""The stock ADBC Flight SQL driver, through its DBAPI and through pandas."""

import datetime as dt
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest

from harness import refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

PEOPLE = pa.table({"id": [1, 2, 3], "name": ["Ada", None, "Grace"]})
MORE = pa.table({"id": [4], "name": ["Edsger"]})


@pytest.fixture(params=[True, False], ids=["autocommit", "driver's default"])
def connection(request, server):
    """A connection in both modes; in the second, what was written counts once it is committed."""
    with server.adbc(**({"autocommit": True} if request.param else {})) as connection:
        yield connection


@pytest.fixture
def cursor(server):
    with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
        yield cursor


def test_user_and_password_are_no_obstacle_where_none_are_asked_for(server):
    with server.adbc(db_kwargs={"username": "ada", "password": "lovelace?"}, autocommit=True) as connection:
        with connection.cursor() as cursor:
            assert cursor.execute("SELECT 1").fetchall() == [(1,)]


class TestExecute:
    def test_query_to_rows_and_to_arrow(self, connection):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 42 AS answer, 'x' AS s")
            assert [column[0] for column in cursor.description] == ["answer", "s"]
            assert cursor.fetchall() == [(42, "x")]
            cursor.execute("SELECT range AS i FROM range(100000) ORDER BY i")
            assert cursor.fetch_arrow_table()["i"].to_pylist() == list(range(100_000))

    def test_ddl_and_dml_have_happened_when_execute_returns(self, connection, server):
        # Closed at once, nothing fetched: the driver then drops the statement's DoGet.
        for statement in (
            "CREATE TABLE t (x INTEGER)",
            "INSERT INTO t VALUES (1), (2), (3)",
            "UPDATE t SET x = x * 10 WHERE x > 1",
            "DELETE FROM t WHERE x = 20",
        ):
            with connection.cursor() as cursor:
                cursor.execute(statement)
        connection.commit()
        assert server.rows("FROM t ORDER BY x") == [(1,), (30,)]

    def test_statement_runs_once_however_it_is_fetched(self, cursor, server):
        server.run("CREATE TABLE t (x INTEGER)")
        cursor.execute("INSERT INTO t VALUES (1)")
        cursor.fetchall()
        cursor.execute("INSERT INTO t VALUES (2) RETURNING x")
        assert cursor.fetchall() == [(2,)]
        assert server.rows("FROM t ORDER BY x") == [(1,), (2,)]

    def test_sequence_advances_by_one_each_time(self, cursor):
        cursor.execute("CREATE OR REPLACE SEQUENCE s")
        values = [cursor.execute("SELECT nextval('s')").fetchall() for _ in range(3)]
        cursor.execute("DROP SEQUENCE s")
        assert values == [[(1,)], [(2,)], [(3,)]]

    def test_rows_affected(self, cursor):
        cursor.execute("CREATE TABLE t AS SELECT range AS x FROM range(10)")
        cursor.executemany("UPDATE t SET x = x + 100 WHERE x < ?", [(4,)])
        assert cursor.rowcount == 4
        cursor.executemany("DELETE FROM t WHERE x = ?", [(100,), (101,), (-1,)])
        assert cursor.rowcount == 2
        cursor.executemany("DELETE FROM t", None)
        assert cursor.rowcount == 8

    def test_one_connection_serves_cursors_side_by_side(self, connection):
        with connection.cursor() as one, connection.cursor() as other:
            one.execute("SELECT range AS i FROM range(300000)")
            first = one.fetchone()
            assert other.execute("SELECT 'other'").fetchall() == [("other",)]
            assert [first, *one.fetchall()] == [(i,) for i in range(300_000)]

    def test_partitions_can_be_read_after_the_statement_is_closed(self, cursor, server):
        partitions, schema = cursor.adbc_execute_partitions("SELECT range AS i FROM range(3)")
        assert schema == pa.schema([("i", pa.int64())])
        with server.adbc(autocommit=True) as other, other.cursor() as reader:
            reader.adbc_read_partition(*partitions)
            assert reader.fetchall() == [(0,), (1,), (2,)]

    def test_schema_without_running(self, cursor):
        assert cursor.adbc_execute_schema("SELECT 1 AS a, error('not run') AS b").names == ["a", "b"]

    def test_error_leaves_the_connection_usable(self, connection):
        with connection.cursor() as cursor:
            assert "^" in refused(cursor.execute, "SELEC 1", codes="INVALID_ARGUMENT").text
            refused(cursor.execute, "FROM no_such_table", codes="NOT_FOUND")
            refused(lambda: cursor.execute("SELECT error('boom')").fetchall(), codes="INVALID_ARGUMENT")
        connection.rollback()
        with connection.cursor() as cursor:
            assert cursor.execute("SELECT 1").fetchall() == [(1,)]

    @pytest.mark.parametrize("first", ["SELECT 1", "INSERT INTO t VALUES (1)", "DROP TABLE t"])
    def test_second_statement_is_refused_and_the_first_not_run(self, cursor, server, first):
        server.put(PEOPLE, "t")
        refused(cursor.execute, f"{first}; SELECT 2", codes="INVALID_ARGUMENT", slug="MULTI_STATEMENT")
        assert server.sql("FROM t").equals(PEOPLE)


PARAMETERS = [
    42,
    -(2**63),
    0.5,
    "",
    "naïve 🦆 '; DROP TABLE t; --",
    True,
    None,
    b"\x00\xff",
    dt.date(2024, 2, 29),
    dt.datetime(2024, 2, 29, 12, 30, 15, 999_999),
    dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.timezone.utc),
    dt.time(23, 59, 59, 1),
    Decimal("-12345.678"),
]


class TestParameters:
    @pytest.mark.parametrize("value", PARAMETERS, ids=repr)
    def test_come_back_unchanged(self, cursor, value):
        cursor.execute("SELECT ? AS v, ? IS NULL AS missing", (value, value))
        [(returned, missing)] = cursor.fetchall()
        assert (returned, missing) == (value, value is None)
        assert type(returned) is type(value)

    @pytest.mark.parametrize("value", PARAMETERS, ids=repr)
    def test_are_stored_and_found(self, cursor, value):
        kind = {int: "BIGINT", float: "DOUBLE", str: "VARCHAR", bool: "BOOLEAN", bytes: "BLOB", dt.date: "DATE",
                dt.time: "TIME", Decimal: "DECIMAL(18, 3)", type(None): "INTEGER"}.get(type(value))  # fmt: skip
        if isinstance(value, dt.datetime):
            kind = "TIMESTAMPTZ" if value.tzinfo else "TIMESTAMP"
        cursor.execute(f"CREATE TABLE t (v {kind})")
        cursor.execute("INSERT INTO t VALUES (?)", (value,))
        found = cursor.execute("SELECT v FROM t WHERE v IS NOT DISTINCT FROM ?", (value,)).fetchall()
        assert found == [(value,)]

    def test_by_number_and_of_many_types(self, cursor):
        cursor.execute("SELECT $2 || $1, upper($1), $3 + 1", ("a", "b", 41))
        assert cursor.fetchall() == [("ba", "A", 42)]

    def test_bind_anew_each_time(self, cursor):
        query = "SELECT ? * 2 AS v"
        assert [cursor.execute(query, (i,)).fetchall() for i in range(5)] == [[(i * 2,)] for i in range(5)]

    def test_missing_or_superfluous_are_refused(self, cursor):
        refused(lambda: cursor.execute("SELECT ? + ?", (1,)).fetchall(), codes="INVALID_ARGUMENT")
        refused(lambda: cursor.execute("SELECT ?", (1, 2)).fetchall(), codes="INVALID_ARGUMENT")

    def test_schema_is_announced(self, cursor, server):
        server.put(PEOPLE, "people")
        schema = cursor.adbc_prepare("SELECT name FROM people WHERE id = ? AND name = ?")
        assert schema.types == [pa.int64(), pa.utf8()]

    def test_executemany_inserts_every_row(self, connection, server):
        rows = [(i, f"name {i}" if i % 3 else None, i / 2) for i in range(500)]
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE t (id BIGINT, name VARCHAR, x DOUBLE)")
            cursor.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
            assert cursor.rowcount == 500
        connection.commit()
        assert server.rows("FROM t ORDER BY id") == rows

    def test_executemany_is_all_or_nothing(self, cursor, server):
        server.run("CREATE TABLE t (x BIGINT PRIMARY KEY)")
        refused(cursor.executemany, "INSERT INTO t VALUES (?)", [(1,), (2,), (1,)], codes="ALREADY_EXISTS")
        assert server.rows("SELECT count(*) FROM t") == [(0,)]


class TestIngest:
    @pytest.fixture
    def people(self, cursor):
        cursor.adbc_ingest("people", PEOPLE, mode="create")

    @pytest.mark.parametrize("mode", ["create", "replace", "create_append"])
    def test_into_a_missing_table_creates_it(self, connection, server, mode):
        with connection.cursor() as cursor:
            assert cursor.adbc_ingest("people", PEOPLE, mode=mode) == 3
        connection.commit()
        assert server.sql("FROM people ORDER BY id").equals(PEOPLE)

    @pytest.mark.parametrize("mode", ["append", "create_append"])
    def test_into_an_existing_table_appends(self, cursor, server, people, mode):
        assert cursor.adbc_ingest("people", MORE, mode=mode) == 1
        assert server.sql("FROM people ORDER BY id").to_pylist() == [*PEOPLE.to_pylist(), *MORE.to_pylist()]

    def test_replace_replaces_rows_and_columns(self, cursor, server, people):
        other = pa.table({"only": [1.5]})
        assert cursor.adbc_ingest("people", other, mode="replace") == 1
        assert server.sql("FROM people").equals(other)

    def test_create_on_an_existing_table_is_refused(self, cursor, server, people):
        refused(cursor.adbc_ingest, "people", MORE, "create", codes="ALREADY_EXISTS")
        assert server.sql("FROM people ORDER BY id").equals(PEOPLE)

    def test_append_to_a_missing_table_is_refused(self, cursor, server):
        refused(cursor.adbc_ingest, "people", MORE, "append", codes="NOT_FOUND")
        refused(server.sql, "FROM people", codes="NOT_FOUND")

    def test_of_other_columns_is_refused_with_nothing_written(self, cursor, server, people):
        refusal = refused(
            cursor.adbc_ingest, "people", pa.table({"id": [9], "surprise": [1]}), "append", slug="SCHEMA_MISMATCH"
        )
        assert "surprise" in refusal.text
        assert server.sql("FROM people ORDER BY id").equals(PEOPLE)

    def test_of_a_failing_replace_keeps_the_old_table(self, cursor, server, people):
        duplicate = pa.schema([("a", pa.int64()), ("a", pa.int64())])
        refused(cursor.adbc_ingest, "people", pa.table([[1], [2]], schema=duplicate), "replace")
        assert server.sql("FROM people ORDER BY id").equals(PEOPLE)

    def test_of_a_stream_of_batches_is_one_unit(self, cursor, server):
        batches = [pa.record_batch({"i": range(n * 1000, n * 1000 + 1000)}) for n in range(20)]
        reader = pa.RecordBatchReader.from_batches(batches[0].schema, iter(batches))
        assert cursor.adbc_ingest("t", reader, mode="create") == 20_000
        assert server.rows("SELECT count(*), sum(i)::BIGINT FROM t") == [(20_000, 199_990_000)]

    def test_into_a_schema_and_catalog(self, cursor, server):
        server.run("CREATE SCHEMA IF NOT EXISTS s")
        cursor.adbc_ingest("people", PEOPLE, mode="create", catalog_name="db", db_schema_name="s")
        assert server.sql("FROM db.s.people ORDER BY id").equals(PEOPLE)
        refused(lambda: cursor.adbc_ingest("t", PEOPLE, mode="create", db_schema_name="nowhere"), codes="NOT_FOUND")


class TestMetadata:
    @pytest.fixture(autouse=True)
    def objects(self, server):
        server.run("CREATE SCHEMA IF NOT EXISTS s")
        server.run("CREATE TABLE people (id BIGINT NOT NULL, name VARCHAR, score DECIMAL(5, 2))")
        server.run("CREATE TABLE s.people_too (x DOUBLE)")
        server.run("CREATE VIEW names AS SELECT name FROM people")

    @pytest.fixture
    def get_objects(self, cursor, server):
        """{catalog: {schema: {table: (type, [columns])}}}, None where the depth ends."""

        def nested(depth, **filters):
            reader = connection.adbc_get_objects(depth=depth, **filters)
            with reader:
                catalogs = reader.read_all().to_pylist()
            return {
                catalog["catalog_name"]: catalog["catalog_db_schemas"]
                and {
                    schema["db_schema_name"]: schema["db_schema_tables"]
                    and {
                        table["table_name"]: (
                            table["table_type"],
                            table["table_columns"] and [column["column_name"] for column in table["table_columns"]],
                        )
                        for table in schema["db_schema_tables"]
                    }
                    for schema in catalog["catalog_db_schemas"]
                }
                for catalog in catalogs
            }

        with server.adbc(autocommit=True) as connection:
            yield nested

    def test_objects_to_the_depth_of_catalogs(self, get_objects):
        assert not get_objects("catalogs")["db"]

    def test_objects_to_the_depth_of_schemas(self, get_objects):
        schemas = get_objects("db_schemas")["db"]
        assert {"main", "s"} <= set(schemas)
        assert not schemas["main"]

    def test_objects_to_the_depth_of_tables(self, get_objects):
        schemas = get_objects("tables")["db"]
        assert {name: (kind, bool(columns)) for name, (kind, columns) in schemas["main"].items()} == {
            "people": ("TABLE", False),
            "names": ("VIEW", False),
        }
        assert set(schemas["s"]) == {"people_too"}

    @pytest.mark.parametrize("depth", ["columns", "all"])
    def test_objects_to_the_depth_of_columns(self, get_objects, depth):
        assert get_objects(depth)["db"]["main"] == {
            "people": ("TABLE", ["id", "name", "score"]),
            "names": ("VIEW", ["name"]),
        }

    @pytest.mark.parametrize(
        "filters, found",
        [
            ({"table_name_filter": "people"}, {"people"}),
            ({"table_name_filter": "people%"}, {"people", "people_too"}),
            ({"table_name_filter": "peopl_"}, {"people"}),
            ({"table_name_filter": "no such table"}, set()),
            ({"db_schema_filter": "s"}, {"people_too"}),
            ({"catalog_filter": "db", "table_types_filter": ["VIEW"]}, {"names"}),
            ({"catalog_filter": "no such catalog"}, set()),
        ],
        ids=str,
    )
    def test_objects_by_filter(self, get_objects, filters, found):
        objects = get_objects("tables", **filters).get("db") or {}
        assert {name for tables in objects.values() for name in tables or ()} == found

    def test_table_schema(self, cursor, server):
        with server.adbc(autocommit=True) as connection:
            schema = connection.adbc_get_table_schema("people", db_schema_filter="main")
            assert schema.names == ["id", "name", "score"]
            assert schema.types == [pa.int64(), pa.utf8(), pa.decimal128(5, 2)]
            assert [field.nullable for field in schema] == [False, True, True]
            with pytest.raises(connection.ProgrammingError, match="NOT_FOUND"):
                connection.adbc_get_table_schema("no such table")

    def test_table_types(self, server):
        with server.adbc(autocommit=True) as connection:
            assert {"TABLE", "VIEW"} <= set(connection.adbc_get_table_types())

    def test_info(self, server):
        with server.adbc(autocommit=True) as connection:
            info = connection.adbc_get_info()
        assert info["vendor_name"] == "Merganser"
        assert info["vendor_version"]


class TestPandas:
    def test_read_sql(self, server):
        server.put(PEOPLE, "people")
        with server.adbc(autocommit=True) as connection:
            frame = pd.read_sql("SELECT id, name FROM people ORDER BY id", connection)
        assert frame["id"].tolist() == [1, 2, 3]
        assert frame["name"].isna().tolist() == [False, True, False]

    @pytest.mark.parametrize("if_exists, ids", [("append", [1, 2, 3]), ("replace", [3])])
    def test_to_sql(self, server, if_exists, ids):
        with server.adbc(autocommit=True) as connection:
            pd.DataFrame({"id": [1, 2]}).to_sql("frame", connection, index=False)
            pd.DataFrame({"id": [3]}).to_sql("frame", connection, index=False, if_exists=if_exists)
        assert server.sql("SELECT id FROM frame ORDER BY id")["id"].to_pylist() == ids
