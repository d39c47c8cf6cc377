//! Which type holds all numbers of a column as they are written.

use arrow_schema::DataType;

/// The most digits that a DECIMAL of DuckDB has.
const MAX_DIGITS: usize = 38;
/// Up to here a DOUBLE holds every integer.
const EXACT_IN_DOUBLE: u64 = 1 << 53;

/// The numbers of a column, summed up.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    all_i64: bool,
    all_u64: bool,
    /// Integers all of them, by how they are written.
    whole: bool,
    /// Without exponents, infinities and NaN, so that a DECIMAL can hold them.
    plain: bool,
    /// Nothing of them is lost in a DOUBLE but digits behind the point.
    double: bool,
    whole_digits: usize,
    scale: usize,
}

impl Default for Numbers {
    fn default() -> Self {
        Self {
            all_i64: true,
            all_u64: true,
            whole: true,
            plain: true,
            double: true,
            whole_digits: 0,
            scale: 0,
        }
    }
}

impl Numbers {
    /// Takes in a number; false where the text is none.
    pub(super) fn add(&mut self, text: &str) -> bool {
        let Some(parts) = Parts::of(text) else { return self.add_special(text) };
        if parts.is_short_integer() {
            // Nearly all numbers end here.
            self.all_u64 &= !parts.negative;
            self.whole_digits = self.whole_digits.max(parts.whole.len());
            return true;
        }
        let whole = parts.whole.trim_start_matches('0');
        self.whole_digits = self.whole_digits.max(whole.len());
        if parts.is_integer() {
            self.all_i64 &= text.parse::<i64>().is_ok();
            self.all_u64 &= text.parse::<u64>().is_ok();
        } else {
            self.whole = false;
        }
        self.scale = self.scale.max(parts.fraction.len());
        self.plain &= !parts.exponent;
        self.double &= parts.keep_their_whole(whole) && double(text).is_some();
        true
    }

    fn add_special(&mut self, text: &str) -> bool {
        let is_special = matches!(text, "NaN" | "nan" | "inf" | "-inf");
        if is_special {
            (self.whole, self.plain) = (false, false);
        }
        is_special
    }

    /// The type that holds them all; none where none does.
    pub(super) fn data_type(&self) -> Option<DataType> {
        let decimal = self.plain && self.whole_digits + self.scale <= MAX_DIGITS;
        match self {
            Self { whole: true, all_i64: true, .. } => Some(DataType::Int64),
            Self { whole: true, all_u64: true, .. } => Some(DataType::UInt64),
            Self { whole: false, double: true, .. } => Some(DataType::Float64),
            _ if decimal => Some(DataType::Decimal128(MAX_DIGITS as u8, self.scale as i8)),
            _ => None,
        }
    }
}

/// Reads a DOUBLE as DuckDB does: the nearest one, where the text has digits behind a point or an exponent. None where
/// it is no number, an integer that no DOUBLE is, or beyond what there is.
pub(super) fn double(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    match Parts::of(text) {
        Some(parts) if parts.is_short_integer() => Some(number),
        Some(parts) => {
            let vanished = number == 0.0 && parts.has_digits_but_zero();
            let whole = parts.whole.trim_start_matches('0');
            (number.is_finite() && !vanished && parts.keep_their_whole(whole)).then_some(number)
        }
        // "inf" and "nan", but nothing that is infinite only because it is too large.
        None => Some(number),
    }
}

/// The parts of a number as it is written.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) negative: bool,
    pub(super) whole: &'a str,
    pub(super) fraction: &'a str,
    pub(super) exponent: bool,
    point: bool,
}

impl<'a> Parts<'a> {
    /// `-12`, `1.5`, `.5`, `5.`, `1e3`, `-1.5E-3`: what CSV files and JSON hold.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, rest) = digits(rest);
        let (point, fraction, rest) = match rest.strip_prefix('.') {
            Some(rest) => {
                let (fraction, rest) = digits(rest);
                (true, fraction, rest)
            }
            None => (false, "", rest),
        };
        let exponent = !rest.is_empty();
        let well = !(whole.is_empty() && fraction.is_empty()) && (!exponent || is_exponent(rest));
        well.then_some(Self { negative, whole, fraction, exponent, point })
    }

    pub(super) fn is_integer(&self) -> bool {
        !self.point && !self.exponent
    }

    /// An integer that any numeric type of 64 bits holds.
    fn is_short_integer(&self) -> bool {
        self.is_integer() && self.whole.len() <= 15
    }

    fn has_digits_but_zero(&self) -> bool {
        self.whole.bytes().chain(self.fraction.bytes()).any(|digit| digit != b'0')
    }

    /// Whether a DOUBLE keeps what stands before the point. A number with an exponent says itself how exact it is.
    fn keep_their_whole(&self, whole: &str) -> bool {
        if self.exponent || whole.len() <= 15 {
            return true;
        }
        match whole.parse::<u64>() {
            Ok(number) if number <= EXACT_IN_DOUBLE => true,
            _ if !self.is_integer() => false,
            Ok(number) => number as f64 as u128 == u128::from(number),
            Err(_) => whole.parse::<u128>().is_ok_and(|number| number as f64 as u128 == number),
        }
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn is_exponent(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['e', 'E']) else { return false };
    let number = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(texts: &[&str]) -> Option<DataType> {
        let mut numbers = Numbers::default();
        for text in texts {
            assert!(numbers.add(text), "{text}");
        }
        numbers.data_type()
    }

    #[test]
    fn the_smallest_type_that_holds_them_exactly() {
        let decimal = |scale| Some(DataType::Decimal128(38, scale));
        for (texts, expected) in [
            (vec!["1", "-9223372036854775808", "007", "-0"], Some(DataType::Int64)),
            (vec!["1", "18446744073709551615"], Some(DataType::UInt64)),
            (vec!["-1", "18446744073709551615"], decimal(0)),
            (vec!["99999999999999999999999999999999999999"], decimal(0)),
            (vec!["999999999999999999999999999999999999999"], None),
            (vec!["1", "1.75"], Some(DataType::Float64)),
            (vec!["1", "1e3"], Some(DataType::Float64)),
            (vec!["9007199254740992", "1.5", "9223372036854775808"], Some(DataType::Float64)),
            (vec!["9007199254740993", "1.5"], decimal(1)),
            (vec!["12345678901234567.89"], decimal(2)),
            (vec!["9007199254740993", "1e3"], None),
            (vec!["1e400"], None),
            (vec!["1e-400"], None),
            (vec!["0e-400", "0.1234567890123456789012345", "5.", ".5"], Some(DataType::Float64)),
            (vec!["nan", "-inf", "1"], Some(DataType::Float64)),
            (vec!["NaN", "9007199254740993"], None),
        ] {
            assert_eq!(column(&texts), expected, "{texts:?}");
        }
    }

    #[test]
    fn what_only_looks_like_a_number_is_none() {
        for text in ["", "-", ".", "+5", " 1", "1 ", "0x10", "1e", "e5", "1e5.0", "1,5", "1_000", "Infinity"]
        {
            assert!(!Numbers::default().add(text), "{text}");
        }
    }

    #[test]
    fn a_double_is_the_nearest_or_none() {
        for (text, expected) in [
            ("0.1", Some(0.1)),
            ("9007199254740992", Some(9007199254740992.0)),
            ("9007199254740993", None),
            ("9007199254740993.5", None),
            ("1e400", None),
            ("1e-400", None),
            ("0.000", Some(0.0)),
            ("x", None),
        ] {
            assert_eq!(double(text), expected, "{text}");
        }
    }
}
