"""The work bench: settings, the databases on disk, and a peer served on one of them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import data, load
from .load import Job, Tally
from .peer import Peer
from .server import Server

WORK = Path(__file__).resolve().parents[1] / ".work"
"""Holds the databases of a run, on the disk of the checkout; deleted afterwards."""


@dataclass(frozen=True)
class Settings:
    """How long and how large a run is."""

    seconds: float
    rounds: int
    bulk_rows: int
    stall_seconds: float


@dataclass
class Sample:
    """What one peer reached once: a value for each figure of the workload, and what went wrong."""

    values: tuple[float, ...]
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """A run's settings and its work folder."""

    settings: Settings
    work: Path = WORK

    @contextmanager
    def database(self, history_rows: int = 0) -> Iterator[Path]:
        """A fresh copy of the database with that many rows to read; removed with its WAL."""
        template = self.work / f"history-{history_rows}.duckdb"
        if not template.exists():
            data.create_database(template, history_rows)
        path = self.work / "bench.duckdb"
        shutil.copyfile(template, path)
        try:
            yield path
        finally:
            for file in self.work.glob("bench.duckdb*"):
                shutil.rmtree(file) if file.is_dir() else file.unlink()

    def server(self, peer: Peer, database: Path) -> Server:
        """The peer's server on a database, not started yet."""
        assert peer.command, f"{peer.name} has no server"
        return Server(peer.command(database), self.work / f"{peer.name}.log")

    def run(
        self, peer: Peer, jobs: list[Job], history_rows: int = 0
    ) -> tuple[list[Tally], list[str]]:
        """Runs jobs against a peer on a fresh database, then counts the rows that are there."""
        with self.database(history_rows) as database:
            if peer.command is None:
                tallies = load.run(peer.client, str(database), jobs, one_process=True)
            else:
                with self.server(peer, database) as server:
                    tallies = load.run(peer.client, server.uri, jobs)
            errors = _errors(tallies)
            acknowledged = sum(tally.rows_put for tally in tallies)
            stored = data.count_events(database)
        if stored < acknowledged or (stored > acknowledged and not errors):
            errors.append(f"{stored:,} rows stored, {acknowledged:,} acknowledged")
        return tallies, errors


def _errors(tallies: list[Tally]) -> list[str]:
    """One line for all errors, with the first of them."""
    failed = [tally for tally in tallies if tally.errors]
    if not failed:
        return []
    return [f"{sum(tally.errors for tally in failed)} errors, the first: {failed[0].first_error}"]
