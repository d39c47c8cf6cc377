//! Functions that are told by a text which table they are to tell of. A text that is put together hides the name from
//! every rule that reads names, so these take plain ones only.

use std::ops::Range;

use super::{
    INTERNAL_PREFIX, Refusal,
    lexer::{Token, ranged},
};

/// How many of the first arguments say which table.
const FUNCTIONS: [(&str, usize); 8] = [
    ("pragma_storage_info", 1),
    ("pragma_table_info", 1),
    ("pragma_show", 1),
    ("duckdb_table_sample", 1),
    ("ducklake_table_insertions", 3),
    ("ducklake_table_deletions", 3),
    ("ducklake_table_changes", 3),
    // By `schema => ...`, too, which may stand anywhere.
    ("ducklake_list_files", usize::MAX),
];

/// The same as statements: `PRAGMA table_info('t')`, or `PRAGMA table_info(t)`.
const PRAGMAS: [&str; 3] = ["storage_info", "table_info", "show"];

/// A token and where it stands.
type Placed = (Token, Range<usize>);

/// Refuses a name that is computed, or that is one of the server's own, in a text of these tokens.
///
/// # Errors
/// [`Refusal::NotAllowed`].
pub(super) fn check(text: &str, tokens: &[Token]) -> Result<(), Refusal> {
    let is_one = |name| FUNCTIONS.iter().any(|(function, _)| *function == name) || PRAGMAS.contains(&name);
    // Hardly any text has one, and the places of tokens have to be looked for.
    if !tokens.iter().filter_map(Token::name).any(is_one) {
        return Ok(());
    }
    let tokens: Vec<Placed> = ranged(text).collect();
    for at in 0..tokens.len() {
        let Some(name) = tokens[at].0.name() else { continue };
        if tokens.get(at + 1).is_none_or(|(token, _)| *token != Token::Punctuation('(')) {
            continue;
        }
        let is_pragma = at > 0 && matches!(&tokens[at - 1].0, Token::Word(word) if word == "pragma");
        let naming = match FUNCTIONS.iter().find(|(function, _)| *function == name) {
            Some((_, naming)) => *naming,
            None if is_pragma && PRAGMAS.contains(&name) => 1,
            None => continue,
        };
        let is_plain = |argument: &&[Placed]| is_plain(text, argument, is_pragma);
        if !arguments(&tokens[at + 2..]).iter().take(naming).all(is_plain) {
            return Err(Refusal::NotAllowed(format!(
                "{name} takes the name of a table as a plain text, such as 't', and none of the server's own; no expression, \
                 parameter or column"
            )));
        }
    }
    Ok(())
}

/// What stands between commas, up to the parenthesis that closes the call.
fn arguments(tokens: &[Placed]) -> Vec<&[Placed]> {
    let (mut found, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, (token, _)) in tokens.iter().enumerate() {
        match token {
            Token::Punctuation('(' | '[' | '{') => depth += 1,
            Token::Punctuation(')') if depth == 0 => {
                found.push(&tokens[begin..at]);
                return found;
            }
            Token::Punctuation(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Token::Punctuation(',') if depth == 0 => {
                found.push(&tokens[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    found.push(&tokens[begin..]);
    found
}

/// A literal, also behind `name =>` or `name :=`; in a PRAGMA a bare name, which the rule for names has read; or nothing.
fn is_plain(text: &str, argument: &[Placed], is_pragma: bool) -> bool {
    match argument {
        [] => true,
        [(Token::Word(_) | Token::Quoted(_), _)] => is_pragma,
        [(Token::Literal, place)] => is_plain_literal(&text[place.clone()]),
        [
            (Token::Word(_) | Token::Quoted(_), _),
            (Token::Punctuation('=' | ':'), _),
            (Token::Punctuation('>' | '='), _),
            (Token::Literal, place),
        ] => is_plain_literal(&text[place.clone()]),
        _ => false,
    }
}

/// A number, or a text in single quotes that is written in one piece and without escapes.
fn is_plain_literal(literal: &str) -> bool {
    let inside = literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    match inside {
        Some(inside) => {
            !inside.replace("''", "").contains('\'') && !inside.to_lowercase().contains(INTERNAL_PREFIX)
        }
        None => literal.starts_with(|first: char| first.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::lexer::tokens, *};

    fn check(text: &str) -> Result<(), Refusal> {
        super::check(text, &tokens(text))
    }

    #[test]
    fn a_plain_name_of_ones_own_passes() {
        for sql in [
            "FROM pragma_storage_info('t')",
            "SELECT * FROM pragma_table_info('main.\"a b\"'), pragma_show('it''s')",
            "PRAGMA table_info('t')",
            "PRAGMA storage_info(t)",
            "PRAGMA show(\"t\")",
            "CALL duckdb_table_sample('t')",
            "FROM ducklake_table_changes('lake', 'main', 't', now() - INTERVAL '1 week', now())",
            "FROM ducklake_list_files('lake', 't', schema => 'main', snapshot_version := 3)",
            "SELECT pragma_table_info, storage_info FROM t",
            "SELECT show(a || b)",
            "SELECT '__merganser'",
        ] {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn a_name_that_no_rule_could_read_is_refused() {
        for sql in [
            "FROM pragma_storage_info('__mer' || 'ganser.ingest_units')",
            "FROM \"Pragma_Storage_Info\"('__Merganser.ingest_units')",
            "FROM pragma_storage_info /* x */ ('\"__merganser\".ingest_units')",
            "FROM pragma_table_info($1)",
            "FROM pragma_table_info(?)",
            "FROM pragma_table_info(getvariable('x'))",
            "FROM pragma_show($$t$$)",
            "FROM pragma_show(E'\\x5f_merganser.ingest_units')",
            "FROM duckdb_table_sample('__mer'\n'ganser.ingest_units')",
            "FROM duckdb_table_sample(U&'\\005f_merganser.ingest_units')",
            "PREPARE p AS FROM pragma_storage_info($name)",
            "CREATE MACRO m(x) AS TABLE FROM pragma_storage_info(x)",
            "CREATE VIEW v AS FROM pragma_storage_info(('t'))",
            "PRAGMA storage_info('__mer' || 'ganser.ingest_units')",
            "PRAGMA table_info('__merganser.ingest_units')",
            "FROM ducklake_table_insertions('lake', '__mer' || 'ganser', 'ingest_units', 0, 9)",
            "FROM ducklake_list_files('lake', 'ingest_units', snapshot_version => 3, schema => '__mer' || 'ganser')",
            "FROM pragma_storage_info('t' || 'u'",
        ] {
            assert!(matches!(check(sql), Err(Refusal::NotAllowed(_))), "{sql}");
        }
    }
}
