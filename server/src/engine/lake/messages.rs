//! The language of PostgreSQL's messages. Whether a commit met another one or has failed is told from their text, by DuckLake
//! and by this server, which know it in English.

use super::{AttachedCatalog, Connection, catalog::metadata_of};
use crate::{
    engine::{Result, answers::first_text},
    sql::literal,
};

/// Says in the log where a catalog's PostgreSQL speaks another language. Nothing is lost by that, but who meets another commit
/// is told of a failure, and nothing is tried again.
pub(super) fn warn_unless_english(connection: &Connection, catalog: &AttachedCatalog) {
    match spoken(connection, catalog) {
        Ok(lc_messages) if !is_english(&lc_messages) => tracing::warn!(
            catalog = catalog.name,
            lc_messages,
            "the messages of the catalog's PostgreSQL are not in English, so conflicts of transactions are taken for \
             failures; a superuser of it can change that: ALTER DATABASE ... SET lc_messages = 'C', then restart"
        ),
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(catalog = catalog.name, %error, "the language of messages is not known")
        }
    }
}

/// The setting as it is for the sessions of this server, whatever it comes from.
fn spoken(connection: &Connection, catalog: &AttachedCatalog) -> Result<String> {
    let database = if catalog.is_shared() { metadata_of(&catalog.name) } else { catalog.name.clone() };
    let setting = literal("SELECT current_setting('lc_messages')");
    first_text(connection, &format!("FROM postgres_query({}, {setting})", literal(&database)))
}

/// Whether a locale has messages in English. An empty one is that of the process, which it does not tell.
fn is_english(locale: &str) -> bool {
    let language = locale.split(['.', '@', '_', '-']).next().unwrap_or_default().to_lowercase();
    ["", "c", "posix", "en", "english"].contains(&language.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_tells_its_language() {
        for english in
            ["C", "C.UTF-8", "POSIX", "en_US.utf8", "en-GB", "en_IE@euro", "English_United States.1252", ""]
        {
            assert!(is_english(english), "{english}");
        }
        for other in ["de_DE.UTF-8", "fr_FR@euro", "ca_ES.utf8", "German_Germany.1252", "pt-BR", "cs"] {
            assert!(!is_english(other), "{other}");
        }
    }
}
