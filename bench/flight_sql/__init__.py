"""What Flight SQL costs over DuckDB in process: TPC-H, small queries, sessions, dropped streams."""
