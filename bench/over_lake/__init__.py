"""Ingest into a DuckLake: our server beside DuckDB processes that insert for themselves."""
