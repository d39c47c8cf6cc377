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


@pytest.fixture
def http(tmp_path):
    (tmp_path / "merganser.toml").write_text(TOML)
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
