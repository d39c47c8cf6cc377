//! What passes to DuckDB at all. Each rule looks at the tokens of one statement; what depends on what there is in the
//! database is with [`super::Kept`].

use super::{
    INTERNAL_PREFIX, Refusal, explained,
    lexer::{self, Token, tokens},
    named_by_text, state, statements,
};

/// Longer texts are refused: the parser's memory is not bounded by DuckDB's memory limit.
pub(crate) const MAX_SQL_BYTES: usize = 1 << 20;

/// Deeper nesting is refused: the parser recurses on it.
const MAX_NESTING: usize = 1000;

/// More queries put together are refused: what their plan takes of memory, which no limit of DuckDB knows, grows with the
/// square of their number, and no interrupt reaches the planner.
const MAX_SET_OPERATIONS: usize = 5_000;

/// Functions that send a text to another server, which may write even where DuckDB only reads.
const PAST_THE_SERVER: [&str; 5] =
    ["postgres_execute", "postgres_query", "mysql_execute", "mysql_query", "sqlite_query"];

/// What begins so is the catalog in which DuckLake keeps the metadata of a lake.
pub(super) const LAKE_METADATA: &str = "__ducklake_metadata";

/// Functions that run, or read from, what a text names.
const OF_A_TEXT: [&str; 3] = ["query", "query_table", "json_execute_serialized_sql"];

/// What changes settings of every client: it writes down, into whatever file it is told, what others do, or stops that, or
/// has texts read by another parser, which finds other statements in them than the rules do.
const FOR_EVERYBODY: [&str; 10] = [
    "enable_peg_parser",
    "disable_peg_parser",
    "enable_logging",
    "disable_logging",
    "truncate_duckdb_logs",
    "enable_http_logging",
    "enable_profiling",
    "enable_profile",
    "disable_profiling",
    "disable_profile",
];

/// Functions of DuckLake that delete files, or take over any.
const OPERATORS_ALONE: [&str; 4] = [
    "ducklake_delete_orphaned_files",
    "ducklake_cleanup_old_files",
    "ducklake_expire_snapshots",
    "ducklake_add_data_files",
];

/// Lets a text through to DuckDB, or says why not.
///
/// # Errors
/// A text that is too long, contains NUL, nests too deeply, calls a PRAGMA with anything but literals
/// (its arguments run while parsing), or forces a checkpoint (which blocks every client).
pub(crate) fn gate(text: &str) -> Result<(), Refusal> {
    if text.len() > MAX_SQL_BYTES {
        return Err(Refusal::Malformed(format!(
            "the SQL text has {} bytes; at most {MAX_SQL_BYTES} are taken; send large data as an ingest or as parameters",
            text.len()
        )));
    }
    if text.contains('\0') {
        return Err(Refusal::Malformed("the SQL text contains the character NUL".into()));
    }
    if lexer::has_doubtful_space(text) {
        return Err(Refusal::Malformed(
            "the SQL text has a space that is no plain one, such as a no-break space, beside a block comment, a backslash or a \
             dollar; write plain spaces"
                .into(),
        ));
    }
    let tokens = tokens(text);
    check_nesting(&tokens)?;
    check_set_operations(&tokens)?;
    for statement in statements(&tokens) {
        explained::check(statement)?;
        let statement = explained::behind(statement);
        check_pragma(statement)?;
        check_import(statement)?;
        check_extensions(statement)?;
        check_renaming(statement)?;
        check_checkpoint(statement)?;
        check_use(statement)?;
        check_secrets(statement)?;
        check_names(statement)?;
    }
    named_by_text::check(text, &tokens)
}

fn check_nesting(tokens: &[Token]) -> Result<(), Refusal> {
    let mut depth = 0_usize;
    for token in tokens {
        match token {
            Token::Punctuation('(' | '[' | '{') => depth += 1,
            Token::Punctuation(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(Refusal::Malformed(format!("the SQL text nests deeper than {MAX_NESTING} levels")));
        }
    }
    Ok(())
}

fn check_set_operations(tokens: &[Token]) -> Result<(), Refusal> {
    let is_one = |token: &&Token| ["union", "intersect", "except"].iter().any(|word| state::is(token, word));
    let count = tokens.iter().filter(is_one).count();
    if count > MAX_SET_OPERATIONS {
        return Err(Refusal::Malformed(format!(
            "the SQL text puts {count} queries together by UNION, INTERSECT or EXCEPT; at most {MAX_SET_OPERATIONS} are taken; \
             use VALUES, or a table"
        )));
    }
    Ok(())
}

/// `PRAGMA name(...)` evaluates its arguments while it is parsed; only literals and names pass.
fn check_pragma(statement: &[Token]) -> Result<(), Refusal> {
    if !matches!(statement.first(), Some(Token::Word(word)) if word == "pragma") {
        return Ok(());
    }
    let opened = statement.iter().filter(|token| **token == Token::Punctuation('(')).count();
    if opened > 1 {
        return Err(Refusal::NotAllowed("a PRAGMA takes literals only, no expressions".into()));
    }
    if statement.get(2) == Some(&Token::Punctuation('=')) {
        return Err(Refusal::NotAllowed("a PRAGMA does not change settings here; use SET".into()));
    }
    Ok(())
}

/// `IMPORT DATABASE` becomes the statements of a file while it is parsed, which no gate has seen.
fn check_import(statement: &[Token]) -> Result<(), Refusal> {
    const PRAGMAS: [&str; 2] = ["import_database", "copy_database"];
    let imports = match statement {
        [Token::Word(first), ..] if first == "import" => true,
        [Token::Word(first), Token::Word(name) | Token::Quoted(name), ..] => {
            first == "pragma" && PRAGMAS.contains(&name.as_str())
        }
        _ => false,
    };
    if imports {
        return Err(Refusal::NotAllowed(
            "IMPORT DATABASE would run whatever its files say; send their statements, or load the files with COPY ... FROM"
                .into(),
        ));
    }
    Ok(())
}

/// Whoever renames a database takes it away from those who know it by its name.
fn check_renaming(statement: &[Token]) -> Result<(), Refusal> {
    match statement {
        [Token::Word(first), Token::Word(second), ..] if first == "alter" && second == "database" => {
            Err(Refusal::NotAllowed(
                "ALTER DATABASE would rename a database under every client; ATTACH it by the name that it is to have".into(),
            ))
        }
        _ => Ok(()),
    }
}

fn check_use(statement: &[Token]) -> Result<(), Refusal> {
    match statement {
        [Token::Word(first), Token::Word(name) | Token::Quoted(name), ..]
            if first == "use" && state::OF_DUCKDB.contains(&name.as_str()) =>
        {
            Err(Refusal::NotAllowed(format!("{name} is a catalog of DuckDB's own; it is not for USE")))
        }
        _ => Ok(()),
    }
}

/// DuckDB's own catalogs have nothing that could be checkpointed: it takes the attempt for a fault of its own, and gives
/// the database up.
fn check_checkpoint(statement: &[Token]) -> Result<(), Refusal> {
    let is_own = |token: &Token| token.name().is_some_and(|name| state::OF_DUCKDB.contains(&name));
    let refused = match statement {
        [Token::Word(first), named, ..] if first == "checkpoint" => is_own(named),
        _ => statement.windows(2).any(|pair| {
            matches!(pair, [Token::Word(name) | Token::Quoted(name), Token::Punctuation('(')] if name == "checkpoint")
        }),
    };
    if refused {
        return Err(Refusal::NotAllowed(
            "this cannot be checkpointed so; send CHECKPOINT, with the name of a database where it is another one".into(),
        ));
    }
    Ok(())
}

/// An extension is code that runs in the server, one for all clients.
fn check_extensions(statement: &[Token]) -> Result<(), Refusal> {
    let verb = match statement {
        [Token::Word(force), Token::Word(verb), ..] if force == "force" => verb,
        [Token::Word(verb), ..] => verb,
        _ => return Ok(()),
    };
    let updates = verb == "update"
        && matches!(statement.get(1), Some(Token::Word(word)) if word == "extensions")
        && !statement.iter().any(|token| matches!(token, Token::Word(word) if word == "set"));
    if updates || ["install", "load"].contains(&verb.as_str()) {
        return Err(Refusal::NotAllowed(
            "extensions are one for all clients, and only the operator installs and loads them (extensions in the \
             configuration)"
                .into(),
        ));
    }
    Ok(())
}

/// A secret is one for all clients: whoever makes one decides where everybody's requests go, and who attaches a server
/// by one has the password sent to a host of his choice.
fn check_secrets(statement: &[Token]) -> Result<(), Refusal> {
    let changes = (0..statement.len()).any(|at| changes_secret(&statement[at..]));
    let attaches = matches!(statement.first(), Some(Token::Word(word)) if word == "attach");
    let uses = statement.windows(2).any(|pair| {
        matches!(pair, [Token::Punctuation('(' | ','), Token::Word(option) | Token::Quoted(option)]
            if option.ends_with("secret"))
    });
    if changes || attaches && uses {
        return Err(Refusal::NotAllowed(
            "secrets are one for all clients, and only the operator makes and uses them: as a [[secret]] of the configuration, \
             and for another database as a [[catalog]]"
                .into(),
        ));
    }
    Ok(())
}

/// Whether a statement begins so: `CREATE [OR REPLACE] [PERSISTENT | TEMPORARY] SECRET`, or the same with DROP.
fn changes_secret(tokens: &[Token]) -> bool {
    let mut words = tokens.iter().map(|token| match token {
        Token::Word(word) => word.as_str(),
        _ => "",
    });
    let verb = words.next();
    let between = ["or", "replace", "persistent", "temporary", "temp"];
    matches!(verb, Some("create" | "drop")) && words.find(|word| !between.contains(word)) == Some("secret")
}

fn check_names(statement: &[Token]) -> Result<(), Refusal> {
    for pair in statement.windows(2) {
        if let [Token::Word(first), Token::Word(second)] = pair
            && first == "force"
            && second == "checkpoint"
        {
            return Err(no_force());
        }
    }
    for pair in statement.windows(2) {
        if let [Token::Word(name) | Token::Quoted(name), Token::Punctuation('(')] = pair
            && OF_A_TEXT.contains(&name.as_str())
        {
            return Err(Refusal::NotAllowed(format!(
                "{name} runs a text that no rule has read; send it as a statement"
            )));
        }
    }
    for name in statement.iter().filter_map(Token::name) {
        match name {
            "force_checkpoint" => return Err(no_force()),
            _ if PAST_THE_SERVER.contains(&name) => {
                return Err(Refusal::NotAllowed(format!(
                    "{name} passes a text to another server unseen, which no rule of this one could judge; \
                     attach that server as a [[catalog]] and use its tables"
                )));
            }
            _ if FOR_EVERYBODY.contains(&name) => {
                return Err(Refusal::NotAllowed(format!(
                    "{name} changes DuckDB's own logs, profiles or parser, which are one for all clients; only the \
                     operator changes them"
                )));
            }
            _ if OPERATORS_ALONE.contains(&name) => {
                return Err(Refusal::NotAllowed(format!(
                    "{name} can take away files that a commit or a read under way needs; \
                     MAINTAIN CATALOG does it in time"
                )));
            }
            _ if name.starts_with(LAKE_METADATA) => {
                return Err(Refusal::NotAllowed(
                    "the metadata of a lake is DuckLake's own; its functions tell of it, such as lake.snapshots()".into(),
                ));
            }
            _ if name.starts_with(INTERNAL_PREFIX) => {
                return Err(Refusal::NotAllowed(format!(
                    "names that begin with {INTERNAL_PREFIX} are the server's own"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn no_force() -> Refusal {
    Refusal::NotAllowed(
        "a forced checkpoint would block every client; use CHECKPOINT, or leave it to the server".into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_sql_passes() {
        for sql in [
            "SELECT 1",
            "PRAGMA table_info('t')",
            "EXPLAIN ANALYZE CREATE TABLE t (x INT)",
            "EXPLAIN (FORMAT json) SELECT 1",
            "SELECT 'force checkpoint', \"a;b\" -- PRAGMA x(nextval('s'))",
            "CHECKPOINT",
            "CREATE OR REPLACE TEMP TABLE secret (secret INT)",
            "ATTACH 'x.db' AS secret",
            "SELECT create_secret, secret FROM t",
        ] {
            assert_eq!(gate(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn what_harms_others_is_refused() {
        for sql in [
            "FORCE CHECKPOINT",
            "force /* x */ checkpoint",
            "SELECT 1 --\r; FORCE CHECKPOINT",
            "SELECT 1; CALL force_checkpoint()",
            "FROM \"FORCE_CHECKPOINT\"()",
            "PRAGMA table_info(nextval('s'))",
            "FROM __merganser_scan(1)",
            "FROM \"__Merganser_recast\"(1)",
            "CALL postgres_execute('pg', 'DROP TABLE t')",
            "FROM \"Postgres_Query\"('pg', 'SELECT 1')",
            "FROM __ducklake_metadata_lake.ducklake_snapshot",
            "FROM query('FROM force_checkpoint()')",
            "CALL ducklake_cleanup_old_files('lake', cleanup_all => true)",
            "IMPORT DATABASE '/dump'",
            "import /* x */ database '/dump'",
            "PRAGMA \"Import_Database\"('/dump')",
            "PRAGMA copy_database('a', 'b')",
            "ALTER DATABASE db SET ALIAS TO other",
            "EXPLAIN ANALYZE ALTER DATABASE db SET ALIAS TO other",
            "EXPLAIN ANALYZE UPDATE EXTENSIONS",
            "CHECKPOINT system",
            "checkpoint \"Temp\"",
            "FROM checkpoint('system')",
            "CALL \"Checkpoint\"()",
            "USE system",
            "use \"Temp\".main",
            "CALL enable_logging(storage := 'file')",
            "FROM enable_peg_parser()",
            "SELECT * FROM \"Disable_Peg_Parser\"()",
            "CREATE SECRET (TYPE s3)",
            "create or replace /* x */ temporary secret if not exists s (TYPE s3)",
            "DROP PERSISTENT SECRET s",
            "EXPLAIN ANALYZE DROP SECRET s",
            "ATTACH 'host=evil' AS evil (TYPE postgres, SECRET pg)",
            "ATTACH 'ducklake:x' AS evil (\"meta_secret\" pg)",
        ] {
            assert!(matches!(gate(sql), Err(Refusal::NotAllowed(_))), "{sql}");
        }
    }

    #[test]
    fn what_no_parser_should_see_is_refused() {
        let union = |others| format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(others));
        assert_eq!(gate(&union(MAX_SET_OPERATIONS)), Ok(()));
        for sql in [
            "SELECT '\0'".into(),
            "(".repeat(100_000),
            "x".repeat(MAX_SQL_BYTES + 1),
            union(MAX_SET_OPERATIONS + 1),
        ] {
            assert!(matches!(gate(&sql), Err(Refusal::Malformed(_))));
        }
    }
}
