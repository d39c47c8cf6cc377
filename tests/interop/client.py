"""One client with a connection, and therefore a session, of its own; it speaks Flight SQL message by message."""

import time
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.flight as flight

import wire

COMMIT, ROLLBACK = 1, 2
# Modes of an ingest: what to do with a missing table, and with one that is there.
MODES = {"create": (1, 1), "append": (2, 2), "replace": (1, 3), "create_append": (1, 2)}
EMPTY = pa.schema([])


class Cookies(flight.ClientMiddlewareFactory):
    """Remembers what the server set last; sends nothing back."""

    def __init__(self):
        super().__init__()
        self.set = None

    def start_call(self, info):
        return CookiesOfCall(self)


class CookiesOfCall(flight.ClientMiddleware):
    def __init__(self, cookies):
        super().__init__()
        self.cookies = cookies

    def received_headers(self, headers):
        for name, values in headers.items():
            if name.lower() == "set-cookie":
                self.cookies.set = values[-1]


class Client:
    def __init__(self, uri, headers=()):
        self.cookies = Cookies()
        self.flight = flight.connect(uri, middleware=[self.cookies])  # shares its connection with no other
        self.options = call_options(headers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.flight.close()

    def cookie(self):
        """The header by which another connection belongs to this session; from now on this one sends it too."""
        self.set_options()
        header = ("cookie", self.cookies.set.split(";")[0])
        self.options = call_options([header])
        return header

    def action(self, name, body=b""):
        return [r.body.to_pybytes() for r in self.flight.do_action((name, body), self.options)]

    def sql_action(self, name, *fields):
        """A Flight SQL action; the fields of its result, if it has one."""
        results = self.action(name, wire.sql_command(f"Action{name}Request", *fields))
        return wire.fields(wire.fields(results[0])[2][0]) if results else None

    def run(self, text):
        """Any SQL, scripts too: the action `query`; rows as tuples."""
        table = pa.ipc.open_stream(b"".join(self.action("query", text.encode()))).read_all()
        return tuples(table)

    def open(self, text, transaction=b""):
        """A reader over a result that is being sent."""
        return self.flight.do_get(self.ticket(text, transaction), self.options)

    def rows(self, text, transaction=b""):
        return tuples(self.open(text, transaction).read_all())

    def sql_names(self, text):
        """The columns of a result."""
        return self.open(text).schema.names

    def one(self, text, transaction=b""):
        [[value]] = self.rows(text, transaction)
        return value

    def info(self, text, transaction=b""):
        command = wire.sql_command("CommandStatementQuery", (1, text), *handle(2, transaction))
        return self.flight.get_flight_info(flight.FlightDescriptor.for_command(command), self.options)

    def ticket(self, text, transaction=b""):
        return self.info(text, transaction).endpoints[0].ticket

    def fetch(self, ticket):
        return tuples(self.flight.do_get(ticket, self.options).read_all())

    def update(self, text, transaction=b""):
        """CommandStatementUpdate; the number of rows that changed."""
        command = wire.sql_command("CommandStatementUpdate", (1, text), *handle(2, transaction))
        return self.count(self.exchange(command, pa.table({})))

    def count(self, answer):
        [count] = wire.fields(answer).get(1, [0])
        return count

    def exchange(self, command, *tables):
        """DoPut of a command and tables; its one answer."""
        writer, answers = self.writer(command, tables[0].schema)
        for table in tables:
            if table.num_columns:
                writer.write_table(table)
        writer.done_writing()
        answer = answers.read()
        writer.close()  # raises what the server refused
        return answer.to_pybytes()

    def writer(self, command, schema):
        return self.flight.do_put(flight.FlightDescriptor.for_command(command), schema, self.options)

    def put(self, table, *path):
        """Plain Flight; its acknowledgement."""
        writer, answers = self.flight.do_put(flight.FlightDescriptor.for_path(*path), table.schema, self.options)
        writer.write_table(table)
        writer.done_writing()
        answer = answers.read()
        writer.close()
        return wire.IngestAck.decode(answer.to_pybytes())

    def ingest(self, table, name, mode="append", transaction=b"", **place):
        return wire.IngestAck.decode(self.exchange(ingest_command(name, mode, transaction, **place), table))

    def begin(self):
        [transaction] = self.sql_action("BeginTransaction")[1]
        return transaction

    def end(self, transaction, action):
        self.sql_action("EndTransaction", (1, transaction), (2, action))

    def commit(self, transaction):
        self.end(transaction, COMMIT)

    def rollback(self, transaction):
        self.end(transaction, ROLLBACK)

    @contextmanager
    def transaction(self):
        """A transaction that is rolled back in any case, so that a failed test keeps nothing locked."""
        transaction = self.begin()
        try:
            yield transaction
        finally:
            try:
                self.rollback(transaction)
            except (pa.ArrowException, KeyError):
                pass  # it has ended

    def prepare(self, text, transaction=b""):
        [prepared] = self.sql_action("CreatePreparedStatement", (1, text), *handle(2, transaction))[1]
        return prepared

    def execute(self, prepared):
        command = wire.sql_command("CommandPreparedStatementQuery", (1, prepared))
        info = self.flight.get_flight_info(flight.FlightDescriptor.for_command(command), self.options)
        return self.fetch(info.endpoints[0].ticket)

    def get_options(self):
        [result] = self.action("GetSessionOptions")
        entries = (wire.fields(entry) for entry in wire.fields(result)[1])
        return {entry[1][0].decode(): wire.fields(entry[2][0])[1][0].decode() for entry in entries}

    def set_options(self, **options):
        """Sets options, each a string or the bytes of a SessionOptionValue; what is wrong, by name."""
        [result] = self.action("SetSessionOptions", options_request(**options))
        return option_errors(result)


def call_options(headers):
    """No call takes longer than any test should: one that hangs fails by itself."""
    headers = [(name.encode(), value.encode()) for name, value in headers]
    return flight.FlightCallOptions(headers=headers, timeout=20)


def options_request(**options):
    values = ((k, wire.message((1, v)) if isinstance(v, str) else v) for k, v in options.items())
    return wire.message(*((1, wire.message((1, name), (2, value))) for name, value in values))


def option_errors(result):
    entries = (wire.fields(entry) for entry in wire.fields(result).get(1, []))
    return {entry.get(1, [b""])[0].decode(): wire.fields(entry[2][0]).get(1, [0])[0] for entry in entries}


def ingest_command(name, mode="append", transaction=b"", **place):
    missing, exists = MODES[mode]
    numbers = {"schema": 3, "catalog": 4, "temporary": 5}
    return wire.sql_command(
        "CommandStatementIngest",
        (1, wire.message((1, missing), (2, exists))),
        (2, name),
        *((numbers[key], value) for key, value in place.items()),
        *handle(6, transaction),
    )


def handle(number, value):
    return [(number, value)] if value else []


def tuples(table):
    return list(zip(*(column.to_pylist() for column in table.columns)))


def eventually(true, what, seconds=10):
    """Asks again and again until the answer is yes."""
    end = time.monotonic() + seconds
    while not (answer := true()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)  # between two questions
    return answer
