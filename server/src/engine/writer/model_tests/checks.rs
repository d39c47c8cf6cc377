//! What must hold, whatever has happened.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use proptest::{prelude::*, test_runner::TestCaseError};
use tokio::sync::oneshot;

use super::{
    model::Model,
    second::Second,
    world::{Loader, Sent, World},
};
use crate::engine::{Class, Error, Result, ingest::Ack};

impl<Y: Second> World<Y> {
    /// Takes the answers that have come.
    pub(super) fn read_answers(&mut self) -> Result<(), TestCaseError> {
        for mut sent in std::mem::take(&mut self.sent) {
            match sent.answer.try_recv() {
                Ok(outcome) => self.answered(sent, outcome)?,
                Err(oneshot::error::TryRecvError::Empty) => self.sent.push(sent),
                // The process died; so it is with every unit that was not answered.
                Err(oneshot::error::TryRecvError::Closed) if sent.key.is_none() => {
                    self.in_doubt.insert(sent.number);
                }
                Err(oneshot::error::TryRecvError::Closed) => {}
            }
        }
        Ok(())
    }

    fn answered(&mut self, sent: Sent, outcome: Result<Ack>) -> Result<(), TestCaseError> {
        // In this database one unit alone always has memory enough: a group that has not is halved until it has.
        let lacks_memory = outcome.as_ref().err().and_then(Error::class) == Some(Class::OutOfMemory);
        prop_assert!(!lacks_memory, "unit {} is refused for want of memory", sent.number);
        match (&sent.key, outcome) {
            (Some((index, key)), Ok(ack)) => {
                prop_assert_eq!(ack.rows, sent.rows as u64);
                let told = (sent.hash, ack.commit);
                let before = self.acknowledged.insert((*index, key.sequence), told);
                prop_assert!(before.is_none_or(|before| before == told), "two answers for {}", key);
                let loader = &mut self.loaders[*index as usize];
                if loader.sequence == key.sequence {
                    *loader = Loader {
                        epoch: loader.epoch,
                        sequence: key.sequence + 1,
                        content: loader.content + 1,
                        ..Loader::default()
                    };
                }
            }
            (None, Ok(_)) => drop(self.unkeyed.insert(sent.number)),
            (None, Err(Error::CommitUnknown(_))) => drop(self.in_doubt.insert(sent.number)),
            (_, Err(_)) => drop(self.refused.insert(sent.number)),
        }
        Ok(())
    }

    /// What must hold at any time.
    pub(super) fn check(&self) -> Result<(), TestCaseError> {
        let model = self.model.lock();
        let Model { stored, entries, poison, .. } = &*model;
        let distinct: HashSet<_> = stored.iter().collect();
        prop_assert_eq!(distinct.len(), stored.len(), "a unit is stored twice");
        prop_assert!(distinct.is_disjoint(&poison.iter().collect()), "what the table refuses is stored");
        prop_assert!(distinct.is_disjoint(&self.refused.iter().collect()), "a unit is refused and stored");
        for number in &self.unkeyed {
            prop_assert!(distinct.contains(number), "an acknowledged unit is missing");
        }
        let mut last = HashMap::new();
        for (number, loader) in stored.iter().filter_map(|number| Some((number, self.of.get(number)?))) {
            prop_assert!(
                last.insert(loader, number) < Some(number),
                "a unit has overtaken one of its loader"
            );
        }
        let mut next: HashMap<Arc<str>, u64> = HashMap::new();
        let mut known = HashMap::new();
        for entry in entries {
            let expected = next.entry(Arc::clone(&entry.key.loader)).or_insert(1);
            prop_assert_eq!(entry.key.sequence, *expected, "a gap or a repeat in the ledger");
            *expected += 1;
            known.insert((entry.key.loader.to_string(), entry.key.sequence), entry.committed);
        }
        for ((index, sequence), (hash, commit)) in &self.acknowledged {
            let committed = known.get(&(format!("loader {index}"), *sequence));
            let told = committed.map(|committed| (committed.hash, committed.commit));
            prop_assert_eq!(told, Some((*hash, *commit)), "acknowledged, but not what is stored");
        }
        Ok(())
    }
}
