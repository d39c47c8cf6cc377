"""Named queries over what may not be there, and over what once was there."""

import json

import duckdb
import pyarrow.flight as flight
import pytest

from configuration import lake_of_files
from harness import Server, refused, run_to_exit
from http_client import Http

SOURCE = """
[[source]]
name = "readings"
format = "parquet"
path = "{folder}/readings.parquet"
required = false
"""

LEAST = """
[[query]]
name = "least"
sql = "SELECT min(celsius) AS celsius FROM readings WHERE celsius >= $above"
{required}
[query.params]
above = {{ type = "DOUBLE", default = 0 }}
"""

OTHERS = """
[[query]]
name = "rows"
sql = "SELECT count(*) AS n FROM readings, sent"
required = false
[query.input]
name = "sent"
columns = { a = "INTEGER" }

[[query]]
name = "sent"
sql = "SELECT count(*) AS n FROM sent"
[query.input]
name = "sent"
columns = { b = "INTEGER" }
"""


def path(*parts):
    return flight.FlightDescriptor.for_path(*parts)


def options(folder, required):
    file = folder / "merganser.toml"
    file.write_text(SOURCE.format(folder=folder) + LEAST.format(required=required) + OTHERS)
    return ["--config", file, "--http", "127.0.0.1:0"]


def test_a_query_over_a_missing_source_stops_the_start_unless_it_is_not_required(tmp_path, start):
    ended = run_to_exit("--database", ":memory:", *options(tmp_path, ""))
    assert ended.returncode == 1 and "query least" in ended.stderr, ended

    server = start(":memory:", *options(tmp_path, "required = false"))
    http = Http(server.http())
    for name in ("least", "LEAST", "rows"):
        answer = http.get(f"/v1/queries/{name}", above=1)
        assert (answer.status, answer.slug) == (503, "QUERY_UNAVAILABLE")
        assert "retry-after" not in answer.headers
        refused(server.client.get_flight_info, path("queries", name), slug="QUERY_UNAVAILABLE")
    assert http.get("/v1/queries/most").slug == "QUERY_NOT_FOUND"
    for asked in ("FROM queries.least()", "SELECT count(*) FROM queries.least(above := 1)", "SELECT EXISTS (FROM queries.least())"):
        assert "cannot be answered" in refused(server.run, asked).text
    # The others are, and nothing is left of the one that is not.
    assert [card["name"] for card in http.get("/v1/queries").json()["queries"]] == ["sent"]
    assert http.post("/v1/queries/sent", '[{"b": 1}]', "application/json").rows == [{"n": 1}]
    server.stop()
    log = server.log.read_text()
    assert log.count("a query cannot be answered") == 2 and str(tmp_path) not in answer.body.decode()

    duckdb.sql(f"COPY (SELECT 2.5 AS celsius) TO '{tmp_path}/readings.parquet'")
    server = start(":memory:", *options(tmp_path, "required = false"))
    assert Http(server.http()).get("/v1/queries/least").rows == [{"celsius": 2.5}]
    assert server.rows("FROM queries.least(above := 3)") == [(None,)]


PAST = """
[[query]]
name = "total"
sql = "SELECT sum(x)::BIGINT AS total, $note AS note FROM lake.t AS t AT (VERSION => $version) WHERE x < $below"
[query.params]
version = { type = "BIGINT", optional = true }
below = { type = "BIGINT", default = 100 }
note = { type = "VARCHAR", default = "AT (VERSION => $version)" }

[[query]]
name = "since"
sql = "SELECT count(*) AS n FROM lake.t AT (TIMESTAMP => $at), sent AS s WHERE s.x = t.x"
[query.params]
at = { type = "TIMESTAMP WITH TIME ZONE", optional = true }
[query.input]
name = "sent"
columns = { x = "BIGINT" }

[[query]]
name = "rise"
sql = '''
SELECT (SELECT count(*) FROM lake.t) - (SELECT count(*) FROM lake.t AT (VERSION => $version)) AS n, $version AS version'''
[query.params]
version = { type = "BIGINT" }
"""


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    folder = tmp_path_factory.mktemp("past")
    options = lake_of_files(folder)
    server = Server(":memory:", *options, log=folder / "before")
    server.run("CREATE TABLE lake.t AS SELECT 1::BIGINT AS x")
    server.run("INSERT INTO lake.t VALUES (2)")
    server.run("INSERT INTO lake.t VALUES (3)")
    server.stop()
    options[1].write_text(options[1].read_text() + PAST)
    server = Server(":memory:", *options, "--http", "127.0.0.1:0", log=folder / "log")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def versions(past):
    versions = past.rows("SELECT snapshot_id, snapshot_time::VARCHAR FROM lake.snapshots() ORDER BY 1")
    return versions[-3:]


def test_a_version_is_a_parameter(past, versions):
    http = Http(past.http())
    totals = [http.get("/v1/queries/total", version=version).rows[0]["total"] for version, _ in versions]
    assert totals == [1, 3, 6]
    assert http.get("/v1/queries/total").rows[0]["total"] == 6
    first = http.get("/v1/queries/total", version=versions[-1][0], below=2, note="$version", total="true")
    assert first.rows == [{"total": 1, "note": "$version"}] and first.headers["x-total-count"] == "1"
    descriptor = path("queries", "total", f"version={versions[1][0]}")
    endpoint = past.client.get_flight_info(descriptor).endpoints[0]
    assert past.client.do_get(endpoint.ticket).read_all().to_pydict()["total"] == [3]


def test_so_is_a_time_beside_posted_rows(past, versions):
    http = Http(past.http())
    sent = json.dumps([{"x": x} for x in (1, 3, 5)])
    found = [
        http.post("/v1/queries/since", sent, "application/json", **at).rows
        for at in ({"at": versions[0][1]}, {"at": versions[2][1]}, {})
    ]
    assert found == [[{"n": 1}], [{"n": 2}], [{"n": 2}]]


def test_it_may_stand_elsewhere_too(past, versions):
    answer = Http(past.http()).get("/v1/queries/rise", version=versions[0][0])
    assert answer.rows == [{"n": 2, "version": versions[0][0]}]


@pytest.mark.parametrize(
    "values, slug",
    [
        ({"version": "1.5"}, "BAD_PARAMETER"),
        ({"version": "1) --"}, "BAD_PARAMETER"),
        ({"version": "x'"}, "BAD_PARAMETER"),
        ({"version": "999999"}, "BINDER"),
        ({"version": "-1"}, "BINDER"),
    ],
)
def test_what_is_no_version_is_refused(past, values, slug):
    answer = Http(past.http()).get("/v1/queries/total", **values)
    assert answer.slug == slug, answer.body


def test_sql_says_how_to_call_it(past):
    told = refused(past.run, "FROM queries.total(version := 1)").text
    assert "over HTTP" in told and '["queries", "total"]' in told


def test_what_is_no_sql_with_a_version_stops_the_start(tmp_path):
    options = lake_of_files(tmp_path, PAST.replace("AS t AT (VERSION => $version)", "AT (VERSION => $version) AS t"))
    ended = run_to_exit("--database", ":memory:", *options)
    assert ended.returncode == 1 and "query total: Parser Error" in ended.stderr, ended


def test_a_query_that_may_not_read_its_files_is_not_listed(tmp_path, start):
    (tmp_path / "in").mkdir()
    (tmp_path / "outside.csv").write_text("a\n1\n")
    (tmp_path / "merganser.toml").write_text(
        f'read_directories = ["{tmp_path}/in"]\n[[query]]\nname = "outside"\nrequired = false\n'
        f"sql = \"FROM read_csv('{tmp_path}/outside.csv')\"\n"
    )
    server = start(":memory:", "--config", tmp_path / "merganser.toml", "--http", "127.0.0.1:0")
    http = Http(server.http())
    assert http.get("/v1/queries").json()["queries"] == []
    assert server.rows("FROM merganser_queries()") == []
    assert http.get("/v1/queries/outside").slug == "QUERY_UNAVAILABLE"
