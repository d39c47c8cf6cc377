"""What a user of ibis does, step by step on one connection. Writes the result of each step as JSON.

    .venv-ibis/bin/python ibis_session.py PORT USER PASSWORD OUTPUT

OUTPUT gets {step: result}, or {step: {"error": text}} for a step that failed.
"""

import json
import sys
import tempfile
from pathlib import Path

import ibis
import pandas as pd
from ibis import _

PEOPLE = pd.DataFrame({"id": [1, 2, 3], "name": ["Ada", None, "Grace"], "score": [1.5, 2.5, None]})
STEPS = {}


def step(function):
    STEPS[function.__name__] = function
    return function


def rows(expression):
    return expression.to_pyarrow().to_pylist()


def count(table):
    return table.count().to_pyarrow().as_py()


@step
def current(con):
    return [con.current_catalog, con.current_database]


@step
def create_table(con):
    return rows(con.create_table("people", PEOPLE).order_by("id"))


@step
def schema(con):
    return {name: str(kind) for name, kind in con.table("people").schema().items()}


@step
def list_tables(con):
    return [name for name in con.list_tables() if not name.startswith("ibis_")]


@step
def aggregate(con):
    people = con.table("people")
    return rows(people.group_by(known=_.name.notnull()).agg(n=_.count(), score=_.score.sum()).order_by("known"))


@step
def join_with_local_data(con):
    cities = ibis.memtable({"id": [1, 3], "city": ["London", "Arlington"]})
    return rows(con.table("people").join(cities, "id").select("id", "city").order_by("id"))


@step
def view(con):
    con.create_view("doubled", con.table("people").mutate(twice=_.id * 2))
    return rows(con.table("doubled").select("twice").order_by("twice"))


@step
def temporary_table(con):
    con.create_table("scratch", PEOPLE, temp=True)
    return count(con.table("scratch", database=("temp", "main")))


@step
def insert(con):
    con.insert("people", pd.DataFrame({"id": [4], "name": ["Edsger"], "score": [9.0]}))
    return count(con.table("people"))


@step
def overwrite(con):
    return rows(con.create_table("people", PEOPLE.head(1), overwrite=True))


@step
def other_schema(con):
    con.create_database("elsewhere")
    con.create_table("people", PEOPLE, database="elsewhere")
    return count(con.table("people", database="elsewhere"))


@step
def read_csv(con):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.csv"
        path.write_text("a,b\n1,x\n2,\n")
        return rows(con.read_csv(path, table_name="numbers").order_by("a"))


@step
def large_result_in_batches(con):
    numbers = con.sql("SELECT range AS i FROM range(300000)")
    return sum(batch.num_rows for batch in numbers.to_pyarrow_batches(chunk_size=50_000))


@step
def sql(con):
    return rows(con.sql("SELECT 42 AS answer"))


@step
def drop(con):
    con.drop_view("doubled")
    con.drop_table("people")
    con.drop_table("people", database="elsewhere")
    con.drop_database("elsewhere")
    return [name for name in con.list_tables() if name in ("people", "doubled")]


def main(port, user, password, output):
    con = ibis.gizmosql.connect(
        host="127.0.0.1", port=int(port), user=user, password=password, use_encryption=False
    )  # fmt: skip
    results = {}
    for name, function in STEPS.items():
        try:
            results[name] = function(con)
        except Exception as error:  # reported as the result of its step; the others go on
            results[name] = {"error": f"{type(error).__name__}: {error}"}
    Path(output).write_text(json.dumps(results))


main(*sys.argv[1:])
