"""Client programs that are no Python libraries: run to their end, within a bound."""

import json
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# What scripts/crate-programs installs.
CRATE_PROGRAMS = ROOT / "target/tools/bin"


def run(*command, folder=HERE, environment={}):
    """What a program printed and how it ended."""
    return subprocess.run(
        [str(word) for word in command], cwd=folder, env=os.environ | {"RUST_BACKTRACE": "0"} | environment,
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip


def output(*command, **options):
    """What a program printed that must succeed, and say nothing on standard error."""
    ended = run(*command, **options)
    assert ended.returncode == 0, f"exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert not ended.stderr, ended.stderr
    return ended.stdout


def node(script, **argument):
    """The JSON that a script of node/ prints."""
    return json.loads(output("node", HERE / "node" / script, json.dumps(argument)))
