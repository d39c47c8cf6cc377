"""Flight SQL's catalog, judged by DuckDB's own over the same file: through the ADBC driver, and as commands."""

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import Server
from wire import sql_command

CATALOG = r'''
    CREATE SCHEMA s;
    CREATE SCHEMA "s_1";
    CREATE SEQUENCE numbers;
    CREATE TYPE mood AS ENUM ('so', 'la''la');
    CREATE TABLE people (id BIGINT PRIMARY KEY DEFAULT nextval('numbers'), name VARCHAR NOT NULL, score DECIMAL(5, 2));
    CREATE TABLE people_too (a INTEGER, b INTEGER, person BIGINT REFERENCES people, PRIMARY KEY (b, a));
    CREATE TABLE "peopleXtoo" (x INTEGER);
    CREATE TABLE s.tree (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES s.tree (id), a INTEGER UNIQUE);
    CREATE TABLE s_1.pair (x INTEGER, y INTEGER, m mood, l mood[], st STRUCT("a b" TIMESTAMPTZ), u UUID);
    CREATE TABLE pairs (p INTEGER, q INTEGER, FOREIGN KEY (p, q) REFERENCES people_too (b, a));
    CREATE TABLE "it's ""Ü"", 日本\" ("c ""1""" INTEGER, "%" VARCHAR);
    CREATE VIEW names AS SELECT name, score FROM people;
    COMMENT ON COLUMN people.name IS 'what the ''person'' is called, Ü';
    COMMENT ON COLUMN names.score IS 'of a view';
'''


class Truth:
    """What DuckDB says, read before the server opens the file."""

    def __init__(self, path):
        with duckdb.connect(path) as connection:
            connection.execute(CATALOG)
            rows = lambda sql: connection.execute(sql).fetchall()  # noqa: E731
            self.columns = rows(
                "SELECT schema_name, table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns() "
                "WHERE database_name = 'db' ORDER BY schema_name, table_name, column_index"
            )
            self.tables = rows(
                "SELECT table_schema, table_name, replace(table_type, 'BASE ', '') FROM information_schema.tables "
                "WHERE table_catalog = 'db' ORDER BY ALL"
            )
            self.keys = rows(
                "SELECT schema_name, table_name, constraint_name, constraint_column_names FROM duckdb_constraints() "
                "WHERE constraint_type = 'PRIMARY KEY' ORDER BY ALL"
            )
            self.foreign = rows(
                "SELECT schema_name, table_name, constraint_name, constraint_column_names, referenced_table, "
                "referenced_column_names FROM duckdb_constraints() WHERE constraint_type = 'FOREIGN KEY' ORDER BY ALL"
            )
            self.keywords = {word for (word,) in rows("SELECT keyword_name FROM duckdb_keywords()")}
            self.functions = {name for (name,) in rows("SELECT function_name FROM duckdb_functions() WHERE internal")}
            self.schemas = {}
            for schema, table, _ in self.tables:
                name = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table))
                self.schemas[schema, table] = connection.execute(f"FROM {name}").to_arrow_table().schema


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("metadata")


@pytest.fixture(scope="module")
def truth(folder):
    return Truth(str(folder / "db.duckdb"))


@pytest.fixture(scope="module")
def server(folder, truth):
    server = Server(folder / "db.duckdb", log=folder / "log")
    yield server
    server.stop()


@pytest.fixture
def adbc(server):
    with server.adbc(autocommit=True) as connection:
        yield connection


def ask(server, name, *fields):
    """The answer to a command, whose announced schema is that of the rows."""
    descriptor = flight.FlightDescriptor.for_command(sql_command(name, *fields))
    info = server.client.get_flight_info(descriptor)
    table = server.client.do_get(info.endpoints[0].ticket).read_all()
    assert info.schema == table.schema == server.client.get_schema(descriptor).schema
    return table


def rows(table):
    return list(zip(*(column.to_pylist() for column in table.columns)))


def objects(adbc, depth, **filters):
    """{(schema, table): (type, columns)} of the catalog `db`."""
    with adbc.adbc_get_objects(depth=depth, **filters) as reader:
        catalogs = {catalog["catalog_name"]: catalog for catalog in reader.read_all().to_pylist()}
    found = {}
    for schema in catalogs.get("db", {}).get("catalog_db_schemas") or ():
        for table in schema["db_schema_tables"] or ():
            found[schema["db_schema_name"], table["table_name"]] = (table["table_type"], table["table_columns"])
    return found


class TestObjects:
    def test_tables_are_those_of_the_catalog(self, adbc, truth):
        found = objects(adbc, "tables")
        assert sorted((*name, kind) for name, (kind, _) in found.items()) == truth.tables

    def test_columns_are_those_of_the_catalog_in_order(self, adbc, truth):
        found = [
            (schema, table, column["column_name"], column["xdbc_type_name"])
            for (schema, table), (_, columns) in sorted(objects(adbc, "all").items())
            for column in sorted(columns, key=lambda column: column["ordinal_position"])
        ]
        assert found == [column[:4] for column in truth.columns]

    @pytest.mark.parametrize(
        "pattern, found",
        [
            (r"people\_too", {"people_too"}),
            ("people_too", {"people_too", "peopleXtoo"}),
            ("people%", {"people", "people_too", "peopleXtoo"}),
            ("PEOPLE", set()),
            ('it\'s "Ü", 日本\\', {'it\'s "Ü", 日本\\'}),
            ("%日本%", {'it\'s "Ü", 日本\\'}),
            ("", set()),
        ],
    )
    def test_tables_by_pattern(self, server, pattern, found):
        table = ask(server, "CommandGetTables", (3, pattern))
        assert set(table["table_name"].to_pylist()) == found

    def test_columns_by_pattern(self, adbc):
        found = objects(adbc, "columns", table_name_filter="people", column_name_filter="n%")
        assert [column["column_name"] for column in found["main", "people"][1]] == ["name"]

    @pytest.mark.parametrize("schema, found", [("s", {"s"}), ("s_1", {"s_1"}), (r"s\_1", {"s_1"}), ("s%", {"s", "s_1"})])
    def test_tables_by_schema(self, adbc, schema, found):
        assert {schema for schema, _ in objects(adbc, "tables", db_schema_filter=schema)} == found

    def test_nothing_internal_is_listed_unless_it_is_named(self, server):
        assert rows(ask(server, "CommandGetCatalogs")) == [("db",)]
        assert rows(ask(server, "CommandGetDbSchemas")) == [("db", "main"), ("db", "s"), ("db", "s_1")]
        named = ask(server, "CommandGetDbSchemas", (2, "information_schema"))
        assert rows(named) == [("system", "information_schema")]


class TestTableSchema:
    def test_types_are_those_of_a_select(self, adbc, server, truth):
        for schema, table in truth.schemas:
            described = adbc.adbc_get_table_schema(table, db_schema_filter=schema)
            quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table))
            selected = server.sql(f"FROM {quoted}").schema
            assert described.names == selected.names == truth.schemas[schema, table].names
            assert described.types == selected.types

    def test_nullability_is_the_tables_own(self, adbc, truth):
        for schema, table, column, _, nullable, _ in truth.columns:
            described = adbc.adbc_get_table_schema(table, db_schema_filter=schema)
            assert described.field(column).nullable == nullable, (schema, table, column)

    def test_a_table_is_found_beside_one_that_its_name_is_a_pattern_for(self, adbc):
        assert adbc.adbc_get_table_schema("people_too").names == ["a", "b", "person"]

    def test_comments_are_those_of_the_catalog(self, server, truth):
        """The ADBC driver does not pass them on."""
        found = []
        for schema, table, columns in rows(ask(server, "CommandGetTables", (5, 1)).select([1, 2, 4])):
            for field in pa.ipc.read_schema(pa.py_buffer(columns)):
                comment = field.metadata.get(b"ARROW:FLIGHT:SQL:REMARKS")
                found.append((schema, table, field.name, comment and comment.decode()))
        assert sorted(found, key=str) == sorted(((*column[:3], column[5]) for column in truth.columns), key=str)


class TestKeys:
    def test_primary_keys_are_those_of_the_catalog(self, server, truth):
        for schema, table, name, columns in truth.keys:
            found = rows(ask(server, "CommandGetPrimaryKeys", (1, "db"), (2, schema), (3, table)))
            assert found == [
                ("db", schema, table, column, name, sequence) for sequence, column in enumerate(columns, 1)
            ]

    def test_foreign_keys_are_those_of_the_catalog(self, server, truth):
        assert len(truth.foreign) == 3
        for schema, table, name, columns, primary, primary_columns in truth.foreign:
            expected = [
                ("db", schema, primary, its, "db", schema, table, own, sequence, name)
                for sequence, (own, its) in enumerate(zip(columns, primary_columns), 1)
            ]
            imported = ask(server, "CommandGetImportedKeys", (2, schema), (3, table))
            exported = ask(server, "CommandGetExportedKeys", (2, schema), (3, primary))
            between = ask(
                server, "CommandGetCrossReference", (2, schema), (3, primary), (5, schema), (6, table)
            )
            for keys in (imported, exported, between):
                assert [row[:10] for row in rows(keys)] == expected
                assert {row[11:] for row in rows(keys)} == {(3, 3)}

    def test_no_such_table_has_no_keys(self, server):
        for command in ("CommandGetPrimaryKeys", "CommandGetImportedKeys", "CommandGetExportedKeys"):
            assert not rows(ask(server, command, (3, "no such table")))


class TestServer:
    def test_word_lists_are_those_of_duckdb(self, server, truth):
        info = dict(rows(ask(server, "CommandGetSqlInfo")))
        assert set(info[508]) == truth.keywords
        for functions in (info[509], info[510], info[511], info[512]):
            assert set(functions) <= truth.functions
        numeric, string, system, datetime = info[509], info[510], info[511], info[512]
        assert {"abs", "sqrt", "round"} <= set(numeric) and "lower" not in numeric
        assert {"lower", "trim", "regexp_replace"} <= set(string) and "sqrt" not in string
        assert {"version", "current_user"} <= set(system)
        assert {"date_trunc", "now", "strftime"} <= set(datetime) and "lower" not in datetime

    def test_conversions_are_those_of_duckdb(self, server):
        """By the ids of SqlSupportsConvert."""
        samples = {
            0: "1::BIGINT", 1: "'1'::BLOB", 2: "true", 3: "'1'", 4: "DATE '2026-01-31'", 5: "1.5::DECIMAL(9, 1)",
            6: "1::DOUBLE", 7: "1::INTEGER", 8: "INTERVAL 1 DAY", 9: "INTERVAL 1 YEAR", 10: "'1'::BLOB", 11: "'1'",
            12: "1.5::DECIMAL(9, 1)", 13: "1::FLOAT", 14: "1::SMALLINT", 15: "TIME '01:00:00'",
            16: "TIMESTAMP '2026-01-31'", 17: "1::TINYINT", 18: "'1'::BLOB", 19: "'1'",
        }  # fmt: skip
        (value,) = ask(server, "CommandGetSqlInfo", (1, b"\x85\x04"))["value"].to_pylist()
        listed = {(of, to) for of, targets in value for to in targets}
        connection = duckdb.connect()
        for of, sample in samples.items():
            for to, target in samples.items():
                (name,) = connection.execute(f"SELECT typeof({target})").fetchone()
                try:
                    connection.execute(f"SELECT CAST({sample} AS {name})").fetchall()
                    possible = True
                except duckdb.ConversionException as error:
                    possible = "Unimplemented" not in str(error)
                assert ((of, to) in listed) == possible, (sample, target)

    def test_info_through_adbc(self, adbc):
        info = adbc.adbc_get_info()
        assert info["vendor_name"] == "Merganser"
        assert info["vendor_version"].startswith(f"duckdb v{duckdb.__version__} ")

    def test_table_types(self, adbc):
        assert adbc.adbc_get_table_types() == ["LOCAL TEMPORARY", "TABLE", "VIEW"]

    def test_types_can_be_asked_for_by_number(self, server):
        all_types = rows(ask(server, "CommandGetXdbcTypeInfo"))
        assert len(all_types) > 30
        integers = rows(ask(server, "CommandGetXdbcTypeInfo", (1, 4)))
        assert [row[0] for row in integers] == ["INTEGER", "UINTEGER"]
        assert integers == [row for row in all_types if row[1] == 4]
