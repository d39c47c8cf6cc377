//! Spinners and bars on stderr, for a person who waits.

use std::{
    ffi::OsStr,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::human;

/// What takes less than this is over before a spinner could be read.
const PATIENCE: Duration = Duration::from_millis(200);
const FRAME: Duration = Duration::from_millis(100);

/// Shows that a query runs, and how much has come.
pub(crate) struct Activity {
    started: Instant,
    rows: u64,
    bar: ProgressBar,
}

impl Activity {
    /// Starts the clock; the spinner appears a little later, if `visible`.
    pub(crate) fn start(visible: bool) -> Self {
        let style = style("{spinner} {elapsed} {msg}");
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()).with_style(style);
        let activity = Self { started: Instant::now(), rows: 0, bar };
        if visible {
            activity.appear_later();
        }
        activity
    }

    fn appear_later(&self) {
        let bar = self.bar.downgrade();
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            if let Some(bar) = bar.upgrade().filter(|bar| !bar.is_finished()) {
                bar.set_draw_target(ProgressDrawTarget::stderr());
                bar.enable_steady_tick(FRAME);
            }
        });
    }

    /// Notes rows that came, and the bytes that have come in all.
    pub(crate) fn advance(&mut self, rows: usize, bytes: u64) {
        self.rows += rows as u64;
        self.bar.set_message(format!("{}, {}", human::count(self.rows, "row"), HumanBytes(bytes),));
    }

    /// Takes the spinner off the screen.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        self.clear();
    }
}

/// One bar for each file under way; nothing when stderr is no terminal.
#[derive(Clone)]
pub(crate) struct FileBars(MultiProgress);

impl FileBars {
    pub(crate) fn new() -> Self {
        Self(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
    }

    /// A bar for a file of which nothing is known yet.
    pub(crate) fn add(&self, name: &OsStr) -> FileBar {
        let name = name.to_string_lossy().into_owned();
        let bar = self.0.add(ProgressBar::no_length().with_prefix(name));
        bar.set_style(style("{prefix:30!} {spinner} {msg}"));
        FileBar(bar)
    }

    /// Prints with the bars out of the way.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }
}

/// The bar of one file; clones move the same bar.
#[derive(Clone)]
pub(crate) struct FileBar(ProgressBar);

impl FileBar {
    /// A bar that is not shown.
    #[cfg(test)]
    pub(crate) fn hidden() -> Self {
        Self(ProgressBar::hidden())
    }

    /// Measures by bytes read: for files that are read from the beginning to the end.
    pub(crate) fn read_bytes<R: std::io::Read>(
        &self,
        reader: R,
        length: u64,
    ) -> indicatif::ProgressBarIter<R> {
        self.0.set_style(style("{prefix:30!} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}"));
        self.0.set_length(length);
        self.0.wrap_read(reader)
    }

    /// Measures by rows: for files that know how many they have.
    pub(crate) fn count_rows(&self, length: u64) -> ProgressBar {
        self.0.set_style(style("{prefix:30!} [{bar:30}] {human_pos}/{human_len} rows {eta} {msg}"));
        self.0.set_length(length);
        self.0.clone()
    }

    /// Says the how manieth try it is, unless it is the first.
    pub(crate) fn tries(&self, number: u64) {
        if number > 1 {
            self.0.set_message(format!("try {number}"));
        }
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// The templates are constants, which the tests check; a broken one would fall back to the default.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
