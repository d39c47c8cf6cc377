"""How soon a server with a long ledger is ready."""

from statistics import median
from time import perf_counter

import duckdb

from ours import verdict

from .settings import DATABASE, QUICK, Settings, load, remove, serving

SECONDS = 2.0
LEDGER = "__merganser.ingest_units"


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """A row for few loaders with many units each, and one for many with one each."""
    units = settings.ledger_units
    return [_measure(settings, loaders, units // loaders) for loaders in (10, units)]


def _measure(settings: Settings, loaders: int, units: int) -> tuple[str, str, str]:
    _fill(loaders, units)
    try:
        seconds = [_seconds_until_ready() for _ in range(settings.restarts)]
    finally:
        remove(DATABASE)
    ready = median(seconds)
    return (
        f"start with a ledger of {loaders:,} loaders x {units:,} units",
        f"ready after {ready:.2f} s, median of {len(seconds)} ({min(seconds):.2f} to {max(seconds):.2f})",
        verdict(f"< {SECONDS:g} s", reached=ready < SECONDS),
    )


def _fill(loaders: int, units: int) -> None:
    """A ledger as the server writes it: it makes the table itself, with a few units of its own."""
    remove(DATABASE)
    with serving(fresh=False) as server:
        load(server, QUICK, "--keyed", "--loaders", "1", "--rows", "1")
    with duckdb.connect(str(DATABASE)) as connection:
        connection.execute(f"DELETE FROM {LEDGER}")
        # In the order of commits, in which the loaders alternate.
        connection.execute(
            f"""
            INSERT INTO {LEDGER} BY NAME
            SELECT
                'loader ' || number % {loaders} AS loader,
                number // {loaders} + 1 AS sequence,
                number // 8 + 1 AS commit_id,
                now() AS committed_at,
                json_object(
                    'epoch', 1,
                    'table', '"durability"."main"."events"',
                    'rows', 1000,
                    'hash', md5(number::VARCHAR),
                    'total_rows', 1000 * (number // {loaders} + 1),
                    'total_units', number // {loaders} + 1
                )::VARCHAR AS unit
            FROM range({loaders * units}) AS numbers(number)
            """
        )


def _seconds_until_ready() -> float:
    begin = perf_counter()
    with serving(fresh=False):
        return perf_counter() - begin
