"""A server's memory while a client that asked for everything reads nothing more."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from . import data
from .bench import Bench, Sample
from .clients import Client
from .peer import Peer

MEGABYTE = 1_000_000


def measure(bench: Bench, peer: Peer) -> Sample:
    """Megabytes by which the server's peak exceeds its idle size, by the kernel's accounts."""
    rows = bench.settings.bulk_rows
    context = multiprocessing.get_context("spawn")
    with bench.database(rows) as database, bench.server(peer, database) as server:
        pipe, child_pipe = context.Pipe()
        arguments = (child_pipe, peer.client, server.uri)
        process = context.Process(target=_stalling_client, args=arguments, daemon=True)
        process.start()
        child_pipe.close()
        try:
            pipe.recv()
            _reset_peak(server.pid)
            idle = _status_bytes(server.pid, "VmRSS")
            pipe.send("read the first batch")
            pipe.recv()
            # The client has nothing more to say: readable before the time is up means that it died.
            died = pipe.poll(bench.settings.stall_seconds)
            peak = _status_bytes(server.pid, "VmHWM")
            if died:
                return Sample((0.0,), ["the client's stream broke while it stalled"])
            pipe.send("enough")
            return Sample(((peak - idle) / MEGABYTE,))
        except EOFError:
            return Sample((0.0,), ["the client died"])
        finally:
            pipe.close()
            process.join()


def _stalling_client(parent: Connection, client_type: type[Client], address: str) -> None:
    """Connects and warms up; when told, reads one batch of everything; stalls until told again."""
    client = client_type(address)
    client.query(f"{data.SCAN} LIMIT 1000")
    parent.send("connected")
    parent.recv()
    stream = client.first_batch(data.SCAN)
    parent.send("stalled")
    parent.recv()
    del stream


def _reset_peak(pid: int) -> None:
    """Sets the kernel's peak resident size of a process back to its present size."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status_bytes(pid: int, field: str) -> int:
    """A size from a process's status; the kernel gives it in kB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, value = line.split(":", 1)
        if name == field:
            return int(value.split()[0]) * 1024
    raise KeyError(field)
