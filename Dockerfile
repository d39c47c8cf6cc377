# Server and command in a small image. `docker compose up --build` runs it.

# DuckDB's own library, with its version and checksum pinned in the script.
FROM node:22-bookworm-slim AS duckdb
WORKDIR /fetch
COPY scripts/fetch-duckdb scripts/
RUN MERGANSER_CACHE=/cache scripts/fetch-duckdb && cp .duckdb/libduckdb.so /libduckdb.so

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# .cargo/config.toml looks for the library here.
COPY --from=duckdb /libduckdb.so .duckdb/libduckdb.so
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package merganser-server --package merganser \
    && install -D --target-directory=/out target/release/merganser-server target/release/merganser

FROM debian:bookworm-slim
# libstdc++ is DuckDB's; the certificates are for what DuckDB reads over HTTPS.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 8815 --home-dir /data --shell /usr/sbin/nologin merganser \
    && install --directory --owner=merganser --group=merganser /data
# The binaries' run path finds the library in ../lib.
COPY --from=duckdb /libduckdb.so /usr/local/lib/
COPY --from=build /out/ /usr/local/bin/
USER merganser
WORKDIR /data
VOLUME /data
EXPOSE 8815
# Options in the environment, so that each can be replaced. There are no passwords and no encryption yet:
# publish the port to networks that you trust.
ENV MERGANSER_DATABASE=/data/merganser.duckdb \
    MERGANSER_LISTEN=0.0.0.0:8815 \
    MERGANSER_INSECURE=true
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s \
    CMD ["merganser", "query", "--format", "csv", "SELECT 1"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["merganser-server"]
