"""A run of a job that takes longer than its limit."""

import time

from harness import refused

PIPELINE = """
[[pipeline]]
name = "events"
from = "source"
incremental = "id"
into = "copied"
limit = "1s"
"""
FAST = "CREATE OR REPLACE VIEW source AS SELECT 1::BIGINT AS id, 0::BIGINT AS v"
SLOW = "CREATE OR REPLACE VIEW source AS SELECT count(*) AS id, 0::BIGINT AS v FROM range(100000000000) WHERE hash(range) = 1"


def test_it_is_interrupted_and_the_next_one_goes_on(start, database, tmp_path):
    config, init = tmp_path / "pipeline.toml", tmp_path / "init.sql"
    config.write_text(PIPELINE)
    init.write_text(FAST)
    server = start(database, "--config", config, "--init-sql", init)
    server.run(SLOW)
    begun = time.monotonic()
    refused(server.run, "RUN PIPELINE events", codes="DEADLINE_EXCEEDED", slug="JOB_TIMEOUT")
    assert time.monotonic() - begun < 30, "it was given up, and not interrupted"
    ((outcome, detail),) = server.rows("SELECT last_outcome, last_detail FROM merganser_jobs()")
    assert outcome == "failed" and "its limit" in detail
    server.run(FAST)
    assert server.run("RUN PIPELINE events")["count"][0].as_py() == 1
    assert server.rows("SELECT id, v FROM copied") == [(1, 0)]
