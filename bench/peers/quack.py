"""Quack, DuckDB's own client-server protocol: the server process and what its clients share."""

import socket
from pathlib import Path

import duckdb
import duckdb_extension_httpfs
import duckdb_extension_quack

from . import data
from .serving import parse_database, serve_until_stopped

TOKEN = "peer-comparison"
"""The secret that server and clients share; the server listens on this machine only."""


def connect(database: Path | str = ":memory:") -> duckdb.DuckDBPyConnection:
    """Opens a database with the extension loaded; Quack speaks through httpfs."""
    connection = data.connect(database)
    for module, name in ((duckdb_extension_httpfs, "httpfs"), (duckdb_extension_quack, "quack")):
        folder = Path(module.__file__).parent / "extensions" / f"v{duckdb.__version__}"
        connection.execute(f"LOAD '{folder / name}.duckdb_extension'")
    return connection


def _free_port() -> int:
    """A port that is free now: Quack does not pick one itself."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def main() -> None:
    """Serves a database on a free port until told to stop."""
    database = parse_database(__doc__)
    uri = f"quack:localhost:{_free_port()}"
    with connect(database) as connection:
        connection.execute(f"CALL quack_serve('{uri}', token = '{TOKEN}')")
        serve_until_stopped(uri)
        connection.execute(f"CALL quack_stop('{uri}')")


if __name__ == "__main__":
    main()
