"""The Python of README.md prints what the page says."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

PAGE = Path(__file__).parents[2] / "README.md"
ADDRESS = "grpc://127.0.0.1:8815"


def example(words):
    """The code that has these words, and what the page says that it prints."""
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE.read_text(), re.S)
    (found,) = [block for block in blocks if words in block[0]]
    return found


@pytest.fixture
def server(start, database):
    return start(database)


def begin(server, code):
    """Runs the code as a program of its own, to its end."""
    assert code.count(ADDRESS) == 1
    program = [sys.executable, "-c", code.replace(ADDRESS, server.uri)]
    return subprocess.run(program, capture_output=True, text=True, timeout=60)


def run(server, code):
    """What the code prints, which must end well."""
    ran = begin(server, code)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_the_ten_lines_store_rows_and_read_them(server):
    code, printed = example('for_path("weather")')
    assert run(server, code) == printed
    assert server.rows("FROM weather ORDER BY id") == [(1, "Bergen", 7.5), (2, "Oslo", -2.0), (3, None, 11.25)]


def test_the_driver_adds_to_them(server):
    run(server, example('for_path("weather")')[0])
    # By the command line, meanwhile.
    server.put(pa.table({"id": [4, 5], "city": ["Turku", "Aarhus"], "celsius": [3.5, 9.0]}), "weather")
    code, printed = example("adbc_ingest")
    assert run(server, code) == printed
    assert server.rows("SELECT id, city FROM weather WHERE id > 5") == [(6, "Malmö")]


# Rows, different ones, and their sum.
ONCE = [(100_000, 100_000, sum(range(100_000)))]


def stored(server):
    return server.rows("SELECT count(*), count(DISTINCT id), sum(id)::BIGINT FROM events")


def test_units_with_keys_are_stored_once_however_often_they_are_sent(server):
    code, printed = example("ingest_unit")
    assert run(server, code) == printed
    assert stored(server) == ONCE
    assert run(server, code) == printed.replace("'duplicates': 0", "'duplicates': 100")
    assert stored(server) == ONCE


def test_a_loader_that_is_broken_off_and_run_again_stores_each_unit_once(server):
    code, _ = example("ingest_unit")
    sends = "    writer.write_with_metadata("
    assert code.count(sends) == 1
    dies = f"    if sequence > 50:\n        acknowledgements.read()\n        __import__('os')._exit(9)\n{sends}"
    assert begin(server, code.replace(sends, dies)).returncode == 9
    ((rows, different, _),) = stored(server)
    assert 0 < rows == different and rows % 1000 == 0
    run(server, code)
    assert stored(server) == ONCE
    assert server.rows("SELECT sequence, rows FROM merganser_ingest()") == [(100, 100_000)]
