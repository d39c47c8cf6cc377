//! Secrets: the keys of object storage, and passwords of databases.

use std::{collections::BTreeMap, fmt};

use super::extensions::{HTTPFS, POSTGRES};
use crate::sql::{literal, quote};

/// What a secret opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Cloudflare R2.
    R2,
    /// A PostgreSQL server.
    Postgres,
}

impl SecretKind {
    fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gcs",
            Self::R2 => "r2",
            Self::Postgres => "postgres",
        }
    }

    /// The extension that knows this kind.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::S3 | Self::Gcs | Self::R2 => HTTPFS,
            Self::Postgres => POSTGRES,
        }
    }
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// The key of a bucket, or how to log in to a database. DuckDB keeps it in memory, and never shows it: `allow_unredacted_secrets` cannot be set
/// while a database is open.
#[derive(Debug, Clone)]
pub struct Secret {
    /// The name.
    pub name: String,
    /// What it opens.
    pub kind: SecretKind,
    /// The paths for which it is used, such as `s3://bucket`; empty for all of its kind.
    pub scope: Vec<String>,
    /// DuckDB's parameters, such as `key_id`, `secret`, `region`, `endpoint`.
    pub parameters: BTreeMap<String, SecretText>,
}

impl Secret {
    /// The statement that makes it.
    pub(super) fn create_sql(&self) -> String {
        let mut clauses = vec![format!("TYPE {}", self.kind.name())];
        if !self.scope.is_empty() {
            let scope: Vec<_> = self.scope.iter().map(|path| literal(path)).collect();
            clauses.push(format!("SCOPE [{}]", scope.join(", ")));
        }
        let parameters = self.parameters.iter();
        clauses.extend(parameters.map(|(name, SecretText(value))| format!("{name} {}", literal(value))));
        format!("CREATE OR REPLACE SECRET {} ({})", quote(&self.name), clauses.join(", "))
    }
}
