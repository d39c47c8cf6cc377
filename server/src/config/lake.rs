//! `[[secret]]`, `[[source]]` and extensions, as the file has them.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid, ordered::Ordered};
use crate::engine::{
    AttachedCatalog, Exports, Format, OptionValue, Reads, Secret, SecretKind, SecretText, Source,
};

/// What a secret may have, as DuckDB calls it.
const SECRET_PARAMETERS: [&str; 17] = [
    "account_id",
    "chain",
    "database",
    "dbname",
    "endpoint",
    "host",
    "key_id",
    "password",
    "port",
    "profile",
    "provider",
    "region",
    "secret",
    "session_token",
    "url_style",
    "use_ssl",
    "user",
];

/// Those of them that are secret themselves.
const SECRET_PARTS: [&str; 3] = ["password", "secret", "session_token"];

/// One text, or several.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(untagged, expecting = "it is a text, or a list of texts")]
pub(super) enum OneOrMany {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Where a value of a secret is.
#[derive(Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "a value of a secret is a text, true or false, { env = \"NAME\" } or { file = \"PATH\" }"
)]
enum SecretValue {
    Environment { env: String },
    File { file: PathBuf },
    Flag(bool),
    Text(String),
}

/// A secret as the file has it.
#[derive(Deserialize, Serialize)]
pub(super) struct SecretEntry {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    scope: OneOrMany,
    #[serde(flatten)]
    parameters: BTreeMap<String, SecretValue>,
}

// Written by hand, so that no value can reach a log.
impl fmt::Debug for SecretEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretEntry").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SecretEntry {
    /// The name of a secret of which a part that is secret can be read in a file: in one of its own, or in that of the
    /// configuration.
    pub(super) fn in_a_file(&self) -> Option<String> {
        let is_there = |(parameter, value): (&String, &SecretValue)| {
            SECRET_PARTS.contains(&parameter.as_str())
                && matches!(value, SecretValue::File { .. } | SecretValue::Text(_))
        };
        self.parameters.iter().any(is_there).then(|| self.name.clone())
    }
}

/// A source as the file has it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceEntry {
    name: String,
    description: Option<String>,
    format: String,
    path: OneOrMany,
    #[serde(default)]
    options: BTreeMap<String, SourceOption>,
    #[serde(default = "yes")]
    required: bool,
}

/// A value of an option of a source, which has tables, such as those of columns and their types.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "it is a text, a number, true or false, a list of these, or a table of names and these"
)]
enum SourceOption {
    Table(Ordered<SourceOption>),
    List(Vec<SourceOption>),
    Plain(OptionEntry),
}

impl From<SourceOption> for OptionValue {
    fn from(option: SourceOption) -> Self {
        match option {
            SourceOption::Table(Ordered(fields)) => {
                Self::Struct(fields.into_iter().map(|(name, value)| (name, value.into())).collect())
            }
            SourceOption::List(values) => Self::List(values.into_iter().map(Self::from).collect()),
            SourceOption::Plain(value) => value.into(),
        }
    }
}

/// A value of an option, or of a default.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(untagged, expecting = "it is a text, a number, true or false, or a list of these")]
pub(super) enum OptionEntry {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<OptionEntry>),
}

impl From<OptionEntry> for OptionValue {
    fn from(entry: OptionEntry) -> Self {
        match entry {
            OptionEntry::Boolean(value) => Self::Boolean(value),
            OptionEntry::Integer(value) => Self::Integer(value),
            OptionEntry::Float(value) => Self::Float(value),
            OptionEntry::Text(value) => Self::Text(value),
            OptionEntry::List(values) => Self::List(values.into_iter().map(Self::from).collect()),
        }
    }
}

pub(super) fn yes() -> bool {
    true
}

/// Checks the secrets, and fetches their values.
pub(super) fn secrets(entries: Vec<SecretEntry>) -> Result<Vec<Secret>, ConfigError> {
    let mut names = HashSet::new();
    entries.into_iter().map(|entry| secret(entry, &mut names)).collect()
}

fn secret(entry: SecretEntry, names: &mut HashSet<String>) -> Result<Secret, ConfigError> {
    let SecretEntry { name, kind, scope, parameters } = entry;
    let name = checked_name("secret", name, names)?;
    let kind = match kind.as_str() {
        "s3" => SecretKind::S3,
        "gcs" => SecretKind::Gcs,
        "r2" => SecretKind::R2,
        "postgres" => SecretKind::Postgres,
        other => return Err(invalid("secret.type", &format!("{other:?} is none of s3, gcs, r2, postgres"))),
    };
    let fetched = parameters.into_iter().map(|(key, value)| {
        let option = format!("secret.{key}");
        if !SECRET_PARAMETERS.contains(&key.as_str()) {
            let known = SECRET_PARAMETERS.join(", ");
            return Err(invalid(
                &option,
                &format!("is not known; of the secret {name:?} there may be: {known}"),
            ));
        }
        let value =
            value.fetch().map_err(|reason| invalid(&option, &format!("of the secret {name:?}: {reason}")))?;
        Ok((key, SecretText(value)))
    });
    Ok(Secret { parameters: fetched.collect::<Result<_, _>>()?, kind, scope: scope.into_vec(), name })
}

impl SecretValue {
    /// The value; the error never has any of it.
    fn fetch(self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Flag(flag) => Ok(flag.to_string()),
            Self::Environment { env } => {
                std::env::var(&env).map_err(|_| format!("the environment has no {env}"))
            }
            Self::File { file } => std::fs::read_to_string(&file)
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|error| format!("{}: {error}", file.display())),
        }
    }
}

/// An entry as it is written, as far as the order of names counts in it: columns of a file without names go by theirs.
#[derive(Debug, Deserialize)]
pub(super) struct Written {
    #[serde(default)]
    options: BTreeMap<String, SourceOption>,
}

/// Gives the options of the sources the order in which they are written.
pub(super) fn put_in_order(entries: &mut [SourceEntry], written: Vec<Written>) {
    for (entry, Written { options }) in entries.iter_mut().zip(written) {
        entry.options = options;
    }
}

/// Checks the sources.
pub(super) fn sources(entries: Vec<SourceEntry>) -> Result<Vec<Source>, ConfigError> {
    let mut names = HashSet::new();
    entries.into_iter().map(|entry| source(entry, &mut names)).collect()
}

fn source(entry: SourceEntry, names: &mut HashSet<String>) -> Result<Source, ConfigError> {
    let SourceEntry { name, description, format, path, options, required } = entry;
    let name = checked_name("source", name, names)?;
    let wrong = |key: &str, reason: &str| invalid(&format!("source.{key}"), &format!("of {name:?} {reason}"));
    let format = match format.as_str() {
        "parquet" => Format::Parquet,
        "csv" => Format::Csv,
        "json" => Format::Json,
        "delta" => Format::Delta,
        "iceberg" => Format::Iceberg,
        "arrow" => Format::Arrow,
        other => {
            let known = "parquet, csv, json, arrow, delta, iceberg";
            return Err(wrong("format", &format!("{other:?} is none of {known}")));
        }
    };
    let paths = path.into_vec();
    if paths.is_empty() || paths.iter().any(String::is_empty) {
        return Err(wrong("path", "is empty"));
    }
    if matches!(format, Format::Delta | Format::Iceberg) && paths.len() > 1 {
        return Err(wrong("path", "is the folder of one table in this format"));
    }
    if format == Format::Arrow && !options.is_empty() {
        return Err(wrong("options", "are there, and this format has none: its files say what is in them"));
    }
    // They become words of SQL.
    if let Some(option) = options.keys().find(|option| !is_word(option)) {
        return Err(wrong("options", &format!("{option:?} is no name of an option")));
    }
    let options = options.into_iter().map(|(option, value)| (option, value.into())).collect();
    Ok(Source { name, description, format, paths, options, required })
}

/// A name that nobody else has.
pub(super) fn checked_name(
    what: &str,
    name: String,
    names: &mut HashSet<String>,
) -> Result<String, ConfigError> {
    let option = format!("{what}.name");
    if !is_word(&name) {
        return Err(invalid(&option, &format!("{name:?} is to be letters, digits and underscores")));
    }
    if name.to_lowercase().starts_with(crate::sql::INTERNAL_PREFIX) {
        return Err(invalid(&option, &format!("{name:?} begins as the server's own names do")));
    }
    if !names.insert(name.to_lowercase()) {
        return Err(invalid(&option, &format!("{name:?} is there twice")));
    }
    Ok(name)
}

/// What needs no quotes in SQL.
pub(super) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Checks the folder of extensions.
pub(super) fn extension_directory(directory: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    let missing =
        |folder: &Path| invalid("extension_directory", &format!("{} is no folder", folder.display()));
    match directory {
        Some(folder) if !folder.is_dir() => Err(missing(&folder)),
        other => Ok(other),
    }
}

/// Checks where extensions are installed from. DuckDB checks their signatures, so that no TLS is needed, and has none before
/// `httpfs` is there. A folder is refused: clients would meet its path in errors, and there is `extension_directory`. So is a
/// password: clients read the address among DuckDB's settings.
pub(super) fn extension_repository(repository: Option<String>) -> Result<Option<String>, ConfigError> {
    let Some(repository) = repository else { return Ok(None) };
    let address = repository.trim_end_matches('/');
    let rest = address.strip_prefix("http://").unwrap_or_default();
    match rest.split('/').next().unwrap_or_default() {
        // It is not repeated, because the error goes into logs.
        host if host.contains('@') => {
            Err(invalid("extension_repository", "a user or a password has no place in the address"))
        }
        host if !host.is_empty() => Ok(Some(address.to_owned())),
        _ => {
            let reason = format!("{repository:?} is no address that begins with http://");
            Err(invalid("extension_repository", &reason))
        }
    }
}

/// Checks where clients may export to, of a server over `database`.
pub(super) fn exports(directories: &[String], database: Option<&Path>) -> Result<Exports, ConfigError> {
    Exports::to(directories, database).map_err(|error| invalid("export_directories", &error.to_string()))
}

/// Checks where clients may read.
pub(super) fn reads(
    directories: Option<Vec<String>>,
    catalogs: &[AttachedCatalog],
) -> Result<Option<Reads>, ConfigError> {
    let Some(directories) = directories else { return Ok(None) };
    // DuckDB attaches no PostgreSQL once access is limited, and where the rows of a lake are has to be known by then.
    if let Some(late) = catalogs.iter().find(|catalog| !catalog.required && !catalog.may_come_late()) {
        let reason = format!(
            "is false for {:?}, which is in PostgreSQL, or a lake without a data_path: with read_directories it has to be \
             there at the start",
            late.name
        );
        return Err(invalid("catalog.required", &reason));
    }
    let reads = Reads::under(&directories);
    reads.map(Some).map_err(|error| invalid("read_directories", &error.to_string()))
}

/// Checks names of extensions, which become words of SQL.
pub(super) fn extensions(names: Vec<String>) -> Result<Vec<String>, ConfigError> {
    match names.iter().find(|name| !is_word(name)) {
        Some(name) => Err(invalid("extensions", &format!("{name:?} is no name of an extension"))),
        None => Ok(names),
    }
}
