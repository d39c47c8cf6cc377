"""docker-compose.yml: that it hangs together, and that the server takes the configuration which it mounts.

No container runs here: of Docker only compose is asked, which reads the file. The server reads docker/lake.toml with the environment of its service, except that PostgreSQL and
the S3 store are those of the tests.
"""

import re
import shutil
import sys
import tomllib

import pytest
import yaml

from extensions import extension_folder
from harness import Server, run_to_exit
from lake import EXTENSIONS, Postgres
from object_storage import Storage
from programs import ROOT, run

TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
LAKE_TOML = ROOT / "docker/lake.toml"
# `${NAME:-default}`; `$$` is one dollar for the container.
VARIABLE = re.compile(r"(?<!\$)\$(?!\$)(?:\{(\w+)(:-[^}]+)?\})?")


def lake_environment():
    """What compose adds to the environment of the server with the lake, of nothing but defaults."""
    return {
        name: VARIABLE.sub(lambda variable: variable[2].removeprefix(":-"), value)
        for name, value in SERVICES["lake"]["environment"].items()
    }


def image_environment():
    """What the image has there already."""
    return dict(re.findall(r"\b(MERGANSER_\w+)=(\S+)", (ROOT / "Dockerfile").read_text().split("FROM debian")[1]))


@pytest.fixture
def compose(tmp_path, monkeypatch):
    """Runs Docker's compose, which scripts/system-tools installs, with nothing but the defaults of the file's variables."""
    monkeypatch.delenv("LAKE_PASSWORD", raising=False)
    (tmp_path / "empty.env").touch()
    tool = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    return lambda file, *arguments: run(*tool, "--env-file", tmp_path / "empty.env", "--file", file, *arguments)


@pytest.mark.skipif(sys.platform != "linux", reason="scripts/system-tools installs compose on Linux only")
class TestByCompose:
    @pytest.mark.parametrize("profile", [[], ["--profile", "lake"]])
    def test_it_is_valid(self, compose, profile):
        ended = compose(ROOT / "docker-compose.yml", *profile, "config", "--quiet")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")

    @pytest.mark.parametrize("right, wrong", [("healthcheck:", "healthchek:"), ("service_healthy", "service_well")])
    def test_what_is_wrong_in_it_would_be_found(self, compose, tmp_path, right, wrong):
        file = tmp_path / "docker-compose.yml"
        file.write_text(TEXT.replace(right, wrong))
        ended = compose(file, "--profile", "lake", "config", "--quiet")
        assert ended.returncode != 0 and wrong.rstrip(":") in ended.stderr, ended

    def test_variables_and_references_mean_what_the_other_tests_take_them_for(self, compose):
        ended = compose(ROOT / "docker-compose.yml", "--profile", "lake", "config")
        services = yaml.safe_load(ended.stdout)["services"]
        assert set(services) == set(SERVICES)
        assert services["lake"]["environment"] == lake_environment()
        for name, service in SERVICES.items():
            waits = {other: depends["condition"] for other, depends in services[name].get("depends_on", {}).items()}
            assert waits == {other: depends["condition"] for other, depends in service.get("depends_on", {}).items()}


def test_every_variable_has_a_default():
    code = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    variables = list(VARIABLE.finditer(code))
    assert {variable[1] for variable in variables} == {"LAKE_PASSWORD"}
    assert all(variable[2] for variable in variables)


def test_what_is_mounted_is_there():
    mounts = [mount.split(":") for service in SERVICES.values() for mount in service.get("volumes", [])]
    files = [source for source, *_ in mounts if source.startswith(".")]
    assert files == ["./docker/lake.toml"]
    assert all((ROOT / file).is_file() for file in files)
    assert {source for source, *_ in mounts} - set(files) == set(COMPOSE["volumes"])
    targets = [target for source, target, *_ in mounts if source in files]
    assert targets == [SERVICES["lake"]["environment"]["MERGANSER_CONFIG"]]


def test_a_service_waits_for_what_its_profile_starts():
    conditions = {
        (name, other): depends["condition"]
        for name, service in SERVICES.items()
        for other, depends in service.get("depends_on", {}).items()
    }
    assert conditions == {
        ("lake", "postgres"): "service_healthy",
        ("lake", "bucket"): "service_completed_successfully",
        ("bucket", "s3"): "service_healthy",
    }
    for name, other in conditions:
        assert SERVICES[other]["profiles"] == SERVICES[name]["profiles"] == ["lake"]
        if conditions[name, other] == "service_healthy":
            assert SERVICES[other]["healthcheck"]["test"]
    assert "profiles" not in SERVICES["server"]


def test_both_servers_have_ports_of_their_own_on_loopback():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    assert len({port.rsplit(":", 1)[0] for port in ports}) == len(ports)


def test_images_are_pinned():
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    assert images and all(re.fullmatch(r"[\w/]+:(?!latest)\S+", image) for image in images)


def test_the_configuration_asks_for_what_the_services_have():
    configuration = tomllib.loads(LAKE_TOML.read_text())
    environment = lake_environment()
    asked = {name for secret in configuration["secret"] for name in re.findall(r"'env': '(\w+)'", str(secret))}
    assert asked == {name for name in environment if not name.startswith("MERGANSER_")}
    storage, postgres = configuration["secret"]
    assert environment["LAKE_POSTGRES"] in SERVICES and environment["LAKE_S3"].split(":")[0] in SERVICES
    assert SERVICES["postgres"]["environment"]["POSTGRES_DB"] == postgres["database"]
    (catalog,) = configuration["catalog"]
    assert catalog["data_path"].startswith(storage["scope"])
    made = SERVICES["bucket"]["command"][0].split()[-1].removeprefix("store/")
    assert f"s3://{made}" == storage["scope"]
    (store,) = re.findall(r"http://(\S+)", SERVICES["bucket"]["command"][0])
    assert store == environment["LAKE_S3"]
    users = [SERVICES["postgres"]["environment"]["POSTGRES_USER"], SERVICES["s3"]["environment"]["MINIO_ROOT_USER"]]
    assert users == [environment["LAKE_USER"]] * 2


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """The environment of the server with those of the tests as hosts, the S3 store, and a folder of extensions."""
    postgres, storage = Postgres(), Storage()
    environment = image_environment() | lake_environment()
    user, password = environment["LAKE_USER"], environment["LAKE_PASSWORD"]
    postgres.psql(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
    postgres.psql(f"CREATE DATABASE lake OWNER {user}")
    environment |= {
        "LAKE_POSTGRES": str(postgres.folder),
        "LAKE_S3": storage.endpoint,
        "MERGANSER_CONFIG": str(LAKE_TOML),
    }
    yield environment, storage, extension_folder(tmp_path_factory.mktemp("extensions") / "all", *EXTENSIONS)
    storage.stop()
    postgres.stop()


def test_the_server_takes_the_configuration(services, tmp_path):
    environment, storage, extensions = services
    options = ["--http", "127.0.0.1:0", "--extension-directory", extensions]
    server = Server(tmp_path / "a.db", *options, log=tmp_path / "log-0", environment=environment)
    server.run("CREATE TABLE lake.readings AS SELECT range AS n FROM range(1000)")
    assert server.rows("SELECT job, every_seconds FROM merganser_jobs()") == [("maintain lake", 3600.0)]
    server.stop()
    keys = storage.client.list_objects_v2(Bucket="lake", Prefix="tables/main/readings/")
    assert keys["KeyCount"] == 1
    # The lake is not in the server's volume.
    other = Server(tmp_path / "b.db", *options, log=tmp_path / "log-1", environment=environment)
    assert other.rows("SELECT count(*), sum(n)::BIGINT FROM lake.readings") == [(1000, 499500)]
    other.stop()


@pytest.mark.parametrize("missing", ["LAKE_POSTGRES", "LAKE_S3", "LAKE_USER", "LAKE_PASSWORD"])
def test_a_variable_that_is_missing_is_named(services, missing, tmp_path):
    environment = {name: value for name, value in services[0].items() if name != missing}
    ended = run_to_exit("--database", tmp_path / "c.db", environment=environment)
    assert ended.returncode == 64
    assert missing in ended.stderr
