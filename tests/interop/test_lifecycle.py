"""Start, stop, crash and options of the server."""

import os
import pty
import signal
import subprocess
import threading
from hashlib import sha256

import duckdb
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import BINARY, ENVIRONMENT, refused, run_to_exit
from workers import put, unit

NUMBERS = pa.table({"x": [1, 2, 3]})
FOREVER = "SELECT sum(hash(a.range, b.range)) AS s FROM range(10000000) a, range(10000000) b"


def error_lines(result):
    """What a server that did not start says to a person."""
    assert result.stdout == ""
    return [line for line in result.stderr.splitlines() if line.strip()]


class TestStart:
    def test_second_server_on_a_file_says_so_in_one_line(self, start, database):
        first = start(database)
        second = run_to_exit("--database", database, "--listen", "127.0.0.1:0")
        assert second.returncode == 1
        [line] = error_lines(second)
        assert str(database) in line
        assert first.rows("SELECT 42") == [(42,)]

    @pytest.mark.parametrize("kind", ["no database", "a directory", "in a missing directory"])
    def test_unusable_file_is_named_in_one_line(self, tmp_path, kind):
        path = tmp_path / "missing" / "db.duckdb" if kind == "in a missing directory" else tmp_path / "file"
        if kind == "no database":
            path.write_text("these are not the bytes of a database\n" * 1000)
        elif kind == "a directory":
            path.mkdir()
        result = run_to_exit("--database", path, "--listen", "127.0.0.1:0")
        assert result.returncode == 1
        [line] = error_lines(result)
        assert str(path) in line

    @pytest.mark.parametrize(
        "option, value",
        [
            ("--listen", "nowhere"),
            ("--listen", "127.0.0.1:99999"),
            ("--memory-limit", "lots"),
            ("--threads", "0"),
            ("--threads", "many"),
            ("--temp-directory", ""),
            ("--max-message-size", "-1"),
            ("--read-concurrency", "0"),
            ("--read-wait", "soon"),
            ("--query-timeout", "30 parsecs"),
            ("--init-sql", "no-such-file.sql"),
            ("--queue-units", "0"),
            ("--queue-bytes", "none"),
            ("--no-such-option", "1"),
        ],
    )
    def test_wrong_option_is_named(self, database, option, value):
        result = run_to_exit("--database", database, f"{option}={value}")
        assert result.returncode == 64
        assert option.removeprefix("--") in result.stderr.replace("_", "-")
        assert not database.exists()

    def test_wrong_environment_variable_is_named(self, database):
        result = run_to_exit("--database", database, environment={"MERGANSER_READ_WAIT": "soon"})
        assert result.returncode == 64
        assert "read-wait" in result.stderr.replace("_", "-").lower()

    def test_listening_to_the_world_needs_insecure(self, database):
        result = run_to_exit("--database", database, "--listen", "0.0.0.0:0")
        assert result.returncode == 64
        assert "--insecure" in result.stderr

    def test_port_in_use_is_named_in_one_line(self, start, tmp_path):
        address = start(":memory:").uri.removeprefix("grpc://")
        result = run_to_exit("--database", tmp_path / "other.duckdb", "--listen", address)
        assert result.returncode == 1
        assert address in error_lines(result)[-1]

    def test_database_in_memory_serves_both_ways(self, start):
        server = start(":memory:")
        server.put(NUMBERS, "t")
        assert server.sql("FROM t ORDER BY x").equals(NUMBERS)


class TestStop:
    def test_data_is_there_after_a_restart(self, start, database):
        server = start(database)
        server.put(NUMBERS, "t")
        server.run("CREATE VIEW doubled AS SELECT x * 2 AS y FROM t")
        server.stop()
        assert start(database).rows("FROM doubled ORDER BY y") == [(2,), (4,), (6,)]

    def test_leaves_a_checkpointed_file(self, start, database):
        server = start(database)
        server.put(NUMBERS, "t")
        server.stop()
        assert not database.with_name(database.name + ".wal").exists()

    def test_the_end_of_its_terminal_is_an_orderly_stop(self, database):
        terminal, its_end = pty.openpty()
        command = [BINARY, "--database", str(database), "--listen", "127.0.0.1:0"]
        with subprocess.Popen(command, env=ENVIRONMENT, stdin=its_end, stdout=subprocess.PIPE, text=True) as server:
            uri = server.stdout.readline().split()[-1]
            with flight.connect(uri) as client:
                put(client, unit(1, 1, 10))
            server.send_signal(signal.SIGHUP)
            assert server.wait(timeout=30) == 0
        os.close(its_end), os.close(terminal)
        assert not database.with_name(database.name + ".wal").exists()

    @pytest.mark.parametrize("stop", ["SIGTERM", "SIGKILL"])
    def test_under_load_loses_nothing_acknowledged_and_no_part_of_a_unit(self, start, database, stop):
        server = start(database)
        acknowledged, progress = [], threading.Semaphore(0)

        def load(loader):
            with flight.connect(server.uri) as client:
                for number in range(100_000):
                    try:
                        put(client, unit(loader, number, 1 if loader % 2 else 1000))
                    except pa.ArrowException:
                        return  # the server is gone; whether this unit is there is not known
                    acknowledged.append((loader, number))
                    progress.release()

        loaders = [threading.Thread(target=load, args=(loader,)) for loader in range(8)]
        for loader in loaders:
            loader.start()
        for _ in range(200):
            assert progress.acquire(timeout=30)
        server.stop() if stop == "SIGTERM" else server.kill()
        for loader in loaders:
            loader.join()

        restarted = start(database)
        assert restarted.rows(
            "SELECT DISTINCT size FROM (SELECT size, count(*) AS n FROM units GROUP BY loader, unit, size) WHERE n <> size"
        ) == []
        stored = restarted.rows("SELECT DISTINCT loader, unit FROM units")
        assert set(acknowledged) <= set(stored)
        assert len(stored) <= len(acknowledged) + len(loaders)  # at most the one each had under way

    def test_does_not_wait_for_ever_for_a_stalled_reader(self, start):
        server = start(":memory:", "--drain-timeout", "500ms")
        reader = server.client.do_get(flight.Ticket(b"FROM range(1000000000000)"))
        reader.read_chunk()
        server.stop()

    def test_does_not_wait_for_ever_for_a_stalled_upload(self, start, database):
        server = start(database, "--drain-timeout", "500ms")
        writer, _ = server.client.do_put(flight.FlightDescriptor.for_path("t"), NUMBERS.schema)
        writer.write_table(NUMBERS)
        server.stop()
        with pytest.raises(pa.ArrowException):
            writer.close()


class TestReadOnly:
    @pytest.fixture
    def server(self, start, database):
        with duckdb.connect(database) as db:
            db.execute("CREATE TABLE t AS FROM range(3) r(x)")
        return start(database, "--read-only")

    def test_serves_reads_and_refuses_writes(self, server, database):
        before = sha256(database.read_bytes()).digest()
        codes = ["PERMISSION_DENIED", "FAILED_PRECONDITION"]
        for sql in ("CREATE TABLE other (x INTEGER)", "INSERT INTO t VALUES (9)", "DELETE FROM t", "DROP TABLE t"):
            assert "read-only" in refused(server.run, sql, codes=codes).text.lower()
        refused(server.put, NUMBERS, "t", codes=codes)
        refused(server.put, NUMBERS, "new", codes=codes)
        with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
            refused(cursor.adbc_ingest, "t", NUMBERS, "append", codes=codes)
            refused(cursor.adbc_ingest, "new", NUMBERS, "create", codes=codes)
            assert cursor.execute("SELECT count(*) FROM t").fetchall() == [(3,)]
        assert server.rows("FROM t ORDER BY x") == [(0,), (1,), (2,)]
        server.stop()
        assert sha256(database.read_bytes()).digest() == before

    def test_of_a_missing_file_does_not_create_it(self, database):
        result = run_to_exit("--database", database, "--read-only", "--listen", "127.0.0.1:0")
        assert result.returncode in (1, 64)
        assert str(database) in result.stderr
        assert not database.exists()


class TestInitSql:
    def test_runs_at_every_start(self, start, database, tmp_path):
        script = tmp_path / "init.sql"
        script.write_text(
            "-- more than one; statement\n"
            "CREATE TABLE IF NOT EXISTS starts (moment TIMESTAMP);\n"
            "INSERT INTO starts VALUES (now()::TIMESTAMP);\n"
            "CREATE OR REPLACE TEMP MACRO twice(x) AS 2 * x;\n"
        )
        for number in (1, 2):
            server = start(database, "--init-sql", script)
            assert server.rows("SELECT count(*) FROM starts") == [(number,)]
            server.stop()

    def test_that_fails_stops_the_start(self, database, tmp_path):
        script = tmp_path / "init.sql"
        script.write_text("CREATE TABLE t (x INTEGER);\nSELEC 1;")
        result = run_to_exit("--database", database, "--init-sql", script, "--listen", "127.0.0.1:0")
        assert result.returncode == 1
        assert str(script) in result.stderr and "SELEC" in result.stderr


class TestLimits:
    def test_long_query_is_ended(self, start):
        server = start(":memory:", "--query-timeout", "500ms")
        refused(server.sql, FOREVER, codes="DEADLINE_EXCEEDED")
        refused(server.run, FOREVER, codes="DEADLINE_EXCEEDED")
        with server.adbc(autocommit=True) as connection, connection.cursor() as cursor:
            refused(lambda: cursor.execute(FOREVER).fetchall(), codes="DEADLINE_EXCEEDED")
        assert server.rows("SELECT 42") == [(42,)]

    def test_stalled_reader_is_waited_for_no_longer_than_said(self, start):
        server = start(":memory:", "--read-concurrency", "1", "--read-wait", "200ms")
        stalled = server.client.do_get(flight.Ticket(b"FROM range(1000000000000)"))
        stalled.read_chunk()
        refused(server.sql, "SELECT 42", codes="RESOURCE_EXHAUSTED")
        assert server.put(NUMBERS, "t").rows == 3, "loaders do not wait for readers"

        # Cancelled, it gives its place back: soon, and without anybody asking.
        stalled.cancel()
        for _ in range(50):  # each attempt waits as long as --read-wait says
            try:
                assert server.rows("SELECT 42") == [(42,)]
                break
            except pa.ArrowInvalid:
                continue
        else:
            pytest.fail("the cancelled reader still has the only place")

    def test_threads_and_memory_are_duckdbs(self, start, tmp_path):
        server = start(
            ":memory:", "--threads", 2, "--memory-limit", "300MiB", "--temp-directory", tmp_path / "spill"
        )
        assert server.rows("SELECT current_setting('threads'), current_setting('memory_limit')") == [(2, "300.0 MiB")]
        assert server.rows("SELECT current_setting('temp_directory')") == [(str(tmp_path / "spill"),)]
