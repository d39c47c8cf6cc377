"""Rows that are posted with a request, and seven analyses of them."""

import http.client
import io
import json
import threading
import time
from statistics import fmean, median, quantiles, stdev

import pyarrow as pa

from ours import verdict

from .settings import Settings, ask, serving

ANALYSES = {
    "by_species": "SELECT species, count(*) AS animals, avg(kilograms) AS mean FROM animals GROUP BY species",
    "by_keeper": "SELECT keeper, count(*) AS animals FROM animals GROUP BY keeper",
    "heaviest": "SELECT id, kilograms FROM animals ORDER BY kilograms DESC, id LIMIT 10",
    "lightest": "SELECT id, kilograms FROM animals ORDER BY kilograms, id LIMIT 10",
    "ages": "SELECT age, count(*) AS animals FROM animals GROUP BY age",
    "spread": "SELECT min(kilograms) AS least, max(kilograms) AS most, stddev(kilograms) AS deviation FROM animals",
    "outliers": "SELECT count(*) AS animals FROM animals WHERE kilograms > (SELECT 3 * avg(kilograms) FROM animals)",
}
SQL = " UNION ALL ".join(
    f"SELECT '{name}' AS analysis, to_json(r) AS row FROM ({sql}) AS r" for name, sql in ANALYSES.items()
)
CONFIG = f"""
read_only = true
[[query]]
name = "analyses"
sql = \"\"\"{SQL}\"\"\"
[query.input]
name = "animals"
columns = {{ id = "BIGINT", species = "VARCHAR", keeper = "VARCHAR", age = "INTEGER", kilograms = "DOUBLE" }}
"""
AT_LEAST = 200


Row = dict[str, object]


def rows(count: int, client: int) -> list[dict[str, object]]:
    """Animals of one client, told from others' by every value, so that every analysis tells whose rows it is of."""
    return [
        {
            "id": client * 1_000_000 + number,
            "species": f"species {client}-{number % 50}",
            "keeper": f"keeper {client}-{number % 7}",
            "age": client * 100 + number % 40,
            # Of a few whales each client has another number.
            "kilograms": 150_000.0 + number if number < 2 * client else (number * 7919 % 100_000) / 10 + client,
        }
        for number in range(count)
    ]


def expected(posted: list[dict[str, object]]) -> dict[str, list[Row]]:
    """The seven analyses, worked out here."""
    weights = [float(str(row["kilograms"])) for row in posted]
    by_weight = sorted(posted, key=lambda row: (float(str(row["kilograms"])), -int(str(row["id"]))))
    lightest = sorted(posted, key=lambda row: (float(str(row["kilograms"])), int(str(row["id"]))))
    mean = fmean(weights)
    return {
        "by_species": [
            {"species": name, "animals": len(found), "mean": fmean(float(str(it["kilograms"])) for it in found)}
            for name, found in _grouped(posted, "species")
        ],
        "by_keeper": [{"keeper": name, "animals": len(found)} for name, found in _grouped(posted, "keeper")],
        "heaviest": [_of(row, "id", "kilograms") for row in by_weight[-10:]],
        "lightest": [_of(row, "id", "kilograms") for row in lightest[:10]],
        "ages": [{"age": age, "animals": len(found)} for age, found in _grouped(posted, "age")],
        "spread": [{"least": min(weights), "most": max(weights), "deviation": stdev(weights)}],
        "outliers": [{"animals": sum(weight > 3 * mean for weight in weights)}],
    }


def _grouped(posted: list[dict[str, object]], by: str) -> list[tuple[object, list[Row]]]:
    groups: dict[object, list[Row]] = {}
    for row in posted:
        groups.setdefault(row[by], []).append(row)
    return list(groups.items())


def _of(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names}


def is_right(answer: bytes, analyses: dict[str, list[Row]]) -> bool:
    """Whether an answer has all of these analyses and nothing else; the last digits of a sum depend on its order."""
    found: dict[str, list[Row]] = {name: [] for name in analyses}
    for row in json.loads(answer)["rows"]:
        found.setdefault(row["analysis"], []).append(json.loads(row["row"]))
    return found.keys() == analyses.keys() and all(
        _rounded(found[name]) == _rounded(wanted) for name, wanted in analyses.items()
    )


def _rounded(rows: list[Row]) -> list[list[tuple[str, object]]]:
    return sorted(
        [(name, round(value, 6) if isinstance(value, float) else value) for name, value in sorted(row.items())]
        for row in rows
    )


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """One row a form of the body: requests a second of several clients, every answer checked."""
    forms = {"an Arrow stream": "application/vnd.apache.arrow.stream", "JSON": "application/json"}
    with serving(CONFIG) as address:
        return [_measure(settings, address, name, media_type) for name, media_type in forms.items()]


def _measure(settings: Settings, address: str, name: str, media_type: str) -> tuple[str, str, str]:
    times: list[float] = []
    posted = [rows(settings.posted_rows, number) for number in range(settings.clients)]
    answers: list[list[bytes]] = [[] for _ in posted]
    end = time.perf_counter() + settings.seconds

    def client(number: int) -> None:
        body = json.dumps(posted[number]).encode() if media_type == "application/json" else _arrow(posted[number])
        connection = http.client.HTTPConnection(address)
        while time.perf_counter() < end:
            started = time.perf_counter()
            answers[number].append(ask(connection, "/v1/queries/analyses", body, content_type=media_type))
            times.append(time.perf_counter() - started)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(settings.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Looked at only now, or the clients would measure themselves.
    for number, its in enumerate(answers):
        analyses = expected(posted[number])
        assert all(is_right(answer, analyses) for answer in its), f"client {number} got a wrong answer"
    a_second = len(times) / settings.seconds
    measured = (
        f"{a_second:.0f} requests/s, p50 {median(times) * 1e3:.1f} ms, p99 {quantiles(times, n=100)[-1] * 1e3:.1f} ms,"
        f" {settings.clients} clients, all seven of every answer right"
    )
    what = f"{settings.posted_rows:,} posted rows as {name}, seven analyses"
    return what, measured, verdict(f"{AT_LEAST} a second", reached=a_second >= AT_LEAST)


def _arrow(posted: list[dict[str, object]]) -> bytes:
    table = pa.Table.from_pylist(posted)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
