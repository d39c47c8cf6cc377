//! Whole numbers as parameters. DuckDB's casts to them round: `CAST(11.5 AS BIGINT)` is 12, and a query would answer
//! for another number than it was asked for. So what is no whole number is refused.
//!
//! Where SQL calls a query as a macro, a scalar macro a type does that. It has a form for each kind of argument, of which
//! DuckDB takes the one whose types fit best:
//!
//! - What fits the type as it is, and a `?` without a value, is cast and nothing else. A second mention would take the
//!   type of `?`, and with it the types of the columns, from what drivers are told of a prepared statement.
//! - A text has to be a whole number. The second parameter is what makes this form the better one for a literal, which
//!   fits every type: `0` is an INTEGER sooner than a BIGINT, and a literal is a VARCHAR much sooner than a number.
//! - All else has to be equal to what the cast makes of it. The lambda is there to mention the argument once: a subquery
//!   would be planned, and `random()` drawn, as often as it is mentioned.
//!
//! Constants fold in all three, as they do in a cast: filters reach files, and LIMIT stays a constant. `error()` would
//! not fold, so a cast that cannot succeed carries the refusal, and [`refusal`] finds it in DuckDB's text.

use crate::sql::literal;

use super::QUERIES;

/// How the text of a refusal begins.
const MARK: &str = "__merganser_parameter:";
/// A whole number as a text, also with nothing behind its point or with an exponent that keeps it whole.
const WHOLE: &str = r"\s*[+-]?[0-9]+(\.0*)?([eE]\+?[0-9]+)?\s*";
/// As much of a value as a refusal shows.
const SHOWN: u32 = 64;

/// The plain name of a type of whole numbers; `None` for other types.
pub(in crate::engine) fn whole_type(data_type: &str) -> Option<&'static str> {
    Some(match data_type.trim().to_uppercase().as_str() {
        "TINYINT" | "INT1" => "TINYINT",
        "SMALLINT" | "INT2" | "INT16" | "SHORT" => "SMALLINT",
        "INTEGER" | "INT" | "INT4" | "INT32" | "INTEGRAL" | "SIGNED" => "INTEGER",
        "BIGINT" | "INT8" | "INT64" | "LONG" | "OID" => "BIGINT",
        "HUGEINT" | "INT128" => "HUGEINT",
        "UTINYINT" | "UINT8" => "UTINYINT",
        "USMALLINT" | "UINT16" => "USMALLINT",
        "UINTEGER" | "UINT32" => "UINTEGER",
        "UBIGINT" | "UINT64" => "UBIGINT",
        "UHUGEINT" | "UINT128" => "UHUGEINT",
        _ => return None,
    })
}

/// Makes the macro of a type.
pub(super) fn macro_sql(whole: &str) -> String {
    let refused = format!("{} || parameter || ' is of type {whole}; \"' || system.main.left(", literal(MARK));
    let refused = format!("CAST({refused}CAST(x AS VARCHAR), {SHOWN}) || '\" is not' AS {whole})");
    let where_true = |test: &str| {
        format!(
            "system.main.list_transform([v], lambda x: CASE WHEN {test} THEN CAST(x AS {whole}) ELSE {refused} END)[1]"
        )
    };
    let text = where_true(&format!("x IS NULL OR system.main.regexp_full_match(x, {})", literal(WHOLE)));
    let other = where_true(&format!("x IS NULL OR CAST(x AS {whole}) = x"));
    format!(
        "CREATE OR REPLACE MACRO {}(v {whole}, kind INTEGER, parameter) AS v, \
         (v VARCHAR, kind BIGINT, parameter) AS {text}, (v, kind, parameter) AS {other}",
        macro_name(whole)
    )
}

/// A value of a parameter in its type, by that macro.
pub(super) fn call(whole: &str, parameter: &str, value: &str) -> String {
    format!("{}({value}, 0, {})", macro_name(whole), literal(parameter))
}

fn macro_name(whole: &str) -> String {
    format!("{QUERIES}.main.__merganser_{whole}")
}

/// What DuckDB's text says of a parameter, where a macro has refused its value.
pub(in crate::engine) fn refusal(message: &str) -> Option<String> {
    let (_, told) = message.split_once(MARK)?;
    let (told, _) = told.rsplit_once("' to ")?;
    Some(format!("the parameter {told}"))
}
