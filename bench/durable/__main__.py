"""Measures and prints a table: python -m durable [--quick] [--only NAME]..."""

import argparse
import datetime
import os
import sys
from dataclasses import fields, replace

from ours import BINARY, WORK

from . import keys, long_stream, many_loaders, restart, upserts
from .settings import QUICK, Settings

MEASURED = {
    "keys": keys,
    "many-loaders": many_loaders,
    "long-stream": long_stream,
    "restart": restart,
    "upserts": upserts,
}
TITLES = ("what", "measured", "goal")


def main() -> int:
    """Prints a Markdown table with all that was measured; fails if something could not be."""
    arguments = _arguments()
    given = {field.name: getattr(arguments, field.name) for field in fields(Settings)}
    settings = replace(
        QUICK if arguments.quick else Settings(),
        **{name: value for name, value in given.items() if value is not None},
    )
    if not BINARY.exists():
        print(f"{BINARY} is missing: make build", file=sys.stderr)
        return 1
    WORK.mkdir(exist_ok=True)
    print(f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {os.cpu_count()} cores, {_load()}\n")
    print(f"| {' | '.join(TITLES)} |\n|{'---|' * len(TITLES)}", flush=True)
    failed = 0
    for name in arguments.only or MEASURED:
        try:
            for row in MEASURED[name].measure(settings):
                print(f"| {' | '.join(row)} |", flush=True)
        except Exception as error:  # the others are measured all the same
            failed += 1
            print(f"| {name} | {type(error).__name__}: {error} | |", flush=True)
    print(f"\nAt the end: {_load()}")
    return 1 if failed else 0


def _load() -> str:
    one, five, _ = os.getloadavg()
    return f"load average {one:.1f} in the last minute, {five:.1f} in five"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/durability", description="Measures what durability costs.")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it work?")
    parser.add_argument("--only", action="append", choices=MEASURED, help="measure this; can be repeated")
    for field in fields(Settings):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=field.type, metavar="N", help=f"default {field.default}")
    return parser.parse_args()


sys.exit(main())
