"""Named queries and posted rows, from pyarrow alone and from a stock driver."""

import threading

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from client import eventually
from harness import Server, refused

TOML = """
[[query]]
name = "by_region"
description = "Totals of the regions."
sql = '''
  SELECT region, sum(amount) AS total FROM sales WHERE $region IS NULL OR region = $region
  GROUP BY region HAVING sum(amount) >= $min_total ORDER BY region
'''
returns = { region = "VARCHAR", total = "BIGINT" }
[query.params]
min_total = { type = "BIGINT", default = 0 }
region = { type = "VARCHAR", optional = true }

[[query]]
name = "since"
sql = "SELECT amount FROM sales WHERE day >= $day ORDER BY amount"
params.day = { type = "DATE" }

[[query]]
name = "heavy"
sql = "SELECT name, kilograms, count(*) OVER () AS posted FROM heavy_animals WHERE kilograms >= $least ORDER BY name"
params.least = { type = "DOUBLE", default = 0.0 }
[query.input]
name = "animals"
columns = { name = "VARCHAR", grams = "BIGINT" }
"""

# The view that the posted rows reach through another view, as a dbt project would have it.
INIT = """
CREATE TABLE IF NOT EXISTS sales AS
  SELECT 'r' || range % 3 AS region, range AS amount, DATE '2024-01-01' + range::INTEGER AS day FROM range(9);
CREATE TABLE IF NOT EXISTS animals (name VARCHAR, grams BIGINT);
CREATE OR REPLACE VIEW stg_animals AS SELECT name, grams / 1000 AS kilograms FROM animals;
CREATE OR REPLACE VIEW heavy_animals AS FROM stg_animals WHERE kilograms > 1;
"""


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    folder = tmp_path_factory.mktemp("named")
    (folder / "merganser.toml").write_text(TOML)
    (folder / "init.sql").write_text(INIT)
    options = ["--config", folder / "merganser.toml", "--init-sql", folder / "init.sql"]
    server = Server(folder / "db.duckdb", *options, log=folder / "log")
    yield server
    server.stop()


def path(*parts):
    return flight.FlightDescriptor.for_path(*parts)


def get(server, *parts):
    info = server.client.get_flight_info(path("queries", *parts))
    table = server.client.do_get(info.endpoints[0].ticket).read_all()
    assert table.schema == info.schema
    return table


def exchange(server, descriptor, rows):
    writer, reader = server.client.do_exchange(descriptor)
    with writer:
        writer.begin(rows.schema)
        writer.write_table(rows)
        writer.done_writing()
        return reader.read_all()


class TestByPath:
    def test_defaults_and_values(self, named):
        assert get(named, "by_region").to_pydict() == {"region": ["r0", "r1", "r2"], "total": [9, 12, 15]}
        assert get(named, "by_region", "min_total=10", "region=r2").to_pydict() == {"region": ["r2"], "total": [15]}
        assert get(named, "since", "day=2024-01-08").to_pydict() == {"amount": [7, 8]}

    def test_its_schema_is_known_before(self, named):
        schema = named.client.get_schema(path("queries", "by_region")).schema
        assert schema == pa.schema({"region": pa.string(), "total": pa.int64()})

    def test_they_are_listed_with_their_schemas(self, named):
        listed = {tuple(info.descriptor.path): info for info in named.client.list_flights()}
        info = listed[(b"queries", b"by_region")]
        assert info.schema == pa.schema({"region": pa.string(), "total": pa.int64()})
        # What there is to fetch depends on parameters and rows.
        assert info.endpoints == [] and (b"queries", b"heavy") in listed

    def test_pages(self, named):
        assert get(named, "by_region", "limit=1", "offset=1").to_pydict() == {"region": ["r1"], "total": [12]}

    @pytest.mark.parametrize(
        "parts, total",
        [
            (["by_region"], -1),
            (["by_region", "total=false"], -1),
            (["by_region", "total=true"], 3),
            (["by_region", "total=1", "limit=1", "offset=1", "min_total=10"], 2),
            (["by_region", "total=true", "region=nowhere"], 0),
        ],
    )
    def test_the_number_of_all_rows_where_it_is_asked_for(self, named, parts, total):
        assert named.client.get_flight_info(path("queries", *parts)).total_records == total

    @pytest.mark.parametrize(
        "parts, slug, text",
        [
            (["by_region", "total=perhaps"], "BAD_PARAMETER", "true or false"),
            (["by_region", "min_total=many", "total=true"], "BAD_PARAMETER", "min_total is of type BIGINT"),
            (["nothing"], "QUERY_NOT_FOUND", "nothing"),
            (["by_region", "min_total=many"], "BAD_PARAMETER", "min_total is of type BIGINT"),
            (["by_region", "colour=red"], "BAD_PARAMETER", "min_total"),
            (["by_region", "region"], "BAD_PARAMETER", "name=value"),
            (["by_region", "region=a", "region=b"], "BAD_PARAMETER", "twice"),
            (["by_region", "limit=-1"], "BAD_PARAMETER", "limit"),
            (["since"], "BAD_PARAMETER", "day"),
            (["by_region", "min_total=9223372036854775808"], "BAD_PARAMETER", "min_total is of type BIGINT"),
            (["since", "day=soon"], "BAD_PARAMETER", 'day is of type DATE; "soon" is not: invalid date field format'),
            (["heavy"], "ROWS_WANTED", "DoExchange"),
        ],
    )
    def test_what_is_wrong_is_named(self, named, parts, slug, text):
        assert text in refused(get, named, *parts, slug=slug).text


class TestBySql:
    def test_a_driver_calls_it_as_a_table(self, named):
        with named.adbc() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT * FROM queries.by_region(min_total := 10)")
            assert cursor.fetchall() == [("r1", 12), ("r2", 15)]
            cursor.execute("SELECT total FROM queries.by_region(region := ?)", ["r2"])
            assert cursor.fetchall() == [(15,)]

    def test_a_driver_learns_which_there_are(self, named):
        with named.adbc() as connection, connection.cursor() as cursor:
            cursor.execute("FROM merganser_queries()")
            cards = {card["name"]: card for card in cursor.fetch_arrow_table().to_pylist()}
        assert list(cards) == ["by_region", "since", "heavy"]
        assert cards["by_region"]["description"] == "Totals of the regions."
        (region, least) = cards["by_region"]["parameters"]
        assert region == {
            "name": "region", "type": "VARCHAR", "required": False, "default": None, "description": None,
        }  # fmt: skip
        assert (least["name"], least["default"]) == ("min_total", "0")
        assert cards["since"]["parameters"][0]["required"] and cards["since"]["input"] is None
        assert cards["by_region"]["columns"] == [
            {"name": "region", "type": "VARCHAR"}, {"name": "total", "type": "BIGINT"},
        ]  # fmt: skip
        assert cards["heavy"]["input"] == {
            "name": "animals",
            "columns": [{"name": "name", "type": "VARCHAR"}, {"name": "grams", "type": "BIGINT"}],
        }

    def test_a_temporary_table_of_the_session_is_seen_by_a_view(self, named):
        named.run("CREATE TEMP TABLE animals AS SELECT 'cow' AS name, 600000 AS grams")
        assert named.rows("SELECT name FROM heavy_animals") == [("cow",)]
        named.run("DROP TABLE temp.animals")


ANIMALS = pa.table({"name": ["mouse", "cow", "dog"], "grams": [20, 600_000, 20_000]})


class TestPostedRows:
    def test_a_query_answers_from_them(self, named):
        answer = exchange(named, path("queries", "heavy", "least=30"), ANIMALS)
        assert answer.to_pydict() == {"name": ["cow"], "kilograms": [600.0], "posted": [1]}
        assert named.rows("SELECT count(*) FROM animals") == [(0,)]

    def test_columns_may_come_in_any_order_and_of_any_type_that_fits(self, named):
        rows = pa.table({"GRAMS": pa.array([5000], pa.int32()), "name": pa.array(["cat"]).dictionary_encode()})
        assert exchange(named, path("queries", "heavy"), rows)["name"].to_pylist() == ["cat"]

    def test_what_would_be_rounded_is_refused(self, named):
        whole = pa.table({"grams": [2000.0, None]})
        assert exchange(named, path("queries", "heavy", "least=1"), whole)["kilograms"].to_pylist() == [2.0]
        rows = pa.table({"grams": [2000.0, 1.5]})
        told = refused(exchange, named, path("queries", "heavy"), rows, slug="CONVERSION")
        assert 'row 2 has 1.5 in "grams", which is no whole number' in told.text
        refused(exchange, named, path("queries", "heavy"), pa.table({"grams": ["1.5"]}), slug="CONVERSION")

    def test_a_column_that_is_missing_is_null(self, named):
        rows = pa.table({"grams": [5000]})
        assert exchange(named, path("queries", "heavy"), rows)["name"].to_pylist() == [None]

    def test_no_rows_at_all(self, named):
        assert exchange(named, path("queries", "heavy"), ANIMALS.slice(0, 0)).num_rows == 0

    def test_any_query_over_rows_under_any_name(self, named):
        sql = "SELECT sum(grams) AS grams FROM zoo JOIN sales ON grams = amount * 10"
        answer = exchange(named, path("posted", "zoo", sql), ANIMALS)
        assert answer["grams"].to_pylist() == [20]

    def test_those_of_the_next_request_take_their_place(self, named):
        sql = "SELECT count(*) AS n, coalesce(sum(grams), 0)::BIGINT AS grams FROM zoo"
        for count in (3, 20_000, 0, 1, 5_000):
            rows = pa.table({"grams": pa.array(range(count), pa.int64())})
            answer = exchange(named, path("posted", "zoo", sql), rows).to_pydict()
            assert answer == {"n": [count], "grams": [sum(range(count))]}

    def test_a_sum_over_more_rows_than_before_does_not_overflow(self, named):
        sql = "SELECT sum(CASE WHEN grams > 0 THEN 5000000000000000000 ELSE 0 END)::VARCHAR AS s FROM zoo"
        for count in (1, 3, 1, 5):
            answer = exchange(named, path("posted", "zoo", sql), pa.table({"grams": [1] * count}))
            assert answer["s"].to_pylist() == [str(count * 5 * 10**18)]

    def test_the_next_request_sees_what_was_committed_since(self, named):
        sql = "SELECT name, price FROM zoo JOIN prices USING (name) WHERE price > 5 ORDER BY price"
        named.run("CREATE TABLE prices AS SELECT 'cow' AS name, 10 AS price")
        for price in range(11, 16):
            prices = exchange(named, path("posted", "zoo", sql), ANIMALS)["price"].to_pylist()
            assert prices == list(range(10, price))
            named.run(f"INSERT INTO prices VALUES ('cow', {price})")
        named.run("DROP TABLE prices")
        refused(exchange, named, path("posted", "zoo", sql), ANIMALS, slug="NOT_FOUND")

    def test_rows_that_fail_leave_the_next_request_alone(self, named):
        sql = "SELECT CASE WHEN grams > 100 THEN error('too heavy') ELSE grams::VARCHAR END AS g FROM zoo"
        for _ in range(3):
            assert "too heavy" in refused(exchange, named, path("posted", "zoo", sql), ANIMALS).text
            assert exchange(named, path("posted", "zoo", sql), ANIMALS.slice(0, 1))["g"].to_pylist() == ["20"]

    def test_one_that_is_broken_off_leaves_no_connection(self, named):
        sql = "SELECT zoo.grams FROM zoo, range(1_000_000_000)"
        rows = pa.table({"grams": range(1000)})

        def connections():
            return named.rows("FROM duckdb_connection_count()")[0][0]

        def break_off():
            # Without rows it ends at once, and leaves its plan to the next.
            assert exchange(named, path("posted", "zoo", sql), rows.slice(0, 0)).num_rows == 0
            writer, reader = named.client.do_exchange(path("posted", "zoo", sql))
            writer.begin(rows.schema)
            writer.write_table(rows)
            writer.done_writing()
            assert reader.read_chunk().data.num_rows > 0
            reader.cancel()

        break_off()
        before = connections()
        for _ in range(10):
            break_off()
        eventually(lambda: connections() <= before + 1, "the connections are closed")

    def test_many_at_once_never_see_each_others(self, named):
        wrong = []

        def ask(number):
            client = flight.connect(named.uri)
            for turn in range(20):
                grams = 2_000 * (1 + number * 100 + turn)
                writer, reader = client.do_exchange(path("queries", "heavy"))
                with writer:
                    rows = pa.table({"name": [f"a{number}"] * 3, "grams": [grams] * 3})
                    writer.begin(rows.schema)
                    writer.write_table(rows)
                    writer.done_writing()
                    answer = reader.read_all().to_pydict()
                if answer != {"name": [f"a{number}"] * 3, "kilograms": [grams / 1000] * 3, "posted": [3] * 3}:
                    wrong.append(answer)

        threads = [threading.Thread(target=ask, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    @pytest.mark.parametrize(
        "descriptor, rows, slug",
        [
            (path("queries", "nothing"), ANIMALS, "QUERY_NOT_FOUND"),
            (path("queries", "by_region"), ANIMALS, "BAD_PARAMETER"),
            (path("queries", "heavy", "least=much"), ANIMALS, "BAD_PARAMETER"),
            (path("queries", "heavy", "total=true"), ANIMALS, "BAD_PARAMETER"),
            (path("queries", "heavy"), pa.table({"wings": [2]}), "SCHEMA_MISMATCH"),
            (path("queries", "heavy"), pa.table({"grams": ["many"]}), "CONVERSION"),
            (path("posted", "zoo", "INSERT INTO sales SELECT name, grams, today() FROM zoo"), ANIMALS, "NOT_ALLOWED"),
            (path("posted", "zoo", "SELECT * FROM zoo; SELECT 1"), ANIMALS, "MULTI_STATEMENT"),
            (path("posted", "zoo", "SELEC"), ANIMALS, "SYNTAX"),
            (path("posted", "", "SELECT 1"), ANIMALS, "BAD_NAME"),
            (path("posted", "zoo", "FROM zoo"), pa.table({"a": [1], "A": [2]}), "SCHEMA_MISMATCH"),
            (path("zoo"), ANIMALS, "NO_DESCRIPTOR"),
        ],
    )
    def test_what_is_wrong_is_refused(self, named, descriptor, rows, slug):
        refused(exchange, named, descriptor, rows, slug=slug)
        assert named.rows("SELECT count(*) FROM sales") == [(9,)]
