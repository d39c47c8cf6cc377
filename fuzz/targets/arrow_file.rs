//! A file of one of Arrow's IPC formats.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        // The server catches panics of the Arrow library; libFuzzer's hook would end the process before. A panic that
        // nobody catches is found all the same.
        std::panic::set_hook(Box::new(|_| {}));
    },
    |bytes: &[u8]| {
        merganser_server::fuzz::arrow_file(bytes);
    }
);
