//! `[[catalog]]`, as the file has it.

use std::{collections::HashSet, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    ConfigError, invalid,
    lake::{checked_name, yes},
};
use crate::engine::{self, AttachedCatalog, CatalogKind, Lake, Maintenance, Secret, SecretKind};

/// A catalog as the file has it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogEntry {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    metadata: Option<String>,
    data_path: Option<String>,
    path: Option<String>,
    secret: Option<String>,
    #[serde(default)]
    read_only: bool,
    #[serde(default = "yes")]
    required: bool,
    maintenance: Option<MaintenanceEntry>,
}

/// `[catalog.maintenance]`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct MaintenanceEntry {
    #[serde(with = "humantime_serde")]
    every: Option<Duration>,
    #[serde(with = "humantime_serde")]
    expire_after: Option<Duration>,
    #[serde(with = "humantime_serde")]
    delete_after: Option<Duration>,
    merge_files: Option<u64>,
    #[serde(with = "humantime_serde")]
    limit: Option<Duration>,
}

/// Ten years: moments after that are of no use to anybody.
const MOST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Who commits to a lake looks for conflicts in the snapshots since it began. Where they are gone, DuckLake (1.5.5) gives the
/// commit the number of one of them, and what came between is lost
/// (<https://github.com/duckdb/ducklake/issues/1472>). So they outlive any transaction that is to be expected.
const LEAST_EXPIRY: Duration = Duration::from_secs(3600);

/// A file that is younger may belong to a commit under way, of any server: it is written first, and named in the lake once it is
/// whole.
const LEAST_DELETION: Duration = Duration::from_secs(3600);

/// Checks how often something is done, or how long it may take.
pub(super) fn check_every(every: Option<Duration>) -> Result<(), &'static str> {
    match every {
        Some(every) if every < Duration::from_secs(1) => Err("must be at least 1s"),
        every => check_age(every),
    }
}

/// Checks how old something is.
fn check_age(age: Option<Duration>) -> Result<(), &'static str> {
    if age.is_some_and(|age| age > MOST) { Err("must be at most ten years") } else { Ok(()) }
}

/// Checks the catalogs. `secrets` are those that the file declares.
pub(super) fn catalogs(
    entries: Vec<CatalogEntry>,
    secrets: &[Secret],
) -> Result<Vec<AttachedCatalog>, ConfigError> {
    let mut names = HashSet::new();
    entries.into_iter().map(|entry| catalog(entry, &mut names, secrets)).collect()
}

/// Checks that no files of others lie where those of a lake are.
pub(super) fn apart(lake: &Lake) -> Result<(), ConfigError> {
    lake.check_apart().map_err(|error| invalid("catalog.data_path", &format!("of {:?} {error}", error.lake)))
}

/// The key that is wrong, and what is wrong with it.
type Wrong = (&'static str, String);

fn catalog(
    entry: CatalogEntry,
    names: &mut HashSet<String>,
    secrets: &[Secret],
) -> Result<AttachedCatalog, ConfigError> {
    let name = checked_name("catalog", entry.name.clone(), names)?;
    let wrong =
        |(key, reason): (&str, String)| invalid(&format!("catalog.{key}"), &format!("of {name:?} {reason}"));
    if ["system", "temp", "memory", "sources", "queries"].contains(&name.to_lowercase().as_str()) {
        return Err(wrong(("name", "is a catalog of DuckDB's or the server's own".into())));
    }
    let kind = kind(&entry).map_err(wrong)?;
    let location = location(&entry, &kind).map_err(wrong)?;
    let CatalogEntry { secret, read_only, required, maintenance, .. } = entry;
    if let Some(secret) = &secret {
        check_secret(secret, secrets).map_err(wrong)?;
    }
    let maintenance = maintenance
        .unwrap_or_default()
        .checked()
        .map_err(|(key, reason)| wrong((&format!("maintenance.{key}"), reason.into())))?;
    let key = location_key(&kind);
    let catalog = AttachedCatalog { kind, location, secret, read_only, required, maintenance, name };
    if let Some(file) = catalog.duckdb_file() {
        engine::check_path(file).map_err(|reason| {
            invalid(&format!("catalog.{key}"), &format!("of {:?} {reason}", catalog.name))
        })?;
    }
    Ok(catalog)
}

/// What is attached, where the keys go with that.
fn kind(entry: &CatalogEntry) -> Result<CatalogKind, Wrong> {
    let CatalogEntry { kind, metadata, data_path, path, maintenance, .. } = entry;
    let kind = match kind.as_str() {
        "ducklake" => CatalogKind::DuckLake { data_path: data_path.clone() },
        "duckdb" => CatalogKind::DuckDb,
        "postgres" => CatalogKind::Postgres,
        "sqlite" => CatalogKind::Sqlite,
        other => return Err(("type", format!("{other:?} is none of ducklake, duckdb, postgres, sqlite"))),
    };
    let is_lake = matches!(kind, CatalogKind::DuckLake { .. });
    let given = [
        ("metadata", metadata.is_some() && !is_lake),
        ("data_path", data_path.is_some() && !is_lake),
        ("maintenance", maintenance.is_some() && !is_lake),
        ("path", path.is_some() && is_lake),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((key, _)) => Err((key, "does not go with its type".into())),
        None => Ok(kind),
    }
}

/// The key that says where it is.
fn location_key(kind: &CatalogKind) -> &'static str {
    if matches!(kind, CatalogKind::DuckLake { .. }) { "metadata" } else { "path" }
}

/// Where it is, which every client may read.
fn location(entry: &CatalogEntry, kind: &CatalogKind) -> Result<String, Wrong> {
    let key = location_key(kind);
    let location = match entry.metadata.as_ref().or(entry.path.as_ref()) {
        Some(location) => location.clone(),
        // A secret says all that there is to say of a server.
        None if *kind == CatalogKind::Postgres && entry.secret.is_some() => String::new(),
        None => return Err((key, "is missing".into())),
    };
    if *kind == CatalogKind::Sqlite && location.trim().is_empty() {
        return Err((key, "is empty".into()));
    }
    // Any client may ask DuckDB how a catalog is attached.
    if location.to_lowercase().contains("password") || location.contains("://") {
        let reason = "is shown to every client; write it as words (host=... dbname=...) and put the password \
                      into a [[secret]] of type postgres";
        return Err((key, reason.into()));
    }
    Ok(location)
}

fn check_secret(secret: &str, secrets: &[Secret]) -> Result<(), Wrong> {
    let is_there = secrets.iter().any(|known| known.name == secret && known.kind == SecretKind::Postgres);
    match is_there {
        true => Ok(()),
        false => Err(("secret", format!("{secret:?} is no [[secret]] of type postgres"))),
    }
}

impl MaintenanceEntry {
    fn checked(self) -> Result<Maintenance, (&'static str, &'static str)> {
        let Self { every, expire_after, delete_after, merge_files, limit } = self;
        let usual = Maintenance::default();
        check_every(every).map_err(|reason| ("every", reason))?;
        check_every(limit).map_err(|reason| ("limit", reason))?;
        for (key, age) in [("expire_after", expire_after), ("delete_after", delete_after)] {
            check_age(age).map_err(|reason| (key, reason))?;
        }
        if expire_after.is_some_and(|age| age < LEAST_EXPIRY) {
            let reason = "must be at least 1h, and longer than any write to the lake takes: a commit that began before the \
                          snapshots which have expired would overwrite what they were";
            return Err(("expire_after", reason));
        }
        if delete_after.is_some_and(|age| age < LEAST_DELETION) {
            let reason = "must be at least 1h, and longer than the longest read and the slowest commit of any server take: a \
                          younger file may be in use";
            return Err(("delete_after", reason));
        }
        if merge_files == Some(0) {
            return Err(("merge_files", "must be at least 1"));
        }
        Ok(Maintenance {
            every,
            expire_after,
            delete_after: delete_after.unwrap_or(usual.delete_after),
            merge_files: merge_files.unwrap_or(usual.merge_files),
            limit: limit.unwrap_or(usual.limit),
        })
    }
}
