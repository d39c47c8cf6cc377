"""Clients under load: processes that start together and work until their time is up."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from . import data
from .clients import Client

WARM_UP_SECONDS = 0.5
WARM_UP_ROWS = 1_000
ANSWER_SECONDS = 600
"""How long a client process may take over all; a later one counts as an error."""


@dataclass(frozen=True)
class Job:
    """What one client does over and over; a job of 0 seconds is done once."""

    kind: str
    """Which figure the job counts towards: "put" or "query"."""
    seconds: float
    rows: int = 0
    """Rows that a put sends."""
    creates: bool = False
    """Whether a put makes its table; then it can be done once only."""
    sql: str = ""
    """The question of a query."""
    answer_rows: int = 0
    """Rows that the query must answer."""

    def operations(self, client: Client) -> tuple[Callable[[], None], Callable[[], None]]:
        """The operation to measure and the one to warm up with; makes the data they send."""
        if self.kind == "query":
            return lambda: self._query(client), lambda: self._query(client)
        rows = data.events(self.rows)
        small = rows.slice(0, WARM_UP_ROWS)
        if self.creates:
            return lambda: client.create(data.FRESH, rows), lambda: client.put(data.EVENTS, small)
        return lambda: client.put(data.EVENTS, rows), lambda: client.put(data.EVENTS, small)

    def _query(self, client: Client) -> None:
        answer = client.query(self.sql)
        if answer.num_rows != self.answer_rows:
            raise ValueError(f"{answer.num_rows} rows answered, not {self.answer_rows}")


@dataclass
class Tally:
    """What a client got done."""

    job: Job
    warm_ups: int = 0
    operations: int = 0
    started: float = 0.0
    ended: float = 0.0
    errors: int = 0
    first_error: str = ""

    def fail(self, error: Exception) -> None:
        """Counts an error."""
        self.errors += 1
        self.first_error = self.first_error or f"{type(error).__name__}: {error}"[:300]

    @property
    def rows_put(self) -> int:
        """Rows that were acknowledged, warm-up and all."""
        warm_up_rows = min(self.job.rows, WARM_UP_ROWS)
        return self.warm_ups * warm_up_rows + self.operations * self.job.rows


def _work(client_type: type[Client], address: str, job: Job, start: threading.Barrier) -> Tally:
    """One client, from its connection to its tally; an error is counted and the work goes on."""
    tally = Tally(job)
    operation = None
    try:
        client = client_type(address)
        operation, warm_up = job.operations(client)
        until = time.monotonic() + WARM_UP_SECONDS
        while tally.warm_ups == 0 or time.monotonic() < until:
            warm_up()
            tally.warm_ups += 1
    except Exception as error:
        operation = None
        tally.fail(error)
    start.wait()
    tally.started = tally.ended = time.monotonic()
    while operation and (tally.ended == tally.started or tally.ended < tally.started + job.seconds):
        try:
            operation()
            tally.operations += 1
        except Exception as error:
            tally.fail(error)
        tally.ended = time.monotonic()
    return tally


def _client_process(
    parent: Connection, client_type: type[Client], address: str, jobs: list[Job]
) -> None:
    """A client process, a thread a job: says when all are warm, and waits for its go."""

    def rendezvous() -> None:
        parent.send("ready")
        parent.recv()

    start = threading.Barrier(len(jobs), action=rendezvous)
    with ThreadPoolExecutor(len(jobs)) as threads:
        work = [threads.submit(_work, client_type, address, job, start) for job in jobs]
        parent.send([future.result() for future in work])


def run(
    client_type: type[Client], address: str, jobs: list[Job], *, one_process: bool = False
) -> list[Tally]:
    """Runs the jobs side by side, each in a process of its own or all as threads of one.

    They start together, when all are connected and warm. A process that dies or hangs is an error
    of each of its jobs.
    """
    context = multiprocessing.get_context("spawn")
    clients = []
    for share in [jobs] if one_process else [[job] for job in jobs]:
        pipe, child_pipe = context.Pipe()
        arguments = (child_pipe, client_type, address, share)
        process = context.Process(target=_client_process, args=arguments, daemon=True)
        process.start()
        child_pipe.close()
        clients.append((process, pipe, share))

    deadline = time.monotonic() + ANSWER_SECONDS
    ready = [(pipe, _receive(pipe, deadline)) for _, pipe, _ in clients]
    for pipe, message in ready:
        if message == "ready":
            pipe.send("go")
    tallies: list[Tally] = []
    for process, pipe, share in clients:
        outcome = _receive(pipe, deadline)
        if outcome is None:
            process.kill()
            process.join()
            outcome = [Tally(job) for job in share]
            for tally in outcome:
                tally.fail(RuntimeError(f"the client died or hung, exit code {process.exitcode}"))
        process.join()
        tallies += outcome
    return tallies


def _receive(pipe: Connection, deadline: float) -> Any:
    """The next message of a client, or None if it died or is late."""
    try:
        return pipe.recv() if pipe.poll(max(0, deadline - time.monotonic())) else None
    except (EOFError, ConnectionError):
        return None


def rate(tallies: list[Tally], kind: str) -> float:
    """Operations of a kind a second, from the common start to the last client's end."""
    done = [tally for tally in tallies if tally.job.kind == kind]
    seconds = max(tally.ended for tally in done) - min(tally.started for tally in done)
    return sum(tally.operations for tally in done) / seconds if seconds else 0.0
