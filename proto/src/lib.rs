//! Merganser's own messages, which travel inside the opaque fields of Arrow Flight, and the few of Flight
//! itself that the library lacks.
//!
//! `merganser.proto` and `flight.proto` are the sources. The generated code is checked in, so that building
//! needs no protobuf compiler; the test below keeps the two equal (`UPDATE_PROTO=1 cargo test -p
//! merganser-proto` rewrites).

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
mod generated;

/// Messages of Arrow Flight that the Rust library lacks.
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
#[path = "generated_flight.rs"]
pub mod flight;

pub use generated::*;

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn generated_code_is_current() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let out = tempfile::tempdir().unwrap();
        let sources = [root.join("merganser.proto"), root.join("flight.proto")];
        let descriptors = protox::compile(sources, [root]).unwrap();
        prost_build::Config::new().out_dir(out.path()).compile_fds(descriptors).unwrap();
        for (package, kept) in
            [("merganser.v1.rs", "generated.rs"), ("arrow.flight.protocol.rs", "generated_flight.rs")]
        {
            let fresh = std::fs::read_to_string(out.path().join(package)).unwrap();
            let kept = root.join("src").join(kept);
            if std::env::var_os("UPDATE_PROTO").is_some() {
                std::fs::write(&kept, &fresh).unwrap();
            }
            assert!(
                fresh == std::fs::read_to_string(&kept).unwrap(),
                "{} is stale: run UPDATE_PROTO=1 cargo test -p merganser-proto",
                kept.display()
            );
        }
    }
}
