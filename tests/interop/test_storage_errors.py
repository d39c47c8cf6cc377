"""What storage answers when it will not or cannot give a file: the trouble is not the caller's, and passes or is the
operator's."""

import socket
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from extensions import extension_folder
from harness import refused
from http_client import Http
from object_storage import KEY_ID, s3_secret
from web import serving

TROUBLE = ["503", "403", "breaks off"]


@contextmanager
def storage(files):
    """A web server with these files by their paths, and the trouble that it makes: `none` at first."""
    trouble = ["none"]

    class Answering(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            (kind,) = trouble
            if kind.isdigit():
                self.send_response(int(kind))
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if (content := files.get(self.path)) is None:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            first, last = 0, len(content) - 1
            if asked := self.headers.get("Range"):
                first, last = (int(end) for end in asked.removeprefix("bytes=").split("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last + 1 - first))
            self.end_headers()
            if self.command == "GET" and kind == "none":
                self.wfile.write(content[first : last + 1])
            elif self.command == "GET":
                self.wfile.write(content[first : first + 1])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

        def log_message(self, *arguments):
            pass

    with serving(Answering) as address:
        yield address, trouble


def files():
    table = pa.table({"id": pa.array([1, 2, 3], pa.int64())})
    sink, stream = pa.BufferOutputStream(), pa.BufferOutputStream()
    parquet.write_table(table, sink)
    with pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    return {
        "/private/rows.parquet": sink.getvalue().to_pybytes(),
        "/private/rows.arrow": stream.getvalue().to_pybytes(),
    }


@pytest.fixture
def served(start, tmp_path):
    """A server with sources in the storage, and the trouble that this makes."""
    with storage(files()) as (address, trouble):
        text = f"""
{s3_secret(address)}
[[source]]
name = "web"
format = "parquet"
path = "http://{address}/private/rows.parquet"

[[source]]
name = "bucket"
format = "parquet"
path = "s3://private/rows.parquet"

[[source]]
name = "arrows"
format = "arrow"
path = "s3://private/rows.arrow"

[[source]]
name = "web_arrows"
format = "arrow"
path = "http://{address}/private/rows.arrow"

[[query]]
name = "ids"
sql = "SELECT sum(id)::BIGINT AS ids FROM bucket"
"""
        (tmp_path / "merganser.toml").write_text(text)
        extensions = extension_folder(tmp_path / "extensions", "httpfs")
        options = ["--config", tmp_path / "merganser.toml", "--extension-directory", extensions]
        yield start(":memory:", "--read-only", "--http", "127.0.0.1:0", *options), address, trouble


def test_storage_that_refuses_or_breaks_off_is_not_the_callers_fault(served):
    server, address, trouble = served
    http = Http(server.http())
    for source in ("web", "bucket", "arrows", "web_arrows"):
        assert server.rows(f"SELECT sum(id)::BIGINT FROM {source}") == [(6,)]
        for trouble[0] in TROUBLE:
            told = refused(server.run, f"SELECT sum(id) FROM {source}", codes="UNAVAILABLE", slug="STORAGE_FAILED")
            assert "try again" in told.text and "operator" in told.text
            for secret in (address, "private", "rows.", KEY_ID):
                assert secret not in told.text, (source, trouble, told.text)
        trouble[0] = "none"
    trouble[0] = "403"
    answer = http.get("/v1/queries/ids")
    assert (answer.status, answer.slug, answer.headers["retry-after"]) == (503, "STORAGE_FAILED", "1")
    assert "HTTP 403" in server.log.read_text()
    trouble[0] = "none"
    assert http.get("/v1/queries/ids").rows == [{"ids": 6}]


def test_a_file_that_is_missing_is_told_as_before(served):
    server, _, _ = served
    for path in ("s3://private/none.parquet", "s3://private/none.arrow"):
        reader = "read_arrow" if path.endswith("arrow") else "read_parquet"
        refused(server.run, f"FROM {reader}('{path}')", codes="INVALID_ARGUMENT", slug="IO")
