"""How much is measured, and the servers that are."""

import http.client
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ours import BINARY, WORK
from peers.server import Server

DATABASE = WORK / "http.duckdb"


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    starts: int = 15
    small_answers: int = 2_000
    many_rows: int = 100_000
    downloads: int = 15
    posted_rows: int = 10_000
    seconds: float = 8.0
    clients: int = 4


QUICK = Settings(starts=2, small_answers=100, downloads=2, seconds=1)


@contextmanager
def serving(config: str) -> Iterator[str]:
    """A server of our own with this configuration; gives the address of its HTTP API."""
    (WORK / "http.toml").write_text(config)
    address = f"127.0.0.1:{free_port()}"
    options = ["--listen", "127.0.0.1:0", "--http", address, "--config", str(WORK / "http.toml")]
    with Server([str(BINARY), "--database", str(DATABASE), *options], WORK / "http.log"):
        yield address


@contextmanager
def fastapi() -> Iterator[str]:
    """The endpoint of `fastapi_app` on one worker."""
    address = f"127.0.0.1:{free_port()}"
    with Server([sys.executable, "-m", "over_http.fastapi_app", address, str(DATABASE)], WORK / "fastapi.log"):
        yield address


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(
    connection: http.client.HTTPConnection, path: str, body: bytes | None = None, **headers: str
) -> bytes:
    """The whole body of an answer, which must be a good one."""
    method = "GET" if body is None else "POST"
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    with connection.getresponse() as answer:
        read = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {read[:500]!r}")
    return read
