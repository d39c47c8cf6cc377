"""The code of docs/ingest.md does what the page says."""

import queue
import random
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import interrupted_loader
from harness import refused

ROOT = Path(__file__).parents[2]
PAGE, OPERATIONS = ROOT / "docs" / "ingest.md", ROOT / "docs" / "operations.md"
UNIT = pa.table({"id": [1, 2, 3]})
STATUS_THAT_PASSES = r"RESOURCE_EXHAUSTED|UNAVAILABLE|ABORTED"
# Refused with such a status too, but no put with a key outside of a transaction is, or it is of no use again.
NOT_OF_A_KEYED_PUT = {
    "EXPORT_BUSY", "FENCED", "JOB_BUSY", "PARAMETERS_FULL", "QUERY_UNAVAILABLE", "READS_BUSY", "RESULTS_FULL", "SESSION_BUSY",
    "SESSION_CLOSED", "SESSION_LOST", "TOO_MANY_POLLS", "TOO_MANY_TRANSACTIONS", "TRANSACTION_LOST",
}  # fmt: skip


def code_with(words):
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if words in block]
    return code


def with_patience(code, patience, shorter):
    """The code, with less of the patience that it has."""
    assert patience in code
    return code.replace(patience, shorter)


@pytest.fixture
def server(start, database):
    return start(database, "--read-wait", "100ms")


@pytest.fixture
def page(server):
    """The loader with keys, as the page has it, loading no units yet; what it prints comes by a queue."""
    code, said = with_patience(code_with("def put("), "timeout=60", "timeout=5"), queue.Queue()
    with flight.connect(server.uri) as client:
        names = {"pa": pa, "flight": flight, "client": client, "units": [], "print": lambda *words: said.put(words)}
        exec(code, names)  # noqa: S102
        yield names, said


@pytest.mark.parametrize(
    ("blocking", "slug"),
    [
        ("CREATE TABLE another (x INTEGER)", "WRITE_BUSY"),
        ("ALTER TABLE there ADD COLUMN more INTEGER", "TABLE_CHANGING"),
    ],
)
def test_a_keyed_put_is_sent_again_until_the_moment_has_passed(server, page, blocking, slug):
    names, said = page
    server.put(UNIT, "there")
    table = "there" if slug == "TABLE_CHANGING" else "made"
    with server.adbc(autocommit=False) as connection, connection.cursor() as cursor, ThreadPoolExecutor() as pool:
        cursor.execute(blocking)
        sent = pool.submit(names["put"], names["client"], table, UNIT, "boiler/1/1")
        _, error = said.get(timeout=30)
        connection.commit()
        sent.result(timeout=30)
    assert slug in str(error)
    assert server.rows(f"SELECT count(*) FROM {table}") == [(6 if table == "there" else 3,)]


def test_a_keyed_put_that_can_never_succeed_raises(page):
    names, said = page
    with pytest.raises(pa.ArrowException, match="SEQ_GAP"):
        names["put"](names["client"], "t", UNIT, "boiler/1/7")
    assert said.empty()


def test_a_keyed_put_to_a_server_that_does_not_answer_is_sent_again_in_time(server, page):
    names, said = page
    server.put(UNIT, "t")
    server.process.send_signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:
            sent = pool.submit(names["put"], names["client"], "t", UNIT, "boiler/1/1")
            try:
                _, error = said.get(timeout=30)
            finally:
                server.process.send_signal(signal.SIGCONT)
            sent.result(timeout=30)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert isinstance(error, flight.FlightTimedOutError)
    assert server.rows("SELECT count(*) FROM t") == [(6,)]


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(UNIT.schema.empty_table(), id="no rows"),
        pytest.param(pa.concat_tables([UNIT, UNIT.slice(1), UNIT]), id="several chunks"),
        pytest.param(pa.table({"id": range(200_000)}), id="several messages"),
        pytest.param(
            pa.concat_tables(pa.table({"id": pa.array(words).dictionary_encode()}) for words in (["a", "b"], ["c"])),
            id="a dictionary a chunk",
        ),
    ],
)
@pytest.mark.parametrize("loader", ["boiler", "ü" * 100])
def test_a_keyed_put_takes_any_table(server, page, unit, loader):
    names, said = page
    for key in (f"{loader}/1/1", f"{loader}/1/1", f"{loader}/1/2"):
        names["put"](names["client"], "t", unit, key)
    assert said.empty()
    assert server.rows("SELECT count(*) FROM t") == [(2 * len(unit),)]
    ledger = "SELECT loader, sequence, rows, duplicates, failures FROM merganser_ingest()"
    assert server.rows(ledger) == [(loader, 2, 2 * len(unit), 1, 0)]


def test_what_passes_is_what_the_server_says_of_it(page):
    names, _ = page
    passing = {
        slug
        for slugs, status in re.findall(r"^\| (`[A-Z].*?) \| ([A-Z_, ]+) \|", OPERATIONS.read_text(), re.M)
        if re.search(STATUS_THAT_PASSES, status)
        for slug in re.findall(r"`(\w+)`", slugs)
    }
    assert {"QUEUE_FULL", "TOO_MANY_SESSIONS"} <= passing
    # pyarrow has an exception for UNAVAILABLE, so these need not be named.
    unavailable = {"DISCONNECTED", "STORAGE_FAILED"}
    assert passing - NOT_OF_A_KEYED_PUT - unavailable == set(names["PASSING"]) - {"COMMIT_UNKNOWN"}


class Interrupted:
    """Runs of the page's loader, each in a process of its own that a signal ends, and each going on by the ledger."""

    UNITS = 12

    def __init__(self, server):
        self.server, self.code, self.interruptions = server, code_with("def put("), 0

    def run(self, step, at):
        """Interrupts a run before the `at`th line or instruction of the page's code; whether it ended before that."""
        ended = subprocess.run(
            [sys.executable, interrupted_loader.__file__, self.server.uri, str(self.UNITS), step, str(at)],
            input=self.code, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        if ended.returncode == 0:
            return True
        assert ended.returncode == -signal.SIGINT and "KeyboardInterrupt" in ended.stderr, ended.stderr
        self.interruptions += 1
        return False

    def check(self):
        """Each unit is there once and whole, and the ledger knows no other."""
        found = self.server.rows("SELECT unit, count(*), count(DISTINCT part) FROM measurements GROUP BY ALL ORDER BY ALL")
        assert found == [(number, 3, 3) for number in range(1, self.UNITS + 1)]
        ledger = "SELECT last_key, commits, rows FROM merganser_ingest()"
        assert self.server.rows(ledger) == [(f"boiler-3/1/{self.UNITS}", self.UNITS, 3 * self.UNITS)]


def test_a_signal_before_any_line_of_a_keyed_put_loses_and_doubles_nothing(server):
    runs = Interrupted(server)
    for line in count(1):
        if runs.run("line", line):
            break
    runs.check()
    assert runs.interruptions > 20  # lines of more than one put


def test_signals_at_random_moments_lose_and_double_nothing(server):
    runs = Interrupted(server)
    moments = [random.randint(1, 300) for _ in range(20)]
    for moment in moments:
        runs.run("opcode", moment)
    assert runs.run("opcode", 0), "a run that is not interrupted comes to its end"
    runs.check()
    assert runs.interruptions, moments


@pytest.fixture
def long_stream(server):
    """Runs the page's loader of many units on one stream."""
    code = with_patience(code_with("def put("), "timeout=60", "timeout=5")
    code += code_with("ALIVE =").replace("grpc://127.0.0.1:8815", server.uri)

    def run(batches, silence="20_000"):
        names = {"pa": pa, "flight": flight, "client": None, "units": [], "schema": UNIT.schema, "batches": batches}
        try:
            exec(with_patience(code, "20_000", silence), names)  # noqa: S102
        finally:
            names["client"].close()

    return run


def test_a_long_stream_stores_each_unit_once(server, long_stream):
    batches = UNIT.to_batches() * 40
    long_stream(batches)
    long_stream(batches)
    assert server.rows("SELECT count(*) FROM measurements") == [(120,)]
    ledger = "SELECT loader, sequence, rows, duplicates FROM merganser_ingest()"
    assert server.rows(ledger) == [("boiler-4", 40, 120, 40)]


def test_a_long_stream_to_a_server_that_does_not_answer_raises_in_time(server, long_stream):
    def batches():
        yield from UNIT.to_batches() * 20
        server.process.send_signal(signal.SIGSTOP)
        yield from UNIT.to_batches()

    try:
        with pytest.raises(flight.FlightUnavailableError, match="ping timeout"):
            long_stream(batches(), silence="1_000")
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_a_compressed_upload_is_refused_and_says_so(server):
    options = flight.FlightCallOptions(write_options=pa.ipc.IpcWriteOptions(compression="lz4"))
    rows = pa.table({"text": ["the same"] * 10_000})

    def put():
        with flight.connect(server.uri) as client:
            writer, _ = client.do_put(flight.FlightDescriptor.for_path("t"), rows.schema, options)
            writer.write_table(rows)
            writer.close()

    assert "compressed uploads are not taken" in str(refused(put, slug="BAD_ARROW"))
