"""A merganser-server process to test against, and its refusals as each client reports them."""

import os
import re
import subprocess
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import adbc_driver_flightsql.dbapi
import adbc_driver_manager
import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest
import trustme

import wire

BINARY = Path(
    os.environ.get("MERGANSER_SERVER_BIN")
    or Path(__file__).resolve().parents[2] / "target/debug/merganser-server-under-test"
).absolute()
CLIENT = Path(os.environ.get("MERGANSER_CLIENT_BIN") or BINARY.with_name("merganser-under-test"))
# The server whose jobs go by a clock that stands until a line on its standard input moves it.
CLOCKED = Path(__file__).resolve().parents[2] / "target/debug/merganser-clocked"
# A developer's own settings must not leak into the servers under test.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("MERGANSER_")}


def run_to_exit(*arguments, environment={}):
    """Runs the server where it is expected to end by itself."""
    return subprocess.run(
        [BINARY, *map(str, arguments)], env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=30
    )


class Server:
    """A running server on a free port, with a plain Flight client. Make it with the fixtures."""

    running = set()
    binary, stdin = BINARY, None

    @classmethod
    def kill_all(cls):
        for server in list(cls.running):
            server.process.kill()

    def __init__(self, database, *options, log, listen="127.0.0.1:0", connect={}, environment={}):
        """`connect` goes to pyarrow's client, such as certificates to trust."""
        self.log = log
        with open(log, "wb") as stderr:
            self.process = subprocess.Popen(
                [self.binary, "--database", str(database), "--listen", listen, *map(str, options)],
                env=ENVIRONMENT | environment, stdin=self.stdin, stdout=subprocess.PIPE, stderr=stderr, text=True,
            )  # fmt: skip
        self.running.add(self)
        line = self.process.stdout.readline()
        ready = re.fullmatch(r"listening on (grpc(?:\+tls)?://127\.0\.0\.1:\d+)\n", line)
        if not ready:
            self.kill()
            raise AssertionError(f"no ready line but {line!r}; stderr:\n{log.read_text()}")
        self.uri = ready[1]
        self.client = flight.connect(self.uri, **connect)

    def http(self):
        """Where it serves over HTTP, for one with `--http 127.0.0.1:0`; the log tells."""
        (address,) = re.findall(r"serving over HTTP.*address=(\S+)", re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text()))
        return address

    def sql(self, text):
        """The result of a query: DoGet with the SQL text as the ticket."""
        return self.client.do_get(flight.Ticket(text.encode())).read_all()

    def rows(self, text):
        """The result of a query as a list of tuples."""
        return list(zip(*(column.to_pylist() for column in self.sql(text).columns)))

    def run(self, text):
        """Any SQL: the action `query`."""
        stream = b"".join(bytes(r.body) for r in self.client.do_action(("query", text.encode())))
        return pa.ipc.open_stream(stream).read_all()

    def put(self, table, *path):
        """Uploads one unit and returns its acknowledgement."""
        writer, answers = self.client.do_put(flight.FlightDescriptor.for_path(*path), table.schema)
        writer.write_table(table)
        writer.done_writing()
        answer = answers.read()
        writer.close()  # raises what the server refused
        return wire.IngestAck.decode(answer.to_pybytes())

    def adbc(self, **options):
        return adbc_driver_flightsql.dbapi.connect(self.uri, **options)

    def channel(self):
        """A bare gRPC channel, for messages that no Flight library would send."""
        return grpc.insecure_channel(self.uri.removeprefix("grpc://"))

    def stop(self):
        """SIGTERM, which must end in exit code 0. Does nothing when a test has ended the server itself."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                code = self.process.wait(timeout=60)
            finally:
                self.kill()
            assert code == 0, f"exit code {code}; stderr:\n{self.log.read_text()}"

    def kill(self):
        """SIGKILL: no goodbye, no checkpoint."""
        self.process.kill()
        self.process.wait()
        self.running.discard(self)
        self.process.stdout.close()
        if self.process.stdin:
            self.process.stdin.close()
        if hasattr(self, "client"):
            self.client.close()


class ClockedServer(Server):
    """One whose jobs go by a clock that stands until the test moves it."""

    binary, stdin = CLOCKED, subprocess.PIPE

    def advance(self, **time):
        """Returns once the clock has moved."""
        seconds = int(timedelta(**time).total_seconds())
        print(seconds, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer == f"advanced by {seconds}\n", f"{answer!r}; stderr:\n{self.log.read_text()}"


class GuardedServer(Server):
    """A server that knows one user and answers nobody else, as tools expect that always log in."""

    credentials = {"username": "ana", "password": "duck: and cover"}

    def __init__(self, folder, *options, **client):
        hashed = subprocess.run(
            [BINARY, "hash-password"], input=self.credentials["password"] + "\n",
            env=ENVIRONMENT, capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        config = folder / "server.toml"
        config.write_text(
            f'[[user]]\nname = "{self.credentials["username"]}"\npassword_hash = "{hashed.stdout.strip()}"\n'
        )
        super().__init__(folder / "db.duckdb", "--config", config, *options, log=folder / "log", **client)
        self.port = int(self.uri.rpartition(":")[2])

    def database_options(self):
        """What the ADBC driver has to know in order to be let in."""
        return self.credentials

    def adbc(self, **options):
        return super().adbc(db_kwargs=self.database_options(), **options)

    def run(self, text):
        with self.adbc(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(text)

    def rows(self, text):
        with self.adbc(autocommit=True) as connection, connection.cursor() as cursor:
            return cursor.execute(text).fetchall()


class EncryptedServer(GuardedServer):
    """The same with TLS, and a certificate of an authority that only this test knows."""

    def __init__(self, folder):
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
        certificate.private_key_pem.write_to_path(folder / "server.key")
        self.authority = authority.cert_pem.bytes().decode()
        options = ["--tls-cert", folder / "server.pem", "--tls-key", folder / "server.key"]
        super().__init__(folder, *options, connect={"tls_root_certs": self.authority})

    def database_options(self):
        trust = adbc_driver_flightsql.DatabaseOptions.TLS_ROOT_CERTS.value
        return super().database_options() | {trust: self.authority}


@dataclass
class Refusal:
    """A status as the server sent it: gRPC code, slug and text."""

    code: str
    slug: str
    text: str


# How pyarrow words the codes whose names it changes.
PYARROW_WORDING = {
    "timeout": "DEADLINE_EXCEEDED",
    "unauthorized": "PERMISSION_DENIED",
    "precondition failed": "FAILED_PRECONDITION",
    "out-of-range": "OUT_OF_RANGE",
    "RPC failed": "UNKNOWN",
    "cancelled call": "CANCELLED",
}
LEAKS = {
    "a file path": r"(?:^|[\s'\"(=])/\w+/|\.rs\b|\.cpp\b",
    "Debug output": r"\b[A-Z]\w+ \{ \w+: |\b(?:Some|Err|Ok|Status|Error)\(|\\n",
    "an engine's raw error": r'\{"exception_type"',
    "a stack trace": r"panicked at|Stack Trace|RUST_BACKTRACE",
}


def refused(call, *arguments, codes=None, slug=None, **more):
    """Calls what must fail with a status a person can act on, and returns that status."""
    with pytest.raises((pa.ArrowException, grpc.RpcError, adbc_driver_manager.Error)) as caught:
        call(*arguments, **more)
    return refusal(caught.value, codes=codes, slug=slug)


def refusal(error, codes=None, slug=None):
    """The status in a client's error, if it has the shape that every refusal has."""
    code, message = _status(error)
    shaped = re.fullmatch(r"([A-Z][A-Z0-9_]+): (\S.*)", message, re.DOTALL)
    assert shaped, f"not `SLUG: text`: {code} {message!r}"
    for what, pattern in LEAKS.items():
        assert not re.search(pattern, message), f"{what} in the message: {message!r}"
    status = Refusal(code, *shaped.groups())
    assert codes is None or code in ([codes] if isinstance(codes, str) else codes), status
    assert slug is None or slug == status.slug, status
    return status


def _status(error):
    if isinstance(error, grpc.RpcError):
        return error.code().name, error.details()
    text = str(error.args[0] if isinstance(error, KeyError) else error)
    if isinstance(error, adbc_driver_manager.Error):
        # "NOT_FOUND: [FlightSQL] SLUG: text (NotFound; Prepare). Vendor code: 5"
        found = re.match(r"\w+: \[FlightSQL\] (.*) \((\w+); .+\)", text, re.DOTALL)
        assert found, f"not an error of the server: {text}"
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", found[2]).upper(), found[1]
    found = re.match(r"(?:Unknown: )?(?:Flight|gRPC) (.+?),? with message: (.*)", text, re.DOTALL)
    assert found, f"not an error of the server: {text}"
    message = re.split(r"\. (?:gRPC client debug|Client) context: ", found[2])[0]  # pyarrow's own additions
    code = found[1].removeprefix("returned ").removesuffix(" error")
    return PYARROW_WORDING.get(code, code.upper().replace(" ", "_")), message
