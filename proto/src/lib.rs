//! Merganser's own messages, which travel inside the opaque fields of Arrow Flight, the few of Flight itself
//! that the library lacks, and the description of the Flight service for gRPC reflection.
//!
//! The `.proto` files are the sources. What is made of them is checked in, so that building needs no protobuf
//! compiler; the tests below keep the two equal (`UPDATE_PROTO=1 cargo test -p merganser-proto` rewrites).

#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
mod generated;

/// Messages of Arrow Flight that the Rust library lacks.
#[rustfmt::skip]
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
#[path = "generated_flight.rs"]
pub mod flight;

pub use generated::*;

/// The Flight service and what it imports, as an encoded `google.protobuf.FileDescriptorSet`.
pub const FLIGHT_DESCRIPTORS: &[u8] = include_bytes!("flight_service.binpb");

#[cfg(test)]
mod tests {
    use std::path::Path;

    use prost::Message;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// Compares what was made just now with what is checked in, or replaces that.
    fn is_current(kept: &str, fresh: &[u8]) {
        let path = root().join("src").join(kept);
        if std::env::var_os("UPDATE_PROTO").is_some() {
            std::fs::write(&path, fresh).unwrap();
        }
        assert!(
            fresh == std::fs::read(&path).unwrap(),
            "proto/src/{kept} is stale: run UPDATE_PROTO=1 cargo test -p merganser-proto"
        );
    }

    #[test]
    fn generated_code_is_current() {
        let out = tempfile::tempdir().unwrap();
        let sources = ["merganser.proto", "flight.proto"].map(|source| root().join(source));
        let descriptors = protox::compile(sources, [root()]).unwrap();
        prost_build::Config::new().out_dir(out.path()).compile_fds(descriptors).unwrap();
        for (package, kept) in
            [("merganser.v1.rs", "generated.rs"), ("arrow.flight.protocol.rs", "generated_flight.rs")]
        {
            is_current(kept, &std::fs::read(out.path().join(package)).unwrap());
        }
    }

    #[test]
    fn flight_descriptors_are_current() {
        let mut compiler = protox::Compiler::new([root()]).unwrap();
        compiler.include_imports(true).open_file("flight_service.proto").unwrap();
        is_current("flight_service.binpb", &compiler.file_descriptor_set().encode_to_vec());
    }
}
