//! Which tables a text changes in such a way that no append may run beside it. In DuckDB an append conflicts
//! with ALTER, DROP and CREATE OR REPLACE of its table; with TRUNCATE, indexes, views and comments it does not.

use std::collections::BTreeSet;

use super::{
    explained::behind,
    lexer::{Token, tokens},
    statements,
};

/// The tables to which nobody may append meanwhile.
///
/// Tables go by the last part of their name alone, in lower case: what the other parts are depends on USE, and
/// to keep a namesake in another schema waiting does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exclusion {
    /// These; often none.
    Tables(BTreeSet<String>),
    /// All that there are.
    Everything,
}

impl Exclusion {
    /// Appends go on everywhere.
    pub(crate) fn nothing() -> Self {
        Self::Tables(BTreeSet::new())
    }

    /// One table, by the last part of its name.
    pub(crate) fn of_table(name: &str) -> Self {
        Self::Tables(BTreeSet::from([name.to_lowercase()]))
    }

    /// These and those.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Tables(mut tables), Self::Tables(more)) => {
                tables.extend(more);
                Self::Tables(tables)
            }
            _ => Self::Everything,
        }
    }
}

/// What a text excludes: the union over its statements.
pub(crate) fn exclusion(text: &str) -> Exclusion {
    let tokens = tokens(text);
    statements(&tokens).map(of_statement).fold(Exclusion::nothing(), Exclusion::and)
}

/// The tables that a text takes away from under their names: it drops, replaces or renames them. What is done to a whole
/// schema or catalog is meant for all that is in it, and is left out.
pub(crate) fn taken_away(text: &str) -> Exclusion {
    let tokens = tokens(text);
    let taken = statements(&tokens).map(behind).filter(|statement| {
        let renames = statement.windows(2).any(|pair| words(pair) == ["rename", "to"]);
        match statement.first().and_then(word) {
            Some("drop" | "create") => true,
            Some("alter") => renames,
            _ => false,
        }
    });
    taken
        .map(of_statement)
        .filter(|tables| *tables != Exclusion::Everything)
        .fold(Exclusion::nothing(), Exclusion::and)
}

/// The tables to which a text may write: any that it names. What runs a text that stands elsewhere may write to all, and so may
/// one that has very many names.
pub(crate) fn written(text: &str) -> Exclusion {
    const NAMES: usize = 1_000;
    let tokens = tokens(text);
    let runs_another = statements(&tokens).map(behind).any(|statement| {
        matches!(statement.first().and_then(word), Some("execute" | "call" | "import" | "pragma"))
            || words(statement.get(1..).unwrap_or_default()) == ["from", "database"]
    });
    let names: BTreeSet<_> = tokens.iter().filter_map(Token::name).map(str::to_lowercase).collect();
    if runs_another || names.len() > NAMES { Exclusion::Everything } else { Exclusion::Tables(names) }
}

/// What changes tables and is not understood excludes everything.
fn of_statement(statement: &[Token]) -> Exclusion {
    // `EXPLAIN ANALYZE ALTER` alters.
    let statement = behind(statement);
    let Some((Token::Word(first), rest)) = statement.split_first() else { return Exclusion::nothing() };
    let named = match first.as_str() {
        "alter" => of_alter(rest),
        "drop" => of_drop(rest),
        "create" if words(rest).starts_with(&["or", "replace"]) => of_replace(&rest[2..]),
        "attach" if words(rest).starts_with(&["or", "replace"]) => None,
        "detach" => None,
        _ => return Exclusion::nothing(),
    };
    named.map_or(Exclusion::Everything, Exclusion::Tables)
}

fn of_alter(rest: &[Token]) -> Option<BTreeSet<String>> {
    const CHANGES: [&str; 6] = ["add", "alter", "drop", "rename", "reset", "set"];
    match words(rest).first()? {
        &"table" => {
            let (table, rest) = name(after_if_exists(&rest[1..]))?;
            words(rest).first().filter(|word| CHANGES.contains(word))?;
            Some(BTreeSet::from([table]))
        }
        &"sequence" | &"view" => Some(BTreeSet::new()),
        _ => None,
    }
}

/// CASCADE reaches tables from sequences and schemas; from a table it reaches what belongs to it only.
fn of_drop(rest: &[Token]) -> Option<BTreeSet<String>> {
    const SIMPLE: [&str; 8] =
        ["function", "index", "macro", "persistent", "secret", "sequence", "temporary", "type"];
    let cascades = || is_anywhere(rest, "cascade");
    match words(rest).first()? {
        &"table" => dropped_tables(after_if_exists(&rest[1..])),
        &"view" => Some(BTreeSet::new()),
        kind if SIMPLE.contains(kind) && !cascades() => Some(BTreeSet::new()),
        _ => None,
    }
}

fn dropped_tables(mut rest: &[Token]) -> Option<BTreeSet<String>> {
    let mut tables = BTreeSet::new();
    loop {
        let (table, after) = name(rest)?;
        tables.insert(table);
        match after {
            [] => return Some(tables),
            [Token::Word(word)] if word == "cascade" || word == "restrict" => return Some(tables),
            [Token::Punctuation(','), after @ ..] => rest = after,
            _ => return None,
        }
    }
}

fn of_replace(rest: &[Token]) -> Option<BTreeSet<String>> {
    // What is temporary is seen by its session only, and the others hold no rows.
    const NO_TABLES: [&str; 11] = [
        "function",
        "global",
        "local",
        "macro",
        "persistent",
        "recursive",
        "secret",
        "sequence",
        "temp",
        "temporary",
        "type",
    ];
    match words(rest).first()? {
        &"table" => {
            let (table, rest) = name(&rest[1..])?;
            let next = rest.first()?;
            let goes_on = *next == Token::Punctuation('(') || word(next) == Some("as");
            goes_on.then(|| BTreeSet::from([table]))
        }
        &"view" => Some(BTreeSet::new()),
        kind if NO_TABLES.contains(kind) => Some(BTreeSet::new()),
        _ => None,
    }
}

fn after_if_exists(tokens: &[Token]) -> &[Token] {
    if words(tokens).starts_with(&["if", "exists"]) { &tokens[2..] } else { tokens }
}

/// The last part of the name at the front, and what follows it.
fn name(tokens: &[Token]) -> Option<(String, &[Token])> {
    let (part, rest) = match tokens.split_first()? {
        // ALTER TABLE ONLY t
        (Token::Word(part), _) if part == "only" => return None,
        (Token::Word(part) | Token::Quoted(part), rest) => (part, rest),
        _ => return None,
    };
    match rest {
        [Token::Punctuation('.'), rest @ ..] => name(rest),
        _ => Some((part.clone(), rest)),
    }
}

/// The bare words at the front; two are as many as anybody asks for.
fn words(tokens: &[Token]) -> Vec<&str> {
    tokens.iter().take(2).map_while(word).collect()
}

fn word(token: &Token) -> Option<&str> {
    match token {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

fn is_anywhere(tokens: &[Token], word: &str) -> bool {
    tokens.iter().filter_map(self::word).any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(names: &[&str]) -> Exclusion {
        Exclusion::Tables(names.iter().map(|&name| name.into()).collect())
    }

    #[test]
    fn a_table_is_taken_away_by_name() {
        for (text, names) in [
            ("DROP TABLE a; CREATE OR REPLACE TABLE b AS FROM a", &["a", "b"][..]),
            ("ALTER TABLE s.A RENAME TO b", &["a"]),
            ("EXPLAIN ANALYZE DROP TABLE a", &["a"]),
            (
                "ALTER TABLE a ADD COLUMN c INT; ALTER TABLE a RENAME COLUMN c TO d; DROP SCHEMA s CASCADE",
                &[],
            ),
            ("CREATE TABLE a AS FROM b; TRUNCATE a; INSERT INTO a FROM b", &[]),
        ] {
            assert_eq!(taken_away(text), tables(names), "{text}");
        }
    }

    #[test]
    fn statements_exclude_the_tables_that_they_name() {
        for (text, names) in [
            ("ALTER TABLE t ADD COLUMN x INT", &["t"][..]),
            ("alter table IF EXISTS c.s.T rename to u", &["t"]),
            ("ALTER TABLE \"My.Table\" /* ; */ SET PARTITIONED BY (x)", &["my.table"]),
            ("ALTER TABLE s.\"A\"\"b\" DROP x", &["a\"b"]),
            ("DROP TABLE t", &["t"]),
            ("DROP TABLE IF EXISTS a, s.b, \"C\" CASCADE", &["a", "b", "c"]),
            ("DROP TABLE t RESTRICT;", &["t"]),
            ("CREATE OR REPLACE TABLE s.t (x INT)", &["t"]),
            ("CREATE OR REPLACE TABLE t AS SELECT 1", &["t"]),
            ("CREATE OR REPLACE TABLE t(x INT)", &["t"]),
            ("EXPLAIN ANALYZE DROP TABLE t", &["t"]),
            ("EXPLAIN (ANALYZE, FORMAT json) CREATE OR REPLACE TABLE t AS FROM u", &["t"]),
            ("SELECT 1; ALTER TABLE a ADD x INT; DROP TABLE b", &["a", "b"]),
        ] {
            assert_eq!(exclusion(text), tables(names), "{text}");
        }
    }

    #[test]
    fn what_runs_beside_appends_excludes_nothing() {
        for text in [
            "",
            "SELECT 'drop table t'",
            "INSERT INTO t SELECT 1; UPDATE t SET x = 1; DELETE FROM t",
            "TRUNCATE t",
            "CREATE TABLE t (x INT)",
            "CREATE INDEX i ON t (x)",
            "DROP INDEX i",
            "CREATE OR REPLACE VIEW v AS FROM t",
            "CREATE OR REPLACE TEMP TABLE t (x INT)",
            "CREATE OR REPLACE LOCAL TEMPORARY TABLE t AS FROM u",
            "ALTER VIEW v RENAME TO w",
            "DROP VIEW IF EXISTS v CASCADE",
            "ALTER SEQUENCE s OWNED BY t",
            "DROP SEQUENCE s",
            "DROP MACRO m",
            "COMMENT ON TABLE t IS 'drop'",
            "ATTACH 'other.db'",
            "EXPLAIN SELECT 1",
        ] {
            assert_eq!(exclusion(text), Exclusion::nothing(), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_excludes_everything() {
        for text in [
            "DROP SCHEMA s",
            "DROP SCHEMA IF EXISTS s CASCADE",
            "DETACH other",
            "DROP DATABASE other",
            "ATTACH OR REPLACE 'other.db' AS other",
            "DROP SEQUENCE s CASCADE",
            "ALTER",
            "DROP",
            "ALTER TABLE",
            "ALTER TABLE t",
            "ALTER TABLE ONLY t ADD COLUMN x INT",
            "ALTER TABLE t * ADD COLUMN x INT",
            "ALTER TABLE U&\"t\" ADD COLUMN x INT",
            "ALTER TABLE s. ADD COLUMN x INT",
            "ALTER DATABASE d RENAME TO e",
            "DROP TABLE 't'",
            "DROP TABLE a b",
            "DROP TABLE a,",
            "CREATE OR REPLACE",
            "CREATE OR REPLACE SCHEMA s",
            "CREATE OR REPLACE UNLOGGED TABLE t (x INT)",
            "CREATE OR REPLACE TABLE 't' AS SELECT 1",
            "ALTER TABLE t ADD x INT; DROP SCHEMA s; SELECT 1",
        ] {
            assert_eq!(exclusion(text), Exclusion::Everything, "{text}");
        }
    }

    #[test]
    fn a_table_is_excluded_by_the_name_that_a_statement_would_give_it() {
        for name in ["T", "Größe", "A\"b.c", "ΑΣ", "İ"] {
            let text = format!("DROP TABLE {}", super::super::quote(name));
            assert_eq!(exclusion(&text), Exclusion::of_table(name), "{name}");
        }
    }

    proptest::proptest! {
        /// Whatever stands behind it, a statement that changes tables is never taken for a harmless one.
        #[test]
        fn a_change_of_a_table_always_excludes_something(rest in "[^;]{0,40}") {
            let text = format!("ALTER TABLE {rest}");
            proptest::prop_assert_ne!(exclusion(&text), Exclusion::nothing());
        }
    }

    #[test]
    fn a_text_may_write_to_what_it_names_and_to_all_where_it_runs_another() {
        let covers = |text: &str, table: &str| match written(text) {
            Exclusion::Tables(tables) => tables.contains(table),
            Exclusion::Everything => true,
        };
        for text in [
            "INSERT INTO s.T VALUES (1)",
            "WITH x AS (SELECT 1) INSERT INTO \"T\" FROM x",
            "EXPLAIN ANALYZE DELETE FROM t",
            "SELECT 1; COPY t FROM 'f.csv'",
            "EXECUTE p",
            "IMPORT DATABASE 'd'",
            "COPY FROM DATABASE a TO b",
        ] {
            assert!(covers(text, "t"), "{text}");
        }
        assert!(!covers("INSERT INTO u VALUES ('t')", "t"));
        let many: Vec<_> = (0..2_000).map(|number| format!("c{number}")).collect();
        assert_eq!(written(&format!("SELECT {}", many.join(", "))), Exclusion::Everything);
    }
}
