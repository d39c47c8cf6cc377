//! What DuckLake calls its files, and what is said of one that is gone.

use crate::engine::error::Class;

/// How a disk and object storage say that a file is missing.
const MISSING: [&str; 2] = ["No such file", "(HTTP 404"];

/// Whether a file has a name of DuckLake's making.
pub(in crate::engine) fn is_its_file(name: &str) -> bool {
    let id = name.strip_prefix("ducklake-").and_then(|name| name.strip_suffix(".parquet"));
    id.is_some_and(|id| is_uuid(id.strip_suffix("-delete").unwrap_or(id)))
}

/// Whether an error is that a file of a lake is missing. Maintenance deletes what no snapshot has any more, and what is still
/// read is that of a snapshot which has become too old.
pub(in crate::engine) fn tells_of_missing_file(class: Class, message: &str) -> bool {
    class == Class::Io
        && MISSING.iter().any(|text| message.contains(text))
        && message.split(['/', '\\', '\'', '"']).any(is_its_file)
}

fn is_uuid(text: &str) -> bool {
    let groups =
        text.split('-').map(|group| group.chars().all(|c| c.is_ascii_hexdigit()).then_some(group.len()));
    groups.eq([8, 4, 4, 4, 12].map(Some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_gone_is_told_from_others_and_from_other_trouble() {
        let gone = |message: &str| tells_of_missing_file(Class::Io, message);
        let file = "ducklake-01a21fe0-edf9-7d71-8e4c-1d4614583526";
        for message in [
            format!(
                "HTTP Error: HTTP GET error reading 'http://h/b/main/t/{file}.parquet' in region 'r' (HTTP 404 Not Found)"
            ),
            format!(
                "IO Error: Cannot open file \"/data/main/t/{file}-delete.parquet\": No such file or directory"
            ),
        ] {
            assert!(gone(&message), "{message}");
            assert!(!tells_of_missing_file(Class::Conversion, &message));
        }
        for message in [
            format!("IO Error: Cannot open file \"/data/main/t/{file}.parquet\": Permission denied"),
            format!("IO Error: Cannot open file \"/data/{file}.csv\": No such file or directory"),
            "IO Error: Cannot open file \"/data/x.parquet\": No such file or directory".into(),
        ] {
            assert!(!gone(&message), "{message}");
        }
    }
}
