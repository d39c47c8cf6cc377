"""The code of docs/ingest.md does what the page says."""

import queue
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import refused

PAGE = Path(__file__).parents[2] / "docs" / "ingest.md"
UNIT = pa.table({"id": [1, 2, 3]})


@pytest.fixture
def server(start, database):
    return start(database, "--read-wait", "100ms")


@pytest.fixture
def page(server):
    """The loader with keys, as the page has it, loading no units yet; what it prints comes by a queue."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "def put(" in block]
    said = queue.Queue()
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


def test_a_compressed_upload_is_refused_and_says_so(server):
    options = flight.FlightCallOptions(write_options=pa.ipc.IpcWriteOptions(compression="lz4"))
    rows = pa.table({"text": ["the same"] * 10_000})

    def put():
        with flight.connect(server.uri) as client:
            writer, _ = client.do_put(flight.FlightDescriptor.for_path("t"), rows.schema, options)
            writer.write_table(rows)
            writer.close()

    assert "compressed uploads are not taken" in str(refused(put, slug="BAD_ARROW"))
