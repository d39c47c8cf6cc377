//! What processes tell each other, one JSON object a line.

use serde::{Deserialize, Serialize};

/// What a loader tells the judge.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// A unit was acknowledged.
    Acknowledged(Answer),
    /// All units of a stream up to one were acknowledged.
    AcknowledgedUpTo(UpTo),
    /// A unit that had been acknowledged was sent once more, and acknowledged again.
    Repeated(Answer),
    /// A unit was answered with what no crash excuses.
    Refused {
        /// Who sent it.
        loader: u64,
        /// Its number.
        sequence: u64,
        /// What the server said.
        error: String,
    },
}

/// An acknowledgement.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) loader: u64,
    pub(crate) sequence: u64,
    pub(crate) rows: u64,
    pub(crate) commit: u64,
    pub(crate) duplicate: bool,
}

/// The acknowledgement of one unit of a stream, and of those before it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UpTo {
    pub(crate) loader: u64,
    pub(crate) sequence: u64,
    /// Of the unit of this number.
    pub(crate) commit: u64,
    /// Acknowledgements since the last report that were of a unit which had been committed before it came.
    pub(crate) duplicates: u64,
}

/// What the director asks of the judge.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// Compare what has come since the last comparison.
    Compare,
    /// Compare everything, once no loader is left.
    CompareAll,
}
