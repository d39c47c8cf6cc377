"""Loaders with keys, as a script writes them with pyarrow and nothing else: one put a unit, and one long stream."""

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import wire

TABLE = flight.FlightDescriptor.for_path("events")
LAST = "SELECT max(sequence) AS n FROM merganser_ingest()"


def unit(number, rows=10):
    return pa.record_batch({"unit": [number] * rows, "part": list(range(rows))})


def ingest_unit(key, more=False):
    """An IngestUnit: field 1 is the key, field 2 says that more of the unit follows."""
    return wire.message((1, key), *[(2, 1)] * more)


def read(answers):
    answer = answers.read()
    return answer and wire.IngestAck.decode(answer.to_pybytes())


def put(client, key, *batches):
    options = flight.FlightCallOptions(headers=[(b"x-merganser-ingest-key", key.encode())], timeout=30)
    writer, answers = client.do_put(TABLE, batches[0].schema, options)
    for batch in batches:
        writer.write_batch(batch)
    writer.done_writing()
    ack = read(answers)
    writer.close()
    return ack


def stream(client, numbers):
    """Sends units on one stream without waiting; gives the last acknowledgement."""
    writer, answers = client.do_put(TABLE, unit(0).schema, flight.FlightCallOptions(timeout=60))
    for number in numbers:
        writer.write_with_metadata(unit(number), ingest_unit(f"stream/1/{number}"))
    writer.done_writing()
    last = None
    while (ack := read(answers)) is not None:
        last = ack
    writer.close()
    return last


def count(client, sql="SELECT count(*) AS n FROM events"):
    return client.do_get(flight.Ticket(sql.encode())).read_all()["n"][0].as_py()


@pytest.fixture
def client(start, database):
    server = start(database)
    with flight.connect(server.uri) as client:
        yield client


def test_a_unit_that_is_sent_again_is_stored_once(client):
    first = put(client, "a/1/1", unit(1))
    assert (first.rows, first.duplicate, first.sequence) == (10, False, 1)
    again = put(client, "a/1/1", unit(1).slice(0, 4), unit(1).slice(4))
    assert (again.commit_id, again.duplicate) == (first.commit_id, True)
    assert count(client) == 10


def test_a_key_that_does_not_fit_is_refused(client):
    put(client, "a/2/1", unit(1))
    for key, slug in [
        ("a/2/1", "KEY_REUSED"),
        ("a/2/3", "SEQ_GAP"),
        ("a/1/2", "FENCED"),
        ("nonsense", "BAD_KEY"),
    ]:
        with pytest.raises((flight.FlightError, pa.ArrowException), match=slug):
            put(client, key, unit(2))
    assert count(client) == 10


@pytest.mark.parametrize("batches", [0, 1])
def test_a_put_that_is_dropped_commits_the_key_of_its_header_with_what_was_sent(client, batches):
    put(client, "a/1/1", unit(1))
    options = flight.FlightCallOptions(headers=[(b"x-merganser-ingest-key", b"a/1/2")], timeout=30)
    writer, answers = client.do_put(TABLE, unit(2).schema, options)
    for _ in range(batches):
        writer.write_batch(unit(2))
    del writer, answers
    assert count(client) == 10 + 10 * batches
    assert count(client, LAST) == 2
    with pytest.raises((flight.FlightError, pa.ArrowException), match="KEY_REUSED"):
        put(client, "a/1/2", unit(2), unit(2))


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_a_put_that_is_dropped_before_its_last_mark_leaves_the_key_free(client, batches):
    put(client, "a/1/1", unit(1))
    writer, answers = client.do_put(TABLE, unit(2).schema, flight.FlightCallOptions(timeout=30))
    for _ in range(batches):
        writer.write_with_metadata(unit(2), ingest_unit("a/1/2", more=True))
    del writer, answers
    assert (count(client), count(client, LAST)) == (10, 1)
    assert put(client, "a/1/2", unit(2), unit(2)).rows == 20


def test_one_stream_carries_many_units(client):
    last = stream(client, range(1, 501))
    assert (last.units, last.sequence, last.duplicate) == (500, 500, False)
    assert count(client) == 5_000
    # The whole input once more, and some on top.
    last = stream(client, range(1, 601))
    assert (last.units, last.sequence) == (600, 600)
    assert count(client) == 6_000
    duplicates = "SELECT duplicates AS n FROM merganser_ingest() WHERE loader = 'stream'"
    assert count(client, duplicates) == 500


def test_acknowledgements_come_while_the_stream_is_open(client):
    writer, answers = client.do_put(TABLE, unit(0).schema, flight.FlightCallOptions(timeout=30))
    for number in range(1, 6):
        writer.write_with_metadata(unit(number), ingest_unit(f"a/1/{number}"))
        assert read(answers).sequence == number
        assert count(client) == number * 10
    # A unit of several messages ends with the last, or with a mark alone; a mark alone may be a unit as well.
    writer.write_with_metadata(unit(6), ingest_unit("a/1/6", more=True))
    writer.write_with_metadata(unit(6), ingest_unit("a/1/6"))
    assert read(answers).rows == 20
    writer.write_metadata(ingest_unit("a/1/7"))
    assert read(answers).rows == 0
    writer.close()
    assert count(client) == 70
