//! Groups that meet conflicts.

use tokio::sync::oneshot;

use super::{Fault, SlowSyncer, World, unit};
use crate::engine::{Class, Error, Result, ingest::Ack, writer::committer::CONFLICT_TRIES};

/// Has a group of so many units meet so many conflicts. Gives the answers, and how many of these conflicts it did not
/// come to.
fn met(conflicts: usize, units: usize) -> (Vec<Result<Ack>>, usize) {
    let mut world = World::<SlowSyncer>::new(vec![Fault::Conflict; conflicts]);
    let (group, answers): (Vec<_>, Vec<_>) = (0..units)
        .map(|number| {
            let (answer, answered) = oneshot::channel();
            (unit(number, 10, number as u64, None, answer), answered)
        })
        .unzip();
    assert!(world.pipeline.committer.commit_all(vec![group]).is_ok(), "in doubt");
    let answers = answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect();
    let left = world.model.lock().faults_left();
    (answers, left)
}

fn conflicts(answers: &[Result<Ack>]) -> Vec<bool> {
    let is_conflict = |answer: &Result<Ack>| match answer {
        Ok(_) => false,
        Err(Error::Duck { class: Class::Conflict, .. }) => true,
        Err(error) => panic!("refused with {error}"),
    };
    answers.iter().map(is_conflict).collect()
}

#[test]
fn a_group_that_meets_a_conflict_is_tried_three_times() {
    assert_eq!(CONFLICT_TRIES, 3);
    for (met_by, refused) in [(2, false), (3, true)] {
        let (answers, left) = met(met_by, 1);
        assert_eq!((conflicts(&answers), left), (vec![refused], 0), "{met_by} conflicts");
    }
    // The fourth is left to whoever comes next.
    let (answers, left) = met(4, 1);
    assert_eq!((conflicts(&answers), left), (vec![true], 1));
}

#[test]
fn a_group_that_goes_on_meeting_them_is_tried_in_halves_three_times_each() {
    let (answers, left) = met(3, 2);
    assert_eq!((conflicts(&answers), left), (vec![false, false], 0));
    let (answers, left) = met(3 + 3, 2);
    assert_eq!((conflicts(&answers), left), (vec![true, false], 0));
    let (answers, left) = met(3 + 3 + 3, 2);
    assert_eq!((conflicts(&answers), left), (vec![true, true], 0));
}
