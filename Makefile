# The front door. On a fresh machine with cargo, npm and Python, `make demo` and `make test` do everything.

CARGO ?= cargo
DATABASE ?= merganser.duckdb
LISTEN ?= 127.0.0.1:8815
ROUNDS ?= 20
SEED ?=
FUZZ_SECONDS ?= 60

.PHONY: help demo examples dashboard serve build test check bench bench-durability bench-http bench-lake crash fuzz fmt clean
.DEFAULT_GOAL := help

help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build ## Four loaders and two readers on one fresh database, for 15 seconds
	target/release/merganser-demo

examples: build ## Run the examples
	examples/named-query/run
	examples/posted-animals/run
	examples/taxi-lake/run
	examples/events-to-lake/run

dashboard: build ## A dashboard over a lake in S3, until Ctrl-C
	examples/taxi-lake/dashboard

serve: build ## Serve DATABASE on LISTEN
	target/release/merganser-server --database $(DATABASE) --listen $(LISTEN)

build: .duckdb ## Release binaries in target/release
	$(CARGO) build --release --workspace --bins --exclude merganser-tests

test: .duckdb ## Unit, integration and interop tests
	scripts/system-tools
	$(CARGO) test --workspace
	target/debug/merganser-crash --server target/debug/merganser-server-under-test --rounds $(ROUNDS)
	CARGO="$(CARGO)" scripts/interop-env
	.venv/bin/python -m pytest tests/interop

check: .duckdb ## Format, lints, dependency direction, promises and their tests, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	scripts/check-dependencies
	scripts/check-promises
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --quiet

bench: build ## Compare with the peers, side by side (arguments in ARGS)
	scripts/python-env tests/interop/requirements.txt bench/requirements.txt
	bench/run $(ARGS)

bench-durability: build ## What keys, long streams and a long ledger cost (arguments in ARGS)
	scripts/python-env bench/requirements.txt
	bench/durability $(ARGS)

bench-http: build ## What the HTTP API costs, beside FastAPI (arguments in ARGS)
	scripts/python-env bench/requirements.txt bench/requirements-http.txt
	bench/http $(ARGS)

bench-lake: build ## Ingest into a DuckLake, beside DuckDB processes that insert (arguments in ARGS)
	scripts/python-env bench/requirements.txt bench/requirements-lake.txt
	bench/lake $(ARGS)

crash: .duckdb ## Kill the server ROUNDS times under 32 loaders, and count what is lost, doubled or torn
	$(CARGO) build --release --workspace --bins
	target/release/merganser-crash --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

fuzz: .duckdb ## Fuzz tickets, uploads, the SQL gate and Arrow files, FUZZ_SECONDS each
	CARGO="$(CARGO)" scripts/fuzz $(FUZZ_SECONDS)

fmt: ## Format the code
	$(CARGO) fmt --all

clean: ## Remove what was built
	rm -rf target .venv .venv-dbt .venv-ibis .venv-schemathesis .venv-streamlit .venv-events tests/interop/node/node_modules .duckdb

.duckdb: scripts/fetch-duckdb
	scripts/fetch-duckdb
