//! Whether a value is one of its parameter's type, before the query runs. What DuckDB says of a value in the middle of a
//! query names no parameter, and quotes SQL that the caller never wrote.
//!
//! Values are texts. Of the usual types that is plain to see; about the others DuckDB is asked, one cast a value.

use arrow_array::{Array, RecordBatch, cast::AsArray};

use super::{Arguments, Error, Page, Parameter, QueryCard, Result, excerpt, whole::whole_type};
use crate::engine::{Class, Engine, Statement, binding::bind, ffi::Connection, statement::extract_own};

/// As much of DuckDB's reason as an error shows.
const MAX_REASON: usize = 160;

/// What can be said of a value without DuckDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fits,
    DoesNot,
    /// Only DuckDB knows.
    Unknown,
}

impl Engine {
    /// The statement that answers a call, with values of which each is one of its parameter's type.
    ///
    /// # Errors
    /// [`Error::BadParameter`] for one that is missing, not known, or not of its type.
    pub async fn call(&self, card: &QueryCard, arguments: Arguments, page: Page) -> Result<Statement> {
        let statement = card.statement(arguments, page)?;
        let doubtful = doubtful(card, &statement)?;
        if !doubtful.is_empty() {
            let database = self.shared.database.clone();
            self.blocking(move || {
                let connection = database.connection()?;
                doubtful.iter().try_for_each(|(parameter, value)| ask(&connection, parameter, value))
            })
            .await?;
        }
        card.settled(statement)
    }
}

/// The values that only DuckDB can tell about, each with its parameter. A default was checked at the start.
fn doubtful(card: &QueryCard, statement: &Statement) -> Result<Vec<(Parameter, RecordBatch)>> {
    let Some(values) = &statement.parameters else { return Ok(Vec::new()) };
    let mut doubtful = Vec::new();
    for (at, parameter) in card.parameters.iter().enumerate() {
        let column = values.column(at).as_string::<i32>();
        let is_default = || parameter.default.as_ref().is_some_and(|it| it.text() == column.value(0));
        if column.is_valid(0)
            && verdict(&parameter.data_type, column.value(0)) == Verdict::Unknown
            && !is_default()
        {
            doubtful.push((parameter.clone(), values.project(&[at])?));
        }
    }
    Ok(doubtful)
}

/// Has DuckDB cast one value.
fn ask(connection: &Connection, parameter: &Parameter, value: &RecordBatch) -> Result<()> {
    let sql = format!("SELECT CAST(${} AS {})", parameter.name, parameter.data_type);
    let statement = Statement { sql, parameters: Some(value.clone()), by_name: true, names: None };
    let cast = || {
        let statements = extract_own(connection, &statement.sql)?;
        let prepared = statements.prepare(0)?;
        bind(&prepared, &statement)?;
        Ok(prepared.execute()?.next().map(drop)?)
    };
    cast().map_err(|error| match &error {
        Error::Duck { class: Class::Conversion | Class::OutOfRange, message } => {
            let given = value.column(0).as_string::<i32>().value(0);
            Error::BadParameter(format!("{}: {}", parameter.is_not(given), reason(message)))
        }
        _ => error,
    })
}

/// DuckDB's reason without its class, and without the line of our SQL.
fn reason(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let reason = line.split_once("Error: ").map_or(line, |(_, reason)| reason);
    reason.chars().take(MAX_REASON).collect()
}

impl Parameter {
    /// Refuses what is plainly no item of its lists, as [`checked`](Self::checked) does with a value: DuckDB would round it.
    ///
    /// # Errors
    /// [`Error::BadParameter`].
    pub(crate) fn check_item(&self, text: &str) -> Result<()> {
        let mut data_type = self.data_type.trim();
        while let Some((item, _)) = data_type.strip_suffix(']').and_then(|list| list.rsplit_once('[')) {
            data_type = item.trim_end();
        }
        match whole_type(data_type).map(|whole| verdict(whole, text)) {
            Some(Verdict::DoesNot) => Err(Error::BadParameter(self.is_not(text))),
            _ => Ok(()),
        }
    }

    /// That a value is not of the parameter's type.
    pub(super) fn is_not(&self, value: &str) -> String {
        format!("the parameter {} is of type {}; {:?} is not", self.name, self.data_type, excerpt(value))
    }
}

/// Whether a text is a value of a type. Whole numbers are told strictly: DuckDB would round others.
pub(super) fn verdict(data_type: &str, text: &str) -> Verdict {
    // DuckDB, too, takes spaces around a number, and only those of ASCII.
    let number = text.trim_ascii();
    let data_type = data_type.to_uppercase();
    let fits = match whole_type(&data_type).unwrap_or(&data_type) {
        "VARCHAR" | "TEXT" | "STRING" => true,
        "TINYINT" => number.parse::<i8>().is_ok(),
        "SMALLINT" => number.parse::<i16>().is_ok(),
        "INTEGER" => number.parse::<i32>().is_ok(),
        "BIGINT" => number.parse::<i64>().is_ok(),
        "HUGEINT" => number.parse::<i128>().is_ok(),
        "UTINYINT" => number.parse::<u8>().is_ok(),
        "USMALLINT" => number.parse::<u16>().is_ok(),
        "UINTEGER" => number.parse::<u32>().is_ok(),
        "UBIGINT" => number.parse::<u64>().is_ok(),
        "UHUGEINT" => number.parse::<u128>().is_ok(),
        "DOUBLE" | "FLOAT" | "REAL" => match number.parse::<f64>() {
            Ok(value) if value.is_finite() => true,
            Ok(_) => return Verdict::Unknown,
            Err(_) => false,
        },
        "BOOLEAN" | "BOOL" if ["true", "false", "t", "f", "1", "0"].contains(&text) => true,
        _ => return Verdict::Unknown,
    };
    if fits { Verdict::Fits } else { Verdict::DoesNot }
}

#[cfg(test)]
mod tests {
    use super::{super::super::ffi::Database, *};

    #[test]
    fn what_is_plain_to_see_is_what_duckdb_says() {
        let connection = Database::open(None, &[]).unwrap().connect().unwrap();
        let numbers = ["TINYINT", "UTINYINT", "INTEGER", "UBIGINT", "HUGEINT", "UHUGEINT", "FLOAT", "DOUBLE"];
        let texts =
            ["5", "+5", " 5\t", "-0", "007", "128", "-129", "1e2", "1.", ".5", "1e999", "inf", "nan", ""];
        let texts = texts.into_iter().chain([
            "\u{a0}5",
            "five",
            "t",
            "TRUE",
            " true",
            "340282366920938463463374607431768211455",
        ]);
        let types = numbers.into_iter().chain(["VARCHAR", "BOOLEAN"]);
        for (data_type, text) in types.flat_map(|name| texts.clone().map(move |text| (name, text))) {
            let sql = format!("SELECT CAST('{text}' AS {data_type})");
            let ran = connection.execute(&sql);
            match verdict(data_type, text) {
                Verdict::Fits => assert!(ran.is_ok(), "{sql}"),
                // DuckDB rounds fractions, and forgives the sign of nothing.
                Verdict::DoesNot => {
                    assert!(ran.is_err() || text.contains(['.', 'e']) || text == "-0", "{sql}")
                }
                Verdict::Unknown => {}
            }
        }
        assert_eq!(verdict("DATE", "2024-01-01"), Verdict::Unknown);
        assert_eq!(verdict("TINYINT", "300"), Verdict::DoesNot);
    }

    #[test]
    fn the_reason_shows_none_of_our_sql() {
        let message =
            "Conversion Error: invalid date field format: \"soon\"\n\nLINE 1: SELECT CAST($day AS DATE)";
        assert_eq!(reason(message), "invalid date field format: \"soon\"");
    }
}
