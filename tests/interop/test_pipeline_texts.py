"""Pipelines that find what is new by a text."""

PIPELINE = """
[[pipeline]]
name = "{name}"
from = "events"
incremental = "{incremental}"
into = "{name}"
"""
WARNING = "a pipeline compares texts byte by byte"


def test_the_start_warns_of_each(start, tmp_path):
    config, init = tmp_path / "config.toml", tmp_path / "init.sql"
    names = {"by_number": "id", "by_text": "at"}
    config.write_text("".join(PIPELINE.format(name=name, incremental=column) for name, column in names.items()))
    init.write_text("CREATE TABLE events AS SELECT 1 AS id, 'a' AS at")
    server = start(tmp_path / "a.db", "--config", config, "--init-sql", init)
    told = [line for line in server.log.read_text().splitlines() if WARNING in line]
    assert len(told) == 1 and "by_text" in told[0]
    assert server.run("RUN PIPELINE by_text")["count"][0].as_py() == 1
