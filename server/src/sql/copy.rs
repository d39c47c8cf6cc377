//! `COPY ... TO`: what writes files. It is read here by a grammar of its own, smaller than DuckDB's, and what is not
//! understood is refused: a statement that this module takes for harmless and DuckDB takes for a COPY never runs.

mod cursor;
mod options;

use std::ops::Range;

use self::cursor::Cursor;
use super::{
    backup::unquoted,
    lexer::{Token, ranged},
    literal,
};

/// How a query in the place of a table begins; DuckDB takes no other statement there.
const QUERIES: [&str; 7] = ["select", "with", "from", "values", "pivot", "unpivot", "table"];

/// What a statement of a text is to somebody who asks whether it writes files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// It begins with none of the words after which DuckDB may write a file.
    Other,
    /// It begins with one of them, and writes none.
    Harmless,
    /// It writes files.
    Export(Export),
    /// It would write files, or is not understood; the text says what to do.
    Refused(String),
}

/// A `COPY ... TO` that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Export {
    source: Source,
    /// The file, folder or address, as the client has it.
    pub(crate) target: String,
    /// As they stand in the text, with the format in any case.
    options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The text between the parentheses.
    Query(String),
    /// A table, and its columns between parentheses, if they are named.
    Table(String, Option<String>),
}

impl Export {
    /// The query that it writes, which has to be one statement by itself: then nothing in it can end the parentheses
    /// around it.
    pub(crate) fn query(&self) -> Option<&str> {
        match &self.source {
            Source::Query(query) => Some(query),
            Source::Table(_, _) => None,
        }
    }

    /// A query for the same rows.
    pub(crate) fn rows(&self) -> String {
        match &self.source {
            Source::Query(query) => query.clone(),
            Source::Table(table, columns) => {
                format!("SELECT {} FROM {table}", columns.as_deref().unwrap_or("*"))
            }
        }
    }

    /// Whether the files are to be Parquet.
    pub(crate) fn is_parquet(&self) -> bool {
        self.options.iter().any(|option| options::is_parquet(option))
    }

    /// The statement, written anew, with this target.
    pub(crate) fn sql(&self, target: &str) -> String {
        match &self.source {
            Source::Query(query) => self.sql_of(query, target),
            Source::Table(table, None) => self.copy(table, target),
            Source::Table(table, Some(columns)) => self.copy(&format!("{table} ({columns})"), target),
        }
    }

    /// The same of another query, which is one statement by itself.
    pub(crate) fn sql_of(&self, query: &str, target: &str) -> String {
        // A comment at its end would swallow the parenthesis.
        self.copy(&format!("({query}\n)"), target)
    }

    fn copy(&self, source: &str, target: &str) -> String {
        format!("COPY {source} TO {} ({})", literal(target), self.options.join(", "))
    }
}

/// The statements of a text, as separated by semicolons.
pub(crate) fn pieces(text: &str) -> Vec<(&str, Piece)> {
    let tokens: Vec<_> = ranged(text).collect();
    let statements = tokens.split(|(token, _)| *token == Token::Punctuation(';'));
    statements
        .filter_map(|statement| {
            let place = statement.first()?.1.start..statement.last()?.1.end;
            Some((&text[place], classify(text, statement)))
        })
        .collect()
}

/// What stands before the query of a statement, and the query; `None` where there is none.
pub(crate) fn split_query(statement: &str) -> Option<(&str, &str)> {
    let begins = |token: &Token| matches!(token, Token::Word(word) if QUERIES[..6].contains(&word.as_str()));
    let mut tokens = ranged(statement);
    let (first, place) = tokens.next()?;
    let is_query = begins(&first) || first == Token::Punctuation('(');
    let start = if is_query { place.start } else { tokens.find(|(token, _)| begins(token))?.1.start };
    Some(statement.split_at(start))
}

/// True for a text that is one COPY TO, and so writes nothing but files.
pub(crate) fn is_export(text: &str) -> bool {
    matches!(pieces(text).as_slice(), [(_, Piece::Export(_))])
}

fn classify(text: &str, tokens: &[(Token, Range<usize>)]) -> Piece {
    let mut cursor = Cursor::new(text, tokens);
    match cursor.word() {
        Some("copy") => copy(&mut cursor),
        Some("export") => Piece::Refused(
            "EXPORT DATABASE is not served; write tables with COPY ... TO, or the whole with BACKUP DATABASE TO 'FILE'"
                .into(),
        ),
        Some("explain" | "prepare") => hidden(&mut Cursor::new(text, tokens)),
        _ => Piece::Other,
    }
}

/// What follows COPY.
fn copy(cursor: &mut Cursor<'_>) -> Piece {
    if cursor.at_words(&["from", "database"]) {
        return Piece::Refused(
            "COPY FROM DATABASE is not served; use INSERT INTO ... SELECT, or BACKUP DATABASE TO 'FILE'"
                .into(),
        );
    }
    let Some(source) = source(cursor) else { return not_understood() };
    match (cursor.word(), source) {
        (Some("from"), Source::Table(_, _)) => Piece::Harmless,
        (Some("to"), source) => match export(cursor, source) {
            Ok(export) => Piece::Export(export),
            Err(refused) => refused,
        },
        _ => not_understood(),
    }
}

fn source(cursor: &mut Cursor<'_>) -> Option<Source> {
    if let Some(query) = cursor.in_parentheses() {
        let begins = ranged(query).next()?.0;
        let is_query = match &begins {
            Token::Word(word) => QUERIES.contains(&word.as_str()),
            other => *other == Token::Punctuation('('),
        };
        return is_query.then(|| Source::Query(query.to_owned()));
    }
    let mut table = cursor.identifier()?.to_owned();
    while cursor.punctuation('.') {
        table.push('.');
        table.push_str(cursor.identifier()?);
    }
    if !cursor.punctuation('(') {
        return Some(Source::Table(table, None));
    }
    let mut columns = vec![cursor.identifier()?];
    while cursor.punctuation(',') {
        columns.push(cursor.identifier()?);
    }
    cursor.punctuation(')').then(|| Source::Table(table, Some(columns.join(", "))))
}

/// What follows TO.
fn export(cursor: &mut Cursor<'_>, source: Source) -> Result<Export, Piece> {
    // Two texts, one a line below the other, are one text to DuckDB; here the second is not understood.
    let target = cursor.literal().and_then(unquoted).ok_or_else(not_understood)?;
    let _ = cursor.is_word("with");
    let options = options::read(cursor, &target)?;
    if cursor.is_at_end() { Ok(Export { source, target, options }) } else { Err(not_understood()) }
}

/// What EXPLAIN and PREPARE are about. `EXPLAIN ANALYZE COPY` copies, and what is prepared runs out of sight.
fn hidden(cursor: &mut Cursor<'_>) -> Piece {
    if cursor.is_word("explain") {
        let _ = cursor.is_word("analyze") || cursor.is_word("analyse");
        let has_options = cursor.is_at(&Token::Punctuation('(')) && !cursor.opens_query(&QUERIES);
        if has_options && !cursor.in_parentheses().is_some_and(are_options) {
            return Piece::Refused("the options of this EXPLAIN are not understood".into());
        }
    } else if !(cursor.is_word("prepare") && cursor.identifier().is_some() && cursor.is_word("as")) {
        return Piece::Refused("this PREPARE is not understood; write PREPARE name AS SELECT ...".into());
    }
    if cursor.is_at(&Token::Punctuation('(')) {
        return Piece::Harmless;
    }
    match cursor.word() {
        Some("copy") if matches!(copy(cursor), Piece::Harmless) => Piece::Harmless,
        Some("copy" | "export") => {
            Piece::Refused("a COPY ... TO cannot be explained or prepared; send it by itself".into())
        }
        Some(_) => Piece::Harmless,
        None => Piece::Refused("this EXPLAIN or PREPARE is not understood".into()),
    }
}

/// Words and simple texts.
fn are_options(inside: &str) -> bool {
    ranged(inside).all(|(token, place)| match token {
        Token::Word(_) | Token::Punctuation(',') => true,
        Token::Literal => unquoted(&inside[place]).is_some(),
        _ => false,
    })
}

fn not_understood() -> Piece {
    Piece::Refused(
        "this COPY is not understood; write COPY table TO 'TARGET' (OPTION value, ...) or COPY (SELECT ...) TO 'TARGET' \
         (...), with the target in single quotes and the options in parentheses"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Piece {
        let mut found = pieces(text);
        assert_eq!(found.len(), 1, "{text}");
        found.remove(0).1
    }

    fn rewritten(text: &str) -> String {
        match one(text) {
            Piece::Export(export) => export.sql(&export.target),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn an_export_is_written_anew() {
        for (text, sql) in [
            ("COPY t TO '/o/x.parquet'", "COPY t TO '/o/x.parquet' (FORMAT parquet)"),
            (
                "copy s.\"T\"\"t\" (a, \"B\") to '/o/it''s'",
                "COPY s.\"T\"\"t\" (a, \"B\") TO '/o/it''s' (FORMAT csv)",
            ),
            (
                "COPY (SELECT ')', 1 -- )\n) TO /* ' */ 's3://b/x.json.gz' WITH (COMPRESSION gzip)",
                "COPY (SELECT ')', 1\n) TO 's3://b/x.json.gz' (COMPRESSION gzip, FORMAT json)",
            ),
            (
                "COPY ((FROM t)) TO '/o/d' (FORMAT 'PARQUET', PARTITION_BY (a, b), KV_METADATA {k: 'v'}, HEADER)",
                "COPY ((FROM t)\n) TO '/o/d' (FORMAT 'PARQUET', PARTITION_BY (a, b), KV_METADATA {k: 'v'}, HEADER)",
            ),
            (
                "COPY t TO '/o/x' (DELIMITER e'\\t', FILENAME_PATTERN 'p_{uuid}', FORMAT csv)",
                "COPY t TO '/o/x' (DELIMITER e'\\t', FILENAME_PATTERN 'p_{uuid}', FORMAT csv)",
            ),
        ] {
            assert_eq!(rewritten(text), sql, "{text}");
        }
    }

    #[test]
    fn an_export_tells_its_rows_and_whether_they_become_parquet() {
        for (text, rows, parquet) in [
            ("COPY s.t TO '/o/x.parquet'", "SELECT * FROM s.t", true),
            ("COPY t (a, \"B\") TO '/o/x' (FORMAT 'PARQUET')", "SELECT a, \"B\" FROM t", true),
            ("COPY (FROM t) TO '/o/x' (HEADER, format Parquet)", "FROM t", true),
            ("COPY (FROM t) TO '/o/parquet.csv'", "FROM t", false),
        ] {
            let Piece::Export(export) = one(text) else { panic!("{text}") };
            assert_eq!((export.rows().as_str(), export.is_parquet()), (rows, parquet), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "COPY",
            "COPY t",
            "COPY t TO",
            "COPY t TO x",
            "COPY t TO \"/o/x\"",
            "COPY t TO $1",
            "COPY t TO ?",
            "COPY t TO $$/o/x$$",
            "COPY t TO E'/o/x'",
            "COPY t TO U&'/o/x'",
            "COPY t TO '/o/x'\n'/../../y'",
            "COPY t TO '/o/x' || 'y'",
            "COPY t TO ('/o/x')",
            "COPY t TO (getvariable('x'))",
            "COPY t TO STDOUT",
            "COPY t TO PROGRAM 'touch x'",
            "COPY BINARY t TO '/o/x'",
            "COPY U&\"t\" TO '/o/x'",
            "COPY 't' TO '/o/x'",
            "COPY (t) TO '/o/x'",
            "COPY () TO '/o/x'",
            "COPY (INSERT INTO t VALUES (1) RETURNING x) TO '/o/x'",
            "COPY (PRAGMA x(nextval('s'))) TO '/o/x'",
            "COPY (SELECT 1 TO '/o/x'",
            "COPY (SELECT 1) FROM '/o/x'",
            "COPY t TO '/o/x",
            "COPY t TO '/o/x' WITH CSV HEADER",
            "COPY t TO '/o/x' DELIMITERS ';'",
            "COPY t TO '/o/x' (FORMAT csv",
            "COPY t TO '/o/x' (FORMAT csv) y",
            "COPY t TO '/o/x' (FORMAT xlsx)",
            "COPY t TO '/o/x' (FORMAT (csv))",
            "COPY t TO '/o/x' (FORMAT gdal, DRIVER 'GeoJSON')",
            "COPY t TO '/o/x' (FILENAME_PATTERN '../x')",
            "COPY t TO '/o/x' (FILENAME_PATTERN 'a/b')",
            "COPY t TO '/o/x' (FILENAME_PATTERN e'\\x2e\\x2e/x')",
            "COPY t TO '/o/x' (FILENAME_PATTERN getvariable('x'))",
            "COPY t TO '/o/x' (\"FILENAME_PATTERN\" '../x')",
            "COPY t TO '/o/x' (FILE_EXTENSION '/../../x')",
            "COPY t TO '/o/x' (PER_THREAD_OUTPUT, FILENAME_PATTERN 'x{i}.db', FILE_EXTENSION 'WAL')",
            "COPY t TO '/o/x' (PER_THREAD_OUTPUT, FILENAME_PATTERN 'x{i}.db.wal', FILE_EXTENSION 'recovery')",
            "COPY t TO '/o/x' (HIVE_FILE_PATTERN false, PARTITION_BY (p))",
            "COPY t TO '/o/x' (RETURN_FILES)",
            "COPY t TO '/o/x' (HEADER = true)",
            "COPY FROM DATABASE a TO b",
            "EXPORT DATABASE '/o'",
            "EXPLAIN COPY t TO '/o/x'",
            "EXPLAIN ANALYZE COPY t TO '/o/x'",
            "EXPLAIN (ANALYZE, FORMAT 'json') COPY t TO '/o/x'",
            "EXPLAIN () COPY t TO '/o/x'",
            "EXPLAIN (FORMAT 1e'\\'') COPY t TO '/o/x'",
            "EXPLAIN ANALYZE EXPORT DATABASE '/o'",
            "PREPARE p AS COPY t TO '/o/x'",
            "PREPARE \"p\" AS COPY t TO $1",
            "PREPARE p (INTEGER) AS COPY t TO '/o/x'",
        ] {
            assert!(matches!(one(text), Piece::Refused(_)), "{text}: {:?}", one(text));
        }
    }

    #[test]
    fn what_writes_no_file_is_let_be() {
        for text in ["SELECT 'COPY t TO x'", "SELECT copy FROM copy", "\"copy\" t TO 'x'", "-- COPY\nFROM t"]
        {
            assert_eq!(one(text), Piece::Other, "{text}");
            assert!(pieces(text).iter().all(|(_, piece)| *piece == Piece::Other));
        }
        for text in [
            "COPY t FROM '/o/x'",
            "COPY s.t (a, b) FROM getvariable('x') (FORMAT csv)",
            "EXPLAIN SELECT copy FROM t",
            "EXPLAIN (SELECT 1)",
            "EXPLAIN (FORMAT json) (SELECT 1)",
            "EXPLAIN ANALYZE COPY t FROM 'x'",
            "PREPARE p AS SELECT copy FROM t",
        ] {
            assert_eq!(one(text), Piece::Harmless, "{text}");
        }
    }

    #[test]
    fn a_text_is_an_export_when_it_is_nothing_else() {
        assert!(is_export("COPY t TO '/o/x';"));
        for text in ["", "COPY t TO '/o/x'; SELECT 1", "COPY t FROM 'x'", "COPY t TO x"] {
            assert!(!is_export(text), "{text}");
        }
    }

    proptest::proptest! {
        /// Whatever stands behind COPY, it is one of the four, and reading it does not panic.
        #[test]
        fn any_copy_is_read(rest in "\\PC{0,60}") {
            for (_, piece) in pieces(&format!("COPY {rest}")).iter().take(1) {
                proptest::prop_assert_ne!(piece, &Piece::Other);
            }
        }
    }
}
