"""What a write returned that ran when its FlightInfo was made: it waits for its client, and for nobody else."""

import base64
import subprocess
import time

import pyarrow.flight as flight
import pytest

import wire
from client import Client
from harness import BINARY, ENVIRONMENT, refused

RETURNING = "INSERT INTO t VALUES ({}) RETURNING x"
# As many as one session may leave, and many more than ever made another one's go.
SHARE = 1024


@pytest.fixture
def clients(start, tmp_path):
    """Makes clients of a server with two users, who have their names for passwords."""
    users = ""
    for name in ("ana", "eva"):
        made = subprocess.run(
            [BINARY, "hash-password"], input=name + "\n", env=ENVIRONMENT, capture_output=True, text=True, check=True
        )  # fmt: skip
        users += f'[[user]]\nname = "{name}"\npassword_hash = "{made.stdout.strip()}"\n'
    config = tmp_path / "merganser.toml"
    config.write_text(users)
    server = start(":memory:", "--config", config)
    opened = []

    def client(name):
        basic = base64.b64encode(f"{name}:{name}".encode()).decode()
        opened.append(Client(server.uri, [("authorization", f"Basic {basic}")]))
        return opened[-1]

    yield client
    for client in opened:
        client.close()


def renew(client, endpoint):
    [renewed] = client.action("RenewFlightEndpoint", wire.message((1, endpoint.serialize())))
    return flight.FlightEndpoint.deserialize(renewed)


def test_nobody_elses_results_make_one_go_that_was_not_fetched(alone):
    client, other, third = alone(), alone(), alone()
    client.run("CREATE TABLE t (x BIGINT)")
    first = client.ticket(RETURNING.format(-1))
    for x in range(SHARE):
        other.ticket(RETURNING.format(x))
    refusal = refused(other.ticket, RETURNING.format(-2), codes="RESOURCE_EXHAUSTED", slug="RESULTS_FULL")
    assert "has not run" in refusal.text
    assert third.rows(RETURNING.format(-3)) == [(-3,)]
    other.info("INSERT INTO t VALUES (-4)")  # returns no rows
    assert client.fetch(first) == client.fetch(first) == [(-1,)]
    assert client.rows("SELECT x FROM t WHERE x < 0 ORDER BY x") == [(-4,), (-3,), (-1,)]
    assert client.one("SELECT count(*) FROM t") == SHARE + 3


def test_what_a_prepared_text_returns_takes_a_place_too(alone):
    client = alone()
    client.run("CREATE TABLE t (x BIGINT); PREPARE p AS " + RETURNING.format("$1"))
    for x in range(SHARE):
        client.ticket(f"EXECUTE p({x})")
    refused(client.ticket, "EXECUTE p(-1)", codes="RESOURCE_EXHAUSTED", slug="RESULTS_FULL")
    assert client.one("SELECT count(*) FROM t") == SHARE


def test_what_was_fetched_takes_nobodys_place(alone):
    client = alone()
    client.run("CREATE TABLE t (x BIGINT)")
    for x in range(SHARE + 50):
        assert client.rows(RETURNING.format(x)) == [(x,)]


def test_rows_belong_to_the_user_who_wrote(clients):
    ana, eva, elsewhere = clients("ana"), clients("eva"), clients("ana")
    ana.run("CREATE TABLE t (x BIGINT)")
    endpoint = ana.info(RETURNING.format(1)).endpoints[0]
    refusal = refused(eva.fetch, endpoint.ticket, codes="NOT_FOUND", slug="RESULT_EXPIRED")
    assert "must not be sent again" in refusal.text
    refused(renew, eva, endpoint, codes="NOT_FOUND", slug="RESULT_EXPIRED")
    assert ana.fetch(endpoint.ticket) == elsewhere.fetch(endpoint.ticket) == [(1,)]
    assert ana.fetch(renew(ana, endpoint).ticket) == [(1,)]
    # The session may be gone by the time: what was written stands.
    lost = clients("ana")
    ticket = lost.ticket(RETURNING.format(2))
    lost.close()
    assert ana.fetch(ticket) == [(2,)]


def test_they_are_announced_for_as_long_as_they_are_kept(alone):
    client = alone()
    client.run("CREATE TABLE t (x BIGINT)")
    endpoint = client.info(RETURNING.format(1)).endpoints[0]
    for kept in (endpoint, renew(client, endpoint)):
        assert 280 < kept.expiration_time.as_py().timestamp() - time.time() <= 300


def test_nobody_cancels_or_renews_the_ticket_of_another_user(clients):
    ana, eva, elsewhere = clients("ana"), clients("eva"), clients("ana")
    info = ana.info("SELECT 42 AS x")
    for name, body in (
        ("CancelFlightInfo", info.serialize()),
        ("RenewFlightEndpoint", info.endpoints[0].serialize()),
    ):
        refused(eva.action, name, wire.message((1, body)), codes="NOT_FOUND", slug="SESSION_ENDED")
    refused(eva.sql_action, "CancelQuery", (1, info.serialize()), codes="NOT_FOUND", slug="SESSION_ENDED")
    assert ana.fetch(info.endpoints[0].ticket) == [(42,)]
    elsewhere.action("CancelFlightInfo", wire.message((1, info.serialize())))
    refused(ana.fetch, info.endpoints[0].ticket, codes="CANCELLED")
