"""How much is measured, and where the server is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ours import BINARY, WORK
from peers.server import Server


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    rounds: int = 5
    scale: float = 1.0
    point_queries: int = 10_000
    small_queries: int = 2_000
    sessions: int = 500
    dropped: int = 1_000


QUICK = Settings(rounds=2, scale=0.01, point_queries=100, small_queries=100, sessions=20, dropped=40)


@contextmanager
def serving(database: Path | str, *options: str) -> Iterator[Server]:
    """A server of our own on a free port."""
    command = [str(BINARY), "--database", str(database), "--listen", "127.0.0.1:0", *options]
    with Server(command, WORK / "flight-sql.log") as server:
        yield server


def resident(pid: int) -> float:
    """The resident memory of a process, in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(pid)
