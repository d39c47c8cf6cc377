//! Tickets and descriptors.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    merganser_server::fuzz::ticket(bytes);
});
