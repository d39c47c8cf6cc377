"""Backups of a database in use, asked for through stock drivers; DuckDB itself opens the result."""

import threading

import duckdb
import pyarrow as pa
import pytest

UNIT = pa.table({"x": range(100)})


@pytest.fixture
def loaded(server):
    """The server while somebody loads into it, 100 rows a unit."""
    server.put(UNIT, "t")
    stop = threading.Event()

    def load():
        while not stop.is_set():
            server.put(UNIT, "t")

    loader = threading.Thread(target=load)
    loader.start()
    yield server
    stop.set()
    loader.join()


def check(file, rows=None):
    with duckdb.connect(str(file), read_only=True) as db:
        ((count,),) = db.sql("SELECT count(*) FROM t").fetchall()
    assert count > 0 and count % 100 == 0
    assert rows in (None, count)


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "driver's default"])
def test_adbc(loaded, tmp_path, autocommit):
    file = tmp_path / "copy.db"
    with loaded.adbc(autocommit=autocommit) as connection, connection.cursor() as cursor:
        cursor.execute(f"BACKUP DATABASE TO '{file}'")
    check(file)
    assert [path.name for path in tmp_path.iterdir() if path.suffix in (".wal", ".part")] == []


def test_pyarrow(loaded, tmp_path):
    file = tmp_path / "copy.db"
    counted = loaded.run(f"BACKUP DATABASE TO '{file}'").to_pylist()
    check(file, counted[0]["count"])
