"""Large bodies in JSON of which nothing can come: they are refused, and take hardly more memory than their bytes."""

import pytest

from harness import Server
from http_client import Http
from memory import peak

TOML = """
[[query]]
name = "one"
sql = "SELECT $number AS number"
params = { number = { type = "BIGINT", default = 1 } }
"""
JSON = "application/json"
VALUES = 5_000_000


@pytest.fixture
def server(tmp_path):
    (tmp_path / "merganser.toml").write_text(TOML)
    options = ["--config", tmp_path / "merganser.toml", "--http", "127.0.0.1:0"]
    server = Server(tmp_path / "db.duckdb", *options, log=tmp_path / "log")
    yield server
    server.stop()


def statement(parameters):
    return f'{{"sql": "SELECT 1", "parameters": {parameters}}}'


def members(count):
    return "{" + ",".join(f'"{name:x}":0' for name in range(count)) + "}"


BODIES = {
    "values": lambda: ("/v1/sql", statement("[" + "0," * VALUES + "0]"), "TOO_MANY_PARAMETERS"),
    "names": lambda: ("/v1/sql", statement(members(1_500_000)), "TOO_MANY_PARAMETERS"),
    "lists": lambda: ("/v1/sql", statement("[" + "[]," * VALUES + "0]"), "TOO_MANY_PARAMETERS"),
    "a list of lists": lambda: ("/v1/sql", statement("[[" + "[]," * VALUES + "0]]"), "BAD_PARAMETERS"),
    "levels": lambda: ("/v1/sql", statement("[" * VALUES + "]" * VALUES), "BAD_PARAMETERS"),
    "another member": lambda: ("/v1/sql", '{"x": [' + "{}," * VALUES + "0]}", "BAD_BODY"),
    "a long text": lambda: ("/v1/sql", statement('["' + "x" * 15_000_000 + '"]'), "SCHEMA_MISMATCH"),
    "a query's parameters": lambda: ("/v1/queries/one", members(1_500_000), "TOO_MANY_PARAMETERS"),
    "a query's list": lambda: ("/v1/queries/one", '{"number": [' + "[]," * VALUES + "0]}", "BAD_PARAMETER"),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_large_body_takes_little_memory(server, what):
    path, body, slug = BODIES[what]()
    http = Http(server.http())
    assert http.post("/v1/sql", "SELECT 1", "text/plain").status == 200
    before = peak(server)
    refused = http.post(path, body, JSON)
    # The body, twice while its buffer grows, and the copies of a long text.
    assert peak(server) < before + (150 << 20)
    assert (refused.status, refused.slug) == (400, slug)
    assert http.post("/v1/sql", "SELECT 1", "text/plain").status == 200
