//! Numbers and times as people read them.

use std::time::Duration;

use indicatif::HumanCount;

/// A count with a noun: `1 row`, `1,234 rows`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{} {}", HumanCount(number), one_or_many(number, noun))
}

/// The noun for a number that stands elsewhere: `row`, `rows`.
pub(crate) fn one_or_many(number: u64, noun: &str) -> String {
    if number == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// What a statement without rows did; the server does not always know how many rows it was.
pub(crate) fn affected(rows: Option<i64>) -> String {
    match rows.and_then(|rows| u64::try_from(rows).ok()) {
        Some(rows) => format!("{} affected", count(rows, "row")),
        None => "ok".to_owned(),
    }
}

/// A time as precise as anybody wants: `12 ms`, `2.1 s`, `3 min 05 s`.
pub(crate) fn elapsed(time: Duration) -> String {
    // Tenths are rounded before the unit is chosen, so that 59.96 s does not become "60.0 s".
    let tenths = (time.as_secs_f64() * 10.0).round();
    let seconds = time.as_secs_f64().round() as u64;
    if time.as_millis() < 1000 {
        format!("{} ms", time.as_millis())
    } else if tenths < 600.0 {
        format!("{:.1} s", tenths / 10.0)
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

/// Rows a second to three digits, for more would be noise: `590,000 rows/s`.
pub(crate) fn rate(rows: u64, time: Duration) -> String {
    let exact = rows as f64 / time.as_secs_f64().max(1e-3);
    let unit = 10f64.powi((exact.max(1.0).log10().floor() as i32 - 2).max(0));
    format!("{} rows/s", HumanCount(((exact / unit).round() * unit) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators_and_a_plural() {
        assert_eq!(count(0, "row"), "0 rows");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(1_234_567, "row"), "1,234,567 rows");
    }

    #[test]
    fn times_change_unit_as_they_grow() {
        for (milliseconds, expected) in [
            (0, "0 ms"),
            (12, "12 ms"),
            (999, "999 ms"),
            (1000, "1.0 s"),
            (2_149, "2.1 s"),
            (59_940, "59.9 s"),
            (59_960, "1 min 00 s"),
            (185_000, "3 min 05 s"),
            (3_600_000, "60 min 00 s"),
        ] {
            assert_eq!(elapsed(Duration::from_millis(milliseconds)), expected);
        }
    }

    #[test]
    fn rates_have_three_digits() {
        assert_eq!(rate(1_234_567, Duration::from_millis(2_100)), "588,000 rows/s");
        assert_eq!(rate(5, Duration::from_secs(1)), "5 rows/s");
        assert_eq!(rate(0, Duration::ZERO), "0 rows/s");
        assert_eq!(rate(10, Duration::ZERO), "10,000 rows/s");
    }
}
