"""One long stream beside DuckDB in process."""

from statistics import median

from ours import verdict

from .settings import Settings, in_process, load, serving

UNITS_PER_COMMIT = 64
AT_LEAST = 0.8


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """One row: the median of the ratios of pairs that take turns at going first."""
    streamed, local = [], []
    for pair in range(settings.pairs):
        for served in (True, False) if pair % 2 else (False, True):
            if served:
                streamed.append(_units_a_second(settings))
            else:
                local.append(in_process(settings, UNITS_PER_COMMIT))
    ratios = [mine / other for mine, other in zip(streamed, local, strict=True)]
    ratio = median(ratios)
    measured = (
        f"{median(streamed):,.0f} units/s, in process {median(local):,.0f} ({UNITS_PER_COMMIT} units a commit): "
        f"{ratio:.2f} x, median of {len(ratios)} pairs ({min(ratios):.2f} to {max(ratios):.2f})"
    )
    goal = verdict(f"{AT_LEAST} x", reached=ratio >= AT_LEAST)
    return [("one long stream, pipelined 1,000-row units", measured, goal)]


def _units_a_second(settings: Settings) -> float:
    with serving() as server:
        return load(server, settings, "--stream", "--loaders", "1")["puts_per_s"]
