//! Where files are, in a form in which two ways to write one place are equal.

use std::{
    env, fs,
    path::{Component, PathBuf},
};

/// A folder or file of this machine, or of a kind of storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The kind of storage; empty for this machine.
    storage: String,
    /// The names of its path, that of the bucket or host first.
    names: Vec<String>,
}

impl Place {
    /// That of a path or an address.
    pub(super) fn of(text: &str) -> Self {
        match text.split_once("://") {
            Some((scheme, path)) if !scheme.eq_ignore_ascii_case("file") => {
                Self { storage: storage(scheme), names: plain_names(path) }
            }
            _ => Self { storage: String::new(), names: real_names(text) },
        }
    }

    /// That of the files which a source names: the folder before its first star.
    pub(super) fn of_source(path: &str) -> Self {
        match pattern(path) {
            Some("") => Self::of("/"),
            Some(folder) => Self::of(folder),
            None => Self::of(path),
        }
    }

    /// Whether it lies under another place, or is the same.
    pub(super) fn is_under(&self, other: &Self) -> bool {
        self.storage == other.storage && self.names.starts_with(&other.names)
    }
}

/// The folder before the first star of a pattern. Of an address on the web all is its name.
pub(super) fn pattern(path: &str) -> Option<&str> {
    let is_web = path.starts_with("http://") || path.starts_with("https://");
    let at = path.find(['*', '?', '[', '{']).filter(|_| !is_web)?;
    Some(path[..at].rsplit_once('/').map_or(".", |(folder, _)| folder))
}

/// Several schemes open the same.
fn storage(scheme: &str) -> String {
    match scheme.to_ascii_lowercase().as_str() {
        "s3a" | "s3n" => "s3".into(),
        "gcs" => "gs".into(),
        "https" => "http".into(),
        other => other.into(),
    }
}

fn plain_names(path: &str) -> Vec<String> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name.to_owned()),
        }
    }
    names
}

/// Links are followed as far as a path is there; the rest is taken as it is written.
fn real_names(text: &str) -> Vec<String> {
    let mut real = PathBuf::new();
    for component in absolute(text).components() {
        match component {
            Component::ParentDir => drop(real.pop()),
            component => real.push(component),
        }
        real = fs::canonicalize(&real).unwrap_or(real);
    }
    real.iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

/// As DuckDB understands a path of this machine.
fn absolute(text: &str) -> PathBuf {
    let path = match text.strip_prefix("file:") {
        Some(path) => path.strip_prefix("//localhost").or_else(|| path.strip_prefix("//")).unwrap_or(path),
        None => text,
    };
    let under = |folder: Option<PathBuf>, rest: &str| folder.unwrap_or_default().join(rest);
    match path.strip_prefix("~/") {
        Some(rest) => under(env::home_dir(), rest),
        None => under(env::current_dir().ok(), path),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_place_lies_under_another_by_whole_names() {
        for (inner, outer, is_under) in [
            ("s3://b/lake/x", "s3://b/lake", true),
            ("s3://b/lake", "s3://b/lake/", true),
            ("s3://b/lake/", "s3://b/lake", true),
            ("s3://b/x", "s3://b/", true),
            ("s3a://b/lake/x", "s3n://b/lake", true),
            ("gcs://b/x", "gs://b", true),
            ("https://Host/x", "http://Host/", true),
            ("s3://b/lake/x/../y", "s3://b/lake/./y/", true),
            ("s3://b/lake2", "s3://b/lake", false),
            ("s3://b/lake", "s3://b/lake/x", false),
            ("s3://b/lake/../x", "s3://b/lake", false),
            ("s3://c/lake/x", "s3://b/lake", false),
            ("gs://b/lake/x", "s3://b/lake", false),
            ("/b/lake/x", "s3://b/lake", false),
            ("/no/such/lake/x", "/no/such/lake/", true),
            ("/no/such//lake/x", "/no/such/lake", true),
            ("file:///no/such/lake/x", "/no/such/lake", true),
            ("file:/no/such/lake/x", "file://localhost/no/such/lake", true),
            ("/no/such/lake2", "/no/such/lake", false),
            ("/no/such/lake/../x", "/no/such/lake", false),
            ("~/no/such/lake/x", "~/no/such/lake", true),
            ("no/such/lake/x", "./no/such/lake", true),
            ("/no/such", "no", false),
        ] {
            assert_eq!(Place::of(inner).is_under(&Place::of(outer)), is_under, "{inner} under {outer}");
        }
    }

    #[test]
    fn a_source_lies_where_its_stars_begin() {
        for (source, folder) in [
            ("s3://b/lake/*/*.parquet", "s3://b/lake"),
            ("s3://b/lake/year=*/x", "s3://b/lake"),
            ("s3://b/lake/x.parquet", "s3://b/lake/x.parquet"),
            ("https://host/x*.csv", "https://host/x*.csv"),
            ("/*.csv", "/"),
            ("*.csv", "."),
        ] {
            assert_eq!(Place::of_source(source), Place::of(folder), "{source}");
        }
    }

    #[test]
    fn links_are_followed_as_far_as_there_is_something() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name).display().to_string();
        fs::create_dir(path("lake")).unwrap();
        symlink(path("lake"), path("link")).unwrap();
        assert!(Place::of(&path("link/new/x")).is_under(&Place::of(&path("lake/new"))));
        assert!(!Place::of(&path("link/../x")).is_under(&Place::of(&path("link"))));
    }
}
