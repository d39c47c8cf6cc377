"""Upserts a second, for the record."""

from .settings import Settings, load, serving

LOADERS = (1, 8)


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """One row a number of loaders."""
    return [_measure(settings, loaders) for loaders in LOADERS]


def _measure(settings: Settings, loaders: int) -> tuple[str, str, str]:
    with serving() as server:
        options = ["--upsert", str(settings.upsert_values), "--loaders", str(loaders)]
        outcome = load(server, settings, *options)
    return (
        f"upserts of 1,000 rows into {settings.upsert_values:,}, {loaders} loader{'s' if loaders > 1 else ''}",
        f"{outcome['puts_per_s']:,.0f} units/s, p50 {outcome['p50_ms']:.1f} ms, p99 {outcome['p99_ms']:.1f} ms",
        "-",
    )
