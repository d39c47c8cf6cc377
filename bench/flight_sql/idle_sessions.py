"""What a session costs the server while its client says nothing."""

import adbc_driver_flightsql.dbapi

from .settings import Settings, resident, serving

TITLES = ("idle sessions", "number", "server before MB", "with them MB", "kB each", "after they left MB")
KINDS = {
    "that ran a query": ["SELECT 1"],
    "with a setting and a temporary table": [
        "SET VARIABLE mine = 1",
        "CREATE TEMPORARY TABLE mine AS SELECT range AS x FROM range(10)",
    ],
}


def measure(settings: Settings) -> list[tuple]:
    """One row a kind of session, each with a server of its own."""
    return [_measure(name, statements, settings.sessions) for name, statements in KINDS.items()]


def _measure(name: str, statements: list[str], number: int) -> tuple:
    with serving(":memory:") as server:
        _open(server.uri, statements).close()
        before = resident(server.pid)
        sessions = [_open(server.uri, statements) for _ in range(number)]
        with_them = resident(server.pid)
        for session in sessions:
            session.close()
        # Its answer comes after the goodbyes have been handled.
        _open(server.uri, statements).close()
        return (name, number, before, with_them, (with_them - before) * 1000 / number, resident(server.pid))


def _open(uri: str, statements: list[str]) -> adbc_driver_flightsql.dbapi.Connection:
    connection = adbc_driver_flightsql.dbapi.connect(uri, autocommit=True)
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            cursor.fetchall()
    return connection
