//! Numbers with a point or an exponent, as DOUBLE: exactly what was written, or not at all.

/// More digits than any DOUBLE has.
const MOST_DIGITS: usize = 800;

/// The DOUBLE that a number of JSON is. The error says why it is none.
///
/// # Errors
/// For one that is too large or too small, and for one whose digits a DOUBLE does not have: written with as many digits, it is
/// not what was sent.
pub(super) fn read(text: &str) -> Result<f64, &'static str> {
    let number: f64 = text.parse().map_err(|_| "is no number")?;
    if number.is_infinite() {
        return Err("the number is larger than a DOUBLE; send it as a text");
    }
    let sent = Decimal::of(text);
    if sent.digits.is_empty() {
        return Ok(number);
    }
    let places = sent.digits.len() - 1;
    let is_kept = places < MOST_DIGITS && Decimal::of(&format!("{number:.places$e}")) == sent;
    if is_kept { Ok(number) } else { Err("a DOUBLE would lose digits of the number; send it as a text") }
}

/// A number without its sign, in the one way to write it: digits without zeros around them, and the power of ten of the first.
#[derive(Debug, PartialEq)]
struct Decimal {
    digits: String,
    power: Option<i64>,
}

impl Decimal {
    /// That of a text which is a number.
    fn of(text: &str) -> Self {
        let text = text.trim_start_matches('-');
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let written = format!("{whole}{fraction}");
        let digits = written.trim_start_matches('0');
        let zeros = written.len() - digits.len();
        let point = whole.len() as i64 - zeros as i64 - 1;
        let power = exponent.parse::<i64>().ok().and_then(|exponent| exponent.checked_add(point));
        Self { digits: digits.trim_end_matches('0').to_owned(), power }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_double_where_that_has_all_of_its_digits() {
        for (text, number) in [
            ("0.5", 0.5),
            ("-0.5", -0.5),
            ("0.1", 0.1),
            ("0.10", 0.1),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("0.001e6", 1000.0),
            ("100.0", 100.0),
            ("0.0", 0.0),
            ("0e9999999999999999999999", 0.0),
            // As Python and JavaScript write a DOUBLE, and as C does with 17 digits.
            ("0.30000000000000004", 0.1 + 0.2),
            ("0.10000000000000001", 0.1),
            ("9007199254740992.0", 9_007_199_254_740_992.0),
            ("1.7976931348623157e308", f64::MAX),
            ("5e-324", 5e-324),
            ("2.2250738585072014e-308", f64::MIN_POSITIVE),
        ] {
            assert_eq!(read(text), Ok(number), "{text}");
        }
    }

    #[test]
    fn a_number_that_would_be_another_one_is_refused() {
        for text in [
            "9007199254740993.0",
            "9007199254740993e0",
            "12345678901234567890.5",
            "3.141592653589793238",
            "0.1000000000000000055",
            "1e-400",
            "1e999",
            "-1e999",
            "1e-99999999999999999999",
            &format!("0.{}1", "0".repeat(100_000)),
            &format!("1.{}1", "0".repeat(100_000)),
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
