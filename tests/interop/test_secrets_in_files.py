"""What of the configuration's secrets a statement could read, and what the log says of it."""

import os

import pytest

from configuration import secret
from extensions import extension_folder

WARNING = "statements can read the files that hold values of secrets"


@pytest.fixture
def started(start, tmp_path):
    """A server with a secret, and what its log says."""
    (tmp_path / "secret.txt").write_text("of the file")
    extensions = extension_folder(tmp_path / "extensions", "httpfs")

    def begin(value, more=""):
        file = tmp_path / "merganser.toml"
        values = {"key_id": '"someone"', "secret": value.format(folder=tmp_path), "region": '"nowhere"'}
        file.write_text(more + secret("store", "s3", **values))
        options = ["--config", file, "--extension-directory", extensions]
        server = start(":memory:", *options, environment={"STORE_SECRET": "of the environment"})
        return server, server.log.read_text()

    return begin


@pytest.mark.parametrize("value", ['"of the configuration"', '{{ file = "{folder}/secret.txt" }}'])
def test_values_in_files_are_warned_of_while_statements_read_all_files(started, value, tmp_path):
    server, log = started(value)
    assert log.count(WARNING) == 1 and "read_directories" in log and "store" in log
    [(found,)] = server.rows(f"SELECT string_agg(content) FROM read_text('{tmp_path}/*.t*')")
    assert "of the file" in found and "\nsecret = " in found


@pytest.mark.parametrize(
    "value, more", [('{{ env = "STORE_SECRET" }}', ""), ('"of the configuration"', "read_directories = []\n")]
)
def test_nothing_is_warned_of_where_no_statement_reads_it(started, value, more):
    _, log = started(value, more)
    assert WARNING not in log


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="Linux tells the environment by a file")
def test_no_function_reads_the_environment_of_the_process(started):
    """Its size is 0 to the system, and DuckDB's functions read no more than that."""
    server, _ = started('{{ env = "STORE_SECRET" }}')
    environment = f"/proc/{server.process.pid}/environ"
    with open(environment) as file:
        assert "of the environment" in file.read()
    for function in ("read_text", "read_blob"):
        assert server.rows(f"SELECT size, octet_length(content::BLOB) FROM {function}('/proc/self/environ')") == [(0, 0)]
    columns = "header = false, columns = {'line': 'VARCHAR'}, delim = '|', quote = '', auto_detect = false"
    for rows in (
        "read_csv('/proc/self/environ')",
        f"read_csv('/proc/self/environ', {columns}, strict_mode = false)",
        "read_ndjson_objects('/proc/self/environ', ignore_errors = true)",
    ):
        assert server.rows(f"FROM {rows}") == []
    assert server.rows("FROM glob('/proc/self/environ')") == [("/proc/self/environ",)]
