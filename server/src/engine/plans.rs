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

/// The plans of one connection, all of single SELECT statements.
#[derive(Default)]
pub(crate) struct Plans {
    kept: Vec<Plan>,
}

/// A plan and when it was made.
pub(crate) struct Plan {
    sql: String,
    /// The moment on the commit clock,
    made: Stamp,
    /// and by the wall.
    at: Instant,
    /// A READ ONLY transaction has run it: it writes nothing.
    proven: bool,
    prepared: Prepared,
}

impl Plan {
    /// A plan that was made at `made`; whether it writes is not known yet.
    pub(crate) fn new(sql: &str, made: Stamp, prepared: Prepared) -> Self {
        Self { sql: sql.to_owned(), made, at: Instant::now(), proven: false, prepared }
    }

    /// The same, after it has run in a READ ONLY transaction.
    pub(crate) fn proven(self) -> Self {
        Self { proven: true, ..self }
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }

    pub(crate) fn made(&self) -> Stamp {
        self.made
    }

    pub(crate) fn prepared(&self) -> &Prepared {
        &self.prepared
    }
}

impl Plans {
    /// Takes out the plan of a text if it was made at this very moment; one that was made before is thrown
    /// away.
    pub(crate) fn take(&mut self, sql: &str, now: Stamp) -> Option<Plan> {
        let position = self.kept.iter().position(|plan| plan.sql == sql)?;
        let plan = self.kept.remove(position);
        (plan.made == now && plan.at.elapsed() < MAX_AGE).then_some(plan)
    }

    /// Keeps a plan.
    pub(crate) fn keep(&mut self, plan: Plan) {
        if plan.sql.len() <= MAX_TEXT {
            self.kept.truncate(KEPT - 1);
            self.kept.insert(0, plan);
        }
    }
}
