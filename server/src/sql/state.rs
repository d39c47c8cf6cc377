//! Statements that leave something behind on their connection: settings, names, temporary things and
//! transactions. They run on a session's own connection, and their settings stay there.

use std::{borrow::Cow, ops::Range};

use super::{
    INTERNAL_PREFIX, Refusal,
    backup::unquoted,
    gate::LAKE_METADATA,
    lexer::{Token, ranged, tokens},
    statements,
};

/// Settings that are one for all clients: a schema that was announced is the schema that is delivered, times are in
/// UTC, and no statement is deeper than the stack.
const PINNED: [&str; 9] = [
    "max_expression_depth",
    "timezone",
    "calendar",
    "arrow_large_buffer_size",
    "arrow_lossless_conversion",
    "arrow_output_list_view",
    "arrow_output_version",
    "produce_arrow_string_view",
    "errors_as_json",
];

/// Settings after which DuckDB writes to a file of the client's choice.
const NAMES_FILES: [&str; 4] =
    ["http_logging_output", "log_query_path", "profile_output", "profiling_output"];

/// Settings that say which folder a name without one is in, or one that begins with `~`.
const NAMES_FOLDERS: [&str; 2] = ["file_search_path", "home_directory"];

/// DuckDB's own catalogs. No client works in one: what it leaves there is everybody's, or nobody's.
pub(super) const OF_DUCKDB: [&str; 2] = ["system", "temp"];

/// Settings by which DuckDB works, takes memory beside its limit, prints, or breaks.
const OF_THE_ENGINE: [&str; 34] = [
    "allocator_background_threads",
    "allow_parser_override_extension",
    "auto_checkpoint_skip_wal_threshold",
    "catalog_error_max_schemas",
    "custom_profiling_settings",
    "debug_asof_iejoin",
    "debug_checkpoint_abort",
    "debug_checkpoint_sleep_ms",
    "debug_force_external",
    "debug_force_no_cross_product",
    "debug_physical_table_scan_execution_strategy",
    "debug_skip_checkpoint_on_commit",
    "debug_verify_blocks",
    "debug_verify_vector",
    "debug_window_mode",
    "enable_http_logging",
    "enable_macro_dependencies",
    "enable_profiling",
    "enable_progress_bar",
    "enable_progress_bar_print",
    "enable_view_dependencies",
    "immediate_transaction_mode",
    "partitioned_write_max_open_files",
    "password",
    "perfect_ht_threshold",
    "profiling_coverage",
    "profiling_mode",
    "progress_bar_time",
    "streaming_buffer_size",
    "user",
    "username",
    "validate_external_file_cache",
    "wal_autocheckpoint_entries",
    "write_buffer_row_group_count",
];

/// What a statement does to the transaction of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// BEGIN or START TRANSACTION.
    Begin {
        /// Whether it said READ ONLY.
        read_only: bool,
    },
    /// COMMIT or END.
    Commit,
    /// ROLLBACK or ABORT.
    Rollback,
}

/// How statements begin that change the state of their connection.
const CHANGES_STATE: [&str; 11] =
    ["set", "reset", "use", "begin", "start", "commit", "end", "rollback", "abort", "prepare", "deallocate"];

/// True when some statement leaves state behind, or needs what another left. `USE` alone is none of them:
/// names are easily carried to any connection.
pub(crate) fn leaves_state(text: &str) -> bool {
    let tokens = tokens(text);
    statements(&tokens).any(leaves) && !are_one_use(&tokens)
}

/// True when some statement leaves more behind than a transaction and what names mean.
pub(crate) fn keeps_state(text: &str) -> bool {
    let tokens = tokens(text);
    statements(&tokens)
        .any(|statement| leaves(statement) && control(statement).is_none() && !may_change_names(statement))
}

fn leaves(statement: &[Token]) -> bool {
    starts_with(statement, &CHANGES_STATE)
        || starts_with(statement, &["execute"])
        || creates_temporary(statement)
}

/// True for a text that is one USE.
pub(crate) fn is_use(text: &str) -> bool {
    are_one_use(&tokens(text))
}

fn are_one_use(tokens: &[Token]) -> bool {
    let mut statements = statements(tokens);
    statements.next().is_some_and(|statement| starts_with(statement, &["use"])) && statements.next().is_none()
}

/// True when a statement may change what unqualified names mean.
pub(crate) fn changes_names(text: &str) -> bool {
    let tokens = tokens(text);
    statements(&tokens).any(may_change_names)
}

fn may_change_names(statement: &[Token]) -> bool {
    let sets = starts_with(statement, &["set", "reset"]);
    let is_one = |name: &str| name == "schema" || name == "search_path";
    starts_with(statement, &["use"]) || (sets && statement.iter().filter_map(Token::name).any(is_one))
}

/// What each statement does to the transaction; `None` for most.
pub(crate) fn controls(text: &str) -> Vec<Option<Control>> {
    statements(&tokens(text)).map(control).collect()
}

fn control(statement: &[Token]) -> Option<Control> {
    let Some(Token::Word(first)) = statement.first() else { return None };
    match first.as_str() {
        "begin" | "start" => {
            let read_only = statement.windows(2).any(|pair| is(&pair[0], "read") && is(&pair[1], "only"));
            Some(Control::Begin { read_only })
        }
        "commit" | "end" => Some(Control::Commit),
        "rollback" | "abort" => Some(Control::Rollback),
        _ => None,
    }
}

/// The text with every SET and RESET made local to its connection: in DuckDB a plain `SET threads = 1`
/// changes every client.
///
/// # Errors
/// SET GLOBAL, and settings that are one for all clients.
pub(crate) fn localise(text: &str) -> Result<Cow<'_, str>, Refusal> {
    let all: Vec<(Token, Range<usize>)> = ranged(text).collect();
    let mut local = String::new();
    let mut copied = 0;
    for statement in all.split(|(token, _)| *token == Token::Punctuation(';')) {
        let [(first, place), rest @ ..] = statement else { continue };
        if !is(first, "set") && !is(first, "reset") {
            continue;
        }
        if set_target(rest, text)? {
            local.push_str(&text[copied..place.end]);
            local.push_str(" SESSION");
            copied = place.end;
        }
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(text));
    }
    local.push_str(&text[copied..]);
    Ok(Cow::Owned(local))
}

/// Looks at what follows SET or RESET; true where the scope has to be named.
fn set_target(rest: &[(Token, Range<usize>)], text: &str) -> Result<bool, Refusal> {
    let name = |at: usize| rest.get(at).and_then(|(token, _)| token.name()).unwrap_or_default();
    let (setting, unscoped) = match name(0) {
        "global" => {
            return Err(Refusal::NotAllowed(
                "SET GLOBAL would change the settings of every client; leave the word out to change only this session's"
                    .into(),
            ));
        }
        "variable" => return Ok(false),
        "session" | "local" => (name(1), false),
        first => (first, true),
    };
    if ["schema", "search_path"].contains(&setting) {
        check_path(&rest[if unscoped { 1 } else { 2 }..], text)?;
    }
    // For some of them DuckDB takes that for a bug of its own, and gives the database up.
    if rest.last().is_some_and(|(token, _)| is(token, "null")) {
        return Err(Refusal::NotAllowed(format!(
            "the setting {setting} takes no NULL; RESET gives it its default"
        )));
    }
    let time_zone = setting == "time" && (name(1) == "zone" || name(2) == "zone");
    // Drivers ask for UTC, which they have.
    let asks_for_utc = |end: usize| text[..end].to_lowercase().ends_with("'utc'");
    if (time_zone || setting == "timezone") && rest.last().is_some_and(|(_, place)| asks_for_utc(place.end)) {
        return Ok(unscoped && !time_zone);
    }
    if NAMES_FILES.contains(&setting) {
        return Err(Refusal::NotAllowed(format!(
            "the setting {setting} would make the server write a file; only COPY ... TO does that, where the operator lets it"
        )));
    }
    if NAMES_FOLDERS.contains(&setting) {
        return Err(Refusal::NotAllowed(format!(
            "the setting {setting} would be about folders of the server's machine; write the whole path"
        )));
    }
    if OF_THE_ENGINE.contains(&setting) {
        return Err(Refusal::NotAllowed(format!(
            "the setting {setting} is about how the server itself works, which its operator decides"
        )));
    }
    if PINNED.contains(&setting) || time_zone {
        let name = if time_zone { "timezone" } else { setting };
        let instead = match name {
            "timezone" | "calendar" => "; times are in UTC, convert them with AT TIME ZONE",
            _ => "",
        };
        return Err(Refusal::NotAllowed(format!(
            "the setting {name} is one for all clients and cannot be changed{instead}"
        )));
    }
    Ok(unscoped)
}

/// What unqualified names are to mean must be plain to see: names, or one text in single quotes, none of them the
/// server's own. Else a client could reach the ledger by a name that no rule has read.
fn check_path(value: &[(Token, Range<usize>)], text: &str) -> Result<(), Refusal> {
    let mut texts = 0;
    for (token, place) in value {
        let is_plain = match token {
            Token::Literal => {
                texts += 1;
                let own =
                    |content: &str| [INTERNAL_PREFIX, LAKE_METADATA].iter().any(|own| content.contains(own));
                unquoted(&text[place.clone()])
                    .map(|content| content.to_lowercase())
                    .is_some_and(|content| !own(&content) && !names_duckdb(&content))
            }
            Token::Word(name) | Token::Quoted(name) => !OF_DUCKDB.contains(&name.as_str()),
            Token::Punctuation(mark) => ['=', ',', '.'].contains(mark),
        };
        if !is_plain || texts > 1 {
            return Err(Refusal::NotAllowed(format!(
                "the search path is given as names, or as one text in single quotes; schemas that begin with \
                 {INTERNAL_PREFIX} are the server's own, and the catalogs system and temp are DuckDB's"
            )));
        }
    }
    Ok(())
}

/// Whether an entry of a search path begins with a catalog of DuckDB's own.
fn names_duckdb(path: &str) -> bool {
    path.split(',').any(|entry| {
        let first = entry.trim().trim_start_matches('"').split(['.', '"']).next().unwrap_or_default();
        OF_DUCKDB.contains(&first.trim())
    })
}

pub(super) fn starts_with(statement: &[Token], words: &[&str]) -> bool {
    matches!(statement.first(), Some(Token::Word(word)) if words.contains(&word.as_str()))
}

pub(super) fn creates_temporary(statement: &[Token]) -> bool {
    let word = |at: usize| match statement.get(at) {
        Some(Token::Word(word)) => word.as_str(),
        _ => "",
    };
    // CREATE [OR REPLACE] [LOCAL | GLOBAL] TEMP
    let scope = if word(1) == "or" { 3 } else { 1 };
    let kind = if ["local", "global"].contains(&word(scope)) { scope + 1 } else { scope };
    word(0) == "create" && ["temp", "temporary"].contains(&word(kind))
}

pub(super) fn is(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_more_than_transactions_and_names() {
        for text in [
            "SET x = 1",
            "BEGIN; CREATE TEMP TABLE t (i INT)",
            "PREPARE p AS SELECT 1",
            "SET VARIABLE schema2 = 1",
        ] {
            assert!(keeps_state(text), "{text}");
        }
        for text in
            ["BEGIN; INSERT INTO t VALUES (1); COMMIT", "SELECT 1; USE s", "SET schema = 's'", "SELECT 1", ""]
        {
            assert!(!keeps_state(text), "{text}");
        }
    }

    #[test]
    fn what_leaves_state() {
        for text in [
            "SET x = 1",
            "begin",
            "SELECT 1; USE s",
            "create or replace temp table t (x int)",
            "CREATE LOCAL TEMPORARY VIEW v AS SELECT 1",
            "\u{feff}SET x = 1",
            "/* a */ PREPARE p AS SELECT 1",
        ] {
            assert!(leaves_state(text), "{text}");
        }
        for text in ["SELECT 'set'", "USE s", "CREATE TABLE temp (x INT)", "UPDATE t SET x = 1"] {
            assert!(!leaves_state(text), "{text}");
        }
    }

    #[test]
    fn settings_become_local() {
        let local = |text| localise(text).unwrap();
        assert_eq!(
            local("set threads = 1; select 1; RESET x"),
            "set SESSION threads = 1; select 1; RESET SESSION x"
        );
        assert_eq!(local("SET VARIABLE x = 1; SET SESSION y = 2"), "SET VARIABLE x = 1; SET SESSION y = 2");
        assert_eq!(local("UPDATE t SET timezone = 1"), "UPDATE t SET timezone = 1");
        assert_eq!(local("SET timezone = 'UTC';"), "SET SESSION timezone = 'UTC';");
        assert_eq!(local("SET search_path = 'a,db.b'"), "SET SESSION search_path = 'a,db.b'");
        assert_eq!(local("SET SCHEMA main; RESET schema"), "SET SESSION SCHEMA main; RESET SESSION schema");
        for refused in [
            "SET GLOBAL threads = 1",
            "SET TimeZone = 'CET'",
            "SET SESSION \"timezone\" = 'CET'",
            "RESET arrow_large_buffer_size",
            "SET TIME ZONE 'CET'",
            "SET LOCAL TIME ZONE 'CET'",
            "SET profiling_output = '/etc/passwd'",
            "SET perfect_ht_threshold = NULL",
            "SET SESSION perfect_ht_threshold TO null",
            "SET SESSION \"Profile_Output\" = 'x'",
            "SET log_query_path = 'x'",
            "SET search_path = '__merganser'",
            "SET schema TO 'main,__Merganser'",
            "SET SESSION \"Search_Path\" = E'\\x5f_merganser'",
            "SET search_path = $$__merganser$$",
            "SET search_path = getvariable('x')",
            "SET search_path = 'main, \"System\".main'",
            "SET schema = 'temp.main'",
            "SET schema = system",
            "SET streaming_buffer_size = '0B'",
            "RESET debug_window_mode",
            "SET schema = '__mer'\n'ganser'",
        ] {
            assert!(localise(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn transactions_are_recognised() {
        assert_eq!(
            controls("BEGIN TRANSACTION READ ONLY; SELECT 1; COMMIT; abort"),
            [Some(Control::Begin { read_only: true }), None, Some(Control::Commit), Some(Control::Rollback)]
        );
    }
}
