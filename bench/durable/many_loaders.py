"""Many loaders with keys: how long they wait, whether they get the same, and what the server holds meanwhile."""

from pathlib import Path
from statistics import median

from peers.server import Server

from ours import verdict

from .settings import DATABASE, Settings, load, serving

ROUNDS = 3
P99_MS = 250
FAIR = 2
MEMORY_MB = 1000
# What DuckDB may keep of the table besides.
CACHE = "512MiB"


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """A row for each goal; the last two by the worst of the rounds."""
    outcomes, memory = [], []
    for _ in range(ROUNDS):
        with serving(DATABASE, "--memory-limit", CACHE) as server:
            outcomes.append(load(server, settings, "--keyed", "--loaders", str(settings.loaders)))
            memory.append(_peak_mb(server))
    # By default the cache may take most of the machine, and keeps what fits of the table.
    with serving(DATABASE) as server:
        load(server, settings, "--keyed", "--loaders", str(settings.loaders))
        unbounded = _peak_mb(server)
    typical = {name: median(outcome[name] for outcome in outcomes) for name in outcomes[0]}
    shares = [outcome["fastest_loader_puts"] / max(outcome["slowest_loader_puts"], 1) for outcome in outcomes]
    p99, unfair, peak = typical["p99_ms"], max(shares), max(memory)
    who = f"{settings.loaders} loaders, 1,000-row units with keys"
    waits = (
        f"p50 {typical['p50_ms']:.0f} ms, p99 {p99:.0f} ms, longest {typical['max_ms']:.0f} ms, "
        f"at {typical['puts_per_s']:,.0f} units/s; medians of {ROUNDS} rounds"
    )
    return [
        (f"{who}: acknowledgements", waits, verdict(f"p99 < {P99_MS} ms", reached=p99 < P99_MS)),
        (
            f"{who}: units of the fastest loader over those of the slowest",
            f"{unfair:.2f} x, the worst of {ROUNDS} rounds",
            verdict(f"< {FAIR} x", reached=unfair < FAIR),
        ),
        (
            f"{who}: peak memory of the server",
            f"{peak:,.0f} MB with memory-limit {CACHE}, the worst of {ROUNDS} rounds; "
            f"{unbounded:,.0f} MB with the default, in one",
            verdict(f"< {MEMORY_MB:,} MB", reached=max(peak, unbounded) < MEMORY_MB),
        ),
    ]


def _peak_mb(server: Server) -> float:
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(server.pid)
