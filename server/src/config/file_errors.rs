//! What is wrong in the configuration file, in words for who has written it. Values are not repeated: a secret may be among them.

use std::path::Path;

use figment::{
    Error, Figment,
    error::{Actual, Kind},
    value::Value,
};

use super::ConfigError;

/// From here on two words are alike enough to ask whether one was meant.
const ALIKE: f64 = 0.8;
/// More keys than this are not listed.
const LISTED: usize = 12;

/// All that keeps `layers`, of which one is the file, from being a configuration.
pub(super) fn told(errors: Error, layers: &Figment, file: Option<&Path>) -> ConfigError {
    let file = file.map_or_else(String::new, |file| format!("{}: ", file.display()));
    let texts: Vec<_> = errors.into_iter().map(|error| format!("{file}{}", text(&error, layers))).collect();
    ConfigError::Value(texts.join("; "))
}

fn text(error: &Error, layers: &Figment) -> String {
    let (section, keys) = section_of(&error.path, layers);
    let key = keys.join(".");
    let about_key = |what: String| if key.is_empty() { what } else { format!("{key}: {what}") };
    let what = match &error.kind {
        Kind::UnknownField(name, known) => unknown(name, known),
        Kind::MissingField(name) => about_key(format!("the key {:?} is missing", name.as_ref())),
        Kind::UnknownVariant(name, known) => {
            about_key(format!("there is no {name:?}; there is {}", known.join(", ")))
        }
        Kind::InvalidType(Actual::Map, wanted) if wanted == "a sequence" && error.path.len() == 1 => {
            format!("write [[{key}]], with two brackets: there may be several")
        }
        Kind::InvalidType(found, expected) => {
            about_key(format!("{} is wanted, and there is {}", wanted(expected), found_as(found)))
        }
        Kind::InvalidValue(_, expected) => about_key(format!("{} is wanted", wanted(expected))),
        Kind::Message(message) => about_key(without_lines(message)),
        kind => about_key(kind.to_string()),
    };
    match section {
        Some(section) => format!("{section}: {what}"),
        None => what,
    }
}

/// The section of several that are called alike, and the keys within it.
fn section_of<'a>(path: &'a [String], layers: &Figment) -> (Option<String>, &'a [String]) {
    match path {
        [kind, at, keys @ ..] if let Ok(at) = at.parse::<usize>() => {
            let section = match name_of(layers, kind, at) {
                Some(name) => format!("{kind} {name:?}"),
                None => format!("[[{kind}]] number {}", at + 1),
            };
            (Some(section), keys)
        }
        keys => (None, keys),
    }
}

fn name_of(layers: &Figment, kind: &str, at: usize) -> Option<String> {
    let Value::Array(_, sections) = layers.find_value(kind).ok()? else { return None };
    Some(sections.get(at)?.as_dict()?.get("name")?.as_str()?.to_owned())
}

fn unknown(name: &str, known: &[&str]) -> String {
    let written = name.replace('-', "_");
    let likeness = |key: &str| strsim::jaro_winkler(&written, key);
    let meant = known.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    match meant.filter(|meant| likeness(meant) >= ALIKE) {
        Some(meant) => format!("there is no key {name:?}; did you mean {meant:?}?"),
        None if known.len() <= LISTED => format!("there is no key {name:?}; there is {}", known.join(", ")),
        None => format!("there is no key {name:?}; --help has those that there are"),
    }
}

/// What is expected, where that is told in the words of Rust.
fn wanted(expected: &str) -> &str {
    match expected {
        "usize" | "u64" => "a whole number from 0 on",
        "u32" => "a whole number from 0 to 4294967295",
        "a boolean" => "true or false",
        "a string" | "path string" => "a text",
        "a sequence" => "a list",
        "a map" => "a table",
        "a duration" => "a time such as \"30s\" or \"10min\"",
        "parsable string" => "a size such as \"64MiB\"",
        other => other,
    }
}

fn found_as(found: &Actual) -> &'static str {
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a number with a point",
        Actual::Char(_) | Actual::Str(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

/// An error of the file without the line that it quotes, in which a secret may stand.
fn without_lines(error: &str) -> String {
    let is_quoted = |line: &&str| {
        line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start().starts_with('|')
    };
    error.trim_end().lines().filter(|line| !is_quoted(line)).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    /// What a file is refused for, after its name.
    fn refusal(toml: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("merganser.toml");
        std::fs::write(&file, toml).unwrap();
        let file = file.to_str().unwrap();
        let refused =
            Config::from_arguments(["--database", "a.db", "--config", file]).unwrap_err().to_string();
        refused.strip_prefix(&format!("{file}: ")).expect("the file is named").to_owned()
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_to_do() {
        for (toml, told) in [
            ("databse = 'x'", "there is no key \"databse\"; did you mean \"database\"?"),
            ("read-wait = '1s'", "there is no key \"read-wait\"; did you mean \"read_wait\"?"),
            ("[[souce]]\nname = 'a'", "there is no key \"souce\"; did you mean \"source\"?"),
            ("zzz = 1", "there is no key \"zzz\"; --help has those that there are"),
            ("threads = 'x'", "threads: a whole number from 0 on is wanted, and there is a text"),
            ("threads = -1", "threads: a whole number from 0 on is wanted"),
            ("read_only = 'yes'", "read_only: true or false is wanted, and there is a text"),
            ("query_timeout = 'soon'", "query_timeout: a time such as \"30s\" or \"10min\" is wanted"),
            ("queue_bytes = 'lots'", "queue_bytes: a size such as \"64MiB\" is wanted"),
            ("log_format = 'xml'", "log_format: there is no \"xml\"; there is text, json"),
            ("[source]\nname = 'a'", "write [[source]], with two brackets: there may be several"),
            (
                "[[source]]\nname = 'x'\nformt = 'csv'",
                "source \"x\": there is no key \"formt\"; did you mean \"format\"?",
            ),
            ("[[source]]\nname = 'x'\nformat = 'csv'", "source \"x\": the key \"path\" is missing"),
            (
                "[[source]]\nname = 'x'\nformat = 'csv'\npath = 7",
                "source \"x\": path: it is a text, or a list of texts",
            ),
            ("[[source]]\nformat = 'csv'", "[[source]] number 1: the key \"name\" is missing"),
            (
                "[[catalog]]\nname = 'l'\ntype = 'ducklake'\n[catalog.maintenance]\nlmit = '1h'",
                "catalog \"l\": there is no key \"lmit\"; did you mean \"limit\"?",
            ),
            (
                "[[catalog]]\nname = 'l'\ntype = 'ducklake'\n[catalog.maintenance]\nmerge_files = 'x'",
                "catalog \"l\": maintenance.merge_files: a whole number from 0 on is wanted, and there is a text",
            ),
        ] {
            assert_eq!(refusal(toml), told);
        }
        assert!(refusal("x y").starts_with("TOML parse error at line 1, column 3"), "{}", refusal("x y"));
    }
}
