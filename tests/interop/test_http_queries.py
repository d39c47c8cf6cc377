"""Named queries over HTTP: pages, cursors, streams, and rows that are posted with the request."""

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from harness import Server
from http_client import Http
from test_named_queries import INIT, TOML

MORE = """
[[query]]
name = "typed"
sql = "FROM typed"
[query.input]
name = "typed"
columns = { b = "BIGINT", d = "DECIMAL(5, 2)", f = "DOUBLE", t = "TIMESTAMP WITH TIME ZONE", l = "INTEGER[]" }

[[query]]
name = "numbers"
sql = "SELECT range AS n FROM range($count) ORDER BY n"
params.count = { type = "BIGINT", default = 10 }

[[query]]
name = "sales"
sql = "SELECT amount FROM sales ORDER BY amount"

[[query]]
name = "exact"
sql = "SELECT $huge + 0 AS huge, $money AS money, $at AS at, $yes AS yes"
[query.params]
huge = { type = "BIGINT", default = 9007199254740993 }
money = { type = "DECIMAL(20, 2)", default = "123456789012345678.25" }
at = { type = "TIMESTAMP WITH TIME ZONE", default = "2026-01-02 03:04:05+00" }
yes = { type = "BOOLEAN", default = true, description = "or no" }

[[query]]
name = "nested"
sql = "SELECT $texts AS texts, $one AS one, $words AS words, $whole AS whole"
[query.params]
texts = { type = "VARCHAR[]", optional = true }
one = { type = "STRUCT(a VARCHAR, b DOUBLE[])", optional = true }
words = { type = "MAP(VARCHAR, VARCHAR)", optional = true }
whole = { type = "INTEGER[]", optional = true }

[[query]]
name = "paths"
sql = "SELECT $paths AS paths, $depths AS depths"
[query.params]
paths = { type = "VARCHAR[]", default = ['C:\\dir', 'a "b", c', "it's", ' NULL', ''] }
depths = { type = "DOUBLE[][]", default = [[1, 2.5], []] }
"""

NAMES = ["by_region", "since", "heavy", "typed", "numbers", "sales", "exact", "nested", "paths"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("http")
    (folder / "merganser.toml").write_text(TOML + MORE)
    (folder / "init.sql").write_text(INIT)
    options = ["--config", folder / "merganser.toml", "--init-sql", folder / "init.sql", "--http", "127.0.0.1:0"]
    server = Server(folder / "db.duckdb", *options, log=folder / "log")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def http(server):
    return Http(server.http())


class TestCalls:
    def test_what_there_is(self, http):
        cards = {card["name"]: card for card in http.get("/v1/queries").json()["queries"]}
        assert list(cards) == NAMES
        assert cards["by_region"]["description"] == "Totals of the regions."
        assert cards["by_region"]["columns"] == [
            {"name": "region", "type": "VARCHAR"}, {"name": "total", "type": "BIGINT"},
        ]  # fmt: skip
        (region, least) = cards["by_region"]["parameters"]
        assert (region["name"], region["type"], region["required"]) == ("region", "VARCHAR", False)
        assert (least["name"], least["default"], least["required"]) == ("min_total", 0, False)
        assert cards["heavy"]["input"] == {"name": "animals", "columns": {"name": "VARCHAR", "grams": "BIGINT"}}
        assert list(cards["heavy"]["input"]["columns"]) == ["name", "grams"]

    def test_parameters_in_the_address(self, http):
        assert http.get("/v1/queries/by_region", min_total=10).rows == [
            {"region": "r1", "total": 12}, {"region": "r2", "total": 15},
        ]  # fmt: skip
        assert http.get("/v1/queries/since", day="2024-01-08").rows == [{"amount": 7}, {"amount": 8}]

    def test_parameters_in_the_body(self, http):
        body = json.dumps({"min_total": 10, "region": "r2"})
        assert http.post("/v1/queries/by_region", body, "application/json").rows == [{"region": "r2", "total": 15}]
        body = json.dumps({"region": None})
        assert len(http.post("/v1/queries/by_region", body, "application/json").rows) == 3

    def test_values_are_exact(self, http):
        answer = http.get("/v1/queries/exact", huge=9223372036854775806, yes="false")
        (row,) = answer.rows
        assert row["huge"] == 9223372036854775806 and row["yes"] is False
        assert b"123456789012345678.25" in answer.body
        assert row["at"].startswith("2026-01-02T03:04:05")

    @pytest.mark.parametrize(
        "given",
        [
            {"texts": ["Zürich", "a\nb", 'q"x', "C:\\dir", "it's", "a, b", "[x]", "NULL", None, "", " x "]},
            {"one": {"a": "it's, {b: 1}", "b": [1.5, None, 1e300]}},
            {"words": {"a,b": "c=d", "k'": 'v"'}},
            {"whole": [1, -2, None]},
        ],
        ids=lambda given: next(iter(given)),
    )
    def test_lists_and_structs_are_those_of_the_json(self, http, given):
        answer = http.post("/v1/queries/nested", json.dumps(given), "application/json")
        nothing = dict.fromkeys(["texts", "one", "words", "whole"])
        assert answer.rows == [nothing | given]

    @pytest.mark.parametrize("given", ['{"whole": [1.5]}', '{"one": {"a": 1, "a": 2}}'], ids=["rounded", "twice"])
    def test_lists_and_structs_lose_nothing(self, http, given):
        answer = http.post("/v1/queries/nested", given, "application/json")
        assert answer.slug == "BAD_PARAMETER" and answer.status == 400

    def test_lists_are_their_own_defaults(self, server, http):
        paths, depths = ["C:\\dir", 'a "b", c', "it's", " NULL", ""], [[1.0, 2.5], []]
        assert http.get("/v1/queries/paths").rows == [{"paths": paths, "depths": depths}]
        assert server.rows("FROM queries.paths()") == [(paths, depths)]
        (card,) = [card for card in http.get("/v1/queries").json()["queries"] if card["name"] == "paths"]
        assert [parameter["default"] for parameter in card["parameters"]] == [paths, depths]

    @pytest.mark.parametrize("form", ["ndjson", "csv", "arrow", "parquet"])
    def test_other_forms(self, http, form):
        answer = http.get("/v1/queries/numbers", count=3, format=form)
        if form == "ndjson":
            assert [json.loads(line)["n"] for line in answer.body.splitlines()] == [0, 1, 2]
        elif form == "csv":
            assert answer.body.split() == [b"n", b"0", b"1", b"2"]
        elif form == "arrow":
            assert pa.ipc.open_stream(answer.body).read_all().to_pydict() == {"n": [0, 1, 2]}
        else:
            import pyarrow.parquet

            assert pyarrow.parquet.read_table(io.BytesIO(answer.body)).to_pydict() == {"n": [0, 1, 2]}

    @pytest.mark.parametrize(
        "path, parameters, status, slug",
        [
            ("nothing", {}, 404, "QUERY_NOT_FOUND"),
            ("numbers", {"count": "many"}, 400, "BAD_PARAMETER"),
            ("numbers", {"colour": "red"}, 400, "BAD_PARAMETER"),
            ("numbers", {"limit": "-1"}, 400, "BAD_PARAMETER"),
            ("numbers", {"total": "perhaps"}, 400, "BAD_PARAMETER"),
            ("numbers", {"cursor": "not one"}, 400, "BAD_CURSOR"),
            ("numbers", {"cursor": "", "limit": 0}, 400, "BAD_PARAMETER"),
            ("numbers", {"format": "xml"}, 406, "NOT_ACCEPTABLE"),
            ("since", {}, 400, "BAD_PARAMETER"),
            ("since", {"day": "soon"}, 400, "BAD_PARAMETER"),
            ("heavy", {}, 405, "ROWS_WANTED"),
        ],
    )
    def test_what_is_wrong_is_a_problem(self, http, path, parameters, status, slug):
        answer = http.get(f"/v1/queries/{path}", **parameters)
        assert (answer.status, answer.slug) == (status, slug)

    @pytest.mark.parametrize("body", ["[1]", "{", '{"count": [1]}', '{"count": 1, "COUNT": 2}'])
    def test_a_wrong_body_is_a_problem(self, http, body):
        answer = http.post("/v1/queries/numbers", body, "application/json")
        assert answer.status == 400 and answer.slug in ["BAD_BODY", "BAD_PARAMETER"]


class TestPages:
    def test_limit_offset_and_total(self, http):
        answer = http.get("/v1/queries/numbers", count=100, limit=3, offset=95, total="true")
        assert [row["n"] for row in answer.rows] == [95, 96, 97]
        assert answer.headers["x-total-count"] == "100"

    def test_a_cursor_goes_on_in_the_snapshot_of_its_first_page(self, server, http):
        answer = http.get("/v1/queries/sales", cursor="", limit=4, total="true")
        assert [row["amount"] for row in answer.rows] == [0, 1, 2, 3] and answer.headers["x-total-count"] == "9"
        server.run("DELETE FROM sales WHERE amount >= 6")
        try:
            rows = []
            while (cursor := answer.headers["x-next-cursor"]) is not None:
                answer = http.get("/v1/queries/sales", cursor=cursor, limit=2)
                rows += [row["amount"] for row in answer.rows]
            assert rows == [4, 5, 6, 7, 8]
            assert len(http.get("/v1/queries/sales").rows) == 6
        finally:
            server.run(
                "INSERT INTO sales SELECT 'r' || i % 3, i, DATE '2024-01-01' + i::INTEGER FROM range(6, 9) AS r(i)"
            )

    def test_a_cursor_is_used_once(self, http):
        cursor = http.get("/v1/queries/numbers", cursor="", limit=4).headers["x-next-cursor"]
        assert http.get("/v1/queries/numbers", cursor=cursor, limit=4).status == 200
        assert http.get("/v1/queries/numbers", cursor=cursor, limit=4).slug == "CURSOR_EXPIRED"

    @pytest.mark.parametrize(
        "query, more", [("numbers", {"limit": "x"}), ("numbers", {"limit": 0}), ("numbers", {"count": 3}), ("sales", {})]
    )
    def test_a_wrong_continuation_costs_nothing(self, http, query, more):
        cursor = http.get("/v1/queries/numbers", cursor="", limit=4).headers["x-next-cursor"]
        assert http.get(f"/v1/queries/{query}", cursor=cursor, **more).status in [400, 404]
        assert http.get("/v1/queries/numbers", cursor=cursor, limit=1).rows == [{"n": 4}]

    def test_the_last_page_has_no_next(self, http):
        answer = http.get("/v1/queries/numbers", count=4, cursor="", limit=4)
        assert len(answer.rows) == 4 and answer.headers["x-next-cursor"] is None

    def test_cursors_that_are_left_do_not_use_up_the_server(self, http):
        for _ in range(100):
            http.get("/v1/queries/numbers", count=200_000, cursor="", limit=1)
        assert http.get("/v1/queries/numbers").status == 200

    def test_a_large_cursor_has_every_row_once(self, http):
        answer, total = http.get("/v1/queries/numbers", count=500_000, cursor="", limit=70_001), 0
        while True:
            rows = answer.rows
            assert rows[0]["n"] == total
            total += len(rows)
            if (cursor := answer.headers["x-next-cursor"]) is None:
                break
            answer = http.get("/v1/queries/numbers", cursor=cursor, limit=70_001)
        assert total == 500_000


ANIMALS = [{"name": "mouse", "grams": 20}, {"name": "cow", "grams": 600_000}, {"grams": 5_000}]


class TestPostedRows:
    def test_every_form(self, http):
        table = pa.Table.from_pylist(ANIMALS)
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        for body, content_type in [
            (json.dumps(ANIMALS), "application/json"),
            ("\n".join(json.dumps(row) for row in ANIMALS), "application/x-ndjson"),
            ("grams,name\n20,mouse\n600000,cow\n5000,\n", "text/csv; charset=utf-8"),
            (sink.getvalue(), "application/vnd.apache.arrow.stream"),
        ]:
            rows = http.post("/v1/queries/heavy", body, content_type, least=1).rows
            assert [(row["name"], row["kilograms"], row["posted"]) for row in rows] == [
                ("cow", 600.0, 2), (None, 5.0, 2),
            ], content_type  # fmt: skip

    def test_a_name_that_a_row_has_twice_is_told_with_the_row(self, http):
        rows = ['{"grams": 20, "name": "grams"}', '{"name": null, "grams": 20, "\\u006eame": "mouse"}']
        for body, form in [(f"[{','.join(rows)}]", "application/json"), ("\n".join(rows), "application/x-ndjson")]:
            answer = http.post("/v1/queries/heavy", body, form)
            assert (answer.status, answer.slug) == (400, "BAD_BODY")
            assert 'row 2 has "name" twice' in answer.json()["detail"]

    def test_nothing_is_written(self, server, http):
        http.post("/v1/queries/heavy", json.dumps(ANIMALS), "application/json")
        assert server.rows("SELECT count(*) FROM animals") == [(0,)]

    def test_values_are_never_changed(self, http):
        values = {"b": 9007199254740993, "d": 1.25, "f": 0.1, "t": "2026-01-02T03:04:05.678901+02:00", "l": [1, None]}
        (row,) = http.post("/v1/queries/typed", json.dumps([values]), "application/json").rows
        assert (row["b"], row["d"], row["f"], row["l"]) == (9007199254740993, 1.25, 0.1, [1, None])
        assert row["t"].startswith("2026-01-02T01:04:05.678901")
        for wrong in [{"b": 1.5}, {"b": "many"}, {"t": "soon"}, {"t": 5}, {"d": "x"}, {"l": [1, 1.5]}]:
            answer = http.post("/v1/queries/typed", json.dumps([wrong]), "application/json")
            assert answer.status == 400 and answer.slug in ["BAD_BODY", "CONVERSION"], wrong

    def test_what_would_be_rounded_is_named_by_row_and_column(self, http):
        rows, lines = [{"grams": 20}, {"grams": 1.5}], "grams,name\n20,\n1.5,\n"
        told = http.post("/v1/queries/heavy", json.dumps(rows), "application/json").json()["detail"]
        assert told.endswith('row 2: it has "1.5" in "grams", which BIGINT does not hold'), told
        told = http.post("/v1/queries/heavy", lines, "text/csv").json()["detail"]
        assert told == 'row 2 has "1.5" in "grams", which is no whole number, as its type BIGINT asks'
        rows = http.post("/v1/queries/heavy", "grams,name\n 20.0,\n6e5 ,cow\n", "text/csv").rows
        assert [row["name"] for row in rows] == ["cow"]

    def test_no_rows(self, http):
        assert http.post("/v1/queries/heavy", "[]", "application/json").rows == []

    def test_a_page_of_them(self, http):
        rows = http.post("/v1/queries/heavy", json.dumps(ANIMALS), "application/json", limit=1).rows
        assert [row["name"] for row in rows] == ["cow"]

    def test_a_total_is_counted_over_the_same_rows(self, http):
        for limit in (1, 0, 10):
            answer = http.post(
                "/v1/queries/heavy", json.dumps(ANIMALS), "application/json", limit=limit, offset=1, total="true"
            )
            assert (len(answer.rows), answer.headers["x-total-count"]) == (min(limit, 1), "2")
        answer = http.post("/v1/queries/heavy", "[]", "application/json", total="true")
        assert (answer.rows, answer.headers["x-total-count"]) == ([], "0")
        assert "x-total-count" not in http.post("/v1/queries/heavy", "[]", "application/json").headers

    def test_a_cursor_goes_on_over_them_after_the_request(self, http):
        rows = json.dumps([{"name": f"n{number:03}", "grams": 2_000} for number in range(100)])
        answer = http.post("/v1/queries/heavy", rows, "application/json", cursor="", limit=40, total="true")
        assert answer.headers["x-total-count"] == "100"
        # Others post theirs meanwhile.
        assert http.post("/v1/queries/heavy", json.dumps(ANIMALS), "application/json").status == 200
        names = [row["name"] for row in answer.rows]
        while cursor := answer.headers.get("x-next-cursor"):
            answer = http.get("/v1/queries/heavy", cursor=cursor, limit=40)
            names += [row["name"] for row in answer.rows]
        assert names == [f"n{number:03}" for number in range(100)]

    def test_many_at_once_never_see_each_others(self, http):
        def ask(number):
            grams = 2_000 + number * 1_000
            body = json.dumps([{"name": str(number), "grams": grams}] * 5)
            rows = http.post("/v1/queries/heavy", body, "application/json").rows
            return rows == [{"name": str(number), "kilograms": grams / 1000, "posted": 5}] * 5

        with ThreadPoolExecutor(16) as pool:
            assert all(pool.map(ask, range(200)))

    @pytest.mark.parametrize(
        "body, content_type, status, slug",
        [
            ("{}", "application/json", 400, "BAD_BODY"),
            ('[{"wings": 2}]', "application/json", 400, "BAD_BODY"),
            ('[{"grams": "many"}]', "application/json", 400, "BAD_BODY"),
            ("grams\nmany\n", "text/csv", 400, "CONVERSION"),
            ("grams\n20\n1.5\n", "text/csv", 400, "CONVERSION"),
            ('grams,name\n20,"mouse\n', "text/csv", 400, "BAD_BODY"),
            ('[{"grams": 1.5}]', "application/json", 400, "BAD_BODY"),
            ("wings\n2\n", "text/csv", 400, "SCHEMA_MISMATCH"),
            ("grams,grams\n2,3\n", "text/csv", 400, "SCHEMA_MISMATCH"),
            ("x", "application/vnd.apache.arrow.stream", 400, "BAD_BODY"),
            (b"\xff\xff\xff\xff\xff\xff\xff\x7f", "application/vnd.apache.arrow.stream", 400, "BAD_BODY"),
            ("<rows/>", "application/xml", 415, "UNSUPPORTED_MEDIA_TYPE"),
        ],
    )
    def test_what_is_wrong_is_a_problem(self, http, body, content_type, status, slug):
        answer = http.post("/v1/queries/heavy", body, content_type)
        assert (answer.status, answer.slug) == (status, slug)
        assert http.get("/v1/queries/numbers").status == 200


def test_the_document_has_every_query(http):
    document = http.get("/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        "/v1/sql", "/v1/tables", "/v1/queries", "/v1/openapi.json",
        *(f"/v1/queries/{name}" for name in NAMES),
    }  # fmt: skip
    parameters = {it["name"]: it for it in document["paths"]["/v1/queries/since"]["get"]["parameters"]}
    assert parameters["day"]["required"] and not parameters["limit"].get("required")
    assert "post" in document["paths"]["/v1/queries/heavy"]
    heavy = {it["name"] for it in document["paths"]["/v1/queries/heavy"]["post"]["parameters"]}
    assert {"least", "limit", "offset", "cursor", "total"} <= heavy


def test_a_stop_with_open_cursors_is_clean(tmp_path):
    (tmp_path / "merganser.toml").write_text(MORE.replace("FROM sales", "FROM (SELECT 1 AS amount)"))
    server = Server(":memory:", "--config", tmp_path / "merganser.toml", "--http", "127.0.0.1:0", log=tmp_path / "log")
    http = Http(server.http())
    assert http.get("/v1/queries/numbers", count=3_000_000, cursor="", limit=1).headers["x-next-cursor"]
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    stopping.join(10)
    assert not stopping.is_alive()
