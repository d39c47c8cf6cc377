//! Tables of the file whose names keep their order: columns, above all.

use std::{fmt, marker::PhantomData};

use figment::providers::{Format, Toml};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use super::{ConfigError, invalid, lake, queries};

/// The file read once more, for what has to keep its order: the layers of the configuration keep names in that of the
/// alphabet.
#[derive(Deserialize)]
pub(super) struct Written {
    #[serde(default)]
    pub(super) query: Vec<queries::Written>,
    #[serde(default)]
    pub(super) source: Vec<lake::Written>,
}

impl Written {
    /// # Errors
    /// [`ConfigError`] for what the layers would not have taken either.
    pub(super) fn of(text: &str) -> Result<Self, ConfigError> {
        Toml::from_str(text).map_err(|error| invalid("config", error.message()))
    }
}

/// Names and their values, in the order in which they come.
#[derive(Debug, Clone)]
pub(super) struct Ordered<V>(pub(super) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Ordered<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Pairs<V> {
            type Value = Ordered<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered<V>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

impl<V: Serialize> Serialize for Ordered<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use crate::engine;

    #[test]
    fn the_columns_of_an_input_keep_the_order_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("merganser.toml");
        for columns in [
            "input = { name = 't', columns = { z = 'DATE', b = 'BIGINT', a = 'TIME' } }",
            "[query.input]\ncolumns = { z = 'DATE', b = 'BIGINT', a = 'TIME' }\nname = 't'",
            "[query.input]\nname = 't'\ncolumns.z = 'DATE'\ncolumns.b = 'BIGINT'\ncolumns.a = 'TIME'",
            "[query.input]\nname = 't'\n[query.input.columns]\nz = 'DATE'\nb = 'BIGINT'\na = 'TIME'",
        ] {
            let first = "[[query]]\nname = 'first'\nsql = 'SELECT 1'";
            let text = format!("{first}\n[[query]]\nname = 'q'\nsql = 'FROM t'\n{columns}");
            std::fs::write(&file, text).unwrap();
            let config = config(&["--database", "a.db", "--config", file.to_str().unwrap()]).unwrap();
            let input = config.engine.queries[1].input.as_ref().unwrap();
            let names: Vec<_> = input.columns.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["z", "b", "a"], "{columns}");
        }
    }

    #[test]
    fn tables_in_the_options_of_a_source_keep_the_order_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("merganser.toml");
        let text = |text: &str| engine::OptionValue::Text(text.into());
        let fields = vec![("z".into(), text("DATE")), ("a".into(), text("TIME"))];
        for options in [
            "options = { x = 1, columns = { z = 'DATE', a = 'TIME' } }",
            "options.columns.z = 'DATE'\noptions.columns.a = 'TIME'",
            "[source.options.columns]\nz = 'DATE'\na = 'TIME'",
        ] {
            let first = "[[source]]\nname = 'first'\nformat = 'csv'\npath = 'a'";
            let second = format!("[[source]]\nname = 'second'\nformat = 'csv'\npath = 'a'\n{options}");
            std::fs::write(&file, format!("{first}\n{second}")).unwrap();
            let config = config(&["--database", "a.db", "--config", file.to_str().unwrap()]).unwrap();
            let columns = &config.engine.lake.sources[1].options["columns"];
            assert_eq!(*columns, engine::OptionValue::Struct(fields.clone()), "{options}");
        }
    }
}
