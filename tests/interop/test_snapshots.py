"""A query's answer is the truth of one moment, also when data arrives between planning and fetching.

DuckDB builds the statistics of the data into a prepared plan. Run after the data has changed, such a plan answers
wrongly: values cut to the width that used to be enough, rows left out because none could have matched.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

SMALL = [12, 112, 132, 7]
LARGE = [500, 900, 70_000, -5_000_000_000]
STALE_PLANS = [
    "SELECT x FROM t ORDER BY x DESC",
    "SELECT count(*) AS n FROM t WHERE x > 200",
    "SELECT DISTINCT x FROM t ORDER BY x",
    "SELECT x, count(*) AS n FROM t GROUP BY x ORDER BY x",
    "SELECT a.x FROM t a JOIN t b USING (x) ORDER BY a.x",
    "SELECT x + 1 AS y FROM t WHERE x IS NOT NULL ORDER BY y",
    "SELECT count(*) AS n FROM t WHERE x IS NULL",
    "SELECT row_number() OVER (ORDER BY x) AS i, x FROM t ORDER BY x NULLS LAST",
]


def numbers(*values):
    return pa.table({"x": pa.array(values, pa.int64())})


@pytest.fixture
def expected():
    """What DuckDB in process says of all the data."""
    with duckdb.connect() as db:
        db.execute("CREATE TABLE t (x BIGINT)")
        db.executemany("INSERT INTO t VALUES (?)", [[x] for x in (*SMALL, *LARGE, None)])
        yield lambda sql: db.execute(sql).to_arrow_table().to_pylist()


@pytest.mark.parametrize("sql", STALE_PLANS)
def test_ticket_fetched_after_more_data_arrived(server, expected, sql):
    server.put(numbers(*SMALL), "t")
    [endpoint] = server.client.get_flight_info(flight.FlightDescriptor.for_command(sql)).endpoints
    server.put(numbers(*LARGE, None), "t")
    assert server.client.do_get(endpoint.ticket).read_all().to_pylist() == expected(sql)


@pytest.mark.parametrize("sql", STALE_PLANS)
def test_statement_prepared_before_more_data_arrived(server, expected, sql):
    server.put(numbers(*SMALL), "t")
    with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.adbc_prepare(sql)
        server.run(f"INSERT INTO t VALUES {', '.join(f'({x})' for x in LARGE)}, (NULL)")
        assert cursor.execute(sql).fetch_arrow_table().to_pylist() == expected(sql)


def test_every_answer_under_constant_ingest_is_of_one_moment(server):
    """A loader counts up in ever larger steps; an answer must be all values up to some point, in order."""
    step = 251  # the first units fit a byte, soon none does
    units = [[unit * unit * step + row for row in range(5)] for unit in range(2000)]
    acknowledged, enough = [0], threading.Event()
    server.put(numbers(*units[0]), "t")

    def load():
        with flight.connect(server.uri) as client:
            for number, unit in enumerate(units[1:], start=1):
                writer, _ = client.do_put(flight.FlightDescriptor.for_path("t"), numbers().schema)
                writer.write_table(numbers(*unit))
                writer.close()
                acknowledged[0] = number
                if enough.is_set():
                    return

    loader = threading.Thread(target=load)
    loader.start()
    try:
        for _ in range(100):
            descriptor = flight.FlightDescriptor.for_command("SELECT x FROM t ORDER BY x DESC")
            [endpoint] = server.client.get_flight_info(descriptor).endpoints
            at_least = acknowledged[0] + 1
            answer = server.client.do_get(endpoint.ticket).read_all()["x"].to_pylist()
            assert len(answer) >= at_least * 5
            assert answer[::-1] == [x for unit in units[: len(answer) // 5] for x in unit]
    finally:
        enough.set()
        loader.join()


def test_a_large_upload_is_seen_whole_or_not_at_all(server):
    """DuckDB shows the rows of a parallel INSERT of over 122,880 rows to everyone while its COMMIT is under way;
    an upload must not enter in that way."""
    size, writes = 250_000, 50
    data = pa.table({name: pa.array(range(size)) for name in ("x", "a", "b", "c", "d", "e")})  # 12 MB: a bulk upload
    server.put(data.slice(0, 0), "t")

    def write():
        for _ in range(writes):
            server.put(data, "t")

    seen = []
    with flight.connect(server.uri) as client, ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        while not writer.done():
            seen += client.do_get(flight.Ticket(b"SELECT count(x) AS n FROM t WHERE x >= 0")).read_all()["n"].to_pylist()
        writer.result()
    assert seen == sorted(seen)
    assert {count % size for count in seen} == {0}
    assert server.rows("SELECT count(*) FROM t") == [(size * writes,)]


def test_ticket_whose_schema_has_changed_is_refused(server):
    server.put(numbers(*SMALL), "t")
    [endpoint] = server.client.get_flight_info(flight.FlightDescriptor.for_path("t")).endpoints
    server.run("ALTER TABLE t ALTER x TYPE VARCHAR")
    refused(
        lambda: server.client.do_get(endpoint.ticket).read_all(), codes="FAILED_PRECONDITION", slug="SCHEMA_CHANGED"
    )


def test_reader_in_mid_stream_keeps_its_snapshot(server):
    server.run("CREATE TABLE t AS SELECT range AS x FROM range(3000000)")
    reader = server.client.do_get(flight.Ticket(b"FROM t"))
    first = reader.read_chunk().data
    server.put(numbers(-1), "t")
    server.run("UPDATE t SET x = -2 WHERE x = 2999999")
    rest = reader.read_all()
    assert first.num_rows + rest.num_rows == 3_000_000
    assert min(first["x"].to_pylist()) == 0
    assert rest["x"].to_numpy().min() > 0
