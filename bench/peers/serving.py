"""What the Python servers have in common: their options, the ready line, and a clean stop."""

import argparse
import signal
from pathlib import Path

_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def parse_database(description: str) -> Path:
    """Reads the command line, and keeps the stop signals for `serve_until_stopped`.

    Call it before any thread starts: threads inherit which signals are blocked.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--database", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    return options.database


def serve_until_stopped(uri: str) -> None:
    """Says on standard output that clients may come; returns when the process is told to stop."""
    print(f"listening on {uri}", flush=True)
    signal.sigwait(_STOP_SIGNALS)
