//! What was acknowledged, on disk and in memory.

use std::{fs::File, io::Write, path::Path};

use crate::{
    Failure,
    report::{Answer, Report},
    unit::{Kind, LOADERS, Unit},
    verdict::Verdict,
};

/// Every acknowledgement so far.
pub(crate) struct Kept {
    log: File,
    /// For each loader the commits of its units, in order.
    commits: Vec<Vec<u64>>,
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
            commits: vec![Vec::new(); LOADERS as usize],
            answers: Verdict::default(),
        })
    }

    /// Writes a report down as it came, before anything else, and then looks at it.
    pub(crate) fn take(&mut self, line: &str) -> Result<(), Failure> {
        self.log.write_all(format!("{line}\n").as_bytes())?;
        match serde_json::from_str(line)? {
            Report::Acknowledged(answer) => self.acknowledged(&answer),
            Report::Repeated(answer) => self.repeated(&answer),
            Report::Refused { loader, sequence, error } => {
                self.wrong(|| format!("loader {loader}, unit {sequence}: {error}"));
            }
        }
        Ok(())
    }

    /// How far each loader has come.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        let last = |commits: &Vec<u64>| commits.last().copied().unwrap_or_default();
        let standing = |commits| Standing { acknowledged: Vec::len(commits) as u64, commit: last(commits) };
        self.commits.iter().map(standing).collect()
    }

    /// The commit of a unit that was acknowledged.
    pub(crate) fn commit(&self, Unit { loader, sequence }: Unit) -> Option<u64> {
        self.commits.get(loader as usize)?.get(usize::try_from(sequence).ok()?.checked_sub(1)?).copied()
    }

    fn acknowledged(&mut self, answer: &Answer) {
        let Some(commits) = self.commits.get_mut(answer.loader as usize) else { return };
        let unit = Unit { loader: answer.loader, sequence: answer.sequence };
        let is_next = answer.sequence == commits.len() as u64 + 1;
        // The first commit of a unit lies after that of the unit before it, over all restarts.
        let grows = commits.last().is_none_or(|last| *last < answer.commit);
        commits.push(answer.commit);
        self.answers.acknowledged += 1;
        if unit.kind().upserts() {
            self.answers.upserts += 1;
            let others = (0..)
                .zip(&self.commits)
                .filter(|(loader, _)| *loader != unit.loader && Kind::of(*loader).upserts());
            let is_together = others.into_iter().any(|(_, commits)| commits.last() == Some(&answer.commit));
            self.answers.upserted_together += u64::from(is_together);
        }
        self.answers.answers_lost += u64::from(answer.duplicate);
        if !is_next || !grows || answer.rows != unit.kind().rows() {
            self.wrong(|| format!("an acknowledgement out of order, or not of the whole unit: {answer:?}"));
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
