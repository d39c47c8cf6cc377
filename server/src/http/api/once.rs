//! JSON objects in which each name is there once. A map alone would keep the last of several values, and tell nobody. Of
//! names that are more than a statement has parameters none are kept.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use super::parameters::MOST;

/// What such an object has; `None` where that is too much.
#[derive(Debug)]
pub(super) struct Once<T>(pub(super) Option<BTreeMap<String, T>>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Once<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Names(PhantomData))
    }
}

struct Names<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
    type Value = Once<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut values = BTreeMap::new();
        while let Some((name, value)) = object.next_entry::<String, T>()? {
            if values.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the name {name:?} is there twice")));
            }
            if values.len() == MOST {
                // The rest has to be read to its end for the object to be one.
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(Once(None));
            }
            values.insert(name, value);
        }
        Ok(Once(Some(values)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_there_twice_is_an_error() {
        let read = |json: &str| serde_json::from_str::<Once<u32>>(json);
        assert_eq!(read(r#"{"a": 1, "b": 2}"#).unwrap().0.map(|values| values.len()), Some(2));
        for twice in [r#"{"a": 1, "a": 1}"#, r#"{"a": 1, "b": 2, "\u0061": 3}"#] {
            assert!(read(twice).unwrap_err().to_string().contains("\"a\" is there twice"), "{twice}");
        }
        assert!(read("[1]").is_err());
    }

    #[test]
    fn no_more_names_are_kept_than_a_statement_can_use() {
        let read = |count: usize| {
            let pairs: Vec<_> = (0..count).map(|name| format!("\"{name}\":0")).collect();
            serde_json::from_str::<Once<u8>>(&format!("{{{}}}", pairs.join(","))).unwrap().0
        };
        assert_eq!(read(MOST).map(|values| values.len()), Some(MOST));
        assert!(read(MOST + 1).is_none() && read(2 * MOST).is_none());
    }
}
