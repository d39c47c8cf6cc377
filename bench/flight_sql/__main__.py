"""Measures and prints tables: python -m flight_sql [--quick] [--only NAME]..."""

import argparse
import sys
from dataclasses import fields, replace

from ours import BINARY, WORK

from . import dropped_streams, idle_sessions, small_queries, tpc_h
from .settings import QUICK, Settings

MEASURED = {
    "tpch": tpc_h,
    "small-queries": small_queries,
    "idle-sessions": idle_sessions,
    "dropped-streams": dropped_streams,
}


def main() -> int:
    """Prints a Markdown table for each thing measured; fails if one of them did."""
    arguments = _arguments()
    settings = QUICK if arguments.quick else Settings()
    given = {field.name: getattr(arguments, field.name) for field in fields(Settings)}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    if not BINARY.exists():
        print(f"{BINARY} is missing: make build", file=sys.stderr)
        return 1
    WORK.mkdir(exist_ok=True)
    failed = 0
    for name in arguments.only or MEASURED:
        try:
            print(f"\n{_table(MEASURED[name].TITLES, MEASURED[name].measure(settings))}", flush=True)
        except Exception as error:  # the others are measured all the same
            failed += 1
            print(f"\n{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/flight-sql", description=__doc__.partition(":")[0])
    parser.add_argument("--quick", action="store_true", help="little of everything: does it work?")
    parser.add_argument("--only", action="append", choices=MEASURED, help="measure this; can be repeated")
    for field in fields(Settings):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=field.type, metavar="N", help=f"default {field.default}")
    return parser.parse_args()


def _table(titles: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [titles, ("---", *("---:" for _ in titles[1:])), *(tuple(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


sys.exit(main())
