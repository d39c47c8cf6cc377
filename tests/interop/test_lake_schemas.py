"""Tables that are made in a lake while its snapshots expire: DuckLake frees what it knows of the tables before."""

import threading

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from client import Client
from harness import refusal
from loaders import put, unit

SCHEMA = "a_schema_of_the_lake_that_has_a_long_name"
AN_HOUR_IS_KEPT = """
[catalog.maintenance]
expire_after = "1h"
"""
# What is freed is overwritten, so that a server which reads it then fails.
OVERWRITTEN = {"MALLOC_PERTURB_": "165"}


@pytest.fixture
def server(lake, start, database):
    server = start(database, *lake.options(catalog=AN_HOUR_IS_KEPT), environment=OVERWRITTEN)
    server.run(f"CREATE SCHEMA lake.{SCHEMA}")
    server.run(f"CREATE TABLE lake.{SCHEMA}.t (x BIGINT)")
    return server


@pytest.mark.parametrize(
    "change",
    [
        f"CREATE TABLE lake.{SCHEMA}.made (x BIGINT)",
        f"CREATE VIEW lake.{SCHEMA}.made AS SELECT 1 AS x",
        f"ALTER TABLE lake.{SCHEMA}.t RENAME TO made",
        f"USE lake.{SCHEMA}; CREATE TABLE made (x BIGINT)",
    ],
)
def test_a_transaction_keeps_what_its_changes_rest_on(lake, server, change):
    lake.age()
    with Client(server.uri) as client:
        *before, change = change.split("; ")
        for statement in ["BEGIN", *before, change]:
            client.run(statement)
        server.run("MAINTAIN CATALOG lake")
        if "RENAME" in change:
            # Whose table has another name by then is refused where anybody has committed since.
            with pytest.raises(pa.ArrowException) as late:
                client.run("COMMIT")
            assert refusal(late.value, codes="ABORTED").slug == "CONFLICT"
            client.run(change)
        else:
            client.run("COMMIT")
    assert server.sql(f"FROM lake.{SCHEMA}.made").column_names == ["x"]


def test_so_does_one_with_an_upload(lake, server):
    lake.age()
    with Client(server.uri) as client, client.transaction() as transaction:
        client.ingest(pa.table({"x": [1]}), "made", "create", transaction, catalog="lake", schema=SCHEMA)
        server.run("MAINTAIN CATALOG lake")
        client.commit(transaction)
    assert server.rows(f"FROM lake.{SCHEMA}.made") == [(1,)]


def test_so_do_units_that_make_their_tables(lake, server):
    """Nothing can come between in one of these, so many of them run beside maintenance."""
    done = threading.Event()

    def maintain():
        while not done.is_set():
            lake.age(last=10)  # none that a commit may still be compared with
            try:
                server.run("MAINTAIN CATALOG lake")
            except flight.FlightError as error:
                # Of a ledger that is never at rest it may be that nothing can be flushed.
                assert refusal(error).slug == "CONFLICT"

    maintenance = threading.Thread(target=maintain)
    maintenance.start()
    try:
        tables = [f"t{number}" for number in range(20)]
        for table in tables:
            put(server, unit(1), ("lake", SCHEMA, table), key=f"{table}/1/1")
    finally:
        done.set()
        maintenance.join()
    for table in tables:
        assert server.rows(f"SELECT count(*) FROM lake.{SCHEMA}.{table}") == [(20,)]
