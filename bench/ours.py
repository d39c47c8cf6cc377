"""Our own binaries and where benchmarks keep their files; what they say of a goal."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "bench" / ".work"
RELEASE = ROOT / "target" / "release"
BINARY = Path(os.environ.get("MERGANSER_SERVER_BIN") or RELEASE / "merganser-server")


def verdict(goal: str, *, reached: bool) -> str:
    """A goal, and whether it was reached."""
    return f"{goal}: {'reached' if reached else 'missed'}"
