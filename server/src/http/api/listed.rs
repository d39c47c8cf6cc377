//! JSON arrays of which no more is kept than a statement can use. Each value costs many times the two bytes that it may
//! take in a body.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use super::parameters::MOST;

/// What such an array has; `None` where that is too much.
#[derive(Debug)]
pub(super) struct Listed<T>(pub(super) Option<Vec<T>>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Values(PhantomData))
    }
}

struct Values<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Values<T> {
    type Value = Listed<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = array.next_element()? {
            if values.len() == MOST {
                // The rest has to be read to its end for the array to be one.
                while array.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Listed(None));
            }
            values.push(value);
        }
        Ok(Listed(Some(values)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_kept_than_a_statement_can_use() {
        let read =
            |count: usize| serde_json::from_str::<Listed<u8>>(&format!("[{}0]", "0,".repeat(count - 1)));
        assert_eq!(read(MOST).unwrap().0.map(|values| values.len()), Some(MOST));
        assert!(read(MOST + 1).unwrap().0.is_none());
        assert!(read(3 * MOST).unwrap().0.is_none());
        assert!(serde_json::from_str::<Listed<u8>>("{}").is_err());
    }
}
