"""A real S3 API, a process of its own for as long as the measurement takes, and DuckDB's extension for it."""

import importlib.util
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from over_http.settings import free_port

KEY_ID, SECRET, BUCKET = "the-key-id", "the-secret-value", "lake"


@contextmanager
def s3() -> Iterator[str]:
    """An S3 API with one bucket; gives its address."""
    endpoint = f"127.0.0.1:{free_port()}"
    host, port = endpoint.split(":")
    command = [sys.executable, "-m", "moto.server", "-H", host, "-p", port]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _until_it_answers(f"http://{endpoint}/{BUCKET}")
            yield endpoint
        finally:
            process.terminate()


def _until_it_answers(bucket: str) -> None:
    """Makes the bucket as soon as somebody listens."""
    for _ in range(300):
        try:
            urllib.request.urlopen(urllib.request.Request(bucket, method="PUT"))
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the S3 API does not answer")


def create_secret(endpoint: str) -> str:
    """The statement with which a DuckDB process reaches it."""
    return (
        f"CREATE SECRET (TYPE s3, KEY_ID '{KEY_ID}', SECRET '{SECRET}', REGION 'us-east-1',"
        f" ENDPOINT '{endpoint}', URL_STYLE 'path', USE_SSL false)"
    )


def secret(endpoint: str) -> str:
    """The same for our server."""
    return f"""
[[secret]]
name = "storage"
type = "s3"
key_id = "{KEY_ID}"
secret = "{SECRET}"
region = "us-east-1"
endpoint = "{endpoint}"
url_style = "path"
use_ssl = false
"""


def extension(name: str) -> Path:
    """The file of one of DuckDB's extensions, as pip installed it."""
    found = importlib.util.find_spec(f"duckdb_extension_{name}")
    if found is None or found.origin is None:
        raise RuntimeError(f"pip install duckdb-extension-{name.replace('_', '-')}")
    (file,) = Path(found.origin).parent.rglob(f"{name}.duckdb_extension")
    return file


def extension_folder(folder: Path, names: tuple[str, ...]) -> Path:
    """A folder with several of them."""
    folder.mkdir(exist_ok=True)
    for name in names:
        link = folder / f"{name}.duckdb_extension"
        link.unlink(missing_ok=True)
        link.symlink_to(extension(name))
    return folder
