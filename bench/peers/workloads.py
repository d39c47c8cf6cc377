"""What is measured, on whom, and what Merganser must reach."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import data, load, memory
from .bench import Bench, Sample
from .load import Job
from .native import Native
from .peer import ALL, BASELINE, IN_PROCESS, MERGANSER, SERVERS, Peer


@dataclass(frozen=True)
class Times:
    """A goal: so many times what a peer reaches in the same run."""

    factor: float
    peer: Peer

    def __str__(self) -> str:
        return f"{self.factor:g} x {self.peer.title}"

    def ratio(self, values: Mapping[str, float]) -> float | None:
        """Ours over the peer's, if both were measured."""
        ours, theirs = values.get(MERGANSER.name), values.get(self.peer.name)
        return ours / theirs if ours is not None and theirs else None

    def reached(self, values: Mapping[str, float]) -> bool | None:
        """Whether the goal is reached, if that can be told."""
        ratio = self.ratio(values)
        return None if ratio is None else ratio >= self.factor


@dataclass(frozen=True)
class Below:
    """A goal: less than a fixed amount."""

    limit: float
    unit: str

    def __str__(self) -> str:
        return f"under {self.limit:g} {self.unit}"

    def ratio(self, values: Mapping[str, float]) -> None:
        """There is none: the goal is not a peer's figure."""

    def reached(self, values: Mapping[str, float]) -> bool | None:
        """Whether the goal is reached, if that can be told."""
        ours = values.get(MERGANSER.name)
        return None if ours is None else ours < self.limit


Goal = Times | Below


@dataclass(frozen=True)
class Figure:
    """A row of the report."""

    title: str
    unit: str
    at_least: Goal | None
    aim: Goal | None
    decimals: int = 0


@dataclass(frozen=True)
class Workload:
    """A workload, the peers it makes sense for, and how one of them is measured once."""

    name: str
    peers: tuple[Peer, ...]
    figures: tuple[Figure, ...]
    measure: Callable[[Bench, Peer], Sample]


@dataclass(frozen=True)
class Puts:
    """Loaders that put the same rows over and over; puts a second."""

    loaders: int
    rows: int

    def __call__(self, bench: Bench, peer: Peer) -> Sample:
        job = Job("put", bench.settings.seconds, rows=self.rows)
        tallies, errors = bench.run(peer, [job] * self.loaders)
        return Sample((load.rate(tallies, "put"),), errors)


@dataclass(frozen=True)
class Aggregates:
    """Clients that ask the small aggregate over and over; answers a second."""

    clients: int

    def __call__(self, bench: Bench, peer: Peer) -> Sample:
        jobs = [_aggregate(bench.settings.seconds)] * self.clients
        tallies, errors = bench.run(peer, jobs, data.AGGREGATE_ROWS)
        return Sample((load.rate(tallies, "query"),), errors)


@dataclass(frozen=True)
class Mixed:
    """Loaders beside readers, for half as long again as the others; puts and answers a second."""

    loaders: int
    readers: int

    def __call__(self, bench: Bench, peer: Peer) -> Sample:
        seconds = bench.settings.seconds * 1.5
        jobs = [Job("put", seconds, rows=1_000)] * self.loaders + [
            _aggregate(seconds)
        ] * self.readers
        tallies, errors = bench.run(peer, jobs, data.AGGREGATE_ROWS)
        return Sample((load.rate(tallies, "put"), load.rate(tallies, "query")), errors)


@dataclass(frozen=True)
class Upload:
    """One long put of batches of 64k rows, into a table there or a new one; million rows a second."""

    creates: bool

    def __call__(self, bench: Bench, peer: Peer) -> Sample:
        rows = bench.settings.bulk_rows
        tallies, errors = bench.run(peer, [Job("put", 0, rows=rows, creates=self.creates)])
        return Sample((load.rate(tallies, "put") * rows / 1e6,), errors)


def _scan(bench: Bench, peer: Peer) -> Sample:
    """The whole table into an Arrow table of the client, over and over; million rows a second."""
    rows = bench.settings.bulk_rows
    job = Job("query", bench.settings.seconds, sql=data.SCAN, answer_rows=rows)
    tallies, errors = bench.run(peer, [job], rows)
    return Sample((load.rate(tallies, "query") * rows / 1e6,), errors)


def _aggregate(seconds: float) -> Job:
    return Job("query", seconds, sql=data.AGGREGATE, answer_rows=len(data.CATEGORIES))


def all_workloads(bulk_rows: int) -> tuple[Workload, ...]:
    """Every workload, with the goals of the project; `bulk_rows` is only named in titles."""
    bulk = f"{bulk_rows / 1e6:g}M rows"
    native = (MERGANSER, IN_PROCESS)
    return (
        Workload(
            "load-1",
            SERVERS,
            (Figure("1 loader, 1,000-row puts", "puts/s", None, None),),
            Puts(1, 1_000),
        ),
        Workload(
            "load-8",
            SERVERS,
            (
                Figure(
                    "8 loaders, 1,000-row puts", "puts/s", Times(2.5, BASELINE), Times(3, BASELINE)
                ),
            ),
            Puts(8, 1_000),
        ),
        Workload(
            "load-8-single",
            SERVERS,
            (
                Figure(
                    "8 loaders, 1-row puts", "puts/s", Times(3.5, BASELINE), Times(4.5, BASELINE)
                ),
            ),
            Puts(8, 1),
        ),
        Workload(
            "native-8",
            native,
            (
                Figure(
                    "8 native loaders, 1,000-row puts; in process (Rust): 8 units a commit",
                    "puts/s",
                    Times(0.7, IN_PROCESS),
                    Times(0.9, IN_PROCESS),
                ),
            ),
            Native(loaders=8, rows=1_000, units_per_commit=8),
        ),
        Workload(
            "native-64-single",
            native,
            (
                Figure(
                    "64 native loaders, 1-row puts; in process (Rust): a commit a row",
                    "puts/s",
                    Times(10, IN_PROCESS),
                    Times(20, IN_PROCESS),
                ),
            ),
            Native(loaders=64, rows=1, units_per_commit=1),
        ),
        Workload(
            "upload",
            ALL,
            (
                Figure(
                    f"one upload of {bulk}, 64k batches",
                    "M rows/s",
                    Times(1.1, BASELINE),
                    Times(1.5, IN_PROCESS),
                    decimals=2,
                ),
            ),
            Upload(creates=False),
        ),
        Workload(
            "upload-new",
            ALL,
            (
                Figure(
                    f"one upload of {bulk} into a new table",
                    "M rows/s",
                    Times(1.1, BASELINE),
                    Times(0.9, IN_PROCESS),
                    decimals=2,
                ),
            ),
            Upload(creates=True),
        ),
        Workload(
            "scan",
            ALL,
            (
                Figure(
                    f"SELECT * of {bulk}, to the client",
                    "M rows/s",
                    Times(1.5, BASELINE),
                    Times(1.3, IN_PROCESS),
                    decimals=2,
                ),
            ),
            _scan,
        ),
        Workload(
            "aggregate-1",
            ALL,
            (
                Figure(
                    "small aggregate, 1 client",
                    "queries/s",
                    Times(0.7, IN_PROCESS),
                    Times(0.9, IN_PROCESS),
                ),
            ),
            Aggregates(1),
        ),
        Workload(
            "aggregate-8",
            ALL,
            (
                Figure(
                    "small aggregate, 8 clients (in process: 8 threads)",
                    "queries/s",
                    Times(0.7, IN_PROCESS),
                    Times(0.85, IN_PROCESS),
                ),
            ),
            Aggregates(8),
        ),
        Workload(
            "mixed",
            SERVERS,
            (
                Figure(
                    "4 loaders beside 4 readers: puts",
                    "puts/s",
                    Times(2.2, BASELINE),
                    Times(3, BASELINE),
                ),
                Figure(
                    "4 loaders beside 4 readers: aggregates",
                    "queries/s",
                    Times(1.4, BASELINE),
                    Times(2, BASELINE),
                ),
            ),
            Mixed(4, 4),
        ),
        Workload(
            "memory",
            SERVERS,
            (
                Figure(
                    f"server memory over idle, SELECT * of {bulk}, stalled client",
                    "MB",
                    Below(100, "MB"),
                    Below(32, "MB"),
                    decimals=1,
                ),
            ),
            memory.measure,
        ),
    )
