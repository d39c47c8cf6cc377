"""What is deleted in a lake stays deleted beside maintenance, and a table that is replaced loses no rows of another server."""

import pyarrow.flight as flight
import pytest

from client import Client
from configuration import lake_of_files
from harness import refusal, refused
from loaders import put, unit
from test_activity import in_background, until

T = ("lake", "main", "t")
CHANGES = {
    "update": "UPDATE lake.c SET n = n + 1 WHERE id = 100",
    "delete": "DELETE FROM lake.c WHERE id = 100",
    "many": "DELETE FROM lake.c WHERE id % 100 < 50",
    "merge": "MERGE INTO lake.c USING (SELECT 100 AS id, 7 AS n) AS new ON c.id = new.id"
    " WHEN MATCHED THEN UPDATE SET n = new.n WHEN NOT MATCHED THEN INSERT VALUES (new.id, new.n)",
}
# Takes a while, and gives one row.
SLOWLY = "(SELECT count(*) AS n FROM range(40000) AS x(i), range(12000) AS y(j) WHERE hash(i, j) <> 3)"


@pytest.fixture(params=["file", "postgres", "two servers"])
def servers(request, start, tmp_path):
    """Those of one lake: the one that changes it, and the one that maintains it."""
    if request.param in ("postgres", "two servers"):
        lake = request.getfixturevalue("lake")
        names = "ab" if request.param == "two servers" else "a"
        started = [start(tmp_path / f"{name}.db", *lake.options()) for name in names]
        return started[0], started[-1]
    server = start(tmp_path / "a.db", *lake_of_files(tmp_path))
    return server, server


@pytest.fixture
def pair(lake, start, tmp_path):
    """Two servers of one lake, with a table."""
    servers = [start(tmp_path / f"{name}.db", *lake.options()) for name in "ab"]
    put(servers[0], unit(1), T)
    return servers


def fill(server):
    server.run("CREATE TABLE lake.c (id BIGINT, n BIGINT)")
    for number in range(4):
        server.run(f"INSERT INTO lake.c SELECT {number} * 100 + range, 0 FROM range(100)")
    server.run("CREATE TABLE expected AS FROM lake.c")


def differences(server):
    return server.rows("(FROM lake.c EXCEPT ALL FROM expected) UNION ALL (FROM expected EXCEPT ALL FROM lake.c)")


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("first", [CHANGES["update"], "SELECT sum(n) FROM lake.c"], ids=["changed", "read"])
def test_maintenance_brings_nothing_back_that_an_open_transaction_deletes(servers, first, change):
    server, other = servers
    fill(server)
    with Client(server.uri) as client:
        client.run("BEGIN")
        client.run(first)
        other.run("MAINTAIN CATALOG lake")
        try:
            client.run(change)
            client.run("COMMIT")
            committed = True
        except flight.FlightError as error:
            refusal(error, codes="ABORTED", slug="CONFLICT")
            committed = False
    if committed:
        for done in (first, change):
            if not done.startswith("SELECT"):
                server.run(done.replace("lake.c", "expected").replace("c.id", "expected.id"))
    assert differences(server) == []
    other.run("MAINTAIN CATALOG lake")
    assert differences(server) == []


@pytest.mark.parametrize("reads_first", [False, True], ids=["at once", "after a read"])
@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE OR REPLACE TABLE lake.t AS FROM lake.t"],
        ["CREATE TABLE lake.n AS FROM lake.t", "DROP TABLE lake.t", "ALTER TABLE lake.n RENAME TO t"],
        ["CREATE TABLE lake.n AS FROM lake.t", "ALTER TABLE lake.t RENAME TO o", "ALTER TABLE lake.n RENAME TO t"],
    ],
    ids=["replaced", "dropped", "renamed"],
)
def test_a_table_that_is_replaced_loses_no_rows_of_another_server(pair, statements, reads_first):
    server, other = pair
    with Client(server.uri) as client:
        client.run("BEGIN")
        if reads_first:
            client.run("SELECT count(*) FROM lake.t")
        for statement in statements:
            client.run(statement)
        put(other, unit(2), T)
        put(other, unit(3), T, key="a/1/1")
        told = refused(client.run, "COMMIT", codes="ABORTED", slug="CONFLICT")
        assert "rows might have been lost" in told.text, told
        # Nobody comes between, so that it goes well; and later commits of the session may be tried again.
        client.run("BEGIN; " + "; ".join(statements) + "; COMMIT")
        client.run("INSERT INTO lake.t SELECT 'b', 4, 0")
    for each in pair:
        assert each.rows("SELECT unit, count(*) FROM lake.t GROUP BY ALL ORDER BY ALL") == [(1, 20), (2, 20), (3, 20), (4, 1)]


def test_so_does_one_that_a_single_statement_replaces(pair):
    server, other = pair
    slow = f"CREATE OR REPLACE TABLE lake.t AS SELECT t.* FROM lake.t, {SLOWLY} AS slow WHERE slow.n > 0"
    error = in_background(server.run, slow)
    until(server.rows, "SELECT session FROM merganser_statements() WHERE sql LIKE 'CREATE OR REPLACE%' AND state = 'running'")
    put(other, unit(2), T, key="a/1/1")
    refusal(error(), codes="ABORTED", slug="CONFLICT")
    assert other.rows("SELECT unit, count(*) FROM lake.t GROUP BY ALL ORDER BY ALL") == [(1, 20), (2, 20)]


def test_what_only_drops_waits_for_no_pause_of_others(pair):
    server, other = pair
    put(server, unit(1), ("lake", "main", "other"))
    with Client(server.uri) as client:
        client.run("DROP TABLE lake.other")
        put(other, unit(2), T)
        client.run("CREATE OR REPLACE TABLE lake.other AS SELECT 1 AS one")
        assert client.one("SELECT one FROM lake.other") == 1


def test_a_table_that_an_upload_replaces_loses_no_rows_of_another_server(pair):
    server, other = pair
    with Client(server.uri) as client:
        transaction = client.begin()
        client.rows("SELECT count(*) FROM lake.t", transaction)
        client.ingest(unit(5), "t", "replace", transaction, catalog="lake", schema="main")
        put(other, unit(2), T, key="a/1/1")
        refused(client.commit, transaction, codes="ABORTED", slug="CONFLICT")
    assert other.rows("SELECT unit, count(*) FROM lake.t GROUP BY ALL ORDER BY ALL") == [(1, 20), (2, 20)]


def test_what_a_driver_has_dropped_says_nothing_of_its_next_transaction(pair):
    server, other = pair
    put(server, unit(1), ("lake", "main", "other"))
    with Client(server.uri) as client:
        transaction = client.begin()
        client.update("DROP TABLE lake.other", transaction)
        client.commit(transaction)
        transaction = client.begin()
        client.update("INSERT INTO lake.t SELECT 'b', 3, 0", transaction)
        put(other, unit(2), T)
        client.commit(transaction)
    assert other.rows("SELECT unit, count(*) FROM lake.t GROUP BY ALL ORDER BY ALL") == [(1, 20), (2, 20), (3, 1)]
