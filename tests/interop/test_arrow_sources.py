"""Files of Arrow's IPC formats as sources."""

import datetime
import decimal

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.flight  # noqa: F401
import pytest

from extensions import extension_directory
from harness import refused, run_to_exit
from object_storage import Storage

UTC = datetime.timezone.utc


def source(path, name="readings", more=""):
    return f'[[source]]\nname = "{name}"\nformat = "arrow"\npath = {path}\n{more}\n'


@pytest.fixture
def configured(tmp_path):
    """Options of a server with a configuration file of this text."""

    def options(text):
        file = tmp_path / "merganser.toml"
        file.write_text(text)
        return ["--config", file]

    return options


def write_file(path, table, **options):
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=1000)


def write_stream(path, table, **options):
    with pa.ipc.new_stream(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=1000)


def write_feather(path, table, compression="uncompressed"):
    feather.write_feather(table, str(path), compression=compression, chunksize=1000)


WRITERS = {"file": write_file, "stream": write_stream, "feather": write_feather}


def numbers(count, start=0):
    ids = range(start, start + count)
    names = pa.array([f"n{id % 7}" for id in ids]).dictionary_encode()
    return pa.table({"id": pa.array(ids, pa.int64()), "name": names, "list": [[id, None] for id in ids]})


@pytest.mark.parametrize("writer", WRITERS)
def test_rows_come_as_they_were_written(writer, configured, start, tmp_path):
    rows = numbers(5000)
    WRITERS[writer](tmp_path / "a.arrow", rows)
    server = start(":memory:", "--read-only", *configured(source(f'"{tmp_path}/a.arrow"')))
    assert server.sql("FROM readings ORDER BY id").to_pylist() == rows.to_pylist()
    assert server.rows("SELECT count(*) FROM sources.readings") == [(5000,)]
    assert server.rows("SELECT name, count(*), sum(id)::BIGINT FROM readings WHERE id < 14 GROUP BY name ORDER BY 1") == [
        (f"n{n}", 2, 2 * n + 7) for n in range(7)
    ]  # fmt: skip


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("writer", WRITERS)
def test_compressed_files(writer, codec, configured, start, tmp_path):
    rows = numbers(5000)
    WRITERS[writer](tmp_path / "a.arrow", rows, compression=codec)
    server = start(":memory:", "--read-only", *configured(source(f'"{tmp_path}/a.arrow"')))
    assert server.sql("FROM readings ORDER BY id").to_pylist() == rows.to_pylist()
    assert server.rows("SELECT max(name), count(DISTINCT name) FROM readings") == [("n6", 7)]


MOMENT = datetime.datetime(2024, 5, 1, 12, 30, 15, 123456)
COLUMNS = {
    "truth": pa.array([True, None]),
    "small": pa.array([-128, None], pa.int8()),
    "large": pa.array([2**64 - 1, None], pa.uint64()),
    "half": pa.array([1.5, None], pa.float16()),
    "price": pa.array([decimal.Decimal("123456789.01"), None], pa.decimal128(30, 2)),
    "wide": pa.array([decimal.Decimal("1.5"), None], pa.decimal256(30, 2)),
    "day": pa.array([MOMENT.date(), None], pa.date32()),
    "day64": pa.array([MOMENT.date(), None], pa.date64()),
    "clock": pa.array([MOMENT.time(), None], pa.time64("us")),
    "at": pa.array([MOMENT, None], pa.timestamp("us")),
    "zoned": pa.array([MOMENT.replace(tzinfo=UTC), None], pa.timestamp("us", "Europe/Paris")),
    "nanos": pa.array([MOMENT, None], pa.timestamp("ns")),
    "span": pa.array([datetime.timedelta(hours=1), None], pa.duration("ms")),
    "text": pa.array(["it's", None], pa.large_string()),
    "view": pa.array(["a text that is longer than twelve bytes", None], pa.string_view()),
    "bytes": pa.array([b"\0\xff", None], pa.binary()),
    "fixed": pa.array([b"abcd", None], pa.binary(4)),
    "nothing": pa.nulls(2),
    "codes": pa.array(["a", None]).dictionary_encode(),
    "lists": pa.array([[1, None], None], pa.list_(pa.int64())),
    "moments": pa.array([[MOMENT, None], None], pa.list_(pa.timestamp("ms"))),
    "coded": pa.array([["a", "b", None], None], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "pair": pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)),
    "struct": pa.array([{"x": 1, "y": ["a"]}, None], pa.struct([("x", pa.int32()), ("y", pa.list_(pa.string()))])),
    "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
    "runs": pa.RunEndEncodedArray.from_arrays([2], pa.array(["r"])),
}


@pytest.mark.parametrize("codec", [None, "zstd"])
def test_values_of_every_type(codec, configured, start, tmp_path):
    rows = pa.table(COLUMNS)
    write_file(tmp_path / "a.arrow", rows, compression=codec)
    server = start(":memory:", *configured(source(f'"{tmp_path}/a.arrow"')))
    # What an upload of the same rows makes of them is the measure.
    server.put(rows, "uploaded")
    ours, theirs = server.sql("FROM readings"), server.sql("FROM uploaded")
    assert ours.schema == theirs.schema
    assert ours.to_pylist() == theirs.to_pylist()
    # Each alone: what is skipped must not be taken for what is asked for.
    for column in COLUMNS:
        assert server.sql(f'SELECT "{column}" FROM readings') == theirs.select([column]), column


def test_columns_in_another_order_and_filters(configured, start, tmp_path):
    write_file(tmp_path / "a.arrow", numbers(3000))
    server = start(":memory:", *configured(source(f'"{tmp_path}/a.arrow"')))
    assert server.rows("SELECT list[1], name, id FROM readings WHERE id = 2999") == [(2999, "n3", 2999)]
    assert server.rows("SELECT count(*) FROM readings r JOIN readings s USING (id) WHERE r.name = s.name") == [(3000,)]
    assert server.rows("SELECT name FROM readings ORDER BY id DESC LIMIT 1") == [("n3",)]
    # Rows are kept in sorts and joins for longer than the file is being read.
    assert server.rows("SELECT count(DISTINCT list::VARCHAR || name) FROM readings") == [(3000,)]


def test_a_dictionary_that_changes_on_the_way(configured, start, tmp_path):
    batches = [pa.record_batch({"v": pa.array(texts).dictionary_encode()}) for texts in (["a", "b"], ["c"], ["a", "b", "c", "d"])]
    for deltas in (False, True):
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas, compression="lz4")
        with pa.ipc.new_stream(tmp_path / f"{deltas}.arrows", batches[0].schema, options=options) as writer:
            for batch in batches:
                writer.write_batch(batch)
    server = start(":memory:", *configured(source(f'"{tmp_path}/*.arrows"')))
    assert server.rows("SELECT string_agg(v, '' ORDER BY v) FROM readings") == [("aaaabbbbccccdd",)]


def test_a_list_and_a_glob_of_files_of_both_formats(configured, start, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_file(folder / "a.arrow", numbers(1000))
    write_stream(folder / "b.arrows", numbers(1000, 1000))
    write_feather(folder / "c.feather", numbers(1000, 2000), "lz4")
    both = source(f'"{folder}/*"') + source(f'["{folder}/b.*", "{folder}/a.arrow"]', "few")
    server = start(":memory:", *configured(both))
    assert server.rows("SELECT count(*), sum(id)::BIGINT FROM readings") == [(3000, 4498500)]
    assert server.rows("SELECT count(*), max(id) FROM few") == [(2000, 1999)]
    write_feather(folder / "d.feather", numbers(1000, 3000), "zstd")
    assert server.rows("SELECT count(*), max(id) FROM readings") == [(4000, 3999)]
    # Any client may call the reader, as it may DuckDB's own.
    assert server.rows(f"SELECT count(*) FROM read_arrow(['{folder}/a.arrow', '{folder}/d.*'])") == [(2000,)]
    for bad in ["NULL", "1", "[]::VARCHAR[]", "['']", "'a', no_such_option := 1"]:
        refused(server.run, f"FROM read_arrow({bad})", slug="BINDER")


def test_it_respects_what_duckdb_forbids(start, tmp_path):
    write_file(tmp_path / "a.arrow", numbers(10))
    script = tmp_path / "init.sql"
    script.write_text("SET enable_external_access = false")
    server = start(":memory:", "--init-sql", script)
    # The path in DuckDB's text is the client's own.
    with pytest.raises(pa.ArrowException, match="PERMISSION: Permission Error: Cannot access file") as caught:
        server.run(f"FROM read_arrow('{tmp_path}/a.arrow')")
    assert "glob" not in str(caught.value)


def damaged_files(folder):
    """Files that are no good, with a part of what is said of each."""
    write_file(folder / "good", numbers(3000))
    write_file(folder / "packed", numbers(3000), compression="lz4")
    good, packed = (folder / "good").read_bytes(), (folder / "packed").read_bytes()
    write_stream(folder / "good", numbers(3000))
    stream = (folder / "good").read_bytes()
    # 1,000 numbers of 8 bytes: the first buffer says how long it becomes.
    claim = (8000).to_bytes(8, "little")
    assert claim in packed
    return {
        "empty": (b"", "no Arrow file"),
        "text": (b"id,name\n1,a\n", "no Arrow file"),
        "short": (b"ARROW1\0\0", "cut off"),
        "half": (good[: len(good) // 2], "cut off"),
        "stream": (stream[: len(stream) // 2], "cut off"),
        "huge": (packed.replace(claim, (2**46).to_bytes(8, "little")), "write smaller ones"),
        "longer": (packed.replace(claim, (8001).to_bytes(8, "little")), "damaged"),
        "shorter": (packed.replace(claim, (7999).to_bytes(8, "little")), "damaged"),
        "parquet": (b"PAR1" + bytes(100) + b"PAR1", "it is no Arrow file"),
    }


def test_a_file_that_is_no_good_is_named_and_the_server_goes_on(configured, start, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_file(folder / "a.arrow", numbers(10))
    server = start(":memory:", *configured(source(f'"{folder}/*"')))
    assert server.rows("SELECT count(*) FROM readings") == [(10,)]
    for kind, (content, reason) in damaged_files(tmp_path).items():
        bad = folder / f"b-{kind}.arrow"
        bad.write_bytes(content)
        told = refused(server.run, "SELECT * FROM readings", slug="IO").text
        assert f"file {bad.name} of source readings" in told and reason in told, kind
        assert str(folder) not in told, told
        bad.unlink()
    assert server.run("SELECT count(*) FROM readings").to_pydict() == {"count_star()": [10]}


def test_the_server_does_not_start_without_a_source_or_leaves_it_out(configured, start, tmp_path):
    for kind, (content, reason) in damaged_files(tmp_path).items():
        (tmp_path / f"{kind}.arrow").write_bytes(content)
        if kind in ("stream", "huge", "longer", "shorter"):
            continue  # what tells of its columns is good
        ended = run_to_exit("--database", ":memory:", *configured(source(f'"{tmp_path}/{kind}.arrow"')))
        assert ended.returncode == 1 and "source readings" in ended.stderr and reason in ended.stderr
    missing = source(f'"{tmp_path}/missing-*.arrow"')
    ended = run_to_exit("--database", ":memory:", *configured(missing))
    assert ended.returncode == 1
    assert "source readings" in ended.stderr and "No files found that match" in ended.stderr
    server = start(":memory:", *configured(missing + "required = false\n"))
    refused(server.run, "FROM readings", slug="NOT_FOUND")
    assert "a source cannot be read" in server.log.read_text()


def test_options_are_refused(configured, tmp_path):
    ended = run_to_exit(
        "--database", ":memory:", *configured(source('"x"', more="options = { hive_partitioning = true }"))
    )
    assert ended.returncode == 64 and "source.options" in ended.stderr and "this format has none" in ended.stderr


def test_files_in_object_storage(start, tmp_path):
    storage = Storage()
    write_file(tmp_path / "1.arrow", numbers(2000), compression="zstd")
    write_stream(tmp_path / "2.arrows", numbers(2000, 2000))
    for name in ("1.arrow", "2.arrows"):
        storage.upload(tmp_path / name, f"in/{name}")
    file = tmp_path / "merganser.toml"
    file.write_text(storage.secret() + source('"s3://lake/in/*"') + source('"s3://lake/in/2.arrows"', "one"))
    options = ["--config", file, "--extension-directory", extension_directory("httpfs")]
    server = start(":memory:", "--read-only", *options)
    assert server.rows("SELECT count(*), sum(id)::BIGINT FROM readings") == [(4000, 7998000)]
    assert server.rows("SELECT min(id), max(name) FROM one") == [(2000, "n6")]
    storage.client.delete_object(Bucket=storage.bucket, Key="in/2.arrows")
    assert server.run("SELECT count(*) FROM readings").to_pydict() == {"count_star()": [2000]}
    refused(server.run, "FROM one", slug="IO")
    server.stop()
    storage.stop()


def test_a_file_of_polars(configured, start, tmp_path):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"id": [1, 2, 3], "name": ["a", None, "a text that is longer than twelve bytes"]})
    frame.write_ipc(tmp_path / "a.arrow", compression="lz4")
    server = start(":memory:", *configured(source(f'"{tmp_path}/a.arrow"')))
    assert server.rows("FROM readings") == frame.rows()


def test_uploads_may_still_not_be_compressed(server):
    rows = numbers(10).select(["id"])
    options = pa.flight.FlightCallOptions(write_options=pa.ipc.IpcWriteOptions(compression="lz4"))
    descriptor = pa.flight.FlightDescriptor.for_path("packed")

    def put():
        writer, _ = server.client.do_put(descriptor, rows.schema, options)
        writer.write_table(rows)
        writer.close()

    refused(put, slug="BAD_ARROW")
