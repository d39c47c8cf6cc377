"""Rows that are posted with a request, and seven analyses of them."""

import http.client
import io
import json
import threading
import time
from statistics import median, quantiles

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


def rows(count: int, client: int) -> list[dict[str, object]]:
    """Animals of one client, told from others' by the ids."""
    return [
        {
            "id": client * 1_000_000 + number,
            "species": f"species {number % 50}",
            "keeper": f"keeper {number % 7}",
            "age": number % 40,
            "kilograms": (number * 7919 % 100_000) / 10,
        }
        for number in range(count)
    ]


def measure(settings: Settings) -> list[tuple[str, str, str]]:
    """One row a form of the body: requests a second of several clients, every answer checked."""
    forms = {"an Arrow stream": "application/vnd.apache.arrow.stream", "JSON": "application/json"}
    with serving(CONFIG) as address:
        return [_measure(settings, address, name, media_type) for name, media_type in forms.items()]


def _measure(settings: Settings, address: str, name: str, media_type: str) -> tuple[str, str, str]:
    times: list[float] = []
    end = time.perf_counter() + settings.seconds
    wrong: list[str] = []

    def client(number: int) -> None:
        posted = rows(settings.posted_rows, number)
        body = json.dumps(posted).encode() if media_type == "application/json" else _arrow(posted)
        connection = http.client.HTTPConnection(address)
        while time.perf_counter() < end:
            started = time.perf_counter()
            answer = ask(connection, "/v1/queries/analyses", body, content_type=media_type)
            times.append(time.perf_counter() - started)
            found = [json.loads(it["row"]) for it in json.loads(answer)["rows"] if it["analysis"] == "heaviest"]
            if len(found) != 10 or any(it["id"] // 1_000_000 != number for it in found):
                wrong.append(f"client {number} got another's rows")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(settings.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    a_second = len(times) / settings.seconds
    measured = (
        f"{a_second:.0f} requests/s, p50 {median(times) * 1e3:.1f} ms, p99 {quantiles(times, n=100)[-1] * 1e3:.1f} ms,"
        f" {settings.clients} clients, none mixed"
    )
    what = f"{settings.posted_rows:,} posted rows as {name}, seven analyses"
    return what, measured, verdict(f"{AT_LEAST} a second", reached=a_second >= AT_LEAST)


def _arrow(posted: list[dict[str, object]]) -> bytes:
    table = pa.Table.from_pylist(posted)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()
