"""The HTTP API against its own OpenAPI document, by schemathesis: whatever is sent, the answer is one that the document
knows, and never the server's fault."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from harness import Server
from http_client import Http
from test_named_queries import INIT, TOML

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SCHEMATHESIS = ROOT / ".venv-schemathesis" / "bin" / "schemathesis"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
]

# A column of every type that JSON has a form for, and a row in which all of them are null.
KINDS = """
[[query]]
name = "kinds"
sql = '''
  SELECT $n AS n, 127::TINYINT AS tiny, 18446744073709551615::UBIGINT AS large, -12345678901234567890::HUGEINT AS huge,
    1.50::DECIMAL(5, 2) AS price, 'nan'::DOUBLE AS nan, 0.5::FLOAT AS half, true AS yes, $day AS day,
    TIME '03:04:05.678' AS time, TIMESTAMP '2024-01-02 03:04:05.678' AS local, $at AS at,
    INTERVAL '1 year 2 days -3 seconds' AS span, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::UUID AS id,
    'ab'::BLOB AS blob, 'x'::ENUM ('x', 'y') AS choice, '{"a": 1}'::JSON AS json, '12:00:00+02'::TIMETZ AS zoned,
    [1, NULL] AS list, [1, 2]::INTEGER[2] AS pair, {'a': 1, 'b c': ['x']} AS struct, MAP {7: 1.5} AS map,
    union_value(number := 1)::UNION(number INTEGER, word VARCHAR) AS either, NULL AS nothing
  UNION ALL BY NAME SELECT NULL AS n
'''
[query.params]
n = { type = "TINYINT", default = 1 }
day = { type = "DATE", default = "2024-02-29" }
at = { type = "TIMESTAMP WITH TIME ZONE", optional = true }

[[query]]
name = "nested"
sql = "SELECT list, prices, pair, struct, map FROM nested_rows"
[query.input]
name = "nested_rows"
columns = { list = "INTEGER[]", prices = "DECIMAL(9,2)[]", pair = "DOUBLE[2]", struct = "STRUCT(day DATE, n BIGINT)", map = "MAP(VARCHAR, BIGINT)" }
"""


@pytest.fixture
def http(tmp_path):
    (tmp_path / "merganser.toml").write_text(TOML + KINDS)
    (tmp_path / "init.sql").write_text(INIT)
    options = ["--config", tmp_path / "merganser.toml", "--init-sql", tmp_path / "init.sql", "--http", "127.0.0.1:0"]
    server = Server(tmp_path / "db.duckdb", *options, log=tmp_path / "log")
    yield Http(server.http())
    server.stop()


def checked(http, document, folder):
    """What schemathesis says of the server by a document."""
    (folder / "openapi.json").write_text(json.dumps(document))
    command = [SCHEMATHESIS, "run", "openapi.json", "--url", http.base, "--max-examples", "40", "--seed", "1"]
    command += ["--checks", ",".join(CHECKS)]
    # It leaves a cache where it runs.
    return subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=folder)


def test_every_answer_is_one_that_the_document_knows(http, tmp_path):
    ran = checked(http, http.get("/v1/openapi.json").json(), tmp_path)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert http.get("/v1/queries/by_region").status == 200


def test_a_status_that_the_document_lacks_is_found(http, tmp_path):
    """So that the test above would fail for an answer that nobody has described."""
    document = http.get("/v1/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all("default" not in operation["responses"] for operation in operations)
    del document["paths"]["/v1/sql"]["post"]["responses"]["400"]
    document["paths"] = {"/v1/sql": document["paths"]["/v1/sql"]}
    ran = checked(http, document, tmp_path)
    assert ran.returncode == 1 and "Undocumented status code" in ran.stdout, ran.stdout[-8000:]


def test_the_document_has_every_path_of_the_page(http):
    page = (DOCS / "http.md").read_text()
    paths = set(re.findall(r"^\| `(?:GET|POST).* (/v1/[^`]*)`", page, re.MULTILINE))
    there = set(http.get("/v1/openapi.json").json()["paths"])
    assert len(paths) > 3 and paths - {"/v1/queries/{name}"} <= there


def test_rows_are_what_the_document_says_of_them(http, tmp_path):
    """Every column of an answer is in the schema, with a type; the values are checked above."""
    document = http.get("/v1/openapi.json").json()
    answer = http.get("/v1/queries/kinds").json()
    row = document["components"]["schemas"]["kinds_row"]
    assert row["required"] == [column["name"] for column in answer["columns"]] == list(answer["rows"][0])
    assert [row["properties"][it["name"]]["description"] for it in answer["columns"]] == [
        column["type"] for column in answer["columns"]
    ]
    assert all("type" in it or "anyOf" in it for it in row["properties"].values())
    assert row["properties"]["huge"]["type"] == ["integer", "null"]
    assert row["properties"]["struct"]["properties"]["b c"]["items"] == {"type": ["string", "null"]}
