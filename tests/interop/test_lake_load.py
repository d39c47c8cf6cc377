"""`merganser load` into a lake: killed at any moment and resumed, each row of the files is there once."""

import subprocess

import pyarrow as pa
import pyarrow.csv
import pytest

from client import eventually
from harness import CLIENT

ROWS, FILES, UNITS = 2_000, 4, 80
NUMBERED = ["--loader", "nightly", "--unit-rows", FILES * ROWS // UNITS]


@pytest.fixture
def files(tmp_path):
    for number in range(FILES):
        rows = range(number * ROWS, (number + 1) * ROWS)
        table = pa.table({"id": rows, "file": pa.repeat(number, ROWS), "text": [f"row {row}" for row in rows]})
        pa.csv.write_csv(table, tmp_path / f"{number}.csv")
    return sorted(tmp_path.glob("*.csv"))


def load(server, files, *options):
    uri = server.uri
    return subprocess.Popen(
        [CLIENT, "load", *files, "--table", "lake.main.events", "--url", uri, *map(str, options)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ends(process, code=0):
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (process.returncode, out, err)
    return out + err


def whole(server):
    return server.rows("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM lake.events")


EVERYTHING = [(FILES * ROWS, FILES * ROWS, 0, FILES * ROWS - 1)]


def test_a_load_that_is_killed_goes_on(lake, start, database, files):
    server = start(database, *lake.options())
    for round in range(3):
        process = load(server, files, *NUMBERED, *(["--resume"] if round else []))
        stores_some(server, process)
        process.kill()
        process.communicate()
    ends(load(server, files, *NUMBERED, "--resume"))
    assert whole(server) == EVERYTHING
    assert units(server) == UNITS
    ends(load(server, files, *NUMBERED, "--resume"))
    assert whole(server) == EVERYTHING
    assert "nightly" in ends(load(server, files, *NUMBERED), code=64)


def stores_some(server, process):
    """Returns when a load has stored some units, or all."""
    before = units(server)
    eventually(lambda: units(server) > before + 2 or process.poll() is not None, "units are stored", 60)


def units(server):
    found = server.rows("SELECT commits::BIGINT FROM merganser_ingest() WHERE loader = 'nightly'")
    return found[0][0] if found else 0


def test_a_load_outlasts_the_server(lake, start, database, files, tmp_path):
    config = lake.options()
    server = start(database, *config)
    address = server.uri.removeprefix("grpc://")
    process = load(server, files, "--loader", "nightly", "--unit-rows", 200)
    for _ in range(2):
        stores_some(server, process)
        server.kill()
        server = start(database, *config, listen=address)
    ends(process)
    assert whole(server) == EVERYTHING


def test_rows_are_merged_by_key(lake, start, database, files):
    server = start(database, *lake.options())
    ends(load(server, files, "--key", "id"))
    ends(load(server, files[:2], "--key", "id", "--loader", "nightly"))
    assert whole(server) == EVERYTHING


def test_so_are_those_of_a_load_that_goes_on(lake, start, database, files):
    server = start(database, *lake.options())
    ends(load(server, files, "--key", "id", "--loader", "a"))
    server.run("UPDATE lake.events SET text = 'mine' WHERE id = 0")
    ends(load(server, files, "--key", "id", "--loader", "a", "--resume"))
    assert server.rows("SELECT text FROM lake.events WHERE id = 0") == [("mine",)]
    ends(load(server, files, "--key", "id", "--loader", "b"))
    assert server.rows("SELECT text FROM lake.events WHERE id = 0") == [("row 0",)]
    assert whole(server) == EVERYTHING


@pytest.mark.parametrize("numbered", [[], NUMBERED], ids=["side by side", "numbered"])
def test_a_new_table_is_partitioned_as_the_command_says(lake, start, database, files, numbered):
    server = start(database, *lake.options())
    ends(load(server, files, "--partition-by", "file", *numbered))
    stored = [file for (file,) in server.rows("SELECT data_file FROM ducklake_list_files('lake', 'events')")]
    assert {file.split("/")[-2] for file in stored} == {f"file={number}" for number in range(FILES)}
    assert whole(server) == EVERYTHING
    assert "week" in ends(load(server, files, "--partition-by", "week(file)"), code=1)
