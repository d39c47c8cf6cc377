"""One run of a loader that a signal interrupts. It is a process of its own and there are many, so it imports little."""

import signal
import sys

import pyarrow as pa
import pyarrow.flight as flight

LEDGER = b"SELECT max(sequence) AS last FROM merganser_ingest() WHERE loader = 'boiler-3'"


def unit(number):
    """Three rows, in every other unit as two batches."""
    rows = pa.table({"unit": [number] * 3, "part": [0, 1, 2]})
    return pa.concat_tables([rows[:2], rows[2:]]) if number % 2 else rows


class Interruption:
    """A trace that sends SIGINT before the `left`th step that the code of the page comes to, a line or an instruction
    (opcode); never if that is 0. Python heeds a signal only between two instructions, so that there are no other moments."""

    def __init__(self, step, left):
        self.step, self.left = step, left

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename != "the page":
            return None
        frame.f_trace_opcodes = True
        if event == self.step:
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
        return self


def go_on(uri, units, code, interruption):
    """Asks the ledger where the loader stands, and goes on up to its last unit with the `put` of the code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the signal was ignored
    client = flight.connect(uri)
    names = {"pa": pa, "flight": flight, "client": client, "units": []}
    exec(compile(code, "the page", "exec"), names)  # noqa: S102
    last = client.do_get(flight.Ticket(LEDGER)).read_all()["last"][0].as_py() or 0
    sys.settrace(interruption)
    for number in range(last + 1, units + 1):
        names["put"](client, "measurements", unit(number), f"boiler-3/1/{number}")


if __name__ == "__main__":
    uri, units, step, at = sys.argv[1:]
    go_on(uri, int(units), sys.stdin.read(), Interruption(step, int(at)))
