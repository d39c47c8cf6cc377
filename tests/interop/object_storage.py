"""S3 APIs on loopback."""

import logging
import os
import socket
import subprocess
from datetime import timedelta

import boto3
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from client import eventually
from configuration import secret
from programs import CRATE_PROGRAMS

KEY_ID, SECRET = "the-key-id", "the-secret-value"
# The addresses that secrets of each type are for.
SCHEMES = {"s3": ["s3"], "gcs": ["gs", "gcs"], "r2": ["r2"]}


def s3_secret(endpoint, kind="s3", **values):
    """The configuration of a secret for the storage there, by default with its keys in clear."""
    parameters = {
        "region": '"us-east-1"', "endpoint": f'"{endpoint}"', "url_style": '"path"', "use_ssl": "false",
        "key_id": f'"{KEY_ID}"', "secret": f'"{SECRET}"',
    }  # fmt: skip
    return secret("storage", kind, **parameters | values)


class Bucket:
    """A bucket behind a real HTTP server, at `endpoint`."""

    bucket = "lake"

    def __init__(self, endpoint):
        self.endpoint = endpoint
        keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=f"http://{self.endpoint}", **keys)
        self.client.create_bucket(Bucket=self.bucket)

    def upload(self, file, key):
        self.client.upload_file(str(file), self.bucket, key)

    def secret(self, kind="s3", **values):
        """The configuration of a secret for it."""
        scope = [f"{scheme}://{self.bucket}" for scheme in SCHEMES[kind]]
        return s3_secret(self.endpoint, kind, scope=scope, **values)


class Storage(Bucket):
    """One in memory."""

    def __init__(self):
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it tells of every request
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        self.server.start()
        host, port = self.server.get_host_and_port()
        super().__init__(f"{host}:{port}")

    def age(self, prefix, hours=24):
        """Makes the objects under a prefix older."""
        for name, key in s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[self.bucket].keys.items():
            if name.startswith(prefix):
                key.last_modified -= timedelta(hours=hours)

    def stop(self):
        self.server.stop()


class DiskStorage(Bucket):
    """One whose objects are files in a folder: they outlive its process."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()
        super().__init__(f"127.0.0.1:{self.port}")

    def start(self):
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        keys = ["--access-key", KEY_ID, "--secret-key", SECRET]
        self.process = subprocess.Popen(
            [CRATE_PROGRAMS / "s3s-fs", *address, *keys, self.folder],
            env=os.environ | {"RUST_LOG": "error"}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(self.answers, "the storage answers", 30)

    def answers(self):
        with socket.socket() as to:
            return to.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()
