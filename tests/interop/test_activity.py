"""What runs is seen over SQL, and ended, by drivers that know nothing of it."""

import threading

import pytest

from client import Client
from harness import refusal, refused

HOURS = "SELECT count(*) FROM range(10000000) a, range(10000000) b"
BY_WHOM = "an operator has ended this statement"


def until(rows, query):
    """Asks until there is an answer; the server ends with the test's time."""
    while not (found := rows(query)):
        pass
    return found


def in_background(call, *arguments):
    """Runs what must fail, and gives what waits for its error."""
    failed = []

    def run():
        with pytest.raises(Exception) as caught:
            call(*arguments)
        failed.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()

    def error():
        thread.join(60)
        return failed[0]

    return error


def execute(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else None


@pytest.mark.parametrize("autocommit", [True, False])
def test_adbc_sees_and_ends_a_statement_of_another_connection(server, autocommit):
    with server.adbc(autocommit=True) as victim, server.adbc(autocommit=autocommit) as operator:
        error = in_background(execute, victim, HOURS)
        query = f"SELECT id, protocol, session FROM merganser_statements() WHERE sql = '{HOURS}' AND kind = 'read'"
        ((statement, protocol, session),) = until(lambda query: execute(operator, query), query)
        assert protocol == "flight"
        execute(operator, f"CANCEL STATEMENT {statement}")
        assert BY_WHOM in str(error())
        assert execute(victim, "SELECT 42") == [(42,)]
        sessions = dict(execute(operator, "SELECT session, statements FROM merganser_sessions()"))
        assert sessions[session] == 0


def test_adbc_learns_that_its_session_was_closed_and_nothing_of_its_transaction_is_left(server):
    server.run("CREATE OR REPLACE TABLE t (x BIGINT)")
    with server.adbc() as victim, server.adbc(autocommit=True) as operator:
        execute(victim, "INSERT INTO t VALUES (1)")
        ((session,),) = execute(operator, "SELECT session FROM merganser_sessions() WHERE has_turn")
        execute(operator, f"CLOSE SESSION {session}")
        refused(execute, victim, "INSERT INTO t VALUES (2)", codes="ABORTED", slug="SESSION_CLOSED")
        victim.rollback()
        execute(victim, "INSERT INTO t VALUES (3)")
        victim.commit()
        assert execute(operator, "FROM t") == [(3,)]


def test_pyarrow_sees_and_ends_with_nothing_but_sql(server):
    with Client(server.uri) as victim:
        error = in_background(victim.rows, HOURS)
        query = f"SELECT id FROM merganser_statements() WHERE sql = '{HOURS}' AND kind = 'read'"
        ((statement,),) = until(server.rows, query)
        server.run(f"CANCEL STATEMENT {statement}")
        status = refusal(error(), codes="CANCELLED", slug="CANCELLED")
        assert BY_WHOM in status.text
        refused(server.run, f"CANCEL STATEMENT {statement}", codes="NOT_FOUND", slug="STATEMENT_NOT_FOUND")
