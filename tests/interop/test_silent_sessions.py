"""Connections of the stock ADBC driver that rest for longer than their sessions, or break, and go on unaware."""

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow as pa
import pytest

from client import eventually
from cut_line import CutLine
from harness import refusal, refused

COOKIES = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}


def numbers(*values):
    return pa.table({"x": pa.array(values, pa.int64())})


def run(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)


def ingest(connection, table):
    with connection.cursor() as cursor:
        cursor.adbc_ingest("t", table, mode="append")


class TestSilence:
    @pytest.fixture
    def server(self, start, database):
        server = start(database, "--session-idle", "2s", "--transaction-idle", "2s")
        server.run("CREATE TABLE t (x BIGINT); CREATE SCHEMA s; CREATE TABLE s.t (x BIGINT)")
        return server

    def rests(self, server):
        alone = lambda: server.rows("SELECT count(*) FROM merganser_sessions()") == [(1,)]
        eventually(alone, "the session rests", 20)

    def test_leaves_the_current_schema_as_it_was(self, server):
        with server.adbc(autocommit=True) as connection:
            connection.adbc_current_db_schema = "s"
            self.rests(server)
            ingest(connection, numbers(1))
            assert connection.adbc_current_db_schema == "s"
            self.rests(server)
            run(connection, "INSERT INTO t VALUES (2)")
        assert server.rows("FROM s.t ORDER BY x") == [(1,), (2,)]
        assert server.rows("FROM main.t") == []

    def test_within_a_transaction_lets_nothing_of_it_run_by_itself(self, server):
        with server.adbc() as connection:
            run(connection, "INSERT INTO t VALUES (1)")
            self.rests(server)
            for _ in range(2):
                refused(ingest, connection, numbers(2), codes="ABORTED", slug="SESSION_LOST")
                refused(run, connection, "INSERT INTO t VALUES (3)", codes="ABORTED", slug="SESSION_LOST")
            connection.rollback()
            assert server.rows("FROM t") == []
            run(connection, "INSERT INTO t VALUES (4)")
            ingest(connection, numbers(5))
            connection.commit()
        assert server.rows("FROM t ORDER BY x") == [(4,), (5,)]

    def test_within_a_transaction_fails_its_commit(self, server):
        with server.adbc() as connection:
            run(connection, "INSERT INTO t VALUES (1)")
            self.rests(server)
            refused(connection.commit, codes="ABORTED", slug="SESSION_LOST")
        assert server.rows("FROM t") == []

    def test_of_a_client_with_a_cookie_and_nothing_left_is_not_told(self, server):
        with flight_sql.connect(server.uri, db_kwargs=COOKIES, autocommit=True) as connection:
            connection.adbc_current_db_schema = "main"
            for value in range(2):
                ingest(connection, numbers(value))
                self.rests(server)
        assert server.rows("FROM t ORDER BY x") == [(0,), (1,)]

    def test_with_nothing_left_is_not_told(self, server):
        with server.adbc() as connection:
            run(connection, "INSERT INTO t VALUES (1)")
            connection.commit()
            connection.adbc_connection.set_autocommit(True)
            self.rests(server)
            ingest(connection, numbers(2))
        assert server.rows("FROM t ORDER BY x") == [(1,), (2,)]


class TestBrokenConnection:
    """The driver connects again and says nothing of it: only a token or a cookie tells that it is still the same."""

    @pytest.mark.parametrize("by", ["server", "guarded"], ids=["cookie", "token"])
    def test_loses_the_transaction_and_nothing_of_it_stays(self, request, by):
        server = request.getfixturevalue(by)
        server.run("CREATE TABLE t (x BIGINT)")
        options = COOKIES if by == "server" else server.database_options()
        with CutLine(server.uri) as line, flight_sql.connect(line.uri, db_kwargs=options) as connection:
            run(connection, "INSERT INTO t VALUES (1)")
            line.cut()
            transactions = "SELECT count(transaction_since) FROM merganser_sessions()"
            eventually(lambda: server.rows(transactions) == [(0,)], "the server knows")
            eventually(lambda: told(ingest, connection, numbers(2)) == "TRANSACTION_LOST", "the way is open again")
            refused(run, connection, "INSERT INTO t VALUES (3)", codes="ABORTED", slug="TRANSACTION_LOST")
            connection.rollback()
            assert server.rows("FROM t") == []
            ingest(connection, numbers(4))
            connection.commit()
        assert server.rows("FROM t") == [(4,)]


def rolled_back(connection):
    """False where the driver has not noticed yet that the connection is gone."""
    try:
        connection.rollback()
    except adbc_driver_manager.Error as error:
        assert error.status_code == adbc_driver_manager.AdbcStatusCode.IO, error
        return False
    return True


def told(call, *arguments):
    """The slug of a refusal of the server's; None where none came from there."""
    try:
        call(*arguments)
    except adbc_driver_manager.Error as error:
        if error.status_code == adbc_driver_manager.AdbcStatusCode.IO:
            return None  # the driver has not noticed yet
        return refusal(error).slug
    raise AssertionError("it ran by itself")


class TestServerThatIsKilled:
    """It is there again under the same address, and knows nobody."""

    @pytest.fixture
    def killed(self, start, database):
        server = start(database)
        server.run("CREATE TABLE t (x BIGINT); CREATE SCHEMA s; CREATE TABLE s.t (x BIGINT)")

        def killed():
            nonlocal server
            server.kill()
            server = start(database, listen=server.uri.removeprefix("grpc://"))
            return server

        killed.before = server
        return killed

    def connect(self, server, **options):
        return flight_sql.connect(server.uri, db_kwargs=COOKIES, **options)

    def is_told(self, call, *arguments, slug="SESSION_LOST"):
        eventually(lambda: told(call, *arguments) == slug, "the way is open again")

    def test_lets_nothing_of_a_transaction_run_by_itself(self, killed):
        with self.connect(killed.before) as connection:
            run(connection, "INSERT INTO t VALUES (1)")
            server = killed()
            for _ in range(2):
                self.is_told(ingest, connection, numbers(2))
            connection.rollback()
            ingest(connection, numbers(3))
            connection.commit()
            assert server.rows("FROM t") == [(3,)]

    def test_fails_a_commit(self, killed):
        with self.connect(killed.before) as connection:
            run(connection, "INSERT INTO t VALUES (1)")
            server = killed()
            self.is_told(connection.commit, slug="UNKNOWN_TRANSACTION")
            assert server.rows("FROM t") == []

    def test_rolls_back_and_tells_within_the_transaction_that_the_driver_begins_then(self, killed):
        with self.connect(killed.before) as connection:
            ingest(connection, numbers(1))
            server = killed()
            eventually(lambda: rolled_back(connection), "the way is open again")
            refused(ingest, connection, numbers(2), codes="ABORTED", slug="SESSION_LOST")
            ingest(connection, numbers(3))
            connection.rollback()
            assert server.rows("FROM t") == []

    def test_twice_lets_nothing_of_a_transaction_run_by_itself(self, killed):
        with self.connect(killed.before) as connection:
            ingest(connection, numbers(1))
            server = killed()
            self.is_told(ingest, connection, numbers(2))
            connection.adbc_current_db_schema = "s"  # its answer brings another cookie
            server = killed()
            for _ in range(2):
                self.is_told(ingest, connection, numbers(3))
            assert server.rows("FROM t") == [] == server.rows("FROM s.t")

    def test_says_once_that_names_mean_something_else(self, killed):
        with self.connect(killed.before, autocommit=True) as connection:
            connection.adbc_current_db_schema = "s"
            ingest(connection, numbers(1))
            server = killed()
            self.is_told(ingest, connection, numbers(2))
            assert server.rows("FROM s.t") == [(1,)] and server.rows("FROM main.t") == []
            ingest(connection, numbers(3))
            assert server.rows("FROM main.t") == [(3,)]

    def test_holds_up_nobody_who_has_ended_its_transactions(self, killed):
        with self.connect(killed.before) as connection:
            ingest(connection, numbers(1))
            connection.commit()
            connection.adbc_connection.set_autocommit(True)
            server = killed()
            self.is_told(ingest, connection, numbers(2))
            ingest(connection, numbers(3))
            assert server.rows("FROM t ORDER BY x") == [(1,), (3,)]
