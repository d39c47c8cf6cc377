"""The examples, run as their READMEs say, and many requests at once to the one with posted rows."""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from client import eventually
from harness import BINARY, CLIENT, ENVIRONMENT, Server
from http_client import Http
from programs import ROOT

NAMED_QUERY = ROOT / "examples/named-query"
POSTED_ANIMALS = ROOT / "examples/posted-animals"
TAXI_LAKE = ROOT / "examples/taxi-lake"
EVENTS_TO_LAKE = ROOT / "examples/events-to-lake"


def run(example, *command):
    """What the example, or another command of its folder, printed; it must succeed."""
    ended = subprocess.run(
        [example / (command or ["run"])[0], *command[1:]],
        env=ENVIRONMENT | {"MERGANSER_SERVER_BIN": str(BINARY), "MERGANSER_BIN": str(CLIENT)},
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert ended.returncode == 0, f"exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def in_readme(example, printed):
    """Whether the README shows what the example prints."""
    return printed.strip() in (example / "README.md").read_text()


def test_named_query():
    printed = run(NAMED_QUERY)
    assert '{"day":"2025-07-31","bicycles":15762,"counters":3}' in printed
    assert "day,bicycles,counters\n2024-07-31,31932,3\n2024-07-30,31860,3\n" in printed
    assert '"slug":"BAD_PARAMETER"' in printed
    assert in_readme(NAMED_QUERY, printed)


@pytest.fixture(scope="module")
def posted_animals():
    return run(POSTED_ANIMALS)


def test_posted_animals(posted_animals):
    assert '{"name": "Odd", "verdict": "over", "percent_of_typical": 1063}' in posted_animals
    assert '{"species": "gentoo penguin", "feed_kilograms": 1.55}' in posted_animals
    assert posted_animals.endswith("every answer is the one that its animals had alone\n")
    assert in_readme(POSTED_ANIMALS, posted_animals)


@pytest.fixture(scope="module")
def zoo(posted_animals, tmp_path_factory):
    """A server on a copy of the database that the example has made, with the example's configuration."""
    folder = tmp_path_factory.mktemp("zoo")
    shutil.copy(POSTED_ANIMALS / "zoo.duckdb", folder)
    options = ["--config", POSTED_ANIMALS / "merganser.toml", "--http", "127.0.0.1:0"]
    server = Server(folder / "zoo.duckdb", *options, log=folder / "log")
    yield server
    server.stop()


def analyses(server, animals):
    (row,) = Http(server.http()).post("/v1/queries/analyses", json.dumps(animals), "application/json").rows
    return json.loads(row["analyses"])


def family(n):
    """Two otters, whose weight is the number of the request, and a bear as is typical."""
    return [
        {"name": f"small-{n}", "species": "otter", "keeper": f"keeper-{n}", "grams": 1000 * n},
        {"name": f"big-{n}", "species": "otter", "keeper": f"keeper-{n}", "grams": 5000 * n},
        {"name": f"bear-{n}", "species": "brown bear", "grams": 200_000},
    ]


def expected(n):
    """The analyses of a family, worked out here: an otter typically has 8 kg and eats 200 g a kilogram."""
    otters = {f"big-{n}": 5.0 * n, f"small-{n}": 1.0 * n}
    weights = [(f"bear-{n}", "brown bear", 200.0), *((name, "otter", kilograms) for name, kilograms in otters.items())]
    return {
        "by_species": [
            {"species": "brown bear", "animals": 1, "kilograms": 200.0, "mean_kilograms": 200.0},
            {"species": "otter", "animals": 2, "kilograms": 6.0 * n, "mean_kilograms": 3.0 * n},
        ],
        "by_diet": [
            {"diet": "carnivore", "animals": 2, "species": 1},
            {"diet": "omnivore", "animals": 1, "species": 1},
        ],
        "by_keeper": [
            {"keeper": f"keeper-{n}", "animals": 2, "kilograms": 6.0 * n},
            {"keeper": "nobody", "animals": 1, "kilograms": 200.0},
        ],
        "heaviest": [
            {"name": name, "species": species, "kilograms": kilograms}
            for name, species, kilograms in sorted(weights, key=lambda weight: (-weight[2], weight[0]))
        ],
        "against_typical": [
            {
                "name": name,
                "verdict": "over" if kilograms > 8 else "under",
                "percent_of_typical": math.floor(100 * kilograms / 8 + 0.5),
            }
            for name, kilograms in otters.items()
            if abs(kilograms - 8) > 1.6
        ],
        "feed_per_day": [
            {"species": "brown bear", "feed_kilograms": 10.0},
            {"species": "otter", "feed_kilograms": round(1.2 * n, 2)},
        ],
        "outliers": [{"name": f"small-{n}", "kilograms": 1.0 * n, "median_kilograms": 3.0 * n}],
    }


def test_fifty_posts_at_once_get_the_answers_of_their_own_animals(zoo):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: analyses(zoo, family(n)), range(1, 51)))
    assert answers == [expected(n) for n in range(1, 51)]
    assert zoo.rows("SELECT count(*) FROM animals") == [(0,)]


def test_no_animals_are_seven_empty_lists(zoo):
    assert analyses(zoo, []) == {name: [] for name in expected(1)}


def test_taxi_lake():
    printed = run(TAXI_LAKE)
    assert "dbt build: done" in printed and '"slug":"EXPORT_REFUSED"' in printed
    assert in_readme(TAXI_LAKE, printed)


def test_the_dashboard_over_the_taxi_lake():
    session = Path(__file__).parent / "dashboard_session.py"
    printed = run(TAXI_LAKE, "with-lake", ROOT / ".venv-streamlit/bin/python", session, TAXI_LAKE / "dashboard.py")
    shown = json.loads(printed.splitlines()[-1])
    assert shown["months"] == ["2024-10", "2024-11", "2024-12", "2025-01", "2025-02", "2025-03"]
    first, other = shown["pages"]
    assert (first["month"], other["month"]) == ("2025-03", "2024-12")
    for page in (first, other):
        assert page["exceptions"] == []
        assert int(page["trips"].replace(",", "")) == page["trips by HTTP"] > 5000
        assert page["rows"] == {"zones": 6, "longest": 10}
    assert first["trips"] != other["trips"]


def processes_of(session):
    """The commands of all processes of a session that still run."""
    listed = subprocess.run(["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [args for sid, stat, args in rows if int(sid) == session and not stat.startswith("Z")]


def test_the_dashboard_is_served_until_ctrl_c_and_leaves_nothing_running(tmp_path):
    """What `make dashboard` calls, in a session of its own, so that all of its processes are known."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = ENVIRONMENT | {"MERGANSER_SERVER_BIN": str(BINARY), "DASHBOARD_PORT": str(port)}
    printed = tmp_path / "printed"
    with printed.open("wb") as output:
        dashboard = subprocess.Popen(
            [TAXI_LAKE / "dashboard"], env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        healthy = lambda: dashboard.poll() is not None or is_healthy(port)  # noqa: E731
        eventually(healthy, "the dashboard is served", 80)
        assert dashboard.poll() is None, printed.read_text()
        # As a terminal does: to every process of the group.
        os.killpg(dashboard.pid, signal.SIGINT)
        dashboard.wait(timeout=30)
        assert processes_of(dashboard.pid) == [], printed.read_text()
    finally:
        if processes_of(dashboard.pid):
            os.killpg(dashboard.pid, signal.SIGKILL)
        dashboard.wait()


def is_healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
            return answer.read() == b"ok"
    except OSError:
        return False


@pytest.fixture(scope="module")
def events_to_lake():
    return run(EVENTS_TO_LAKE)


def tables(printed):
    """The rows of each table that `merganser query` has printed, as texts."""
    drawn = re.findall(r"^\+[-+]+\n\|.*\n\+[-+]+\n((?:\|.*\n)*)\+[-+]+$", printed, re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in rows.splitlines()] for rows in drawn]


def test_events_are_in_the_lake_once_each(events_to_lake):
    moved = [int(rows) for rows in re.findall(r"^events: (\d+) rows moved$", events_to_lake, re.MULTILINE)]
    assert moved == [1000, 0, 251] + [40] * 10
    second, _, _, last, *_ = tables(events_to_lake)
    for compared, events in (second, "1201"), (last, "1601"):
        (_, *in_postgres), (_, *in_lake) = compared
        assert [place for place, *_ in compared] == ["PostgreSQL", "lake"]
        assert in_lake == in_postgres
        assert in_lake[:3] == [events, events, "50"]


def test_small_files_are_merged_and_the_lake_can_be_asked_as_it_was(events_to_lake):
    _, [[before]], [[after]], _, earlier, now, jobs = tables(events_to_lake)
    assert int(before) >= 13 and int(after) <= 2
    assert (earlier, now) == ([["1000", "0"]], [["1601", "50"]])
    (tidied,) = re.findall(r"^lake: (\d+) rows, files and snapshots tidied up$", events_to_lake, re.MULTILINE)
    assert int(tidied) >= int(before) - int(after)
    assert [(job, outcome) for job, *_, outcome in jobs] == [("events", "done"), ("maintain lake", "done")]


def test_the_readme_shows_what_events_to_lake_prints(events_to_lake):
    # How many versions there are, and how much to tidy up, also depends on what the server keeps for itself.
    masked = lambda text: re.sub(r"(?<=VERSION => )\d+|(?<=^lake: )\d+", "N", text, flags=re.MULTILINE)  # noqa: E731
    assert masked(events_to_lake).strip() in masked((EVENTS_TO_LAKE / "README.md").read_text())
