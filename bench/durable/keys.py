"""What keys cost: the same loaders with and without, in turn."""

from statistics import median

from ours import verdict

from .settings import Settings, load, serving

LOADERS = 8
AT_LEAST = 0.9


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """One row: the median of the ratios of pairs that take turns at going first."""
    with_keys, without = [], []
    for pair in range(settings.pairs):
        for keyed in (True, False) if pair % 2 else (False, True):
            (with_keys if keyed else without).append(_units_a_second(settings, keyed))
    ratios = [mine / other for mine, other in zip(with_keys, without, strict=True)]
    ratio = median(ratios)
    measured = (
        f"{median(with_keys):,.0f} units/s with, {median(without):,.0f} without: {ratio:.2f} x, median of "
        f"{len(ratios)} pairs ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    goal = verdict(f"{AT_LEAST} x", reached=ratio >= AT_LEAST)
    return [(f"keys, {LOADERS} native loaders, 1,000-row units", measured, goal)]


def _units_a_second(settings: Settings, keyed: bool) -> float:
    with serving() as server:
        options = ["--loaders", str(LOADERS), *(["--keyed"] if keyed else [])]
        return load(server, settings, *options)["puts_per_s"]
