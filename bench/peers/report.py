"""The outcome of a run, as a Markdown table with what it was measured on."""

import datetime
import os
import platform
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

from .bench import Sample, Settings
from .peer import ALL, BASELINE, MERGANSER, MERGANSER_SERVER
from .workloads import Below, Figure, Goal, Times, Workload

RESULTS = Path(__file__).resolve().parents[1] / "RESULTS.md"
BEGIN = "<!-- written by `make bench`: begin -->"
END = "<!-- written by `make bench`: end -->"


@dataclass
class Outcome:
    """The samples of every peer for a workload, a round after the other."""

    workload: Workload
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, peer_name: str, sample: Sample) -> None:
        """Adds what a peer reached in one round."""
        self.samples.setdefault(peer_name, []).append(sample)

    def medians(self, figure: int) -> dict[str, float]:
        """The median of each peer's rounds for one of the workload's figures."""
        return {
            name: median(sample.values[figure] for sample in samples)
            for name, samples in self.samples.items()
        }

    def errors(self) -> dict[str, list[str]]:
        """What went wrong, by peer; peers without errors are left out."""
        found = {
            name: [error for sample in samples for error in sample.errors]
            for name, samples in self.samples.items()
        }
        return {name: errors for name, errors in found.items() if errors}


def render(outcomes: list[Outcome], settings: Settings) -> str:
    """The whole report: what it was measured on, the table, the errors."""
    rows = [
        _row(outcome, index, figure)
        for outcome in outcomes
        for index, figure in enumerate(outcome.workload.figures)
    ]
    titles = ("workload", "unit", *(peer.title for peer in ALL), "ratio", "at least", "aim")
    parts = [_conditions(settings), _table(titles, rows)]
    if notes := _error_notes(outcomes):
        parts.append("Errors, marked with `!` in the table:\n\n" + "\n".join(notes))
    return "\n\n".join(parts)


def write(report: str) -> None:
    """Puts the report between the markers of the results page, and leaves all other text alone."""
    page = RESULTS.read_text() if RESULTS.exists() else f"# Benchmark results\n\n{BEGIN}\n{END}\n"
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{RESULTS.name} lacks the line {BEGIN} or {END}")
    RESULTS.write_text(f"{before}{BEGIN}\n{report}\n{END}{after}")


def _row(outcome: Outcome, index: int, figure: Figure) -> tuple[str, ...]:
    values = outcome.medians(index)
    errors = outcome.errors()
    cells = []
    for peer in ALL:
        if peer.name in values:
            mark = " !" if peer.name in errors else ""
            cells.append(f"{values[peer.name]:,.{figure.decimals}f}{mark}")
        else:
            cells.append("-")
    failed = MERGANSER.name in errors
    return (
        figure.title,
        figure.unit,
        *cells,
        _ratio(figure.at_least or Times(1, BASELINE), values),
        _verdict(figure.at_least, values, failed),
        _verdict(figure.aim, values, failed),
    )


def _ratio(goal: Goal, values: dict[str, float]) -> str:
    """Ours over the figure of the peer that the goal is about."""
    if isinstance(goal, Below) or (ratio := goal.ratio(values)) is None:
        return "-"
    return f"{ratio:.2f} x {goal.peer.title}"


def _verdict(goal: Goal | None, values: dict[str, float], failed: bool) -> str:
    """A goal and whether it was reached; a figure with errors reaches nothing."""
    if goal is None:
        return "-"
    reached = goal.reached(values)
    if reached is None:
        return str(goal)
    if reached and not failed:
        return f"{goal}: reached"
    ratio = goal.ratio(values)
    return f"{goal}: missed" if ratio is None else f"{goal}: missed ({ratio:.2f})"


def _error_notes(outcomes: list[Outcome]) -> list[str]:
    return [
        f"- {outcome.workload.name}, {name}: {'; '.join(dict.fromkeys(errors))}"
        for outcome in outcomes
        for name, errors in outcome.errors().items()
    ]


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    numbers = range(2, 2 + len(ALL))
    rule = tuple(
        "-" * (width - 1) + (":" if i in numbers else "-") for i, width in enumerate(widths)
    )
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in (titles, rule, *rows)
    )


def _conditions(settings: Settings) -> str:
    """Machine, versions and date, so that a figure can be placed later."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"{today}, {_cpu_model()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB; "
        f"clients, servers and disk on this one machine.\n"
        f"{_merganser_version()}, DuckDB {version('duckdb')}, "
        f"Quack {version('duckdb-extension-quack')}, pyarrow {version('pyarrow')}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.release()}.\n"
        f"{settings.seconds:g} s a workload, medians of {settings.rounds} interleaved "
        f"round{'' if settings.rounds == 1 else 's'}."
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _merganser_version() -> str:
    if not MERGANSER_SERVER.exists():
        return "Merganser not measured"
    command = [str(MERGANSER_SERVER), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
