"""Result streams that their clients drop: how soon the server has its places and its memory back."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter, sleep

import pyarrow as pa
import pyarrow.flight as flight

from .settings import Settings, resident, serving

TITLES = ("dropped streams", "number", "all places free after s", "memory before MB", "memory after MB")
PLACES = 32
BOUND_SECONDS = 5.0
ENDLESS = b"SELECT range AS i, 'row ' || range AS name FROM range(1000000000000)"
# What is no leak: allocators keep some of what they had. A batch that was forgotten is about 2 MB.
SLACK_MB = 128.0


def measure(settings: Settings) -> list[tuple]:
    """One row; raises if places or memory are not back within the bound. As many again go before, to warm up."""
    with (
        serving(":memory:", "--read-concurrency", str(PLACES), "--read-wait", "100ms") as server,
        ThreadPoolExecutor(PLACES) as pool,
    ):
        clients = [flight.connect(server.uri) for _ in range(PLACES)]
        _drop_and_wait(pool, clients, settings.dropped)
        before = _settled(server.pid)
        free = _drop_and_wait(pool, clients, settings.dropped)
        after = _settled(server.pid)
        for client in clients:
            client.close()
    if after > before + SLACK_MB:
        raise AssertionError(f"memory not back within {BOUND_SECONDS} s: {before:.0f} MB before, {after:.0f} MB after")
    return [("after their first batch", settings.dropped, free, before, after)]


def _drop_and_wait(pool: ThreadPoolExecutor, clients: list[flight.FlightClient], number: int) -> float:
    """Seconds from the last of the dropped streams until every place is free."""
    for _ in range(-(-number // PLACES)):
        list(pool.map(_drop, clients))
    begin = perf_counter()
    while not _all_places_are_free(pool, clients):
        if perf_counter() - begin > BOUND_SECONDS:
            raise AssertionError(f"places not back within {BOUND_SECONDS} s")
    return perf_counter() - begin


def _settled(pid: int) -> float:
    """The smallest that the server gets within the bound."""
    begin, smallest = perf_counter(), resident(pid)
    while perf_counter() - begin < BOUND_SECONDS:
        sleep(0.05)
        smallest = min(smallest, resident(pid))
    return smallest


def _drop(client: flight.FlightClient) -> None:
    """Reads one batch of a result without end; a place may still be busy with the last one's end."""
    with suppress(flight.FlightServerError, flight.FlightUnavailableError, pa.ArrowException):
        stream = client.do_get(flight.Ticket(ENDLESS))
        stream.read_chunk()
        stream.cancel()


def _all_places_are_free(pool: ThreadPoolExecutor, clients: list[flight.FlightClient]) -> bool:
    """Whether as many streams as there are places can be open at once."""
    streams = [client.do_get(flight.Ticket(ENDLESS)) for client in clients]

    def first(stream: flight.FlightStreamReader) -> bool:
        try:
            return stream.read_chunk().data.num_rows > 0
        except pa.ArrowException:
            return False

    open_at_once = list(pool.map(first, streams))
    for stream in streams:
        stream.cancel()
    return all(open_at_once)
