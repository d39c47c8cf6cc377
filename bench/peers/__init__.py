"""The peer comparison: the same workloads on Merganser, on its peers, and on DuckDB in process.

`workloads` says what is measured and what Merganser must reach, `peer` who takes part, `load` runs
clients side by side, `report` prints the outcome. Every peer works on a copy of the same database
file, on the same disk, with DuckDB's default settings and durable commits.
"""
