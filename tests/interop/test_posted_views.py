"""Posted rows reach stored views however these name the table, as in a dbt project."""

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import Server, refused

# What dbt writes: every name in full, and names of WITH that hide tables.
STORED = """
CREATE SCHEMA marts;
CREATE TABLE orders AS SELECT 1 AS id, 'stored' AS customer, 10.0 AS amount;
CREATE VIEW stg_orders AS SELECT id, customer, amount FROM "{0}"."main"."orders";
CREATE VIEW marts.per_customer AS
  WITH orders AS (SELECT * FROM "{0}"."main"."stg_orders") SELECT customer, sum(amount) AS amount FROM orders GROUP BY ALL;
CREATE VIEW marts.largest AS SELECT max(amount) AS amount FROM "{0}"."marts"."per_customer";
"""
QUERIES = """
[[query]]
name = "per_customer"
sql = "SELECT customer, amount FROM marts.per_customer WHERE amount >= $least ORDER BY customer"
params.least = { type = "DOUBLE", default = 0 }
[query.input]
name = "orders"
columns = { id = "BIGINT", customer = "VARCHAR", amount = "DOUBLE" }
"""
NESTED = "CREATE VIEW deep AS SELECT " + " + ".join(["amount"] * 200) + ' AS amount FROM "{0}"."main"."orders"'
ROWS = pa.table({"id": [1, 2, 3], "customer": ["Ada", "Bo", "Ada"], "amount": [1.5, 2.0, 4.0]})


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("posted")
    (folder / "queries.toml").write_text(QUERIES)
    stored_by(folder, *STORED.format("shop").split(";")[:-1])
    server = Server(folder / "shop.db", "--config", folder / "queries.toml", log=folder / "log")
    yield server
    server.stop()


def stored_by(folder, *statements):
    """Fills a database by a server without named queries."""
    server = Server(folder / "shop.db", log=folder / "log")
    for statement in statements:
        server.run(statement)
    server.stop()


def exchange(server, path, rows=ROWS):
    writer, reader = server.client.do_exchange(flight.FlightDescriptor.for_path(*path))
    with writer:
        writer.begin(rows.schema)
        writer.write_table(rows)
        writer.done_writing()
        return reader.read_all().to_pydict()


def test_a_named_query_answers_from_views_with_full_names(stored):
    answer = {"customer": ["Ada", "Bo"], "amount": [5.5, 2.0]}
    assert exchange(stored, ["queries", "per_customer"]) == answer
    assert exchange(stored, ["queries", "per_customer", "least=3"]) == {"customer": ["Ada"], "amount": [5.5]}
    # A connection that is kept for the next rows of the same columns.
    assert exchange(stored, ["queries", "per_customer"], ROWS.slice(1, 1)) == {"customer": ["Bo"], "amount": [2.0]}


def test_so_does_sql_of_a_clients_own(stored):
    sql = """SELECT (FROM marts.largest) AS bare, (FROM "shop"."marts"."largest") AS full_name,
                    (SELECT count(*) FROM orders) AS posted, (SELECT count(*) FROM shop.main.orders) AS stored"""
    assert exchange(stored, ["posted", "orders", sql]) == {
        "bare": [5.5], "full_name": [5.5], "posted": [3], "stored": [1],
    }


def test_without_rows_the_views_are_what_they_were(stored):
    assert stored.sql("FROM marts.largest").to_pydict() == {"amount": [10.0]}


def test_a_view_that_changes_is_made_anew(stored):
    stored.run('CREATE VIEW latest AS SELECT max(id) AS id FROM "shop"."main"."orders"')
    assert exchange(stored, ["posted", "orders", "FROM latest"]) == {"id": [3]}
    stored.run('CREATE OR REPLACE VIEW latest AS SELECT min(id) AS id FROM "shop"."main"."orders"')
    assert exchange(stored, ["posted", "orders", "FROM latest"]) == {"id": [1]}
    stored.run("DROP VIEW latest")
    refused(exchange, stored, ["posted", "orders", "FROM latest"], slug="NOT_FOUND")


def test_what_cannot_be_led_to_the_rows_is_not_answered_from_the_table(stored):
    pivot = ["posted", "orders", "PIVOT stg_orders ON customer USING sum(amount)"]
    assert "stored view" in refused(exchange, stored, pivot, slug="NOT_ALLOWED").text
    stored.run(NESTED.format("shop"))
    try:
        assert "shop.main.deep" in refused(exchange, stored, ["posted", "orders", "FROM deep"], slug="NOT_ALLOWED").text
    finally:
        stored.run("DROP VIEW deep")


def test_a_query_that_needs_such_a_view_stops_the_start(tmp_path):
    (tmp_path / "queries.toml").write_text(QUERIES.replace("marts.per_customer", "deep").replace("customer, amount", "amount"))
    stored_by(
        tmp_path, "CREATE TABLE orders AS SELECT 1 AS id, 'a' AS customer, 1.0 AS amount", NESTED.format("shop")
    )
    with pytest.raises(AssertionError, match="shop.main.deep"):
        Server(tmp_path / "shop.db", "--config", tmp_path / "queries.toml", log=tmp_path / "log")


PEOPLE = """
[[query]]
name = "people"
sql = "SELECT surname, firstname FROM people WHERE surname <> 'stored'"
[query.input]
name = "raw_people"
columns = { surname = "VARCHAR", firstname = "VARCHAR" }
"""
# Views that go by the places of columns.
STORED_PEOPLE = (
    "CREATE TABLE raw_people AS SELECT 'stored' AS surname, 'table' AS firstname",
    "CREATE TABLE former_people AS SELECT 'stored' AS surname, 'former' AS firstname",
    "CREATE VIEW people AS SELECT * FROM raw_people UNION ALL SELECT * FROM former_people",
)


def test_views_find_the_columns_in_the_places_in_which_they_are_written(tmp_path):
    (tmp_path / "queries.toml").write_text(PEOPLE)
    stored_by(tmp_path, *STORED_PEOPLE)
    server = Server(tmp_path / "shop.db", "--config", tmp_path / "queries.toml", log=tmp_path / "log")
    # The rows themselves may have any order.
    for names in (["surname", "firstname"], ["firstname", "surname"]):
        rows = pa.table({"surname": ["Turing"], "firstname": ["Alan"]}).select(names)
        assert exchange(server, ["queries", "people"], rows) == {"surname": ["Turing"], "firstname": ["Alan"]}
    server.stop()


@pytest.mark.parametrize("columns", [
    'firstname = "VARCHAR", surname = "VARCHAR"',
    'middle = "VARCHAR", surname = "VARCHAR", firstname = "VARCHAR"',
])  # fmt: skip
def test_columns_in_other_places_than_those_of_the_stored_table_stop_the_start(tmp_path, columns):
    (tmp_path / "queries.toml").write_text(PEOPLE.replace('surname = "VARCHAR", firstname = "VARCHAR"', columns))
    stored_by(tmp_path, *STORED_PEOPLE)
    told = r"query people: .* table shop\.main\.raw_people, .* order: surname, firstname"
    with pytest.raises(AssertionError, match=told):
        Server(tmp_path / "shop.db", "--config", tmp_path / "queries.toml", log=tmp_path / "log")


DAILY = """
[[query]]
name = "daily"
sql = "FROM weekly"
[query.input]
name = "orders"
columns = { id = "BIGINT", customer = "VARCHAR", amount = "DOUBLE" }
"""
# The table in a schema of its own, as dbt has its sources.
STORED_APART = (
    "CREATE SCHEMA raw",
    "CREATE TABLE raw.orders AS SELECT 1 AS id, 'stored' AS customer, 10.0 AS amount",
    'CREATE VIEW daily AS SELECT sum(amount) AS amount FROM "shop"."raw"."orders"',
    "CREATE VIEW weekly AS FROM daily",
)


def test_the_only_table_of_a_name_is_meant_whatever_its_schema(tmp_path):
    (tmp_path / "queries.toml").write_text(DAILY)
    stored_by(tmp_path, *STORED_APART)
    server = Server(tmp_path / "shop.db", "--config", tmp_path / "queries.toml", log=tmp_path / "log")
    assert exchange(server, ["queries", "daily"]) == {"amount": [7.5]}
    assert exchange(server, ["posted", "orders", "FROM weekly"]) == {"amount": [7.5]}
    # Once the rows stand for another table, they are not answered from this one.
    server.run("CREATE TABLE main.orders AS FROM raw.orders")
    for path in (["queries", "daily"], ["posted", "orders", "FROM weekly"]):
        told = refused(exchange, server, path, slug="NOT_ALLOWED").text
        assert "shop.main.weekly reads the stored table shop.raw.orders through shop.main.daily" in told, told
    server.stop()


def test_a_query_that_would_read_another_table_of_the_name_stops_the_start(tmp_path):
    (tmp_path / "queries.toml").write_text(DAILY)
    stored_by(tmp_path, *STORED_APART, "CREATE TABLE main.orders AS FROM raw.orders")
    told = r"query daily: .* shop\.main\.weekly reads the stored table shop\.raw\.orders .* stand for shop\.main\.orders"
    with pytest.raises(AssertionError, match=told):
        Server(tmp_path / "shop.db", "--config", tmp_path / "queries.toml", log=tmp_path / "log")
