"""Measures and prints a table: python -m over_http [--quick] [--only NAME]..."""

import argparse
import datetime
import os
import sys

import duckdb

from ours import BINARY, WORK

from . import many_rows, posted_rows, small_answers, stateless_start
from .settings import DATABASE, QUICK, Settings

MEASURED = {
    "stateless-start": stateless_start,
    "small-answers": small_answers,
    "many-rows": many_rows,
    "posted-rows": posted_rows,
}
TITLES = ("what", "measured", "goal")


def main() -> int:
    """Prints a Markdown table with all that was measured."""
    parser = argparse.ArgumentParser(prog="bench/http", description="Measures the HTTP API.")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it work?")
    parser.add_argument("--only", action="append", choices=MEASURED, help="measure this; can be repeated")
    arguments = parser.parse_args()
    if not BINARY.exists():
        print(f"{BINARY} is missing: make build", file=sys.stderr)
        return 1
    WORK.mkdir(exist_ok=True)
    _make_database()
    settings = QUICK if arguments.quick else Settings()
    load = os.getloadavg()[0]
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores, load average {load:.1f}\n")
    print(f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}", flush=True)
    for name in arguments.only or MEASURED:
        for row in MEASURED[name].measure(settings):
            print(f"| {' | '.join(row)} |", flush=True)
    return 0


def _make_database() -> None:
    """200,000 events of ten categories."""
    DATABASE.unlink(missing_ok=True)
    with duckdb.connect(str(DATABASE)) as database:
        database.execute(
            "CREATE TABLE events AS SELECT range AS batch_id, '2026-01-01T00:00:' || range % 60 AS timestamp,"
            " (range * 7919 % 1000) / 1000 AS value, 'category ' || range % 10 AS category FROM range(200000)"
        )


sys.exit(main())
