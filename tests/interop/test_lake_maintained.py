"""What is changed in a lake beside its maintenance is as it was acknowledged, and the server's own tables stay small."""

import random
import threading

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from configuration import lake_of_files
from harness import refusal
from loaders import put, unit

PASSING = ("ABORTED", "UNAVAILABLE", "RESOURCE_EXHAUSTED")
CHANGES = 15


@pytest.fixture(params=["file", "postgres", "two servers"])
def servers(request, start, tmp_path):
    """Those of one lake, which share what there is to do."""
    if request.param == "file":
        return [start(tmp_path / "a.db", *lake_of_files(tmp_path))]
    names = "ab" if request.param == "two servers" else "a"
    lake = request.getfixturevalue("lake")
    return [start(tmp_path / f"{name}.db", *lake.options()) for name in names]


class Changer(threading.Thread):
    """Changes the rows of its own at random, and knows what they are by what was acknowledged."""

    def __init__(self, server, name, seed):
        super().__init__()
        self.server, self.name_of_rows, self.random = server, name, random.Random(seed)
        self.rows, self.unit, self.error, self.passed = {}, 0, None, 0

    def run(self):
        try:
            while self.passed < CHANGES and not self.error:
                self.change()
        except BaseException as error:
            self.error = error

    def change(self):
        rows, change = dict(self.rows), self.random.choice(["insert", "update", "delete", "upsert", "keyed upsert", "many"])
        row, number = self.random.randrange(20), self.random.randrange(1_000_000)
        mine = f"who = '{self.name_of_rows}'"
        upserts = {(row + other) % 20: number for other in range(3)}
        statement = None
        match change:
            case "insert" if row not in rows:
                statement, rows[row] = f"INSERT INTO lake.c VALUES ('{self.name_of_rows}', {row}, {number})", number
            case "update" if row in rows:
                statement, rows[row] = f"UPDATE lake.c SET n = {number} WHERE id = {row} AND {mine}", number
            case "delete" if row in rows:
                statement = f"DELETE FROM lake.c WHERE id = {row} AND {mine}"
                del rows[row]
            case "many":
                statement = f"UPDATE lake.c SET n = n + 1 WHERE id < {row} AND {mine}"
                rows = {id: n + (id < row) for id, n in rows.items()}
            case "upsert" | "keyed upsert":
                rows |= upserts
        if rows == self.rows:
            return
        try:
            self.server.run(statement) if statement else self.upsert(upserts, keyed=change == "keyed upsert")
        except flight.FlightError as error:
            refusal(error, codes=PASSING)
            return
        self.rows, self.passed = rows, self.passed + 1

    def upsert(self, rows, keyed):
        table = pa.table({"who": [self.name_of_rows] * len(rows), "id": list(rows), "n": list(rows.values())})
        key = f"{self.name_of_rows}/1/{self.unit + 1}" if keyed else None
        put(self.server, table, ("lake", "main", "c"), key, merge_keys="who,id")
        self.unit += keyed


def test_random_changes_beside_maintenance_are_kept(servers):
    seed = random.randrange(2**32)
    print("seed", seed)
    servers[0].run("CREATE TABLE lake.c (who VARCHAR, id BIGINT, n BIGINT)")
    changers = [
        Changer(server, f"{at}{name}", f"{seed} {at} {name}") for at, server in enumerate(servers) for name in "xy"
    ]
    for changer in changers:
        changer.start()
    maintained = 0
    while any(changer.is_alive() for changer in changers):
        try:
            servers[0].run("MAINTAIN CATALOG lake")
            maintained += 1
        except flight.FlightError as error:
            # Where others commit all the time, a step may lose every race.
            refusal(error, codes=PASSING, slug="CONFLICT")
    for changer in changers:
        assert changer.error is None, (changer.error, seed)
    servers[-1].run("MAINTAIN CATALOG lake")
    assert maintained > 0
    expected = sorted((changer.name_of_rows, *row) for changer in changers for row in changer.rows.items())
    for server in servers:
        assert sorted(server.rows("SELECT who, id, n FROM lake.c")) == expected, seed


def test_the_servers_own_tables_are_never_flushed_and_stay_small(lake, start, tmp_path):
    server = start(tmp_path / "a.db", *lake.options())
    for number in range(1, 9):
        put(server, unit(number), key=f"a/1/{number}")

    def kept(table):
        """Its rows in the metadata, of which all but one are old."""
        with lake.attached() as duck:
            metadata = "__ducklake_metadata_lake"
            (name,) = duck.execute(
                f"SELECT i.table_name FROM {metadata}.ducklake_inlined_data_tables AS i"
                f" JOIN {metadata}.ducklake_table AS t USING (table_id) WHERE t.table_name = '{table}'"
            ).fetchone()
            return duck.execute(f"SELECT count(*), count(*) - count(end_snapshot) FROM {metadata}.{name}").fetchone()

    # The first rows come before DuckLake can be told to keep such ones in the metadata.
    made = lake.files("__merganser/ingest_fence")
    assert kept("ingest_fence") == (9, 1)
    server.run("MAINTAIN CATALOG lake")
    # Somebody may read what they were a moment ago.
    assert kept("ingest_fence") == (9, 1)
    assert kept("ingest_units") == (0, 0)
    put(server, unit(9), key="a/1/9")
    lake.age(hours=1)
    server.run("MAINTAIN CATALOG lake")
    assert kept("ingest_fence") == (1, 1)
    assert lake.files("__merganser/ingest_fence") <= made
    put(server, unit(10), key="a/1/10")
    assert put(server, unit(10), key="a/1/10").duplicate
    assert server.rows("SELECT count(DISTINCT unit) FROM lake.events") == [(10,)]
