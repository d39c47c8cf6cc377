//! What was acknowledged, on disk and in memory.

use std::{fs::File, io::Write, path::Path};

use crate::{
    Failure,
    report::{Answer, Report, UpTo},
    unit::{Kind, LOADERS, Unit},
    verdict::Verdict,
};

/// Every acknowledgement so far.
pub(crate) struct Kept {
    log: File,
    /// For each loader the commits of its units, in order; none where the acknowledgement of a later one stood for it.
    commits: [Vec<Option<u64>>; LOADERS as usize],
    /// The counts of answers, and what was wrong with them.
    pub(crate) answers: Verdict,
}

/// How far a loader has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// Its units that were acknowledged.
    pub(crate) acknowledged: u64,
    /// The commit of the last of them; 0 before the first.
    pub(crate) commit: u64,
}

impl Kept {
    /// Nothing yet; reports will be written to a new file.
    pub(crate) fn new(log: &Path) -> Result<Self, Failure> {
        Ok(Self {
            log: File::create_new(log)?,
            commits: [const { Vec::new() }; LOADERS as usize],
            answers: Verdict::default(),
        })
    }

    /// Writes a report down as it came, before anything else, and then looks at it.
    pub(crate) fn take(&mut self, line: &str) -> Result<(), Failure> {
        self.log.write_all(format!("{line}\n").as_bytes())?;
        match serde_json::from_str(line)? {
            Report::Acknowledged(answer) => self.acknowledged(&answer),
            Report::AcknowledgedUpTo(up_to) => self.acknowledged_up_to(&up_to),
            Report::Repeated(answer) => self.repeated(&answer),
            Report::Refused { loader, sequence, error } => {
                self.wrong(|| format!("loader {loader}, unit {sequence}: {error}"));
            }
        }
        Ok(())
    }

    /// How far each loader has come.
    pub(crate) fn standings(&self) -> [Standing; LOADERS as usize] {
        let standing = |commits: &Vec<Option<u64>>| Standing {
            acknowledged: commits.len() as u64,
            commit: last(commits).unwrap_or_default(),
        };
        self.commits.each_ref().map(standing)
    }

    /// The commit of a unit whose own acknowledgement came.
    pub(crate) fn commit(&self, Unit { loader, sequence }: Unit) -> Option<u64> {
        *self.commits.get(loader as usize)?.get(usize::try_from(sequence).ok()?.checked_sub(1)?)?
    }

    fn acknowledged(&mut self, answer: &Answer) {
        let Some(commits) = self.commits.get_mut(answer.loader as usize) else { return };
        let unit = Unit { loader: answer.loader, sequence: answer.sequence };
        let is_next = answer.sequence == commits.len() as u64 + 1;
        // The first commit of a unit lies after that of the unit before it, over all restarts.
        let grows = last(commits).is_none_or(|last| last < answer.commit);
        commits.push(Some(answer.commit));
        self.answers.acknowledged += 1;
        if unit.kind().upserts() {
            self.answers.upserts += 1;
            let others = (0..)
                .zip(&self.commits)
                .filter(|(loader, _)| *loader != unit.loader && Kind::of(*loader).upserts());
            let is_together = others.into_iter().any(|(_, commits)| last(commits) == Some(answer.commit));
            self.answers.upserted_together += u64::from(is_together);
        }
        self.answers.answers_lost += u64::from(answer.duplicate);
        if !is_next || !grows || answer.rows != unit.kind().rows() {
            self.wrong(|| format!("an acknowledgement out of order, or not of the whole unit: {answer:?}"));
        }
    }

    fn acknowledged_up_to(&mut self, up_to: &UpTo) {
        let Some(commits) = self.commits.get_mut(up_to.loader as usize) else { return };
        let before = commits.len() as u64;
        let is_next = up_to.sequence > before;
        // Units of one stream may be committed together.
        let grows = last(commits).is_none_or(|last| last <= up_to.commit);
        if is_next {
            commits.resize(up_to.sequence as usize - 1, None);
            commits.push(Some(up_to.commit));
            self.answers.acknowledged += up_to.sequence - before;
            self.answers.streamed += up_to.sequence - before;
        }
        self.answers.answers_lost += up_to.duplicates;
        if !is_next || !grows {
            self.wrong(|| format!("an acknowledgement on a stream after that of unit {before}: {up_to:?}"));
        }
    }

    fn repeated(&mut self, answer: &Answer) {
        self.answers.repeated += 1;
        let first = self.commit(Unit { loader: answer.loader, sequence: answer.sequence });
        if !answer.duplicate || first != Some(answer.commit) {
            self.wrong(|| format!("not recognised as a repeat of commit {first:?}: {answer:?}"));
        }
    }

    fn wrong(&mut self, text: impl FnOnce() -> String) {
        self.answers.wrong_answers += 1;
        self.answers.example(text);
    }
}

/// The commit of the last unit, whose own acknowledgement has come, whatever was said of those before it.
fn last(commits: &[Option<u64>]) -> Option<u64> {
    commits.last().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOADER: u64 = 2;

    fn kept() -> (tempfile::TempDir, Kept) {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::new(&folder.path().join("log")).unwrap();
        (folder, kept)
    }

    fn take(kept: &mut Kept, report: &Report) {
        kept.take(&serde_json::to_string(report).unwrap()).unwrap();
    }

    fn up_to(sequence: u64, commit: u64) -> Report {
        Report::AcknowledgedUpTo(UpTo { loader: LOADER, sequence, commit, duplicates: 0 })
    }

    #[test]
    fn an_acknowledgement_on_a_stream_stands_for_all_units_before_it() {
        let (_folder, mut kept) = kept();
        take(&mut kept, &up_to(3, 7));
        take(&mut kept, &up_to(4, 7));
        let Standing { acknowledged, commit } = kept.standings()[LOADER as usize];
        assert_eq!((acknowledged, commit), (4, 7));
        let commit = |sequence| kept.commit(Unit { loader: LOADER, sequence });
        assert_eq!([1, 2, 3, 4, 5].map(commit), [None, None, Some(7), Some(7), None]);
        assert_eq!((kept.answers.acknowledged, kept.answers.streamed), (4, 4));
        assert!(kept.answers.passes());
    }

    #[test]
    fn one_that_goes_back_is_wrong() {
        for report in [up_to(3, 8), up_to(2, 8), up_to(4, 6)] {
            let (_folder, mut kept) = kept();
            take(&mut kept, &up_to(3, 7));
            take(&mut kept, &report);
            assert_eq!(kept.answers.wrong_answers, 1, "{report:?}");
        }
    }

    #[test]
    fn a_unit_of_a_stream_is_recognised_by_its_own_commit_only() {
        for (sequence, commit, wrong) in [(3, 7, 0), (3, 6, 1), (2, 7, 1)] {
            let (_folder, mut kept) = kept();
            take(&mut kept, &up_to(3, 7));
            let answer = Answer { loader: LOADER, sequence, rows: 1_000, commit, duplicate: true };
            take(&mut kept, &Report::Repeated(answer));
            assert_eq!(kept.answers.wrong_answers, wrong, "unit {sequence} of commit {commit}");
        }
    }
}
