//! What `export_directories` and `read_directories` may hold: folders of this machine, and addresses of object storage.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::local;

/// Object storage that DuckDB's httpfs writes to.
const SCHEMES: [&str; 6] = ["s3://", "s3a://", "s3n://", "gs://", "gcs://", "r2://"];

/// Why there can be no exports to a directory, or reads from it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{directory:?} {reason}")]
pub struct BadDirectory {
    directory: String,
    reason: &'static str,
}

/// One place to export to, or to read from.
#[derive(Debug, Clone)]
pub(in crate::engine) enum Directory {
    /// The real path of a folder.
    Local(PathBuf),
    /// An address, with a slash at its end.
    Remote(String),
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(folder) => write!(f, "{}/", folder.display()),
            Self::Remote(prefix) => f.write_str(prefix),
        }
    }
}

impl Directory {
    /// Whether it is in object storage.
    pub(in crate::engine) fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    /// Reads and checks one, of a server over `database`, of which this is the real path, if it has to lie elsewhere.
    pub(in crate::engine) fn read(text: &str, database: Option<&Path>) -> Result<Self, BadDirectory> {
        let bad = |reason| BadDirectory { directory: text.to_owned(), reason };
        if text.contains("://") {
            return remote(text).map(Self::Remote).ok_or_else(|| {
                bad("is no address such as s3://BUCKET/FOLDER/, of the kinds s3, s3a, s3n, gs, gcs and r2")
            });
        }
        let folder = local::real_folder(text).ok_or_else(|| bad("is no folder of this machine"))?;
        if database.is_some_and(|database| database.starts_with(&folder)) {
            return Err(bad(
                "has the database in it, which an export could overwrite; give a folder of its own",
            ));
        }
        Ok(Self::Local(folder))
    }
}

fn remote(text: &str) -> Option<String> {
    let path = SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme))?;
    let path = path.strip_suffix('/').unwrap_or(path);
    is_plain_key(path).then(|| format!("{}/", text.strip_suffix('/').unwrap_or(text)))
}

/// Whether an address is one of something under `prefix`.
pub(super) fn under_address(prefix: &str, target: &str) -> bool {
    target.strip_prefix(prefix).is_some_and(|rest| is_plain_key(rest.strip_suffix('/').unwrap_or(rest)))
}

/// Names between single slashes. DuckDB reads what follows a question mark as settings, another endpoint among them,
/// and stars and brackets as patterns; `..` is what each storage makes of it.
fn is_plain_key(path: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name != "." && name != "..";
    let is_plain = |c: char| !c.is_control() && !"?#*[]%\\".contains(c);
    path.split('/').all(is_name) && path.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_object_storage() {
        let read = |text: &str| Directory::read(text, None).map(|directory| directory.to_string()).ok();
        assert_eq!(read("s3://bucket"), Some("s3://bucket/".into()));
        assert_eq!(read("gs://bucket/out/"), Some("gs://bucket/out/".into()));
        for text in [
            "s3://",
            "s3:///",
            "s3://b//c",
            "s3://b/../c",
            "s3://b/*",
            "s3://b?s3_endpoint=x",
            "S3://b",
            "file:///tmp",
            "https://host/x",
            "/no/such/folder",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_under_another_is_plain() {
        let under = |target| under_address("s3://b/out/", target);
        for target in ["s3://b/out/x.parquet", "s3://b/out/a/b", "s3://b/out/folder/", "s3://b/out/it's ü"] {
            assert!(under(target), "{target}");
        }
        for target in [
            "s3://b/out/",
            "s3://b/out",
            "s3://b/outside",
            "s3://b/x",
            "s3://c/out/x",
            "S3://b/out/x",
            "s3a://b/out/x",
            "s3://b/out/../x",
            "s3://b/out/a/../../x",
            "s3://b/out/./x",
            "s3://b/out//x",
            "s3://b/out/x?s3_endpoint=evil.example",
            "s3://b/out/x#y",
            "s3://b/out/*",
            "s3://b/out/%2e%2e/x",
            "s3://b/out/a\\b",
            "/s3://b/out/x",
        ] {
            assert!(!under(target), "{target}");
        }
    }
}
