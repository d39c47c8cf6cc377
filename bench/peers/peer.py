"""Who takes part in the comparison."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .clients import Client, FlightClient, QuackClient
from .in_process import InProcessClient

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target" / "release"

MERGANSER_SERVER = RELEASE / "merganser-server"
LOAD_GENERATOR = RELEASE / "merganser-loadgen"
NATIVE_BASELINE = RELEASE / "merganser-baseline"


@dataclass(frozen=True)
class Peer:
    """A peer: how it is served, if it is, and how its clients speak to it."""

    name: str
    title: str
    client: type[Client]
    command: Callable[[Path], list[str]] | None
    """The server's command line for a database; None when clients open the file themselves."""


def _module(name: str) -> Callable[[Path], list[str]]:
    return lambda database: [sys.executable, "-m", f"peers.{name}", "--database", str(database)]


MERGANSER = Peer(
    "merganser",
    "Merganser",
    FlightClient,
    lambda database: [
        str(MERGANSER_SERVER),
        "--database",
        str(database),
        "--listen",
        "127.0.0.1:0",
    ],
)
BASELINE = Peer("baseline", "Python Flight", FlightClient, _module("baseline_server"))
QUACK = Peer("quack", "Quack", QuackClient, _module("quack"))
IN_PROCESS = Peer("in-process", "in process", InProcessClient, None)

SERVERS = (MERGANSER, BASELINE, QUACK)
ALL = (*SERVERS, IN_PROCESS)
