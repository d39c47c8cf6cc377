//! Which keyed units are committed: what makes it harmless to send a unit again.

mod key;

pub use key::IngestKey;
