"""A lake whose files are on the disk of an S3 server: what is acknowledged outlives that server, too."""

import random

import pytest

from loaders import Crowd, stored
from object_storage import DiskStorage

# Rows a unit: few, which stay in the lake's metadata, and many, which become files.
ROWS = [3, 20, 1000, 1000]


@pytest.fixture
def bucket(tmp_path):
    """In place of the one that all other lakes share."""
    bucket = DiskStorage(tmp_path / "objects")
    yield bucket
    bucket.kill()


@pytest.fixture
def serve(lake, start, tmp_path):
    return lambda: start(tmp_path / "own.db", *lake.options(), "--bulk-size", "16KiB")


def test_what_is_acknowledged_outlives_server_and_storage(bucket, serve):
    server = serve()
    with Crowd([server], ROWS) as crowd:
        for _ in range(3):
            crowd.wait_for(random.randint(4, 12))
            crowd.servers[0].kill()
            bucket.kill()
            bucket.start()
            crowd.servers[0] = serve()
        crowd.wait_for(4)
    crowd.check()
    assert stored(crowd.servers[0]) == crowd.expected()
    assert any(bucket.folder.rglob("*.parquet"))


def test_loaders_go_on_once_the_storage_is_back(bucket, serve):
    server = serve()
    with Crowd([server], ROWS) as crowd:
        for _ in range(3):
            crowd.wait_for(random.randint(4, 12))
            bucket.kill()
            crowd.enough.wait(random.random() / 2)  # a random moment
            bucket.start()
        crowd.wait_for(8)
    crowd.check()
    assert stored(server) == crowd.expected()
