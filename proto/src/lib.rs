//! Merganser's own messages, which travel inside the opaque fields of Arrow Flight.
//!
//! `merganser.proto` is the source. `generated.rs` is checked in, so that building needs no protobuf
//! compiler; the test below keeps the two equal (`UPDATE_PROTO=1 cargo test -p merganser-proto` rewrites).

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
mod generated;

pub use generated::*;

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn generated_code_is_current() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let out = tempfile::tempdir().unwrap();
        let descriptors = protox::compile([root.join("merganser.proto")], [root]).unwrap();
        prost_build::Config::new().out_dir(out.path()).compile_fds(descriptors).unwrap();
        let fresh = std::fs::read_to_string(out.path().join("merganser.v1.rs")).unwrap();
        let kept = root.join("src/generated.rs");
        if std::env::var_os("UPDATE_PROTO").is_some() {
            std::fs::write(&kept, &fresh).unwrap();
        }
        assert!(
            fresh == std::fs::read_to_string(&kept).unwrap(),
            "proto/src/generated.rs is stale: run UPDATE_PROTO=1 cargo test -p merganser-proto"
        );
    }
}
