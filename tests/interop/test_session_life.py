"""How sessions are told apart, asked about, counted and ended; and the tickets that point into them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import wire
from client import Client, eventually
from harness import refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over", "schemas")

INVALID_NAME, INVALID_VALUE = 1, 2
CANCELLED, NOT_CANCELLABLE = 1, 3
COOKIE = "merganser_session"
ENDLESS = "SELECT sum(hash(a.range, b.range)) AS s FROM range(10000000) a, range(10000000) b"


@pytest.fixture(scope="module")
def schemas(server):
    for sql in ("CREATE SCHEMA s", "ATTACH ':memory:' AS other", "CREATE SCHEMA other.s"):
        server.run(sql)


def numbers(*values):
    return pa.table({"x": pa.array(values, pa.int64())})


def names(client):
    [row] = client.rows("SELECT current_database(), current_schema()")
    return row


class TestOptions:
    def test_are_catalog_and_schema(self, connect):
        client, other = connect(), connect()
        assert client.get_options() == {"catalog": "db", "schema": "main"}
        assert client.set_options(schema="s") == {}
        assert client.get_options() == {"catalog": "db", "schema": "s"}
        assert names(client) == ("db", "s")
        assert client.set_options(catalog="other") == {}
        assert names(client) == ("other", "main")
        assert client.set_options(schema="s", catalog="other") == {}
        assert names(client) == ("other", "s")
        assert other.get_options() == {"catalog": "db", "schema": "main"}
        client.run("USE db.s")
        assert client.get_options() == {"catalog": "db", "schema": "s"}

    @pytest.mark.parametrize(
        "options, expected",
        [
            ({"schema": "nosuch"}, {"schema": INVALID_VALUE}),
            ({"catalog": "nosuch"}, {"catalog": INVALID_VALUE}),
            ({"catalog": "temp"}, {"catalog": INVALID_VALUE}),
            ({"schema": ""}, {"schema": INVALID_VALUE}),
            ({"schema": 's"; DROP SCHEMA s; --'}, {"schema": INVALID_VALUE}),
            ({"nosuch": "x"}, {"nosuch": INVALID_NAME}),
            ({"": "x", "Schema": "s"}, {"": INVALID_NAME, "Schema": INVALID_NAME}),
            ({"schema": wire.message((2, 1))}, {"schema": INVALID_VALUE}),
            ({"schema": wire.message((5, wire.message((1, "s"))))}, {"schema": INVALID_VALUE}),
            ({"schema": b""}, {"schema": INVALID_VALUE}),
            ({"catalog": "nosuch", "nosuch": "x"}, {"catalog": INVALID_VALUE, "nosuch": INVALID_NAME}),
        ],
    )
    def test_that_are_wrong_are_named_and_change_nothing(self, connect, options, expected):
        client = connect()
        assert client.set_options(**options) == expected
        assert names(client) == ("db", "main")

    def test_right_ones_beside_wrong_ones_are_set(self, connect):
        client = connect()
        assert client.set_options(schema="s", nosuch="x") == {"nosuch": INVALID_NAME}
        assert names(client) == ("db", "s")

    @pytest.mark.parametrize("name", ["SetSessionOptions", "CancelFlightInfo", "RenewFlightEndpoint", "CancelQuery"])
    def test_body_that_is_no_message_is_refused(self, connect, name):
        for body in (b"\xff" * 20, b"\x0a\xff", b"\x0a\x05abc"):
            refused(connect().action, name, body, codes="INVALID_ARGUMENT")

    def test_driver(self, server):
        with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
            assert (connection.adbc_current_catalog, connection.adbc_current_db_schema) == ("db", "main")
            connection.adbc_current_db_schema = "s"
            assert cursor.execute("SELECT current_schema()").fetchall() == [("s",)]
            connection.adbc_current_catalog = "other"
            assert cursor.execute("SELECT current_database()").fetchall() == [("other",)]
            with pytest.raises(Exception, match="nosuch|invalid"):
                connection.adbc_current_catalog = "nosuch"
            assert connection.adbc_current_catalog == "other"


class TestCookie:
    def test_finds_its_session_on_another_connection(self, connect):
        client = connect()
        client.run("USE s")
        client.run("CREATE TEMP TABLE mine AS SELECT 42 AS x")
        cookie = client.cookie()
        again = connect(headers=[("cookie", f"theme=dark; {cookie[1]}; last=1")])
        assert again.rows("FROM mine") == client.rows("FROM mine") == [(42,)]
        assert names(again) == ("db", "s")
        client.close()
        assert again.rows("FROM mine") == [(42,)]
        again.close()
        assert connect(headers=[cookie]).rows("FROM mine") == [(42,)], "it outlives its connections"

    @pytest.mark.parametrize(
        "value",
        [
            f"{COOKIE}=",
            f"{COOKIE}=..transaction",
            f"{COOKIE}=" + "00" * 16,
            f"{COOKIE}=xyz",
            f"{COOKIE}=abc",
            f"{COOKIE}=\"",
            f"{COOKIE}=+a+b",
            f"{COOKIE}=" + "ff" * 3000,
            "=",
            ";;;",
            COOKIE,
            "another=1",
        ],
    )
    def test_that_is_made_up_is_ignored(self, connect, value):
        client = connect(headers=[("cookie", value)])
        client.run("CREATE TEMP TABLE mine AS SELECT 42 AS x")
        assert client.rows("FROM mine") == [(42,)], "its connection tells who it is"
        refused(connect(headers=[("cookie", value)]).rows, "FROM mine", codes="NOT_FOUND")

    def test_of_another_run_is_told_so_once(self, connect):
        client = connect(headers=[("cookie", f"{COOKIE}=" + "00" * 16 + "." + "00" * 8)])
        refused(client.rows, "SELECT 42", codes="ABORTED", slug="SESSION_LOST")
        assert client.rows("SELECT 42") == [(42,)]

    def test_of_a_session_that_is_closed_is_forgotten(self, connect):
        client = connect()
        client.cookie()
        client.run("CREATE TEMP TABLE mine AS SELECT 42 AS x")
        client.action("CloseSession")
        assert client.cookies.set.startswith(f"{COOKIE}=; Max-Age=0"), "as browsers are told"
        again = connect(headers=[("cookie", client.cookies.set.split(";")[0])])
        refused(again.rows, "FROM mine", codes="NOT_FOUND")


class TestClose:
    def test_ends_everything_and_only_that_session(self, connect):
        client, other = connect(), connect()
        for one in (client, other):
            one.run("USE s")
            one.run("SET VARIABLE v = 1; CREATE TEMP TABLE mine AS SELECT 1 AS x")
        prepared, ticket = client.prepare("SELECT 1"), client.ticket("FROM mine")
        assert wire.fields(client.action("CloseSession")[0]) == {1: [1]}
        assert client.rows("SELECT current_schema(), getvariable('v')") == [("main", None)]
        refused(client.rows, "FROM mine", codes="NOT_FOUND")
        refused(client.fetch, ticket, codes="NOT_FOUND", slug="SESSION_ENDED")
        refused(client.execute, prepared, codes="NOT_FOUND", slug="UNKNOWN_HANDLE")
        assert other.rows("SELECT x, getvariable('v') FROM mine") == [(1, 1)]
        assert wire.fields(client.action("CloseSession")[0]) == {1: [1]}, "twice is no error"

    def test_stops_what_runs(self, connect, server):
        client = connect()
        client.run("SET VARIABLE v = 1")
        cookie = client.cookie()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(client.rows, ENDLESS)
            closer = connect(headers=[cookie])
            runs(server)
            closer.action("CloseSession")
            refused(running.result, 5)


def ticks(server):
    """The processor time that the server has used: a query without rows shows in nothing else."""
    with open(f"/proc/{server.process.pid}/stat") as stat:
        return sum(int(ticks) for ticks in stat.read().rsplit(")")[1].split()[11:13])


def runs(server):
    before = ticks(server)
    eventually(lambda: ticks(server) >= before + 5, "the query runs")


def rests(server):
    def does_nothing():
        before = ticks(server)
        idle_for(0.2)
        return ticks(server) <= before + 2

    eventually(does_nothing, "no query runs any more", 5)


class TestNumber:
    def test_is_bounded_and_those_within_go_on(self, start):
        server = start(":memory:", "--max-sessions", "5")
        server.run("CREATE TABLE t AS SELECT 1 AS x")  # by a client that has the first session
        clients = [Client(server.uri) for _ in range(4)]
        for client in clients:
            client.run("CREATE TEMP TABLE mine AS FROM t")
        late = Client(server.uri)
        for call in (late.rows, late.run, late.info, late.prepare):
            refused(call, "FROM t", codes="RESOURCE_EXHAUSTED", slug="TOO_MANY_SESSIONS")
        refused(late.put, numbers(1), "t", codes="RESOURCE_EXHAUSTED", slug="TOO_MANY_SESSIONS")
        assert [client.rows("FROM mine") for client in clients] == [[(1,)]] * 4
        clients[0].close()

        def is_let_in():
            try:
                return late.rows("FROM t") == [(1,)]
            except pa.ArrowException:
                return False

        eventually(is_let_in, "the place of a client that has gone is free")
        late.action("CloseSession")
        with Client(server.uri) as another:
            assert another.rows("FROM t") == [(1,)]
        for client in [*clients[1:], late]:
            client.close()

    def test_many_connections_that_come_and_go_leave_none(self, start):
        server = start(":memory:", "--max-sessions", "20")
        for _ in range(60):
            with Client(server.uri) as client:
                client.run("BEGIN; CREATE TEMP TABLE mine AS SELECT 1")
        eventually(lambda: Client(server.uri).rows("SELECT 1"), "there is room")

    def test_of_unused_ones_shrinks_but_not_by_those_in_use(self, start):
        server = start(":memory:", "--session-idle", "1s", "--max-sessions", "2")
        with Client(server.uri) as unused, Client(server.uri) as used, Client(server.uri) as late:
            unused.cookie()
            unused.run("CREATE TEMP TABLE mine AS SELECT 1 AS x")
            used.run("CREATE TEMP TABLE mine AS SELECT 2 AS x")
            refused(late.rows, "SELECT 1", codes="RESOURCE_EXHAUSTED")

            def is_let_in():
                assert used.rows("FROM mine") == [(2,)]
                try:
                    return late.rows("SELECT 1")
                except pa.ArrowException:
                    return False

            eventually(is_let_in, "the session that nobody uses ends")
            late.action("CloseSession")
            refused(unused.rows, "FROM mine", codes="ABORTED", slug="SESSION_LOST")
            refused(unused.rows, "FROM mine", codes="NOT_FOUND")

    def test_of_those_with_an_open_transaction_or_result_does_not_shrink(self, start):
        server = start(":memory:", "--session-idle", "1s")
        with Client(server.uri) as client, Client(server.uri) as reader:
            transaction = client.begin()
            client.update("CREATE TABLE t AS SELECT 1 AS x", transaction)
            reader.run("SET VARIABLE v = 1")
            reading = reader.open("SELECT range + getvariable('v') FROM range(1000000000000)")
            reading.read_chunk()
            idle_for(2.5)
            client.commit(transaction)
            assert server.rows("FROM t") == [(1,)]
            # More than there is room for on the way.
            for _ in range(200):
                reading.read_chunk()
            reading.cancel()


def idle_for(seconds):
    """Lets a time limit pass: there is nothing else to wait for."""
    threading.Event().wait(seconds)


class TestTickets:
    def test_run_with_the_names_and_tables_of_their_session(self, connect):
        client, other = connect(), connect()
        client.run("USE s")
        client.run("CREATE TABLE t AS SELECT 42 AS x")
        plain = client.ticket("FROM t")
        client.run("CREATE TEMP TABLE mine AS SELECT getvariable('v') AS x; SET VARIABLE v = 7")
        own = client.ticket("SELECT count(*), getvariable('v') FROM mine")
        for fetcher in (client, other, connect()):
            assert fetcher.fetch(plain) == [(42,)]
            assert fetcher.fetch(own) == [(1, 7)]
        refused(other.rows, "FROM t", codes="NOT_FOUND")

    def test_of_a_session_that_has_ended_say_so(self, connect):
        client, other = connect(), connect()
        client.run("USE s")
        ticket = client.ticket("SELECT 1 AS one")
        assert other.fetch(ticket) == [(1,)]
        client.close()

        def is_refused():
            try:
                return not other.fetch(ticket)
            except KeyError:
                return True

        eventually(is_refused, "the session ends with its connection")
        refused(other.fetch, ticket, codes="NOT_FOUND", slug="SESSION_ENDED")

    def test_partitions_of_the_driver_on_another_connection(self, server):
        with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE mine AS SELECT range AS x FROM range(1000)")
            partitions, schema = cursor.adbc_execute_partitions("SELECT sum(x)::BIGINT AS s FROM mine")
            with server.adbc(autocommit=True) as second, second.cursor() as reader:
                reader.adbc_read_partition(partitions[0])
                assert reader.fetchall() == [(499500,)]

    def test_of_a_transaction_run_in_it_and_not_after_its_end(self, connect):
        client, other = connect(), connect()
        other.run("CREATE TABLE t AS SELECT 1 AS x")
        for end in (client.commit, client.rollback):
            with client.transaction() as transaction:
                client.update("INSERT INTO t VALUES (2)", transaction)
                ticket = client.ticket("SELECT count(*) AS n FROM t", transaction)
                expected = client.fetch(ticket)
                assert other.fetch(ticket) == expected
                assert other.rows("SELECT count(*) AS n FROM t") == [(expected[0][0] - 1,)]
                end(transaction)
            refused(other.fetch, ticket, codes="NOT_FOUND", slug="UNKNOWN_TRANSACTION")

    def test_returning_rows_are_kept_whoever_fetches_them(self, connect):
        client, other = connect(), connect()
        other.run("CREATE TABLE t (x BIGINT)")
        ticket = client.ticket("INSERT INTO t VALUES (1) RETURNING x")
        assert [client.fetch(ticket), other.fetch(ticket), client.fetch(ticket)] == [[(1,)]] * 3
        assert other.rows("FROM t") == [(1,)]

    def test_prepared_statement_is_its_sessions_own(self, connect):
        client, other = connect(), connect()
        prepared = client.prepare("SELECT ?::BIGINT AS x")
        bind = wire.sql_command("CommandPreparedStatementQuery", (1, prepared))
        client.exchange(bind, numbers(42))
        refused(other.execute, prepared, codes="NOT_FOUND", slug="UNKNOWN_HANDLE")
        refused(other.exchange, bind, numbers(666), codes="NOT_FOUND", slug="UNKNOWN_HANDLE")
        update = wire.sql_command("CommandPreparedStatementUpdate", (1, prepared))
        refused(other.exchange, update, numbers(666), codes="NOT_FOUND", slug="UNKNOWN_HANDLE")
        other.sql_action("ClosePreparedStatement", (1, prepared))
        assert client.execute(prepared) == [(42,)], "another session's close does not reach it"

    def test_renewed_works_like_the_old_one(self, connect):
        client = connect()
        client.run("CREATE TEMP TABLE mine AS SELECT 42 AS x")
        endpoint = client.info("FROM mine").endpoints[0]
        [renewed] = client.action("RenewFlightEndpoint", wire.message((1, endpoint.serialize())))
        renewed = flight.FlightEndpoint.deserialize(renewed)
        assert renewed.expiration_time.as_py() >= endpoint.expiration_time.as_py()
        assert client.fetch(renewed.ticket) == client.fetch(endpoint.ticket) == [(42,)]

    @pytest.mark.parametrize("ticket", [b"", b"\x0a\x05abc", b"SELECT 1", None], ids=["empty", "broken", "sql", "changed"])
    def test_renewal_of_a_stranger_gives_nothing_that_works_better(self, connect, ticket):
        client = connect()
        if ticket is None:
            ticket = bytearray(client.ticket("SELECT 1 AS one").ticket)
            ticket[-1] ^= 1
        body = wire.message((1, wire.message((1, wire.message((1, bytes(ticket)))))))
        try:
            [renewed] = client.action("RenewFlightEndpoint", body)
        except (pa.ArrowException, KeyError) as error:
            assert "BAD_TICKET" in str(error) or "BAD_COMMAND" in str(error)
        else:
            assert wire.fields(wire.fields(renewed)[1][0]).get(1, [b""]) == [bytes(ticket)]
        refused(client.action, "RenewFlightEndpoint", b"", codes="INVALID_ARGUMENT")


class TestCancel:
    def cancel(self, client, info, name="CancelFlightInfo"):
        if name == "CancelFlightInfo":
            [result] = client.action(name, wire.message((1, info.serialize())))
            return wire.fields(result).get(1, [0])[0]
        return client.sql_action("CancelQuery", (1, info.serialize()))[1][0]

    @pytest.mark.parametrize("name", ["CancelFlightInfo", "CancelQuery"])
    @pytest.mark.parametrize("stateful", [False, True], ids=["session without state", "with state"])
    def test_running_query_stops_within_a_second(self, server, connect, name, stateful):
        client, other = connect(), connect()
        if stateful:
            client.run("SET VARIABLE v = 1")
        info = client.info(ENDLESS)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(client.fetch, info.endpoints[0].ticket)
            runs(server)
            begin = time.monotonic()
            assert self.cancel(other, info, name) == CANCELLED
            refused(running.result, 5, codes="CANCELLED")
            assert time.monotonic() - begin < 1
        refused(client.fetch, info.endpoints[0].ticket, codes="CANCELLED")
        assert client.rows("SELECT 42") == [(42,)]

    @pytest.mark.parametrize("stateful", [False, True], ids=["session without state", "with state"])
    def test_query_that_has_just_begun_stops_too(self, start, stateful):
        server = start(":memory:")
        with Client(server.uri) as client, Client(server.uri) as other, ThreadPoolExecutor(1) as pool:
            if stateful:
                client.run("SET VARIABLE v = 1")
            for attempt in range(40):
                info = client.info(f"{ENDLESS} -- {attempt}")
                running = pool.submit(client.fetch, info.endpoints[0].ticket)
                later = time.perf_counter() + attempt * 0.0001
                while time.perf_counter() < later:
                    pass  # each attempt comes a little later than the one before
                assert self.cancel(other, info) == CANCELLED
                refused(running.result, 5, codes="CANCELLED")
                client.options = flight.FlightCallOptions(timeout=4)
                assert client.rows("SELECT 42") == [(42,)], attempt
            rests(server)

    def test_stream_that_is_being_read_stops(self, connect):
        client, other = connect(), connect()
        info = client.info("FROM range(1000000000000)")
        reader = client.flight.do_get(info.endpoints[0].ticket)
        reader.read_chunk()
        assert self.cancel(other, info) == CANCELLED

        def to_the_end():
            while True:
                reader.read_chunk()

        refused(to_the_end, codes="CANCELLED")

    @pytest.mark.parametrize("name", ["CancelFlightInfo", "CancelQuery"])
    def test_ticket_that_was_not_fetched_yet_is_refused(self, connect, name):
        client = connect()
        info = client.info("SELECT 42 AS x")
        assert self.cancel(client, info, name) == CANCELLED
        refused(client.fetch, info.endpoints[0].ticket, codes="CANCELLED")
        assert self.cancel(client, info, name) == CANCELLED, "twice is no error"

    def test_reaches_no_other_query_of_the_same_text(self, connect):
        client, other = connect(), connect()
        info, same, others = (c.info("SELECT 42 AS x") for c in (client, client, other))
        assert self.cancel(client, info) == CANCELLED
        assert other.fetch(others.endpoints[0].ticket) == [(42,)]
        assert client.fetch(same.endpoints[0].ticket) == [(42,)], "it was asked for apart"
        assert client.rows("SELECT 42 AS x") == [(42,)], "and so was this"

    def test_of_a_write_that_has_run_is_too_late(self, connect):
        client = connect()
        client.run("CREATE TABLE t (x BIGINT)")
        info = client.info("INSERT INTO t VALUES (1)")
        assert self.cancel(client, info) in (CANCELLED, NOT_CANCELLABLE)
        assert client.rows("FROM t") == [(1,)]
        client.info("INSERT INTO t VALUES (2)")
        assert client.fetch(client.ticket("INSERT INTO t VALUES (3) RETURNING x")) == [(3,)]

    def test_inside_a_transaction_leaves_only_the_rollback(self, server, connect):
        client, other = connect(), connect()
        client.run("CREATE TABLE t (x BIGINT)")
        with client.transaction() as transaction, ThreadPoolExecutor(1) as pool:
            client.update("INSERT INTO t VALUES (1)", transaction)
            info = client.info(ENDLESS, transaction)
            running = pool.submit(client.fetch, info.endpoints[0].ticket)
            runs(server)
            assert self.cancel(other, info) == CANCELLED
            refused(running.result, 5, codes="CANCELLED")
            refused(client.commit, transaction, codes="ABORTED", slug="TRANSACTION_LOST")
        assert other.rows("FROM t") == []

    @pytest.mark.parametrize(
        "info",
        [
            b"",
            wire.message((3, b"")),
            wire.message((3, wire.message((1, b"")))),
            wire.message(*[(3, wire.message((1, wire.message((1, b"made up " * 50)))))] * 1000),
        ],
        ids=["empty", "no ticket", "empty ticket", "many"],
    )
    def test_of_what_was_never_asked_harms_nobody(self, connect, info):
        client, other = connect(), connect()
        mine = other.info("SELECT 42 AS x")
        [result] = client.action("CancelFlightInfo", wire.message((1, info)))
        assert wire.fields(result).get(1, [0])[0] in (CANCELLED, NOT_CANCELLABLE)
        client.sql_action("CancelQuery", (1, info))
        assert other.fetch(mine.endpoints[0].ticket) == [(42,)]

    def test_of_plain_sql_tickets_does_not_forbid_the_sql(self, connect):
        """A ticket that is SQL text is everybody's: who cancels it must not take it from the others."""
        client, other = connect(), connect()
        text = b"SELECT 42 AS x"
        info = wire.message((3, wire.message((1, wire.message((1, text))))))
        client.action("CancelFlightInfo", wire.message((1, info)))
        assert other.fetch(flight.Ticket(text)) == [(42,)]
