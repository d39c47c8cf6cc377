"""How much is measured, and the processes that are."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ours import BINARY, RELEASE, WORK
from peers.server import PeerError, Server

DATABASE = WORK / "durability.duckdb"


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    seconds: float = 10.0
    pairs: int = 7
    loaders: int = 100
    ledger_units: int = 1_000_000
    restarts: int = 3
    upsert_values: int = 100_000


QUICK = Settings(seconds=1, pairs=1, loaders=20, ledger_units=10_000, restarts=1, upsert_values=10_000)


@contextmanager
def serving(database: Path = DATABASE, *options: str, fresh: bool = True) -> Iterator[Server]:
    """A server of our own on a free port, by default on a new database that is removed afterwards."""
    if fresh:
        remove(database)
    command = [str(BINARY), "--database", str(database), "--listen", "127.0.0.1:0", *options]
    with Server(command, WORK / "durability.log") as server:
        yield server
    if fresh:
        remove(database)


def remove(database: Path) -> None:
    """Deletes a database and its log."""
    for file in (database, database.with_name(f"{database.name}.wal")):
        file.unlink(missing_ok=True)


def load(server: Server, settings: Settings, *options: str) -> dict[str, float]:
    """Runs the load generator against a server; what it says of itself."""
    return _run("merganser-loadgen", "--url", server.uri, "--seconds", str(settings.seconds), *options)


def in_process(settings: Settings, units_per_commit: int) -> float:
    """Units a second that DuckDB appends in process, so many a commit."""
    remove(DATABASE)
    try:
        options = ["--database", str(DATABASE), "--units-per-commit", str(units_per_commit)]
        outcome = _run("merganser-baseline", *options, "--seconds", str(settings.seconds))
        return outcome["units_per_s"]
    finally:
        remove(DATABASE)


def _run(name: str, *options: str) -> dict[str, float]:
    finished = subprocess.run([str(RELEASE / name), *options], capture_output=True, text=True)
    if finished.returncode != 0:
        raise PeerError(f"{name} ended with {finished.returncode}:\n{finished.stderr[-2000:]}")
    outcome = json.loads(finished.stdout.splitlines()[-1])
    if outcome.get("errors"):
        raise PeerError(f"{name}: {outcome['errors']} errors:\n{finished.stderr[-2000:]}")
    return outcome
