"""What one would write with FastAPI: a query of DuckDB, streamed as an object a line.

Two ways: `/plain` is what the documentation of both leads to; `/fast` takes Arrow batches and orjson.
"""

import json
import signal
import sys
from collections.abc import Iterator

import duckdb
import orjson
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

SQL = "SELECT * FROM events ORDER BY batch_id LIMIT ?"
app = FastAPI()
database = duckdb.connect(sys.argv[2], read_only=True)


@app.get("/plain")
def plain(limit: int) -> StreamingResponse:
    """Rows as Python objects."""
    result = database.cursor().execute(SQL, [limit])
    names = [column[0] for column in result.description]

    def lines() -> Iterator[str]:
        while rows := result.fetchmany(1_000):
            yield "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@app.get("/fast")
def fast(limit: int) -> StreamingResponse:
    """Rows by way of Arrow."""
    reader = database.cursor().execute(SQL, [limit]).to_arrow_reader(10_000)

    def lines() -> Iterator[bytes]:
        for batch in reader:
            yield b"\n".join(map(orjson.dumps, batch.to_pylist())) + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


class Announced(uvicorn.Server):
    """Says that it is ready as our server does."""

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        print(f"listening on http://{self.config.host}:{self.config.port}", flush=True)


if __name__ == "__main__":
    # Uvicorn raises the signal again once it has stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host, port = sys.argv[1].split(":")
    Announced(uvicorn.Config(app, host=host, port=int(port), log_level="warning")).run()
