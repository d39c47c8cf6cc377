"""Flight on the wire, by hand: what the tests say that a Flight library would refuse to."""

from dataclasses import dataclass, field

import pyarrow as pa


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def message(*fields):
    """A protobuf message of (number, value) pairs: an int becomes a varint, str and bytes a string."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else bytes(value)
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


@dataclass
class IngestAck:
    """What a put is answered with. What concerns keys and streams does not count when two are compared."""

    rows: int = 0
    commit_id: int = 0
    committed: bool = False
    duplicate: bool = field(default=False, compare=False)
    units: int = field(default=0, compare=False)
    sequence: int = field(default=0, compare=False)

    @classmethod
    def decode(cls, data):
        """All fields are varints; proto3 leaves out those that are zero."""
        numbers, value, shift = [], 0, 0
        for byte in data:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                numbers.append(value)
                value = shift = 0
        fields = {tag >> 3: value for tag, value in zip(numbers[::2], numbers[1::2], strict=True)}
        rows, commit_id, committed, duplicate, units, sequence = (fields.get(number, 0) for number in range(1, 7))
        return cls(rows, commit_id, bool(committed), bool(duplicate), units, sequence)


def sql_command(name, *fields):
    """A Flight SQL command: a google.protobuf.Any of arrow.flight.protocol.sql.NAME."""
    return message((1, f"type.googleapis.com/arrow.flight.protocol.sql.{name}"), (2, message(*fields)))


def path_descriptor(*path):
    return message((1, 1), *((3, part) for part in path))


def command_descriptor(command):
    return message((1, 2), (2, command))


def flight_data(header=b"", body=b"", descriptor=None):
    fields = [] if descriptor is None else [(1, descriptor)]
    return message(*fields, (2, header), (1000, body))


def ipc(table, **options):
    """The IPC messages of a table, each (flatbuffer header, body): schema, dictionaries, batches."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
    return [
        (m.metadata.to_pybytes(), m.body.to_pybytes() if m.body else b"") for m in reader
    ]


def put_call(channel, frames, metadata=()):
    """DoPut of raw FlightData messages, under way."""
    return channel.stream_stream("/arrow.flight.protocol.FlightService/DoPut")(iter(frames), metadata=metadata)


def do_put(channel, frames, metadata=()):
    """DoPut of raw FlightData messages; the raw answers, or grpc.RpcError."""
    return list(put_call(channel, frames, metadata))


def fields(data):
    """A protobuf message as {number: [values]}; what has a length is bytes."""
    found, at = {}, 0

    def read_varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = read_varint()
        kind = tag & 7
        if kind == 0:
            value = read_varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or read_varint()
            value, at = data[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found
