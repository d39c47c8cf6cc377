import threading
from contextlib import ExitStack
from itertools import count

import pytest

from client import Client
from harness import BINARY, EncryptedServer, GuardedServer, Server


def pytest_configure():
    if not BINARY.exists():
        raise pytest.UsageError(f"{BINARY} is missing: cargo build -p merganser-server")


@pytest.fixture(autouse=True)
def no_call_hangs():
    """A call that hangs ends when its server does: the test fails and the run goes on."""
    timer = threading.Timer(100, Server.kill_all)
    timer.start()
    yield
    timer.cancel()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server on a fresh database file for all tests of a module; it must end with exit code 0."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "db.duckdb", log=folder / "log")
    yield server
    server.stop()


@pytest.fixture(scope="module", params=[(), ("--bulk-size", "1B")], ids=["small", "bulk"])
def server_by_door(request, tmp_path_factory):
    """Small uploads and bulk uploads enter by different doors, and must come out alike: a server for each."""
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "db.duckdb", *request.param, log=folder / "log")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """One server that asks for a user and a password, for all tests of a module."""
    server = GuardedServer(tmp_path_factory.mktemp("guarded"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    """The same with TLS."""
    server = EncryptedServer(tmp_path_factory.mktemp("encrypted"))
    yield server
    server.stop()


@pytest.fixture
def start(tmp_path):
    """Starts servers with options of the test's own; those still running at its end must exit with 0."""
    servers, number = [], count()

    def start(database, *options, kind=Server, **client):
        servers.append(kind(database, *options, log=tmp_path / f"log-{next(number)}", **client))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def database(tmp_path):
    return tmp_path / "db.duckdb"


@pytest.fixture
def no_tables_left_over(server):
    """For modules whose tests each begin with an empty database."""
    yield
    for *path, kind in server.rows(
        "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables"
        " WHERE table_catalog <> 'temp'"
    ):
        quoted = ".".join('"' + name.replace('"', '""') + '"' for name in path)
        server.run(f'DROP {"VIEW" if kind == "VIEW" else "TABLE"} {quoted}')


@pytest.fixture(scope="session")
def postgres():
    """A real PostgreSQL, for the tests of lakes."""
    from lake import Postgres  # whose package is no small one

    postgres = Postgres()
    yield postgres
    postgres.stop()


@pytest.fixture(scope="session")
def bucket():
    """An S3 API with a bucket for lakes."""
    from object_storage import Storage

    storage = Storage()
    yield storage
    storage.stop()


@pytest.fixture
def lake(tmp_path, postgres, bucket):
    """A new lake."""
    from lake import Lake

    return Lake(tmp_path, postgres, bucket)


@pytest.fixture
def no_lake_table_left_over(server):
    """For modules whose tests each make the table `lake.t`."""
    yield
    server.run("DROP TABLE IF EXISTS lake.t")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Shows what the servers of a failed test logged last."""
    report = (yield).get_result()
    if report.failed:
        logs = {item.funcargs[name].log for name in ("server", "guarded", "encrypted") if name in item.funcargs}
        if "tmp_path" in item.funcargs:
            logs.update(item.funcargs["tmp_path"].glob("log-*"))
        for log in sorted(logs):
            report.sections.append((f"end of the server's {log.name}", log.read_text()[-4000:]))


@pytest.fixture
def connect(server):
    """Makes clients of the module's server, each with a connection of its own."""
    with ExitStack() as clients:
        yield lambda **options: clients.enter_context(Client(server.uri, **options))


@pytest.fixture
def alone(start):
    """Makes clients of a server that no other test uses, whatever they do to it."""
    server = start(":memory:")
    with ExitStack() as clients:
        yield lambda: clients.enter_context(Client(server.uri))
