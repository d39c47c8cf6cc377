"""Small queries, one after the other: prepared or not, and with or without GetFlightInfo."""

from collections.abc import Callable
from random import Random
from statistics import median, quantiles
from time import perf_counter

import adbc_driver_flightsql.dbapi
import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight

from .settings import Settings, serving

TITLES = ("small query", "times", "median us", "99 % us", "a second")
BLOCKS = 10
KEYS = 100_000
TABLE = f"CREATE TABLE points AS SELECT range AS id, 'name ' || range AS name FROM range({KEYS})"


def measure(settings: Settings) -> list[tuple]:
    """One row a way to ask. The ways take turns in blocks of a tenth."""
    with (
        serving(":memory:") as server,
        adbc_driver_flightsql.dbapi.connect(server.uri, autocommit=True) as connection,
        connection.cursor() as cursor,
        connection.cursor() as bare,
        flight.connect(server.uri) as client,
    ):
        cursor.execute(TABLE)
        points = {
            "prepared point query (ADBC)": lambda key: _prepared(cursor, key),
            "unprepared point query (ADBC)": lambda key: _unprepared(bare.adbc_statement, key),
        }
        tickets = {
            "GetFlightInfo and DoGet": lambda key: _announced(client, key),
            "DoGet with SQL as the ticket": lambda key: _at_once(client, key),
        }
        rows = _take_turns(points, settings.point_queries)
        return rows + _take_turns(tickets, settings.small_queries)


def _query(key: int) -> str:
    return f"SELECT id, name FROM points WHERE id = {key}"


def _prepared(cursor: adbc_driver_flightsql.dbapi.Cursor, key: int) -> pa.Table:
    # The same text as before: the driver binds the statement that it has prepared.
    return cursor.execute("SELECT id, name FROM points WHERE id = ?", (key,)).fetch_arrow_table()


def _unprepared(statement: adbc_driver_manager.AdbcStatement, key: int) -> pa.Table:
    statement.set_sql_query(_query(key))
    stream, _ = statement.execute_query()
    return pa.RecordBatchReader._import_from_c(stream.address).read_all()


def _announced(client: flight.FlightClient, key: int) -> pa.Table:
    info = client.get_flight_info(flight.FlightDescriptor.for_command(_query(key)))
    return client.do_get(info.endpoints[0].ticket).read_all()


def _at_once(client: flight.FlightClient, key: int) -> pa.Table:
    return client.do_get(flight.Ticket(_query(key).encode())).read_all()


def _take_turns(ways: dict[str, Callable[[int], pa.Table]], times: int) -> list[tuple]:
    random = Random(1)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for block in range(BLOCKS):
        for name in sorted(ways, reverse=block % 2 == 0):
            for _ in range(times // BLOCKS):
                key = random.randrange(KEYS)
                begin = perf_counter()
                answer = ways[name](key)
                seconds[name].append(perf_counter() - begin)
                if answer["id"].to_pylist() != [key]:
                    raise AssertionError(f"{name}: asked for {key}, got {answer.to_pylist()}")
    return [
        (name, len(taken), median(taken) * 1e6, quantiles(taken, n=100)[98] * 1e6, len(taken) / sum(taken))
        for name, taken in seconds.items()
    ]
