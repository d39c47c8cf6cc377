"""The native rows: the load generator against Merganser, and DuckDB in process from Rust.

Python clients cost about as much as the server's own work, and hide it; these do not.
"""

import json
import subprocess
from dataclasses import dataclass

from . import data
from .bench import Bench, Sample
from .peer import LOAD_GENERATOR, NATIVE_BASELINE, Peer
from .server import PeerError


@dataclass(frozen=True)
class Native:
    """Loaders that each wait for their answer, beside units put in groups in process."""

    loaders: int
    rows: int
    units_per_commit: int

    def __call__(self, bench: Bench, peer: Peer) -> Sample:
        """Puts a second of the load generator, or units a second in process."""
        common = ["--rows", str(self.rows), "--seconds", str(bench.settings.seconds)]
        with bench.database() as database:
            if peer.command is None:
                fresh = database.with_suffix(".duckdb.native")
                options = [
                    "--database",
                    str(fresh),
                    "--units-per-commit",
                    str(self.units_per_commit),
                ]
                return Sample((_run([str(NATIVE_BASELINE), *options, *common])["units_per_s"],))
            with bench.server(peer, database) as server:
                options = [
                    "--url",
                    server.uri,
                    "--loaders",
                    str(self.loaders),
                    "--table",
                    data.EVENTS,
                ]
                outcome = _run([str(LOAD_GENERATOR), *options, *common])
        errors = [f"{outcome['errors']} errors"] if outcome["errors"] else []
        return Sample((outcome["puts_per_s"],), errors)


def _run(command: list[str]) -> dict[str, float]:
    """Runs a binary of the bench crate and reads the JSON line that it ends with."""
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode != 0:
        raise PeerError(
            f"{command[0]} ended with {finished.returncode}:\n{finished.stderr[-2000:]}"
        )
    return json.loads(finished.stdout.splitlines()[-1])
