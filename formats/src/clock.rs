//! Dates, times and intervals as ISO 8601, over the whole range that DuckDB has; the Arrow library's calendar ends at
//! the year 262,142. Infinities do not come here: the engine refuses what Arrow has no place for.

use std::io::Write;

const DAY_SECONDS: i64 = 86_400;
/// Parts of a second, by the digits that they take.
const NANOS: i64 = 1_000_000_000;

/// A day, counted from 1970-01-01.
pub(super) fn date(days: i32, out: &mut Vec<u8>) {
    day(i64::from(days), out);
}

/// A moment, counted in `per_second` from 1970; of UTC where `utc`, else of no zone.
pub(super) fn timestamp(value: i64, per_second: i64, utc: bool, out: &mut Vec<u8>) {
    let (seconds, parts) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    day(seconds.div_euclid(DAY_SECONDS), out);
    out.push(b'T');
    clock(seconds.rem_euclid(DAY_SECONDS), parts * (NANOS / per_second), out);
    if utc {
        out.push(b'Z');
    }
}

/// A time of day, counted in `per_second` from midnight.
pub(super) fn time(value: i64, per_second: i64, out: &mut Vec<u8>) {
    clock(value.div_euclid(per_second), value.rem_euclid(per_second) * (NANOS / per_second), out);
}

/// An interval, each of whose parts has its own sign.
pub(super) fn interval(months: i32, days: i32, nanos: i64, out: &mut Vec<u8>) {
    out.push(b'P');
    for (number, unit) in [(months / 12, 'Y'), (months % 12, 'M'), (days, 'D')] {
        if number != 0 {
            text(out, format_args!("{number}{unit}"));
        }
    }
    let empty = months == 0 && days == 0;
    if nanos == 0 {
        if empty {
            out.extend_from_slice(b"T0S");
        }
        return;
    }
    out.push(b'T');
    let (seconds, parts) = (nanos / NANOS, (nanos % NANOS).unsigned_abs());
    for (number, unit) in [(seconds / 3600, 'H'), (seconds / 60 % 60, 'M')] {
        if number != 0 {
            text(out, format_args!("{number}{unit}"));
        }
    }
    let rest = (seconds % 60).unsigned_abs();
    if rest != 0 || parts != 0 {
        // Zero has no sign of its own.
        if nanos < 0 {
            out.push(b'-');
        }
        text(out, format_args!("{rest}"));
        fraction(parts as i64, out);
        out.push(b'S');
    }
}

/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn day(days: i64, out: &mut Vec<u8>) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let moved_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * moved_month + 2) / 5 + 1;
    let month = if moved_month < 10 { moved_month + 3 } else { moved_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    match year {
        0..=9999 => {
            two(year / 100, out);
            two(year % 100, out);
        }
        // ISO 8601's expanded form, in which year 0 is the one before year 1.
        _ => text(out, format_args!("{year:+05}")),
    }
    out.push(b'-');
    two(month, out);
    out.push(b'-');
    two(day, out);
}

fn clock(seconds: i64, nanos: i64, out: &mut Vec<u8>) {
    two(seconds / 3600, out);
    out.push(b':');
    two(seconds / 60 % 60, out);
    out.push(b':');
    two(seconds % 60, out);
    fraction(nanos, out);
}

/// The part of a second with three, six or nine digits, whichever hold it; none where there is none.
fn fraction(nanos: i64, out: &mut Vec<u8>) {
    match nanos {
        0 => {}
        nanos if nanos % 1_000_000 == 0 => text(out, format_args!(".{:03}", nanos / 1_000_000)),
        nanos if nanos % 1_000 == 0 => text(out, format_args!(".{:06}", nanos / 1_000)),
        nanos => text(out, format_args!(".{nanos:09}")),
    }
}

fn two(number: i64, out: &mut Vec<u8>) {
    out.push(b'0' + (number / 10 % 10) as u8);
    out.push(b'0' + (number % 10) as u8);
}

/// Writing to memory cannot fail.
fn text(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn days_of_every_age() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (19_782, "2024-02-29"),
            (-719_528, "0000-01-01"),
            (-719_529, "-0001-12-31"),
            (2_932_897, "+10000-01-01"),
            (2_147_483_646, "+5881580-07-10"),
        ] {
            assert_eq!(of(|out| date(days, out)), text);
        }
    }

    #[test]
    fn moments_have_the_digits_that_they_need() {
        for (value, per_second, utc, text) in [
            (0, 1_000_000, false, "1970-01-01T00:00:00"),
            (1_500_000, 1_000_000, true, "1970-01-01T00:00:01.500Z"),
            (-1, 1_000_000, true, "1969-12-31T23:59:59.999999Z"),
            (1, 1_000_000_000, false, "1970-01-01T00:00:00.000000001"),
            (-1, 1, false, "1969-12-31T23:59:59"),
        ] {
            assert_eq!(of(|out| timestamp(value, per_second, utc, out)), text);
        }
        assert_eq!(of(|out| time(3_661_000_001, 1_000_000, out)), "01:01:01.000001");
    }

    #[test]
    fn intervals_keep_the_sign_of_each_part() {
        for ((months, days, nanos), text) in [
            ((0, 0, 0), "PT0S"),
            ((14, 3, 0), "P1Y2M3D"),
            ((0, 0, 3_661_500_000_000), "PT1H1M1.500S"),
            ((0, -1, 1_000), "P-1DT0.000001S"),
            ((-13, 0, -500_000_000), "P-1Y-1MT-0.500S"),
            ((0, 0, -3_600_000_000_000), "PT-1H"),
            ((0, 0, 60_000_000_000), "PT1M"),
        ] {
            assert_eq!(of(|out| interval(months, days, nanos, out)), text);
        }
    }
}
