"""The HTTP API: small answers against DuckDB in process, many rows against FastAPI, posted rows."""
