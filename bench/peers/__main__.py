"""Runs the peer comparison and prints its table."""

import argparse
import shutil
import sys
from pathlib import Path

from . import report
from .bench import WORK, Bench, Sample, Settings
from .native import Native
from .peer import (
    ALL,
    IN_PROCESS,
    LOAD_GENERATOR,
    MERGANSER,
    MERGANSER_SERVER,
    NATIVE_BASELINE,
    Peer,
)
from .server import PeerError
from .workloads import Workload, all_workloads

FULL = Settings(seconds=8, rounds=3, bulk_rows=10_000_000, stall_seconds=10)
QUICK = Settings(seconds=2, rounds=1, bulk_rows=1_000_000, stall_seconds=2)


def main() -> int:
    """Reads the options, runs the workloads, prints the report; 1 if something is missing."""
    options = _options()
    default = QUICK if options.quick else FULL
    settings = Settings(
        options.seconds or default.seconds,
        options.rounds or default.rounds,
        default.bulk_rows,
        default.stall_seconds,
    )
    workloads = [
        workload
        for workload in all_workloads(settings.bulk_rows)
        if not options.only or workload.name in options.only
    ]
    if options.list:
        for workload in workloads:
            print(f"{workload.name:18}", "; ".join(figure.title for figure in workload.figures))
        return 0
    peers = [peer for peer in ALL if not options.peers or peer.name in options.peers]
    if missing := _missing_binaries(workloads, peers):
        names = ", ".join(str(path.relative_to(Path.cwd().parent)) for path in missing)
        print(f"missing: {names}; `make build` makes the release binaries", file=sys.stderr)
        return 1
    text = report.render(_run(Bench(settings), workloads, peers), settings)
    print(text)
    if options.write:
        report.write(text)
    return 0


def _options() -> argparse.Namespace:
    names = [workload.name for workload in all_workloads(FULL.bulk_rows)]
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--list", action="store_true", help="list the workloads and end")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these workloads")
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=[peer.name for peer in ALL],
        metavar="PEER",
        help=f"these peers of {', '.join(peer.name for peer in ALL)}",
    )
    parser.add_argument("--seconds", type=float, help=f"a workload's length ({FULL.seconds:g})")
    parser.add_argument("--rounds", type=int, help=f"rounds to take medians of ({FULL.rounds})")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of 2 s and a tenth of the rows: a smoke test",
    )
    parser.add_argument(
        "--write", action="store_true", help="also write the table into RESULTS.md; whole runs only"
    )
    options = parser.parse_args()
    if options.write and (options.quick or options.only or options.peers):
        parser.error("--write wants a whole run: not --quick, --only or --peers")
    return options


def _missing_binaries(workloads: list[Workload], peers: list[Peer]) -> list[Path]:
    """The release binaries that the run needs and that are not built."""
    native = any(isinstance(workload.measure, Native) for workload in workloads)
    needed = []
    if MERGANSER in peers:
        needed += [MERGANSER_SERVER, LOAD_GENERATOR] if native else [MERGANSER_SERVER]
    if IN_PROCESS in peers and native:
        needed.append(NATIVE_BASELINE)
    return [path for path in needed if not path.exists()]


def _run(bench: Bench, workloads: list[Workload], peers: list[Peer]) -> list[report.Outcome]:
    """Measures peer after peer in every round, so that a slow spell of the machine hits all."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    outcomes = []
    try:
        for workload in workloads:
            outcome = report.Outcome(workload)
            outcomes.append(outcome)
            for round_number in range(1, bench.settings.rounds + 1):
                for peer in (peer for peer in peers if peer in workload.peers):
                    sample = _measure(bench, workload, peer)
                    outcome.add(peer.name, sample)
                    _progress(workload, round_number, peer, sample)
    finally:
        shutil.rmtree(WORK)
    return outcomes


def _measure(bench: Bench, workload: Workload, peer: Peer) -> Sample:
    """One sample; a process that fails is an error of it, not the run's end."""
    try:
        return workload.measure(bench, peer)
    except PeerError as error:
        return Sample((0.0,) * len(workload.figures), [str(error)])


def _progress(workload: Workload, round_number: int, peer: Peer, sample: Sample) -> None:
    figures = zip(sample.values, workload.figures, strict=True)
    values = ", ".join(f"{value:,.2f} {figure.unit}" for value, figure in figures)
    print(
        f"{workload.name:18} round {round_number}  {peer.name:11} {values}",
        *sample.errors,
        sep="  ",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
