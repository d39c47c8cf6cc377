//! Sources: views over files.

use std::collections::BTreeMap;

use super::{Connection, Error, Result, SOURCES, extensions::HTTPFS, setup, unless_missed};
use crate::{
    engine::ffi::READ_ARROW,
    sql::{literal, quote, quote_nested},
};

/// How the files of a source are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Text with separators.
    Csv,
    /// JSON: an array, or one value a line.
    Json,
    /// A Delta Lake table.
    Delta,
    /// An Apache Iceberg table.
    Iceberg,
    /// Apache Arrow's IPC formats, of files and of streams.
    Arrow,
}

impl Format {
    /// The table function that reads it: DuckDB's, but for Arrow's.
    fn function(self) -> &'static str {
        match self {
            Self::Parquet => "read_parquet",
            Self::Csv => "read_csv",
            Self::Json => "read_json",
            Self::Delta => "delta_scan",
            Self::Iceberg => "iceberg_scan",
            Self::Arrow => READ_ARROW,
        }
    }

    /// What has to be loaded to read it; the others are part of DuckDB's library.
    fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Parquet | Self::Csv | Self::Json | Self::Arrow => &[],
            Self::Delta => &["delta"],
            Self::Iceberg => &[HTTPFS, "avro", "iceberg"],
        }
    }
}

/// The value of an option of DuckDB's reader.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionValue {
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// Several values.
    List(Vec<OptionValue>),
    /// Values with names, in this order.
    Struct(Vec<(String, OptionValue)>),
}

impl OptionValue {
    /// Its text, as a caller would give it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(value) => value.clone(),
            other => other.nested_text(),
        }
    }

    /// Its text as a part of another one, which DuckDB casts to a nested type.
    fn nested_text(&self) -> String {
        let all = |parts: Vec<String>| parts.join(", ");
        match self {
            Self::Text(value) => quote_nested(value),
            Self::List(values) => format!("[{}]", all(values.iter().map(Self::nested_text).collect())),
            Self::Struct(fields) => {
                let field = |(name, value): &(String, Self)| {
                    format!("{}: {}", quote_nested(name), value.nested_text())
                };
                format!("{{{}}}", all(fields.iter().map(field).collect()))
            }
            plain => plain.sql(),
        }
    }

    /// Its expression.
    pub(crate) fn sql(&self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => format!("{value:?}"),
            Self::Text(value) => literal(value),
            Self::List(values) => {
                format!("[{}]", values.iter().map(Self::sql).collect::<Vec<_>>().join(", "))
            }
            Self::Struct(fields) => {
                let field = |(name, value): &(String, Self)| format!("{}: {}", literal(name), value.sql());
                format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Files that clients see as a view, `sources.NAME` or only `NAME`.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name of the view.
    pub name: String,
    /// What it is, for people.
    pub description: Option<String>,
    /// How the files are written.
    pub format: Format,
    /// Paths, globs, or addresses such as `s3://bucket/*/*.parquet`.
    pub paths: Vec<String>,
    /// Options of DuckDB's reader, such as `hive_partitioning`.
    pub options: BTreeMap<String, OptionValue>,
    /// Whether the server does not start without it.
    pub required: bool,
}

impl Source {
    /// Extensions that have to be loaded first.
    pub(super) fn extensions(&self) -> impl Iterator<Item = &'static str> {
        let remote = self.paths.iter().any(|path| path.contains("://") && !path.starts_with("file://"));
        remote.then_some(HTTPFS).into_iter().chain(self.format.extensions().iter().copied())
    }

    /// Makes the view. DuckDB looks at the files for their columns, so that what is missing or must not be read shows
    /// here.
    pub(super) fn create(&self, connection: &Connection) -> Result<()> {
        if self.guesses_version() {
            connection.execute("SET GLOBAL unsafe_enable_version_guessing = true")?;
        }
        connection.execute(&self.create_sql()).map_err(|error| self.explained(error.into()))?;
        Ok(())
    }

    /// Whether the newest metadata of an Iceberg table is found by looking into its folder. DuckDB calls this unsafe,
    /// because the newest may be of a commit that failed; so it is for those who ask for it by the option.
    fn guesses_version(&self) -> bool {
        let newest = OptionValue::Text("?".into());
        self.format == Format::Iceberg && self.options.get("version") == Some(&newest)
    }

    /// DuckDB says of a folder without a table only what it needs to find the version of one.
    fn explained(&self, error: Error) -> Error {
        match error {
            Error::Duck { class, message }
                if self.format == Format::Iceberg && message.contains("version-hint") =>
            {
                let message = format!(
                    "{message}\n\nThere is no Iceberg table in that folder, or its writer keeps no version-hint.text: \
                     then give the path of one of its metadata files, or options = {{ version = \"?\" }}"
                );
                Error::Duck { class, message }
            }
            other => other,
        }
    }

    /// What came of a step on the way to the source: done, or, where it is not required, missed in the log.
    ///
    /// # Errors
    /// [`Error::Setup`] for a source that is required.
    pub(super) fn or_missed(&self, step: Result<()>) -> Result<bool> {
        let done = unless_missed(self.required, step, |reason| {
            tracing::warn!(source = self.name, %reason, "a source cannot be read");
        });
        Ok(done.map_err(setup(format!("source {}", self.name)))?.is_some())
    }

    fn create_sql(&self) -> String {
        let name = quote(&self.name);
        let comment = self.description.as_ref().map_or(String::new(), |description| {
            format!("; COMMENT ON VIEW {SOURCES}.main.{name} IS {}", literal(description))
        });
        format!(
            "CREATE VIEW {SOURCES}.main.{name} AS FROM {}({}){comment}",
            self.format.function(),
            self.arguments()
        )
    }

    fn arguments(&self) -> String {
        let paths: Vec<_> = self.paths.iter().map(|path| literal(path)).collect();
        let first = match paths.as_slice() {
            [path] => path.clone(),
            paths => format!("[{}]", paths.join(", ")),
        };
        let options = self.options.iter().map(|(name, value)| format!("{name} := {}", value.sql()));
        // It says in errors which source it was.
        let source = (self.format == Format::Arrow).then(|| format!("source := {}", literal(&self.name)));
        std::iter::once(first).chain(options).chain(source).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_reads_its_files_with_their_options() {
        let source = Source {
            name: "trips".into(),
            description: Some("it's all here".into()),
            format: Format::Parquet,
            paths: vec!["s3://b/*/*.parquet".into(), "o'.parquet".into()],
            options: BTreeMap::from([
                ("hive_partitioning".into(), OptionValue::Boolean(true)),
                ("x".into(), OptionValue::List(vec![OptionValue::Integer(1), OptionValue::Text("a".into())])),
            ]),
            required: true,
        };
        assert_eq!(
            source.create_sql(),
            "CREATE VIEW sources.main.\"trips\" AS FROM read_parquet(['s3://b/*/*.parquet', 'o''.parquet'], \
             hive_partitioning := true, x := [1, 'a']); COMMENT ON VIEW sources.main.\"trips\" IS 'it''s all here'"
        );
        assert_eq!(source.extensions().collect::<Vec<_>>(), ["httpfs"]);
    }

    #[test]
    fn a_table_is_a_struct_whose_names_keep_their_order() {
        let text = |text: &str| OptionValue::Text(text.into());
        let inner = OptionValue::Struct(vec![("it's".into(), text("it's"))]);
        let fields = vec![("z".into(), text("BIGINT")), ("a b".into(), OptionValue::List(vec![inner]))];
        let value = OptionValue::Struct(fields);
        assert_eq!(value.sql(), "{'z': 'BIGINT', 'a b': [{'it''s': 'it''s'}]}");
        assert_eq!(value.text(), r#"{"z": "BIGINT", "a b": [{"it's": "it's"}]}"#);
        assert_eq!(
            OptionValue::List(vec![text(r#"C:\"dir""#), text("a, b")]).text(),
            r#"["C:\\\"dir\"", "a, b"]"#
        );
    }

    fn source(format: Format, options: &[(&str, &str)]) -> Source {
        let options =
            options.iter().map(|(name, value)| ((*name).into(), OptionValue::Text((*value).into())));
        Source {
            name: "it".into(),
            description: None,
            format,
            paths: vec!["a".into(), "b".into()],
            options: options.collect(),
            required: true,
        }
    }

    #[test]
    fn an_arrow_file_is_read_by_the_servers_own_function_which_knows_its_source() {
        assert_eq!(
            source(Format::Arrow, &[]).create_sql(),
            "CREATE VIEW sources.main.\"it\" AS FROM read_arrow(['a', 'b'], source := 'it')"
        );
    }

    #[test]
    fn the_version_of_an_iceberg_table_is_guessed_only_where_that_is_asked_for() {
        assert!(source(Format::Iceberg, &[("version", "?")]).guesses_version());
        assert!(!source(Format::Iceberg, &[("version", "v1")]).guesses_version());
        assert!(!source(Format::Iceberg, &[]).guesses_version());
        assert!(!source(Format::Parquet, &[("version", "?")]).guesses_version());
    }
}
