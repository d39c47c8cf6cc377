//! The gate in front of DuckDB's parser, and what else looks at SQL text.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    merganser_server::fuzz::sql(bytes);
});
