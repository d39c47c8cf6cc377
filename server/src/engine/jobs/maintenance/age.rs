//! What of a lake is so old that it may go.
//!
//! By a clock that is ahead, what was made a moment ago would be old: files of a transaction that is still open, and snapshots by
//! which it is to find conflicts; both would lose rows that are acknowledged. Snapshots have the time of PostgreSQL where
//! the lake's metadata are there, and files that of their storage, so that no clock here can be known to be right. So the
//! time is the earliest that any of them tells. By one that is behind, things go later, which does no harm.

use std::time::{Duration, SystemTime};

use super::Lake;
use crate::{
    engine::{Result, clock::micros, lake::metadata_of},
    sql::literal,
};

/// Clocks that are further apart are told of in the log.
const TOLERATED: Duration = Duration::from_secs(60);

/// Microseconds of a day.
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// What PostgreSQL's clock shows, in microseconds since 1970; not when its transaction began.
const TIME_OF_POSTGRES: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// What the clocks of a lake tell at one moment.
#[derive(Debug)]
struct Clocks {
    /// The one of this machine.
    here: SystemTime,
    /// The same, had nobody set it since this server was started.
    unset: SystemTime,
    /// That of PostgreSQL, where it has the lake's metadata.
    postgres: Option<SystemTime>,
}

impl Clocks {
    fn all(&self) -> impl Iterator<Item = SystemTime> {
        [self.here, self.unset].into_iter().chain(self.postgres)
    }

    fn earliest(&self) -> SystemTime {
        self.all().fold(self.here, SystemTime::min)
    }

    /// How far the last of them is before the first.
    fn apart(&self) -> Duration {
        let latest = self.all().fold(self.here, SystemTime::max);
        latest.duration_since(self.earliest()).unwrap_or_default()
    }
}

impl Lake<'_> {
    /// The argument by which DuckLake's functions take files that are older than this. It names the moment, so that two functions
    /// with the same argument take the same. DuckDB itself compares it with the time of a file.
    pub(super) fn older_than(&self, age: Duration) -> Result<String> {
        // Without a zone, as they want it.
        Ok(format!(", older_than => {}", self.moment_before(age)?))
    }

    /// The argument by which DuckLake takes files whose deletion was scheduled longer ago than this.
    pub(super) fn scheduled_before(&self, age: Duration) -> Result<String> {
        if !self.is_in_sqlite {
            return self.older_than(age);
        }
        Ok(format!(", older_than => make_timestamp({})", day_of_texts(self.micros_before(age)?)))
    }

    /// The snapshots that are older than this, as what follows the columns of a query. DuckLake's own filter would compare
    /// texts where the metadata are in SQLite.
    pub(super) fn snapshots_before(&self, age: Duration) -> Result<String> {
        let (metadata, moment) = (&self.metadata, self.moment_before(age)?);
        Ok(format!(
            "FROM {metadata}.ducklake_snapshot WHERE snapshot_time::TIMESTAMPTZ < {moment}::TIMESTAMPTZ"
        ))
    }

    /// The moment so long before now, as a TIMESTAMP of SQL in UTC.
    fn moment_before(&self, age: Duration) -> Result<String> {
        Ok(format!("make_timestamp({})", self.micros_before(age)?))
    }

    fn micros_before(&self, age: Duration) -> Result<i64> {
        let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
        Ok(micros(self.clocks()?.earliest()).saturating_sub(age).max(0))
    }

    /// Tells the log where the clocks differ.
    pub(super) fn compare_clocks(&self) -> Result<()> {
        let clocks = self.clocks()?;
        if clocks.apart() > TOLERATED {
            let seconds = clocks.apart().as_secs();
            tracing::warn!(
                lake = self.plain,
                seconds,
                ?clocks,
                "the clocks of a lake differ, or one was set; what is old there is told by the earliest of them"
            );
        }
        Ok(())
    }

    fn clocks(&self) -> Result<Clocks> {
        let postgres = if self.is_in_postgres { Some(self.time_of_postgres()?) } else { None };
        Ok(Clocks { here: self.clock.time_of_day(), unset: self.clock.unset(), postgres })
    }

    fn time_of_postgres(&self) -> Result<SystemTime> {
        let asked = format!(
            "FROM postgres_query({}, {})",
            literal(&metadata_of(self.plain)),
            literal(TIME_OF_POSTGRES)
        );
        Ok(SystemTime::UNIX_EPOCH + Duration::from_micros(self.number(&asked)?))
    }
}

/// The last day of which all is before a moment wherever it was written, as its first microsecond.
///
/// SQLite has no times, so that there they are texts, as `2026-11-28 09:26:22.833035+00`, in the zone of whoever wrote them.
/// DuckLake (DuckDB 1.5.5) compares them as texts with a bound that has a `T` for the space: all of the bound's day is before
/// it. A zone can put a moment into the day before its own, so the day is the one before that.
fn day_of_texts(moment: i64) -> i64 {
    moment.div_euclid(DAY).saturating_sub(2).max(0) * DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_day_before_a_moment_nothing_is_old_where_times_are_texts() {
        for (moment, day) in [(5 * DAY, 3), (5 * DAY - 1, 2), (6 * DAY - 1, 3), (1, 0), (0, 0)] {
            assert_eq!(day_of_texts(moment), day * DAY, "{moment}");
        }
    }

    #[test]
    fn the_time_is_the_earliest_that_any_clock_tells() {
        let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let clocks = |here, unset, postgres| Clocks { here, unset, postgres };
        for (wrong, earliest) in [
            (clocks(now + hour, now, None), now),
            (clocks(now + hour, now + hour, Some(now)), now),
            (clocks(now, now, Some(now + hour)), now),
            (clocks(now - hour, now, Some(now)), now - hour),
            (clocks(now, now - hour, Some(now)), now - hour),
        ] {
            assert_eq!(wrong.earliest(), earliest, "{wrong:?}");
            assert_eq!(wrong.apart(), hour, "{wrong:?}");
        }
        assert_eq!(clocks(now, now, Some(now)).apart(), Duration::ZERO);
    }
}
