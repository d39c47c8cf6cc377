"""Extensions that are not in the extension directory are installed, from the repository that the server is told of.

The repository is one of the test's own, over HTTP, which has the files of pinned packages as DuckDB asks for them.
"""

import gzip
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import duckdb
import pytest

from client import eventually
from extensions import extension_directory, extension_folder
from harness import refused, run_to_exit
from web import serving

EXTENSION = "sqlite_scanner"


def file_of(name):
    (file,) = extension_directory(name).rglob(f"{name}.duckdb_extension")
    return file


def served(*names):
    """The files of extensions, as a repository has them."""
    (platform,) = duckdb.sql("PRAGMA platform").fetchone()
    folder = f"/duckdb/v{duckdb.__version__}/{platform}"
    return {f"{folder}/{name}.duckdb_extension.gz": file_of(name) for name in names}


@contextmanager
def repository(*names, more={}):
    """A repository of extensions as DuckDB asks for them, with these, and whatever comes to `more`; and what it was asked
    for."""
    asked, first = [], served(*names)

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if (file := first.get(self.path) or more.get(self.path)) is None:
                return self.send_error(404)
            content = gzip.compress(file.read_bytes(), 1)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with serving(Answering) as address:
        yield f"http://{address}/duckdb", asked


@pytest.fixture
def home(tmp_path):
    """The environment of servers whose user has nothing installed."""
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home")}


@pytest.fixture
def wanting(tmp_path):
    """Options of a server with a database that needs the extension."""
    file = tmp_path / "merganser.toml"
    file.write_text(f'[[catalog]]\nname = "old"\ntype = "sqlite"\npath = "{tmp_path}/old.db"\n')
    return ["--config", file]


def how_it_came(server):
    columns = "loaded, install_mode, installed_from"
    return server.rows(f"SELECT {columns} FROM duckdb_extensions() WHERE extension_name = '{EXTENSION}'")[0]


def works(server):
    server.run("CREATE OR REPLACE TABLE old.t AS SELECT 7 AS v")
    return server.rows("FROM old.t") == [(7,)]


def test_what_is_not_in_the_directory_is_installed_once(start, tmp_path, wanting, home):
    without_it = extension_folder(tmp_path / "extensions", "tpch")
    with repository(EXTENSION) as (address, asked):
        options = [*wanting, "--extension-directory", without_it, "--extension-repository", f"{address}/"]
        for _ in range(2):
            server = start(tmp_path / "db.duckdb", *options, environment=home)
            assert how_it_came(server) == (True, "REPOSITORY", address)
            assert works(server)
            server.stop()
        assert len(asked) == 1
        with repository() as (other, asked):
            server = start(tmp_path / "db.duckdb", *wanting, "--extension-repository", other, environment=home)
            assert works(server) and asked == [], "what is installed is there, whoever had it"


def test_what_is_in_the_directory_is_not_asked_for(start, tmp_path, wanting, home):
    with repository() as (address, asked):
        folder = extension_folder(tmp_path / "extensions", EXTENSION)
        options = [*wanting, "--extension-directory", folder, "--extension-repository", address]
        assert works(start(":memory:", *options, environment=home))
        assert asked == []


def test_what_a_query_needs_comes_from_there_too(start, home):
    with repository("tpch") as (address, asked):
        server = start(":memory:", "--extension-repository", address, environment=home)
        refused(server.run, "FROM 's3://bucket/rows.parquet'")
        assert len(asked) == 1 and asked[0].endswith("/httpfs.duckdb_extension.gz")


def test_one_that_is_not_to_be_had_stops_the_start(wanting, home):
    with repository("tpch") as (address, _):
        ended = run_to_exit("--database", ":memory:", *wanting, "--extension-repository", address, environment=home)
    assert ended.returncode == 1
    assert f"catalog old: extension {EXTENSION} from {address}: HTTP Error" in ended.stderr and "404" in ended.stderr


def test_so_does_a_repository_that_does_not_answer(wanting, home):
    with repository() as (address, _):
        pass  # nobody listens there any more
    ended = run_to_exit("--database", ":memory:", *wanting, "--extension-repository", address, environment=home)
    assert ended.returncode == 1
    assert f"catalog old: extension {EXTENSION} from {address}: IO Error" in ended.stderr


def test_what_is_not_required_is_left_out_without_its_extension(start, database, tmp_path, home):
    """A catalog comes later, when there is one."""
    file, late = tmp_path / "merganser.toml", {}
    file.write_text(f"""
[[source]]
name = "readings"
format = "parquet"
path = "s3://lake/readings.parquet"
required = false

[[catalog]]
name = "old"
type = "sqlite"
path = "{tmp_path}/old.db"
required = false
""")
    with repository(more=late) as (address, _):
        server = start(database, "--config", file, "--extension-repository", address, environment=home)
        log = server.log.read_text()
        for left_out, extension in [("a source cannot be read", "httpfs"), ("a catalog cannot be attached", EXTENSION)]:
            (line,) = [line for line in log.splitlines() if left_out in line]
            assert f"extension {extension} from {address}" in line and "404" in line
        server.run("CREATE TABLE t AS SELECT 1 AS v")
        assert server.rows("FROM t") == [(1,)]
        refused(server.run, "FROM readings", codes="NOT_FOUND")
        refused(server.run, "FROM old.t", codes="UNAVAILABLE", slug="CATALOG_DOWN")
        late.update(served(EXTENSION))
        eventually(lambda: "attached a catalog" in server.log.read_text(), "the catalog is there", 60)
        assert works(server)


@pytest.mark.parametrize("wrong", ["https://mirror.internal", "s3://bucket/mirror", "http://", "/", ""])
def test_what_is_no_repository_is_a_usage_error(wrong):
    ended = run_to_exit("--database", ":memory:", "--extension-repository", wrong)
    assert ended.returncode == 64 and "extension_repository" in ended.stderr


def test_neither_may_a_repository_have_a_password(home):
    """Clients would read it in duckdb_settings(); nor does the error tell it."""
    for wrong in ("http://ana:pass_word@mirror.internal", "http://ana@mirror.internal:80/duckdb"):
        ended = run_to_exit("--database", ":memory:", "--extension-repository", wrong, environment=home)
        assert ended.returncode == 64 and "extension_repository" in ended.stderr and "ana" not in ended.stderr
