//! What a loader may ask for besides the mode: by headers of the request, or as options of a Flight SQL ingest.

use std::collections::HashMap;

use tonic::{
    Status,
    metadata::{KeyRef, MetadataMap},
};

use super::error::{bad_request, engine_status};
use crate::engine::{Error, IngestKey, IngestRequest, Merge, NewColumns, OnConflict, PartitionKey};

/// The key of the unit, as `loader/epoch/sequence`.
const INGEST_KEY: &str = "ingest_key";
/// Names of the key columns, separated by commas.
const MERGE_KEYS: &str = "merge_keys";
/// `update` or `ignore`: what becomes of a row whose key is there already.
const ON_CONFLICT: &str = "on_conflict";
/// `add` or `refuse`: what becomes of columns that the table lacks.
const NEW_COLUMNS: &str = "new_columns";
/// Columns, or parts of times in them such as `year(ordered)`, separated by commas: of a table that is made in a lake.
const PARTITION_BY: &str = "partition_by";

/// What the headers begin with that are options.
const PREFIX: &str = "x-merganser-";

const KNOWN: [&str; 5] = [INGEST_KEY, MERGE_KEYS, ON_CONFLICT, NEW_COLUMNS, PARTITION_BY];

/// The options of one upload, by name.
#[derive(Debug, Default)]
pub(super) struct IngestOptions(HashMap<&'static str, String>);

impl IngestOptions {
    /// Those that came as headers: `x-merganser-` and the option with dashes, such as `x-merganser-ingest-key`.
    pub(super) fn of_headers(headers: &MetadataMap) -> Result<Self, Status> {
        let mut options = Self::default();
        check_known(headers)?;
        for name in KNOWN {
            let header = header_of(name);
            let mut values = headers.get_all(&header).iter();
            let Some(value) = values.next() else { continue };
            let text = value.to_str().ok().filter(|_| values.next().is_none());
            let text = text.ok_or_else(|| {
                bad_request("BAD_OPTION", &format!("the header {header} must come once, as ASCII"))
            })?;
            options.0.insert(name, text.to_owned());
        }
        Ok(options)
    }

    /// Adds those of a Flight SQL ingest. What is said twice must be the same.
    pub(super) fn and(mut self, more: HashMap<String, String>) -> Result<Self, Status> {
        for (option, value) in more {
            let name = KNOWN.into_iter().find(|known| *known == option).ok_or_else(|| {
                let known = KNOWN.join(", ");
                bad_request(
                    "UNKNOWN_OPTION",
                    &format!("the ingest option {option:?} is not known; there are {known}"),
                )
            })?;
            match self.0.insert(name, value.clone()) {
                Some(other) if other != value => {
                    return Err(bad_request(
                        "BAD_OPTION",
                        &format!("the ingest option {name} differs from the header of that name"),
                    ));
                }
                _ => {}
            }
        }
        Ok(self)
    }

    /// Puts them into a request.
    pub(super) fn apply(&self, request: &mut IngestRequest) -> Result<(), Status> {
        request.key =
            self.get(INGEST_KEY).map(|key| key.parse::<IngestKey>()).transpose().map_err(engine_status)?;
        request.merge = self.merge()?;
        request.new_columns = match self.get(NEW_COLUMNS) {
            None | Some("refuse") => NewColumns::Refuse,
            Some("add") => NewColumns::Add,
            Some(other) => return Err(bad_value(NEW_COLUMNS, other, "add or refuse")),
        };
        request.partition_by = self.partition_by()?;
        Ok(())
    }

    fn merge(&self) -> Result<Option<Merge>, Status> {
        let keys: Option<Vec<_>> =
            self.get(MERGE_KEYS).map(|keys| keys.split(',').map(|key| key.trim().to_owned()).collect());
        if keys.as_ref().is_some_and(|keys| keys.iter().any(String::is_empty)) {
            return Err(bad_request("BAD_OPTION", "merge_keys must be column names, separated by commas"));
        }
        let on_conflict = match (self.get(ON_CONFLICT), &keys) {
            (None, None) => return Ok(None),
            (None | Some("update"), _) => OnConflict::Update,
            (Some("ignore"), _) => OnConflict::Ignore,
            (Some(other), _) => return Err(bad_value(ON_CONFLICT, other, "update or ignore")),
        };
        Ok(Some(Merge { keys: keys.unwrap_or_default(), on_conflict }))
    }

    fn partition_by(&self) -> Result<Vec<PartitionKey>, Status> {
        let keys = self.get(PARTITION_BY).into_iter().flat_map(|keys| keys.split(','));
        let keys: Result<_, _> = keys.map(str::parse).collect();
        keys.map_err(|error: Error| bad_request("BAD_OPTION", &error.to_string()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// A header with our prefix that is no option is a slip: without it a key would not count, and rows be doubled.
fn check_known(headers: &MetadataMap) -> Result<(), Status> {
    let known = KNOWN.map(header_of);
    let unknown = headers.keys().find_map(|key| {
        let name = match key {
            KeyRef::Ascii(name) => name.as_str(),
            KeyRef::Binary(name) => name.as_str(),
        };
        (name.starts_with(PREFIX) && !known.iter().any(|known| known == name)).then_some(name)
    });
    match unknown {
        None => Ok(()),
        Some(name) => Err(bad_request(
            "UNKNOWN_OPTION",
            &format!("the header {name} is not known; there are {}", known.join(", ")),
        )),
    }
}

/// The header of an option.
fn header_of(option: &str) -> String {
    format!("{PREFIX}{}", option.replace('_', "-"))
}

fn bad_value(option: &str, value: &str, allowed: &str) -> Status {
    bad_request("BAD_OPTION", &format!("the ingest option {option} is {value:?}; it takes {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::TableRef;

    fn request(options: &[(&str, &str)]) -> Result<IngestRequest, Status> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut request = IngestRequest::append(TableRef::from_path(&["t".into()]).unwrap(), 0);
        IngestOptions::default().and(options)?.apply(&mut request)?;
        Ok(request)
    }

    #[test]
    fn options_reach_the_request() {
        let asked = request(&[
            ("ingest_key", "a/1/2"),
            ("merge_keys", "id, at"),
            ("on_conflict", "ignore"),
            ("new_columns", "add"),
        ])
        .unwrap();
        assert_eq!(asked.key.unwrap().to_string(), "a/1/2");
        let merge = Merge { keys: vec!["id".into(), "at".into()], on_conflict: OnConflict::Ignore };
        assert_eq!(asked.merge, Some(merge));
        assert_eq!(asked.new_columns, NewColumns::Add);
        let nothing = request(&[]).unwrap();
        assert_eq!((nothing.key, nothing.merge, nothing.new_columns), (None, None, NewColumns::Refuse));
    }

    #[test]
    fn keys_alone_mean_update_and_a_conflict_alone_means_the_primary_key() {
        let merge = |option| request(&[option]).unwrap().merge.unwrap();
        assert_eq!(merge(("merge_keys", "id")).on_conflict, OnConflict::Update);
        assert!(merge(("on_conflict", "ignore")).keys.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (option, slug) in [
            (("ingest_kee", "a/1/2"), "UNKNOWN_OPTION"),
            (("ingest_key", "a"), "BAD_KEY"),
            (("merge_keys", "a,,b"), "BAD_OPTION"),
            (("on_conflict", "explode"), "BAD_OPTION"),
            (("new_columns", "maybe"), "BAD_OPTION"),
            (("partition_by", "year()"), "BAD_OPTION"),
        ] {
            let status = request(&[option]).unwrap_err();
            assert!(status.message().starts_with(slug), "{option:?}: {status}");
        }
    }

    #[test]
    fn a_header_with_our_prefix_that_is_no_option_is_named() {
        for name in ["x-merganser-ingestkey", "x-merganser-merge-key"] {
            let mut headers = MetadataMap::new();
            headers.insert(name, "a/1/2".parse().unwrap());
            let status = IngestOptions::of_headers(&headers).unwrap_err();
            assert!(status.message().starts_with("UNKNOWN_OPTION"), "{status}");
            assert!(status.message().contains(name) && status.message().contains("x-merganser-merge-keys"));
        }
        let mut others = MetadataMap::new();
        others.insert("x-request-id", "7".parse().unwrap());
        others.insert("authorization", "Bearer x".parse().unwrap());
        IngestOptions::of_headers(&others).unwrap();
    }

    #[test]
    fn headers_are_options_too() {
        let mut headers = MetadataMap::new();
        headers.insert("x-merganser-ingest-key", "a/1/2".parse().unwrap());
        let options = || IngestOptions::of_headers(&headers).unwrap();
        assert_eq!(options().get(INGEST_KEY), Some("a/1/2"));
        let again = HashMap::from([("ingest_key".to_owned(), "a/1/3".to_owned())]);
        assert!(options().and(again).unwrap_err().message().starts_with("BAD_OPTION"));
    }
}
