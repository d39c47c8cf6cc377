"""The HTTP API against its own OpenAPI document, by schemathesis: whatever is sent, the answer is one that the document
knows, and never the server's fault."""

import subprocess
from pathlib import Path

import pytest

from harness import Server
from http_client import Http
from test_named_queries import INIT, TOML

SCHEMATHESIS = Path(__file__).resolve().parents[2] / ".venv-schemathesis" / "bin" / "schemathesis"
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


def test_every_answer_is_one_that_the_document_knows(http, tmp_path):
    command = [SCHEMATHESIS, "run", f"{http.base}/v1/openapi.json", "--max-examples", "40", "--seed", "1"]
    command += ["--checks", ",".join(CHECKS)]
    # It leaves a cache where it runs.
    ran = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    assert http.get("/v1/queries/by_region").status == 200


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
