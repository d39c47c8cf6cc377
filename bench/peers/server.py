"""A server process: started on a database, waited for, stopped."""

import re
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, cast

START_SECONDS = 60
STOP_SECONDS = 60


class PeerError(Exception):
    """A peer's process that did not start, or did not end as it should."""


class Server:
    """A command that prints `listening on URI` when it is ready, and that SIGTERM stops."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command = command
        self._log = log
        self._ready = threading.Event()
        self.uri = ""

    def start(self) -> None:
        """Starts the process and waits for its ready line."""
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True
            )
        output = cast(IO[str], self._process.stdout)
        threading.Thread(target=self._read, args=(output,), daemon=True).start()
        if not self._ready.wait(START_SECONDS) or not self.uri:
            self._process.kill()
            self._process.wait()
            raise PeerError(f"{self._command[0]} did not start:\n{self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Asks the process to stop, and waits until it has."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise PeerError(f"the server did not stop within {STOP_SECONDS} s") from None
        if code != 0:
            raise PeerError(f"the server ended with {code}:\n{self._log.read_text()[-2000:]}")

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._process.pid

    def _read(self, output: IO[str]) -> None:
        """Finds the ready line, and goes on reading so that the server never waits for us."""
        for line in output:
            if not self.uri and (ready := re.match(r"listening on (\S+)", line)):
                self.uri = ready.group(1)
                self._ready.set()
        self._ready.set()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
