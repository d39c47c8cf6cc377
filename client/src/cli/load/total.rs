//! What a load comes to.

use std::time::Duration;

use crate::cli::{human, terminal};

/// What has been loaded so far.
#[derive(Debug, Default)]
pub(super) struct Total {
    /// Files that are stored as a whole.
    pub(super) loaded: u64,
    /// Files that are not.
    pub(super) failed: u64,
    /// Rows that are stored by this load.
    pub(super) rows: u64,
    /// Units that the server had from an earlier load.
    pub(super) there_already: u64,
    /// Units that it had from this one, because an acknowledgement was lost.
    pub(super) duplicates: u64,
    /// Tries after the first ones.
    pub(super) retries: u64,
}

impl Total {
    /// Prints one line, unless there is nothing to tell.
    pub(super) fn print(&self, time: Duration) {
        if self.loaded == 0 && self.rows == 0 {
            return;
        }
        let rows = human::count(self.rows, "row");
        let (rate, took) = (human::rate(self.rows, time), human::elapsed(time));
        let (files, remarks) = (self.files(), self.remarks());
        terminal::print_outcome(&format_args!("loaded {files}, {rows} in {took} ({rate}){remarks}"));
    }

    fn files(&self) -> String {
        let all = human::count(self.loaded + self.failed, "file");
        if self.failed == 0 { all } else { format!("{} of {all}", self.loaded) }
    }

    fn remarks(&self) -> String {
        let mut remarks = String::new();
        let mut add = |number: u64, text: String| {
            if number > 0 {
                remarks.push_str("; ");
                remarks.push_str(&text);
            }
        };
        let were = if self.there_already == 1 { "was" } else { "were" };
        add(self.there_already, format!("{} {were} there already", human::count(self.there_already, "unit")));
        add(self.duplicates, human::count(self.duplicates, "duplicate"));
        let retries =
            if self.retries == 1 { "1 retry".to_owned() } else { format!("{} retries", self.retries) };
        add(self.retries, retries);
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_files() {
        let mut total = Total { loaded: 1, ..Total::default() };
        assert_eq!(total.files(), "1 file");
        total.loaded += 1;
        assert_eq!(total.files(), "2 files");
        total.failed += 1;
        assert_eq!(total.files(), "2 of 3 files");
    }

    #[test]
    fn what_is_out_of_the_ordinary_is_said() {
        assert_eq!(Total::default().remarks(), "");
        let total = Total { there_already: 1, duplicates: 2, retries: 1, ..Total::default() };
        assert_eq!(total.remarks(), "; 1 unit was there already; 2 duplicates; 1 retry");
    }
}
