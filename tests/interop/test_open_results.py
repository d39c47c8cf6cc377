"""Several results open at once where all belong to one transaction, and so to one connection of the engine."""

import os

import pyarrow as pa
import pytest

from client import eventually
from harness import Server, refused

pytestmark = pytest.mark.usefixtures("no_tables_left_over")

ROWS = 3_000_000  # 48 MB in two columns: more than a result may keep in memory when it makes room
LARGE = f"SELECT i, i * 7 AS seven FROM range({ROWS}) t(i)"


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def server(tmp_path_factory, spool):
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "db.duckdb", "--read-wait", "2s", "--temp-directory", spool, log=folder / "log")
    yield server
    server.stop()


@pytest.fixture
def aside(server, spool):
    """The files in which results are put aside now; none may be left when a test ends."""

    def files():
        folder = f"/proc/{server.process.pid}/fd"
        links = []
        for name in os.listdir(folder):
            try:
                links.append(os.readlink(f"{folder}/{name}"))
            except FileNotFoundError:
                pass  # closed in between
        return [link for link in links if link.startswith(str(spool))]

    yield files
    eventually(lambda: not files(), "the files are gone")
    assert list(spool.iterdir()) == []


@pytest.fixture
def connection(server):
    """The driver's default: autocommit off."""
    with server.adbc() as connection:
        yield connection


def drain(*readers):
    """Reads results in turns; checks each row, and returns how many there were of each."""
    readers, rows = list(readers), [0] * len(readers)
    open_ones = set(range(len(readers)))
    while open_ones:
        for number in list(open_ones):
            try:
                batch = readers[number].read_next_batch()
            except StopIteration:
                open_ones.remove(number)
                continue
            first, seven = batch.column(0), batch.column(1)
            assert first.equals(pa.array(range(rows[number], rows[number] + len(batch)), pa.int64())), number
            assert seven[-1].as_py() == first[-1].as_py() * 7
            rows[number] += len(batch)
    return rows


class TestDriver:
    def test_two_cursors_in_turns(self, connection, aside):
        with connection.cursor() as one, connection.cursor() as two:
            readers = [cursor.execute(LARGE).fetch_record_batch() for cursor in (one, two)]
            assert drain(*readers) == [ROWS, ROWS]

    def test_three_cursors_of_which_one_is_closed_early(self, connection, aside):
        with connection.cursor() as one, connection.cursor() as two, connection.cursor() as three:
            readers = [cursor.execute(LARGE).fetch_record_batch() for cursor in (one, two, three)]
            readers[1].read_next_batch()
            readers[1].close()
            two.close()
            assert drain(readers[0], readers[2]) == [ROWS, ROWS]

    def test_cursor_that_is_abandoned_then_commit(self, server, connection, aside):
        server.run("CREATE TABLE t (x BIGINT)")
        with connection.cursor() as one, connection.cursor() as two:
            reader = one.execute(LARGE).fetch_record_batch()
            reader.read_next_batch()
            two.execute("INSERT INTO t VALUES (1)")
            connection.commit()
            reader.close()
            assert server.rows("FROM t") == [(1,)]
            assert two.execute("SELECT 42").fetchall() == [(42,)]

    def test_first_row_is_enough_and_nothing_is_lost_with_the_rest(self, server, connection, aside):
        server.run("CREATE TABLE t (x BIGINT)")
        for number in range(5):
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO t VALUES ({number})")
                assert cursor.execute("FROM range(1000000000000)").fetchone() == (0,)
            with connection.cursor() as cursor:
                cursor.execute(f"INSERT INTO t VALUES ({number + 10})")
                connection.commit()
        assert server.rows("SELECT count(*) FROM t") == [(10,)]

    def test_result_goes_on_over_a_commit_and_a_rollback(self, server, connection, aside):
        server.run("CREATE TABLE t (x BIGINT)")
        with connection.cursor() as one, connection.cursor() as two:
            for end in (connection.commit, connection.rollback):
                reader = one.execute(LARGE).fetch_record_batch()
                reader.read_next_batch()
                two.execute("INSERT INTO t VALUES (1)")
                end()
                assert drain_rest(reader) == ROWS
        assert server.rows("FROM t") == [(1,)]


def drain_rest(reader):
    """The number of rows of a result of which one batch was read."""
    last = 0
    for batch in reader:
        last = batch.column(0)[-1].as_py()
    return last + 1


class TestTransaction:
    def test_result_is_put_aside_on_disk(self, connect, aside):
        client = connect()
        with client.transaction() as transaction:
            reader = client.open(LARGE, transaction).to_reader()
            assert client.one("SELECT 42", transaction) == 42
            assert aside()
            assert drain(reader) == [ROWS]
            client.commit(transaction)

    def test_result_shows_what_was_there_before_a_write_of_its_own_transaction(self, connect, aside):
        client = connect()
        client.run(f"CREATE TABLE t AS {LARGE}")
        with client.transaction() as transaction:
            reader = client.open("SELECT i, seven FROM t ORDER BY i", transaction).to_reader()
            assert client.update("UPDATE t SET seven = 0, i = i + 1", transaction) == ROWS
            assert client.update("DELETE FROM t WHERE i > 1000", transaction) == ROWS - 1000
            assert drain(reader) == [ROWS]
            assert client.rows("SELECT count(*), sum(seven)::BIGINT FROM t", transaction) == [(1000, 0)]

    def test_result_survives_a_failure_of_the_next_statement(self, connect, aside):
        client = connect()
        with client.transaction() as transaction:
            reader = client.open(LARGE, transaction).to_reader()
            refused(client.rows, "SELECT 'x'::INTEGER", transaction)
            assert drain(reader) == [ROWS]

    def test_result_that_fails_late_says_so_to_its_own_reader_only(self, connect, aside):
        client = connect()
        client.run(f"CREATE TABLE numbers AS SELECT i FROM range({ROWS}) t(i)")
        late = f"SELECT i, CASE WHEN i < {ROWS - 1} THEN i * 7 ELSE error('late') END FROM numbers"
        with client.transaction() as transaction:
            reader = client.open(late, transaction).to_reader()
            reader.read_next_batch()
            refused(client.rows, "SELECT 42", transaction, slug="TRANSACTION_ABORTED")
            status = refused(reader.read_all)
            assert "late" in status.text
            refused(client.commit, transaction, codes="ABORTED", slug="TRANSACTION_LOST")

    def test_reader_that_is_cancelled_gives_its_place_back(self, connect, aside):
        client = connect()
        with client.transaction() as transaction:
            for _ in range(10):
                reader = client.open("FROM range(1000000000000)", transaction)
                reader.read_chunk()
                reader.cancel()
            assert client.one("SELECT 42", transaction) == 42
            client.commit(transaction)

    def test_many_results_are_open_at_once(self, connect, aside):
        client = connect()
        with client.transaction() as transaction:
            readers = [client.open("SELECT i, i * 7 FROM range(200000) t(i)", transaction) for _ in range(20)]
            assert drain(*(reader.to_reader() for reader in readers)) == [200_000] * 20

    def test_ingest_beside_an_open_result(self, connect, aside):
        client = connect()
        client.run("CREATE TABLE t (i BIGINT, seven BIGINT)")
        with client.transaction() as transaction:
            reader = client.open(LARGE, transaction).to_reader()
            assert client.ingest(pa.table({"i": [1], "seven": [2]}), "t", "append", transaction).rows == 1
            assert drain(reader) == [ROWS]
            client.commit(transaction)
        assert client.rows("FROM t") == [(1, 2)]

    def test_result_of_a_transaction_that_is_copied_within_itself(self, connect, aside):
        """What is read goes back in as an upload, while it is being read."""
        client, reads = connect(), 0
        client.run("CREATE TABLE t (i BIGINT, seven BIGINT)")
        with client.transaction() as transaction:
            for batch in client.open("SELECT i, i * 7 AS seven FROM range(600000) t(i)", transaction).to_reader():
                client.ingest(pa.Table.from_batches([batch]), "t", "append", transaction)
                reads += 1
            client.commit(transaction)
        assert reads > 1
        assert client.rows("SELECT count(*), count(DISTINCT i), sum(seven - i * 7)::BIGINT FROM t") == [
            (600_000, 600_000, 0)
        ]


class TestSession:
    def test_results_of_a_session_with_settings_make_room_too(self, connect, aside):
        client = connect()
        client.run("SET VARIABLE seven = 7")
        own = f"SELECT i, i * getvariable('seven') AS seven FROM range({ROWS}) t(i)"
        readers = [client.open(own).to_reader() for _ in range(2)]
        assert client.one("SELECT getvariable('seven')") == 7
        assert drain(*readers) == [ROWS, ROWS]

    def test_closing_the_session_ends_its_results(self, connect, aside):
        client = connect()
        client.run("SET VARIABLE seven = 7")
        reader = client.open("SELECT range + getvariable('seven') FROM range(1000000000000)")
        reader.read_chunk()
        client.action("CloseSession")
        with pytest.raises(pa.ArrowException):
            while True:
                reader.read_chunk()
