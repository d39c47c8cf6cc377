//! Dates and times as ISO 8601 and SQL write them, to the last digit.

use arrow_schema::TimeUnit;

const SECONDS_A_DAY: i64 = 86_400;

/// A day or a moment, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// Since 1970-01-01, in UTC where there is an offset.
    pub(super) seconds: i64,
    pub(super) nanos: u32,
    pub(super) form: Form,
}

/// How a moment is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `2024-01-31`
    Day,
    /// `2024-01-31 23:59:59.5`, or with a `T`
    Local,
    /// The same with `Z`, `+02`, `+0200` or `+02:00` behind it
    Offset,
}

impl Moment {
    /// None where the text is no moment, or one that there is not: no 30th of February and no 60th second.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let seconds = day(bytes.get(..10)?)? * SECONDS_A_DAY;
        let Some((separator, rest)) = bytes[10..].split_first() else {
            return Some(Self { seconds, nanos: 0, form: Form::Day });
        };
        if !matches!(separator, b' ' | b'T') {
            return None;
        }
        let (time, nanos, rest) = clock(rest)?;
        let (form, offset) = if rest.is_empty() { (Form::Local, 0) } else { (Form::Offset, offset(rest)?) };
        Some(Self { seconds: seconds + time - offset, nanos, form })
    }

    /// Days since 1970-01-01; none where the time is another than midnight.
    pub(super) fn days(self) -> Option<i32> {
        (self.form == Form::Day).then(|| i32::try_from(self.seconds / SECONDS_A_DAY).ok())?
    }

    /// How many of the unit it is; none where it is no whole number of them, or too large.
    pub(super) fn count(self, unit: TimeUnit) -> Option<i64> {
        whole_units(self.seconds, self.nanos, unit)
    }
}

/// A time of day, in microseconds; none where the text is none, or has more digits.
pub(super) fn time_of_day(text: &str) -> Option<i64> {
    let (seconds, nanos, rest) = clock(text.as_bytes())?;
    rest.is_empty().then(|| whole_units(seconds, nanos, TimeUnit::Microsecond))?
}

fn whole_units(seconds: i64, nanos: u32, unit: TimeUnit) -> Option<i64> {
    let a_second: u32 = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let nanos_each = 1_000_000_000 / a_second;
    if !nanos.is_multiple_of(nanos_each) {
        return None;
    }
    // In between it may be too large although the sum is not: the first nanoseconds that there are lie before 1970.
    let sum = i128::from(seconds) * i128::from(a_second) + i128::from(nanos / nanos_each);
    i64::try_from(sum).ok()
}

/// Days since 1970-01-01 of `YYYY-MM-DD` in the Gregorian calendar.
fn day(text: &[u8]) -> Option<i64> {
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(&text[..4])?, number(&text[5..7])?, number(&text[8..10])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if day < 1 || day > days {
        return None;
    }
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(before + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// Seconds and nanoseconds of `HH:MM:SS`, with or without a fraction, and what comes behind.
fn clock(text: &[u8]) -> Option<(i64, u32, &[u8])> {
    let (time, rest) = text.split_at_checked(8)?;
    if time[2] != b':' || time[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (number(&time[..2])?, number(&time[3..5])?, number(&time[6..])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, rest) = match rest.strip_prefix(b".") {
        Some(rest) => fraction(rest)?,
        None => (0, rest),
    };
    Some((hour * 3600 + minute * 60 + second, nanos, rest))
}

fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let length = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(length);
    if length == 0 || digits.iter().skip(9).any(|digit| *digit != b'0') {
        return None;
    }
    let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    Some((padded.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0')), rest))
}

/// Seconds that are to be taken off to come to UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let (sign, rest) = match text.split_first()? {
        (b'Z', []) => return Some(0),
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest.len() {
        2 => (rest, None),
        4 => (&rest[..2], Some(&rest[2..])),
        5 if rest[2] == b':' => (&rest[..2], Some(&rest[3..])),
        _ => return None,
    };
    let (hours, minutes) = (number(hours)?, minutes.map_or(Some(0), number)?);
    (hours <= 15 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> (i64, u32, Form) {
        let Moment { seconds, nanos, form } = Moment::parse(text).unwrap();
        (seconds, nanos, form)
    }

    #[test]
    fn days_and_moments() {
        for (text, expected) in [
            ("1970-01-01", (0, 0, Form::Day)),
            ("2024-02-29", (1_709_164_800, 0, Form::Day)),
            ("0000-01-01", (-62_167_219_200, 0, Form::Day)),
            ("1969-12-31 23:59:59.5", (-1, 500_000_000, Form::Local)),
            ("2024-01-01T13:14:15.123456789", (1_704_114_855, 123_456_789, Form::Local)),
            ("2024-01-01 00:00:00.1000000000", (1_704_067_200, 100_000_000, Form::Local)),
            ("2024-01-01T00:00:00Z", (1_704_067_200, 0, Form::Offset)),
            ("2024-01-01 02:00:00+02", (1_704_067_200, 0, Form::Offset)),
            ("2023-12-31 19:30:00 -04:30", (1_704_067_200, 0, Form::Offset)),
        ] {
            assert_eq!(moment(text), expected, "{text}");
        }
    }

    #[test]
    fn what_there_is_not_is_no_moment() {
        for text in [
            "",
            "2024",
            "2024-02-30",
            "2023-02-29",
            "1900-02-29",
            "2024-00-01",
            "2024-1-1",
            "99999-01-01",
            "2024-01-01 24:00:00",
            "2016-12-31 23:59:60",
            "2024-01-01 00:00",
            "2024-01-01 00:00:00.",
            "2024-01-01 00:00:00.1234567891",
            "2024-01-01 00:00:00 UTC",
            "2024-01-01 00:00:00+2",
            "2024-01-01x00:00:00",
            "größer als 10",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_unit_holds_it_to_the_last_digit_or_not_at_all() {
        let half = Moment::parse("2024-01-01 00:00:00.5").unwrap();
        assert_eq!(half.count(TimeUnit::Second), None);
        assert_eq!(half.count(TimeUnit::Millisecond), Some(1_704_067_200_500));
        assert_eq!(Moment::parse("1500-01-01 00:00:00").unwrap().count(TimeUnit::Nanosecond), None);
        assert_eq!(half.days(), None);
        assert_eq!(Moment::parse("1969-12-31").unwrap().days(), Some(-1));
        assert_eq!(time_of_day("12:00:00.000001"), Some(43_200_000_001));
        assert_eq!(
            (time_of_day("12:00"), time_of_day("12:00:00Z"), time_of_day("12:00:00.0000001")),
            (None, None, None)
        );
    }
}
