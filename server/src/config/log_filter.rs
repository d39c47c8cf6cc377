//! `log_level`: a level, or a filter as `tracing` reads it.

use tracing_subscriber::EnvFilter;

use super::{ConfigError, invalid};

/// The levels, from nothing to everything. A filter may also number them.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Refuses what is neither levels nor `target=level`. A filter takes any other word for a target, of which it shows
/// everything, and nothing of all others: a level that is misspelt would silence the server.
pub(super) fn check(filter: &str) -> Result<(), ConfigError> {
    let wrong = |reason: String| {
        let reason = format!(
            "{reason}; give error, warn, info, debug, trace or off, and for a part of the server TARGET=LEVEL, with commas between \
             them"
        );
        invalid("log_level", &reason)
    };
    if let Some(word) = filter.split(',').find(|part| !is_complete(part)) {
        return Err(wrong(format!("{:?} is no level", word.trim())));
    }
    EnvFilter::try_new(filter).map(drop).map_err(|_| wrong(format!("{filter:?} is no filter")))
}

/// Whether a part says of what it is, and from which level on. Where it filters by spans, commas and more may be in it, and
/// `tracing` has the word.
fn is_complete(part: &str) -> bool {
    let part = part.trim();
    let is_level = |word: &str| {
        LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
            || matches!(word.as_bytes(), [b'0'..=b'5'])
    };
    match part.rsplit_once('=') {
        Some(_) => true,
        None => is_level(part) || part.contains(['[', ']', '{', '}']),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for (filter, taken) in [
            ("info", true),
            ("WARN", true),
            ("off", true),
            ("warn,merganser_server=debug", true),
            ("merganser_server::engine=trace, info", true),
            ("info,[query{id=7}]=debug", true),
            ("wran", false),
            ("inf", false),
            ("info,debgu", false),
            ("merganser_server", false),
            ("merganser_server=debgu", false),
            ("", false),
            ("==", false),
        ] {
            assert_eq!(check(filter).is_ok(), taken, "{filter}");
        }
    }
}
