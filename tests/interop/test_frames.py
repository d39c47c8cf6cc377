"""pandas and Polars over ADBC connections; DuckDB in process says what every result should be."""

import duckdb
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from harness import refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

TABLE = """CREATE TABLE kinds AS
    SELECT i AS id, 'row ' || i AS name, i / 4 AS share, i % 2 = 0 AS even, CASE WHEN i % 3 > 0 THEN i END AS gaps,
           DATE '2024-02-28' + i::INTEGER AS day, TIMESTAMP '2024-02-29 12:30:15.999999' + to_hours(i) AS moment,
           (i * 1.25)::DECIMAL(18, 3) AS price, [i, NULL] AS list, {'a': i, 'b': 'x' || i} AS struct
    FROM range(1000) AS t(i)"""
QUERIES = [
    "SELECT * FROM kinds ORDER BY id",
    "SELECT even, count(*) AS n, sum(price) AS price, max(moment) AS latest FROM kinds GROUP BY even ORDER BY even",
    "SELECT id, day FROM kinds WHERE false",
]


@pytest.fixture(scope="module")
def judge():
    connection = duckdb.connect()
    connection.execute(TABLE)
    yield connection
    connection.close()


@pytest.fixture(params=[True, False], ids=["autocommit", "driver's default"])
def connection(request, server):
    with server.adbc(**({"autocommit": True} if request.param else {})) as connection:
        yield connection


class TestPandas:
    @pytest.mark.parametrize("query", QUERIES)
    def test_read_sql_gives_duckdb_s_rows(self, connection, server, judge, query):
        server.run(TABLE)
        expected = judge.sql(query).to_arrow_table()
        frame = pd.read_sql(query, connection, dtype_backend="pyarrow")
        pd.testing.assert_frame_equal(frame, expected.to_pandas(types_mapper=pd.ArrowDtype))

    @pytest.mark.parametrize("if_exists, ids", [("append", [1, 2, 3]), ("replace", [3])])
    def test_to_sql(self, connection, server, if_exists, ids):
        server.run("CREATE SCHEMA IF NOT EXISTS s")
        pd.DataFrame({"id": [1, 2]}).to_sql("frame", connection, schema="s", index=False)
        pd.DataFrame({"id": [3]}).to_sql("frame", connection, schema="s", index=False, if_exists=if_exists)
        connection.commit()
        assert server.rows("SELECT id FROM s.frame ORDER BY id") == [(i,) for i in ids]

    def test_to_sql_does_not_overwrite_unasked(self, connection, server):
        frame = pd.DataFrame({"id": [1, 2]})
        frame.to_sql("frame", connection, index=False)
        with pytest.raises(ValueError, match="already exists"):
            frame.to_sql("frame", connection, index=False)

    def test_what_was_written_is_read_back(self, connection, judge):
        written = judge.sql(QUERIES[0]).to_arrow_table().to_pandas(types_mapper=pd.ArrowDtype)
        written.to_sql("frame", connection, index=False)
        frame = pd.read_sql("SELECT * FROM frame ORDER BY id", connection, dtype_backend="pyarrow")
        pd.testing.assert_frame_equal(frame, written)


class TestPolars:
    @pytest.mark.parametrize("query", QUERIES)
    def test_read_database_gives_duckdb_s_rows(self, connection, server, judge, query):
        server.run(TABLE)
        assert_frame_equal(pl.read_database(query, connection), judge.sql(query).pl())

    def test_read_database_in_batches(self, connection, server, judge):
        server.run(TABLE)
        frames = pl.read_database(QUERIES[0], connection, iter_batches=True, batch_size=100)
        assert_frame_equal(pl.concat(frames), judge.sql(QUERIES[0]).pl())

    def test_read_database_with_parameters(self, connection, server, judge):
        server.run(TABLE)
        query = "SELECT id, name FROM kinds WHERE id < ? AND even ORDER BY id"
        frame = pl.read_database(query, connection, execute_options={"parameters": [10]})
        assert_frame_equal(frame, judge.execute(query, [10]).pl())

    def test_read_database_uri(self, server, judge):
        server.run(TABLE)
        uri = server.uri.replace("grpc://", "flightsql://") + "?transport=tcp"
        assert_frame_equal(pl.read_database_uri(QUERIES[0], uri, engine="adbc"), judge.sql(QUERIES[0]).pl())

    @pytest.mark.parametrize(
        "if_table_exists, ids", [("append", [1, 2, None, 3]), ("replace", [3])], ids=["append", "replace"]
    )
    def test_write_database(self, connection, server, if_table_exists, ids):
        server.run("CREATE SCHEMA IF NOT EXISTS s")
        first, second = pl.DataFrame({"id": [1, 2, None]}), pl.DataFrame({"id": [3]})
        assert first.write_database("s.frame", connection, engine="adbc") == 3
        assert second.write_database("s.frame", connection, engine="adbc", if_table_exists=if_table_exists) == 1
        connection.commit()
        assert sorted(server.rows("SELECT id FROM s.frame"), key=repr) == sorted([(i,) for i in ids], key=repr)

    def test_write_database_does_not_overwrite_unasked(self, connection, server):
        frame = pl.DataFrame({"id": [1]})
        frame.write_database("frame", connection, engine="adbc")
        connection.commit()
        refused(lambda: frame.write_database("frame", connection, engine="adbc"), codes="ALREADY_EXISTS")
        connection.rollback()
        assert server.rows("FROM frame") == [(1,)]

    def test_what_was_written_is_read_back(self, connection, judge):
        written = judge.sql(QUERIES[0]).pl()
        written.write_database("frame", connection, engine="adbc")
        assert_frame_equal(pl.read_database("SELECT * FROM frame ORDER BY id", connection), written)
