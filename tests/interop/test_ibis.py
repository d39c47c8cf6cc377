"""ibis with its GizmoSQL backend, unmodified. The steps are in ibis_session.py; here is what they should give."""

import json

import pytest

import programs

PYTHON = programs.ROOT / ".venv-ibis/bin/python"
PEOPLE = [
    {"id": 1, "name": "Ada", "score": 1.5},
    {"id": 2, "name": None, "score": 2.5},
    {"id": 3, "name": "Grace", "score": None},
]
EXPECTED = {
    "current": ["db", "main"],
    "create_table": PEOPLE,
    "schema": {"id": "int64", "name": "string", "score": "float64"},
    "list_tables": ["people"],
    "aggregate": [{"known": False, "n": 1, "score": 2.5}, {"known": True, "n": 2, "score": 1.5}],
    "join_with_local_data": [{"id": 1, "city": "London"}, {"id": 3, "city": "Arlington"}],
    "view": [{"twice": 2}, {"twice": 4}, {"twice": 6}],
    "temporary_table": 3,
    "insert": 4,
    "overwrite": PEOPLE[:1],
    "other_schema": 3,
    "read_csv": [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
    "large_result_in_batches": 300_000,
    "sql": [{"answer": 42}],
    "drop": [],
}


@pytest.fixture(scope="module")
def session(guarded, tmp_path_factory):
    output = tmp_path_factory.mktemp("ibis") / "results.json"
    user, password = guarded.credentials["username"], guarded.credentials["password"]
    ended = programs.run(PYTHON, programs.HERE / "ibis_session.py", guarded.port, user, password, output)
    assert output.exists(), ended.stdout + ended.stderr
    return json.loads(output.read_text())


@pytest.mark.parametrize("step", EXPECTED)
def test_step(session, step):
    assert session[step] == EXPECTED[step]


def test_every_step_is_checked(session):
    assert set(session) == set(EXPECTED)
