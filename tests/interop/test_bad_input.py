"""Hostile and mistaken input: a clear refusal, nothing written, and the server goes on."""

import random
import socket
import struct
import threading
import time

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import wire
from harness import Server, refusal, refused
from wire import sql_command

PEOPLE = pa.table({"id": [1, 2, 3], "name": ["Ada", None, "Grace"]})
WORDS = pa.table({"s": ["ab", "cd"]})
INJECTION = 'x"; DROP TABLE t; --'


@pytest.fixture(scope="module", autouse=True)
def tables(server):
    server.put(PEOPLE, "t")
    server.run("CREATE VIEW v AS FROM t")
    server.run("CREATE TABLE words (s VARCHAR)")
    server.run(
        """CREATE TABLE strict (
            id BIGINT PRIMARY KEY, need VARCHAR NOT NULL, n INTEGER, positive INTEGER CHECK (positive > 0), day DATE
        )"""
    )
    server.run("INSERT INTO strict VALUES (1, 'there', 1, 1, DATE '2024-02-29')")


@pytest.fixture(autouse=True)
def unharmed(server, tables):
    """Whatever a test does: afterwards the server answers, and what was stored is what was stored before."""

    def state():
        names = server.rows("SELECT table_schema, table_name FROM information_schema.tables ORDER BY ALL")
        contents = [server.rows(f"FROM {name} ORDER BY ALL") for name in ("t", "v", "words", "strict")]
        return server.rows("SELECT 42"), names, contents

    before = state()
    yield
    assert state() == before


DOORS = {
    "ticket": Server.sql,
    "action": Server.run,
    "flight info": lambda server, sql: server.client.get_flight_info(flight.FlightDescriptor.for_command(sql)),
    "schema": lambda server, sql: server.client.get_schema(flight.FlightDescriptor.for_command(sql)),
    "Flight SQL": lambda server, sql: server.client.get_flight_info(
        flight.FlightDescriptor.for_command(sql_command("CommandStatementQuery", (1, sql)))
    ),
    "prepare": lambda server, sql: list(
        server.client.do_action(
            ("CreatePreparedStatement", sql_command("ActionCreatePreparedStatementRequest", (1, sql)))
        )
    ),
}
any_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
# A script may be prepared, because it may run as an update; what is refused is asking it for rows, which
# test_adbc.py does.
SCRIPTS_PASS = ("action", "prepare")
plan_door = pytest.mark.parametrize(
    "door",
    [door for name, door in DOORS.items() if name not in SCRIPTS_PASS],
    ids=[name for name in DOORS if name not in SCRIPTS_PASS],
)


class TestSql:
    @any_door
    def test_syntax_error_shows_the_place(self, server, door):
        refusal = refused(door, server, "SELECT id FORM t WHERE", codes="INVALID_ARGUMENT")
        assert "LINE 1" in refusal.text and "^" in refusal.text

    @any_door
    def test_unknown_table_is_not_found(self, server, door):
        assert "no_such_table" in refused(door, server, "FROM no_such_table", codes="NOT_FOUND").text

    @any_door
    def test_unknown_column_is_named(self, server, door):
        assert "nope" in refused(door, server, "SELECT nope FROM t", codes=["INVALID_ARGUMENT", "NOT_FOUND"]).text

    @plan_door
    @pytest.mark.parametrize(
        "sql",
        ["SELECT 1; DROP TABLE t", "DROP TABLE t; SELECT 1", "INSERT INTO t VALUES (9, 'x'); FROM t", "SELECT 1;; SELECT 2"],
    )  # fmt: skip
    def test_several_statements_are_refused_and_none_is_run(self, server, door, sql):
        refused(door, server, sql, codes="INVALID_ARGUMENT", slug="MULTI_STATEMENT")

    @any_door
    @pytest.mark.parametrize("sql", ["", " \n\t", ";", "-- only a comment"], ids=repr)
    def test_no_statement_is_invalid(self, server, door, sql):
        refused(door, server, sql, codes="INVALID_ARGUMENT")

    @any_door
    @pytest.mark.parametrize(
        "sql",
        [
            "SELECT " + 100_000 * "(" + "1" + 100_000 * ")",
            "SELECT " + 100_000 * "NOT " + "true",
            "SELECT " + 50_000 * "1 + " + "1",
            f"SELECT '{(1 << 20) * 'x'}'",
            "SELECT 1\0; DROP TABLE t",
        ],
        ids=["parentheses", "negations", "sums", "over 1 MiB", "NUL"],
    )
    def test_monstrous_text_is_refused_quickly(self, server, door, sql):
        begin = time.monotonic()
        refused(door, server, sql, codes="INVALID_ARGUMENT")
        assert time.monotonic() - begin < 1

    @pytest.mark.parametrize(
        "sql",
        ["SELECT 'a'::INTEGER", "SELECT 1 + name FROM t", "SELECT 2000000000::INTEGER * 2::INTEGER", "SELECT error('own')"],
    )  # fmt: skip
    def test_failing_computation_is_the_askers_fault(self, server, sql):
        assert refused(server.sql, sql).code in ("INVALID_ARGUMENT", "OUT_OF_RANGE")

    @pytest.mark.parametrize("door", [Server.sql, Server.run])
    @pytest.mark.parametrize(
        "sql",
        [
            "FORCE CHECKPOINT",
            "FROM force_checkpoint()",
            "SET arrow_lossless_conversion = true",
            "SET GLOBAL threads = 7",
            "PRAGMA threads = 7",
        ],
    )
    def test_what_would_harm_everyone_is_refused(self, server, door, sql):
        settings = "SELECT current_setting('threads'), current_setting('arrow_lossless_conversion')"
        before = server.rows(settings)
        codes = ["INVALID_ARGUMENT", "PERMISSION_DENIED", "FAILED_PRECONDITION", "UNIMPLEMENTED"]
        refused(door, server, sql, codes=codes)
        assert server.rows(settings) == before

    @any_door
    def test_deep_but_legal_text_is_answered(self, server, door):
        door(server, f"SELECT {700 * '('}{200 * 'abs('}1{200 * ')'}{700 * ')'}")


class TestTickets:
    @pytest.mark.parametrize("size", [0, 1, 7, 64, 1000, 100_000])
    def test_of_random_bytes_are_invalid(self, server, size):
        ticket = flight.Ticket(random.Random(size).randbytes(size))
        refused(lambda: server.client.do_get(ticket).read_all(), codes="INVALID_ARGUMENT")

    def test_with_a_flipped_bit_are_refused_or_answered(self, server):
        descriptor = flight.FlightDescriptor.for_command("SELECT count(*) AS n FROM t")
        ticket = server.client.get_flight_info(descriptor).endpoints[0].ticket.ticket

        def get(bit):
            flipped = bytearray(ticket)
            flipped[bit // 8] ^= 1 << bit % 8
            return server.client.do_get(flight.Ticket(bytes(flipped))).read_all()

        for bit in range(len(ticket) * 8):
            try:
                get(bit)
            except pa.ArrowException as error:
                refusal(error, codes=["INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"])

    @pytest.mark.parametrize(
        "ticket",
        [
            sql_command("TicketStatementQuery", (1, b"forged")),
            sql_command("TicketStatementQuery", (1, b"\xff" * 100)),
            sql_command("CommandPreparedStatementQuery", (1, b"no such handle")),
            sql_command("NoSuchCommand"),
        ],
        ids=["forged", "binary", "unknown handle", "unknown command"],
    )
    def test_of_flight_sql_that_nobody_issued(self, server, ticket):
        refused(
            lambda: server.client.do_get(flight.Ticket(ticket)).read_all(),
            codes=["INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"],
        )


class TestCommands:
    @pytest.mark.parametrize(
        "command",
        [
            b"\xff\xfe\x00garbage",
            sql_command("CommandStatementQuery", (1, "SELECT 1"))[:-3],
            sql_command("CommandStatementQuery", (1, b"\xff\xfe")),
            sql_command("CommandStatementQuery"),
            sql_command("CommandPreparedStatementQuery", (1, b"no such handle")),
            sql_command("CommandStatementIngest", (2, "t")),
            sql_command("CommandStatementSubstraitPlan", (1, b"plan")),
            sql_command("NoSuchCommand", (1, "SELECT 1")),
            sql_command("", (1, "SELECT 1")),
        ],
        ids=["garbage", "cut short", "query not UTF-8", "no query", "unknown handle", "ingest", "substrait",
             "unknown command", "no command"],
    )  # fmt: skip
    @pytest.mark.parametrize("ask", [flight.FlightClient.get_flight_info, flight.FlightClient.get_schema])
    def test_nonsense_is_refused(self, server, command, ask):
        refused(
            ask,
            server.client,
            flight.FlightDescriptor.for_command(command),
            codes=["INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"],
        )

    @pytest.mark.parametrize(
        "path",
        [[], [""], ["t", ""], ["nope"], ["nope", "t"], ["a", "b", "c", "d", "t"], [INJECTION], ["t\0"], ["x" * 10_000]],
        ids=lambda path: ".".join(path)[:40],
    )  # fmt: skip
    def test_path_to_nothing_is_refused(self, server, path):
        descriptor = flight.FlightDescriptor.for_path(*path)
        refused(server.client.get_flight_info, descriptor, codes=["INVALID_ARGUMENT", "NOT_FOUND"])
        refused(server.client.get_schema, descriptor, codes=["INVALID_ARGUMENT", "NOT_FOUND"])

    @pytest.mark.parametrize(
        "action",
        [
            ("query", b"\xff\xfe"),
            ("CreatePreparedStatement", b"\xff\xfe"),
            ("CreatePreparedStatement", b""),
            ("ClosePreparedStatement", b"\xff\xfe"),
            ("BeginTransaction", b"\xff\xfe"),
        ],
        ids=str,
    )
    def test_action_with_a_garbled_body_is_refused(self, server, action):
        refused(lambda: list(server.client.do_action(action)), codes=["INVALID_ARGUMENT", "UNIMPLEMENTED"])


def strict(**columns):
    """A row for the table `strict`, right but for COLUMNS; None leaves one out."""
    row = {"id": [2], "need": ["here"], "n": pa.array([1], pa.int32())} | columns
    return pa.table({name: values for name, values in row.items() if values is not None})


# what is wrong: (rows for `strict`, code, slug, what the message names)
REFUSED_PUTS = {
    "missing NOT NULL column": (strict(need=None), "INVALID_ARGUMENT", "SCHEMA_MISMATCH", "need"),
    "unknown column": (strict(surprise=[1]), "INVALID_ARGUMENT", "SCHEMA_MISMATCH", "surprise"),
    "double into integer": (strict(n=[1.0]), "INVALID_ARGUMENT", "SCHEMA_MISMATCH", "n"),
    "text into integer": (strict(n=["1"]), "INVALID_ARGUMENT", "SCHEMA_MISMATCH", "n"),
    "timestamp into date": (
        strict(day=pa.array([10**15], pa.timestamp("us"))), "INVALID_ARGUMENT", "SCHEMA_MISMATCH", "day",
    ),
    "list into text": (strict(need=[["a"]]), "INVALID_ARGUMENT", "SCHEMA_MISMATCH", "need"),
    "integer out of range": (strict(n=[2**40]), "INVALID_ARGUMENT", None, ""),
    "NULL where none may be": (strict(need=pa.nulls(1, pa.utf8())), "INVALID_ARGUMENT", None, "need"),
    "NULL key": (strict(id=pa.nulls(1, pa.int64())), "INVALID_ARGUMENT", None, "id"),
    "failed check": (strict(positive=pa.array([-1], pa.int32())), "INVALID_ARGUMENT", None, "positive"),
    "key that is there": (pa.concat_tables([strict(), strict(id=[1])]), "ALREADY_EXISTS", None, "1"),
    "key twice in one unit": (pa.concat_tables([strict(), strict()]), "ALREADY_EXISTS", None, "2"),
    "column twice": (
        pa.table([[2], [3], ["x"]], names=["id", "id", "need"]), "INVALID_ARGUMENT", "SCHEMA_MISMATCH", "id",
    ),
    "column twice but for case": (
        pa.table([[2], [3], ["x"]], names=["id", "ID", "need"]), "INVALID_ARGUMENT", "SCHEMA_MISMATCH", "id",
    ),
    "no columns": (pa.table({}), "INVALID_ARGUMENT", None, ""),
}  # fmt: skip


class TestPut:
    @pytest.mark.parametrize("case", REFUSED_PUTS.values(), ids=REFUSED_PUTS)
    def test_of_wrong_rows_is_refused_by_name_and_writes_none(self, server, case):
        rows, code, slug, named = case
        assert named.lower() in refused(server.put, rows, "strict", codes=code, slug=slug).text.lower()

    def test_is_refused_whole_for_its_last_batch(self, server):
        writer, _ = server.client.do_put(flight.FlightDescriptor.for_path("strict"), strict().schema)
        for i in range(100, 200):
            writer.write_table(strict(id=[i]))
        writer.write_table(strict(id=[150]))
        refused(writer.close, codes="ALREADY_EXISTS")

    @pytest.mark.parametrize(
        "path",
        [[], [""], ["", "t"], ["a", "b", "c", "d", "t"], ["a", "b", "c", "t"], ["t\0"], ["x" * 10_000], ["v"],
         ["information_schema", "tables"], ["system", "main", "mine"], ["nope", "t"]],
        ids=lambda path: ".".join(path)[:40],
    )  # fmt: skip
    def test_to_a_path_that_cannot_be_a_table_is_refused(self, server, path):
        refused(server.put, PEOPLE, *path, codes=["INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED"])

    def test_to_a_name_with_sql_in_it_is_just_a_name(self, server):
        data = pa.table({'a"); DROP TABLE t; --': [1], INJECTION: [2]})
        server.put(data, INJECTION)
        quoted = INJECTION.replace('"', '""')
        assert server.sql(f'FROM "{quoted}"').equals(data)
        server.run(f'DROP TABLE "{quoted}"')

    @pytest.mark.parametrize(
        "descriptor",
        [
            None,
            b"",
            wire.message((1, 3)),
            wire.command_descriptor(b""),
            wire.command_descriptor(b"\xff\xfe"),
            wire.command_descriptor(sql_command("NoSuchCommand")),
            wire.command_descriptor(sql_command("CommandStatementIngest")),
            wire.command_descriptor(sql_command("CommandPreparedStatementUpdate", (1, b"no such handle"))),
        ],
        ids=["none", "empty", "of unknown type", "empty command", "binary command", "unknown command",
             "ingest without a table", "unknown handle"],
    )  # fmt: skip
    def test_with_a_descriptor_that_says_nothing_is_refused(self, server, descriptor):
        with server.channel() as channel:
            (schema, _), batch = wire.ipc(WORDS)
            frames = [wire.flight_data(schema, descriptor=descriptor), wire.flight_data(*batch)]
            refused(wire.do_put, channel, frames, codes=["INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED"])

    def test_that_ends_before_it_began_is_refused(self, server):
        with server.channel() as channel:
            for frames in ([], [wire.flight_data(descriptor=wire.path_descriptor("words"))]):
                refused(wire.do_put, channel, frames, codes="INVALID_ARGUMENT")

    def test_of_a_message_over_the_limit_is_refused(self, start):
        server = start(":memory:", "--max-message-size", "1MB")
        big = pa.table({"s": ["x" * 3_000_000]})
        refused(server.put, big, "t", codes=["INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE"])
        assert server.put(WORDS, "t").rows == 2
        assert server.rows("FROM t ORDER BY s") == [("ab",), ("cd",)]


SCHEMA, BATCH = wire.ipc(WORDS)
LZ4_BATCH = wire.ipc(pa.table({"s": ["ab" * 1000]}), compression="lz4")[1]
DICTIONARY_SCHEMA, DICTIONARY, DICTIONARY_BATCH = wire.ipc(
    pa.table({"s": pa.array(["ab", "cd"]).dictionary_encode()})
)
NOISE = random.Random(1).randbytes(200)
OFFSETS = struct.pack("<3i", 0, 2, 4)


def offsets(*values):
    """The batch with other string offsets."""
    return BATCH[0], BATCH[1].replace(OFFSETS, struct.pack("<3i", *values))


# the messages after the descriptor, each (flatbuffer header, body)
CORRUPTIONS = {
    "batch before the schema": [BATCH],
    "batch instead of a schema, then a schema": [BATCH, SCHEMA],
    "schema cut in half": [(SCHEMA[0][: len(SCHEMA[0]) // 2], b"")],
    "schema of noise": [(NOISE, b"")],
    "schema of zeroes": [(bytes(200), b"")],
    "batch header of noise": [SCHEMA, (NOISE, BATCH[1])],
    "batch header cut in half": [SCHEMA, (BATCH[0][: len(BATCH[0]) // 2], BATCH[1])],
    "batch without its body": [SCHEMA, (BATCH[0], b"")],
    "batch with half its body": [SCHEMA, (BATCH[0], BATCH[1][:12])],
    "header of 1,000 rows over a body of two": [
        SCHEMA, (wire.ipc(pa.table({"s": ["word"] * 1000}))[1][0], BATCH[1]),
    ],
    "batch of another schema": [SCHEMA, wire.ipc(pa.table({"a": [1, 2], "s": ["ab", "cd"]}))[1]],
    "second schema": [SCHEMA, BATCH, wire.ipc(pa.table({"other": [1]}))[0], BATCH],
    "good batch, then noise": [SCHEMA, BATCH, (NOISE, b"")],
    "offsets beyond the data": [SCHEMA, offsets(0, 2, 1 << 30)],
    "offsets that decrease": [SCHEMA, offsets(0, 4, 2)],
    "negative offset": [SCHEMA, offsets(-5, 2, 4)],
    "strings that are not UTF-8": [SCHEMA, (BATCH[0], BATCH[1].replace(b"abcd", b"\xff\xfe\xc3\x28"))],
    "character cut in two by an offset": [SCHEMA, (BATCH[0], BATCH[1].replace(b"abcd", "aäb".encode()))],
    "dictionary that never came": [DICTIONARY_SCHEMA, DICTIONARY_BATCH],
    "index beyond the dictionary": [
        DICTIONARY_SCHEMA, DICTIONARY,
        (DICTIONARY_BATCH[0], DICTIONARY_BATCH[1].replace(struct.pack("<2i", 0, 1), struct.pack("<2i", 0, 99))),
    ],
    "negative index": [
        DICTIONARY_SCHEMA, DICTIONARY,
        (DICTIONARY_BATCH[0], DICTIONARY_BATCH[1].replace(struct.pack("<2i", 0, 1), struct.pack("<2i", -1, 1))),
    ],
    "compressed body that claims 2^46 bytes": [
        SCHEMA, (LZ4_BATCH[0], struct.pack("<q", 1 << 46) + LZ4_BATCH[1][8:]),
    ],
}  # fmt: skip


def frames(messages, table="words"):
    """DoPut messages to a table, the descriptor on the first."""
    (header, body), *rest = messages
    yield wire.flight_data(header, body, wire.path_descriptor(table))
    for header, body in rest:
        yield wire.flight_data(header, body)


@pytest.fixture(scope="module")
def channel(server):
    with server.channel() as channel:
        yield channel


class TestArrow:
    @pytest.mark.parametrize("messages", CORRUPTIONS.values(), ids=CORRUPTIONS)
    def test_that_is_corrupt_is_refused(self, server, channel, messages):
        refused(wire.do_put, channel, frames(messages), codes="INVALID_ARGUMENT", slug="BAD_ARROW")

    def test_that_is_corrupt_leaves_other_streams_of_the_connection_alone(self, server, channel):
        go_on, answers = threading.Event(), []

        def slow():
            first, second = frames([SCHEMA, BATCH], "slow")
            yield first
            go_on.wait()
            yield second

        upload = threading.Thread(target=lambda: answers.extend(wire.do_put(channel, slow())))
        upload.start()
        try:
            for messages in CORRUPTIONS.values():
                refused(wire.do_put, channel, frames(messages), slug="BAD_ARROW")
        finally:
            go_on.set()
            upload.join()
        assert len(answers) == 1
        assert server.rows("FROM slow ORDER BY s") == [("ab",), ("cd",)]
        server.run("DROP TABLE slow")

    def test_with_flipped_bits_is_stored_or_refused(self, server, channel):
        # Nested and dictionary-encoded: every kind of header that the decoder must not trust.
        good = wire.ipc(
            pa.table(
                {
                    "l": [[{"a": 1, "b": "x"}], None, []],
                    "d": pa.array(["u", None, "u"]).dictionary_encode(),
                    "f": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int16(), 2)),
                }
            )
        )
        dice = random.Random(2)
        server.run("CREATE TABLE fuzz (l STRUCT(a BIGINT, b VARCHAR)[], d VARCHAR, f SMALLINT[2])")
        for _ in range(400):
            messages = [(bytearray(header), bytearray(body)) for header, body in good]
            part = dice.choice([part for message in messages for part in message if part])
            part[dice.randrange(len(part))] ^= 1 << dice.randrange(8)
            try:
                wire.do_put(channel, frames(messages, "fuzz"))
            except grpc.RpcError as error:
                refusal(error, codes="INVALID_ARGUMENT")
        assert server.rows("SELECT count(*) > 0 FROM fuzz") == [(True,)]  # some flips change nothing but a value
        server.run("DROP TABLE fuzz")


def test_bytes_that_are_not_http2_hurt_nobody(server):
    host, port = server.uri.removeprefix("grpc://").split(":")
    for noise in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", NOISE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + NOISE, b""):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(noise)
