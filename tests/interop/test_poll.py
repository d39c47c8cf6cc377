"""PollFlightInfo as the stock ADBC driver uses it: incremental execution, over and over until nothing is left."""

import pytest

pytestmark = pytest.mark.usefixtures("no_tables_left_over")


@pytest.fixture
def cursor(server):
    with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.statement.exec.incremental": "true"})
        yield cursor


def partitions(cursor, statement):
    """All partitions, and the progress that the driver had been told with each answer."""
    driver = cursor.adbc_statement
    driver.set_sql_query(statement)
    found, progress = [], []
    while True:
        new, _, _ = driver.execute_partitions()
        if not new:
            return found, progress
        found += new
        progress.append(driver.get_option_float("adbc.statement.exec.progress"))


def test_a_query_is_complete_at_once(cursor):
    found, progress = partitions(cursor, "SELECT range AS i FROM range(1000)")
    assert (len(found), progress) == (1, [1.0])
    cursor.adbc_read_partition(found[0])
    assert cursor.fetchall() == [(i,) for i in range(1000)]


def test_a_long_statement_is_polled_to_its_end_and_runs_once(cursor, server):
    server.run("CREATE TABLE source AS SELECT range AS i FROM range(3000000)")
    statement = "CREATE TABLE made AS SELECT i, md5(md5(md5(md5(i::VARCHAR)))) AS t FROM source"
    found, progress = partitions(cursor, statement)
    assert (len(found), progress[-1]) == (1, 1.0)
    assert server.rows("SELECT count(*) FROM made") == [(3_000_000,)]


def test_an_error_ends_the_polling(cursor, server):
    server.run("CREATE TABLE t (x BIGINT PRIMARY KEY)")
    with pytest.raises(Exception, match="DUPLICATE_KEY"):
        partitions(cursor, "INSERT INTO t VALUES (1), (1)")
    assert server.rows("SELECT count(*) FROM t") == [(0,)]
