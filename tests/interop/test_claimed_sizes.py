"""Compressed Arrow data that claims to become far more than any machine has is refused before anything is made for it, wherever
the server reads Arrow data."""

import struct
from contextlib import contextmanager
from functools import partial

import pyarrow as pa
import pytest

import wire
from harness import Server, refused
from http_client import Http
from memory import peak, peak_of_addresses

TOML = """
[[query]]
name = "total"
sql = "SELECT sum(number)::BIGINT AS total FROM sent"
[query.input]
name = "sent"
columns = { number = "BIGINT" }
"""
ARROW = "application/vnd.apache.arrow.stream"
NUMBERS = range(1000)
TABLES = {
    "batch": pa.table({"number": NUMBERS}),
    "dictionary": pa.table({"number": pa.array(NUMBERS).dictionary_encode()}),
}
# There are systems that grant either, and nobody notices as long as nothing is written there.
CLAIMS = [1 << 33, 1 << 46]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    (folder / "merganser.toml").write_text(TOML)
    options = ["--config", folder / "merganser.toml", "--http", "127.0.0.1:0"]
    server = Server(folder / "db.duckdb", *options, log=folder / "log")
    server.run("CREATE TABLE numbers (number BIGINT)")
    yield server
    server.stop()


def claiming(table, codec, claim):
    """The messages of a table, of which the first that is no schema says of its first buffer that it becomes so long."""
    schema, (header, body), *rest = wire.ipc(table, compression=codec)
    (length,) = struct.unpack("<q", body[:8])
    assert length == 8 * len(NUMBERS), "not the length of the compressed numbers"
    return [schema, (header, struct.pack("<q", claim) + body[8:]), *rest]


def stream_of(messages):
    """Messages as the bytes of a stream."""
    framed = [struct.pack("<Ii", 0xFFFFFFFF, len(header)) + header + body for header, body in messages]
    return b"".join(framed) + struct.pack("<Ii", 0xFFFFFFFF, 0)


def frames(messages, descriptor):
    (schema, _), *rest = messages
    return [wire.flight_data(schema, descriptor=descriptor), *(wire.flight_data(*message) for message in rest)]


def exchange(server, messages, *path):
    with server.channel() as channel:
        call = channel.stream_stream("/arrow.flight.protocol.FlightService/DoExchange")
        return list(call(iter(frames(messages, wire.path_descriptor(*path)))))


def put(server, messages, _):
    with server.channel() as channel:
        return wire.do_put(channel, frames(messages, wire.path_descriptor("numbers")))


def parameters(server, messages, _):
    with server.channel() as channel:
        request = wire.sql_command("ActionCreatePreparedStatementRequest", (1, "INSERT INTO numbers VALUES (?)"))
        action = channel.unary_stream("/arrow.flight.protocol.FlightService/DoAction")
        (made,) = action(wire.message((1, "CreatePreparedStatement"), (2, request)))
        (prepared,) = wire.fields(wire.fields(made)[1][0])[2]
        (handle,) = wire.fields(prepared)[1]
        command = wire.sql_command("CommandPreparedStatementUpdate", (1, handle))
        return wire.do_put(channel, frames(messages, wire.command_descriptor(command)))


def file(server, messages, folder):
    path = folder / "sent.arrows"
    path.write_bytes(stream_of(messages))
    return server.run(f"SELECT sum(number) FROM read_arrow('{path}')")


# Each takes messages, and returns something or is refused by this slug.
DOORS = {
    "put": (put, "BAD_ARROW"),
    "parameters": (parameters, "BAD_ARROW"),
    "rows for a query": (lambda server, messages, _: exchange(server, messages, "queries", "total"), "BAD_ARROW"),
    "rows for SQL": (lambda server, messages, _: exchange(server, messages, "posted", "sent", "FROM sent"), "BAD_ARROW"),
    "file": (file, "IO"),
}


@contextmanager
def hardly_any_memory(server):
    """What is done within takes hardly any, nor does it ask the system for more."""
    before, addresses = peak(server), peak_of_addresses(server)
    yield
    assert peak(server) < before + (64 << 20)
    # Threads may have come, each with addresses of its own.
    assert peak_of_addresses(server) < addresses + (1 << 30)


def claimed(test):
    for name, values in {"where": TABLES, "codec": ["lz4", "zstd"], "claim": CLAIMS}.items():
        test = pytest.mark.parametrize(name, values)(test)
    return test


@claimed
@pytest.mark.parametrize("door", DOORS)
def test_a_claimed_size_is_refused_without_memory_for_it(server, tmp_path, door, where, codec, claim):
    send, slug = DOORS[door]
    assert send(server, wire.ipc(TABLES[where]), tmp_path), "rows that claim nothing are taken"
    with hardly_any_memory(server):
        refused(send, server, claiming(TABLES[where], codec, claim), tmp_path, codes="INVALID_ARGUMENT", slug=slug)
    assert server.rows("SELECT 42") == [(42,)]


@claimed
def test_a_claimed_size_is_refused_over_http_as_well(server, where, codec, claim):
    http = Http(server.http())
    send = partial(http.post, "/v1/queries/total")
    assert send(stream_of(wire.ipc(TABLES[where])), ARROW).rows == [{"total": sum(NUMBERS)}]
    with hardly_any_memory(server):
        answer = send(stream_of(claiming(TABLES[where], codec, claim)), ARROW)
    assert (answer.status, answer.slug) == (400, "BAD_BODY")
    assert "compressed" in answer.json()["detail"], answer.json()
    assert http.post("/v1/sql", "SELECT 42 AS x", "text/plain").rows == [{"x": 42}]
