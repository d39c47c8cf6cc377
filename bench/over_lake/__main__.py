"""Measures and prints a table: python -m over_lake [--quick]"""

import argparse
import json
import subprocess
import sys
import time
from statistics import median

import duckdb
from ours import BINARY, RELEASE, WORK, verdict
from peers.server import Server

from .stores import EXTENSIONS, Lake, Stores, stores

LOADERS = 8
#: How the loaders send their units, and the options of the load generator for it.
WAYS = {
    "one stream a loader, with keys": ["--stream"],
    "a put a unit, without keys": [],
    "a put a unit, with keys": ["--keyed"],
}
ROWS = 1_000
AT_LEAST = 10
#: For processes to come up and attach.
WARM_UP = 2.0


def main() -> int:
    """One row for each way."""
    arguments = _arguments()
    seconds, pairs = (2.0, 1) if arguments.quick else (arguments.seconds, arguments.pairs)
    WORK.mkdir(exist_ok=True)
    print("| what | measured | goal |\n|---|---|---|", flush=True)
    with stores() as made:
        for way, options in WAYS.items():
            ours, theirs = [], []
            for _ in range(pairs):
                theirs.append(_inserts(made.lake(), seconds))
                ours.append(_ours(made, seconds, options))
            ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
            print(
                f"| lake ingest, {LOADERS} loaders of 1,000-row units: {way} | {median(ours):,.0f} units/s, "
                f"{median(theirs):,.1f} from as many DuckDB processes: {median(ratios):.1f} x, median of {pairs} "
                f"pairs ({min(ratios):.1f} to {max(ratios):.1f}) | "
                f"{verdict(f'{AT_LEAST} x', reached=median(ratios) >= AT_LEAST)} |",
                flush=True,
            )
    return 0


def _inserts(lake: Lake, seconds: float) -> float:
    """Units a second that DuckDB processes insert."""
    with duckdb.connect(":memory:") as connection:
        for statement in lake.attach():
            connection.execute(statement)
        columns = "batch_id BIGINT, timestamp VARCHAR, value DOUBLE, category VARCHAR"
        connection.execute(f"CREATE TABLE lake.events ({columns})")
    given = json.dumps({"attach": lake.attach(), "rows": ROWS})
    command = [sys.executable, "-m", "over_lake.inserts", given]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    loaders = [subprocess.Popen(command, **pipes) for _ in range(LOADERS)]
    for loader in loaders:
        assert loader.stdout.readline() == "ready\n"
    begin = time.time() + WARM_UP
    told = [loader.communicate(f"{begin} {begin + seconds}\n")[0] for loader in loaders]
    return sum(map(int, told)) / seconds


def _ours(made: Stores, seconds: float, way: list[str]) -> float:
    """Units a second through our server."""
    config = WORK / "lake.toml"
    config.write_text(made.lake().config())
    options = ["--listen", "127.0.0.1:0", "--config", str(config)]
    extensions = ["--extension-directory", str(extension_folder(WORK / "extensions", EXTENSIONS))]
    with Server([str(BINARY), "--database", ":memory:", *options, *extensions], WORK / "lake.log") as server:
        finished = subprocess.run(
            [
                str(RELEASE / "merganser-loadgen"), "--url", server.uri, "--seconds", str(seconds),
                "--loaders", str(LOADERS), "--rows", str(ROWS), "--table", "lake.main.events",
                *way,
            ],
            capture_output=True, text=True,
        )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    outcome = json.loads(finished.stdout.splitlines()[-1])
    assert outcome["errors"] == 0, finished.stderr
    return outcome["puts_per_s"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/lake", description="Measures ingest into a DuckLake.")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it work?")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each side is measured")
    parser.add_argument("--pairs", type=int, default=3, help="how often, in turn")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
