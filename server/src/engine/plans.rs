//! Plans that a connection has made and may run again.
//!
//! Planning a small query costs about as much as running it. But a plan carries the statistics of the data
//! that it was made over, and gives wrong answers over newer data. So a plan is kept with the moment it was
//! made at, and reused only while the commit clock still shows that moment; see [`super::clock`].

use std::time::{Duration, Instant};

use super::{clock::Stamp, ffi::Prepared};

/// An older plan is made anew. Some table functions read the world while they are planned (`glob` lists
/// files): what they saw may be this old and no older.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Plans that one connection keeps, the last used first.
const KEPT: usize = 8;
/// Longer texts are not kept.
const MAX_TEXT: usize = 4096;

/// The plans of one connection. All are of statements without parameters that a READ ONLY transaction has
/// already run: they write nothing.
#[derive(Default)]
pub(crate) struct Plans {
    kept: Vec<Plan>,
}

struct Plan {
    sql: String,
    /// The moment on the commit clock,
    made: Stamp,
    /// and by the wall.
    at: Instant,
    prepared: Prepared,
}

impl Plans {
    /// Takes out the plan of a text, with its age, if it was made at this very moment. Others of the same
    /// text are thrown away.
    pub(crate) fn take(&mut self, sql: &str, now: Stamp) -> Option<(Prepared, Instant)> {
        let position = self.kept.iter().position(|plan| plan.sql == sql)?;
        let Plan { made, at, prepared, .. } = self.kept.remove(position);
        (made == now && at.elapsed() < MAX_AGE).then_some((prepared, at))
    }

    /// Keeps a plan that was made at `made`.
    pub(crate) fn keep(&mut self, sql: &str, made: Stamp, at: Instant, prepared: Prepared) {
        if sql.len() <= MAX_TEXT {
            self.kept.truncate(KEPT - 1);
            self.kept.insert(0, Plan { sql: sql.to_owned(), made, at, prepared });
        }
    }
}
