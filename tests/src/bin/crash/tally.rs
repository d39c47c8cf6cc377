//! Which kinds of kills have met the server in what they are meant for.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::moment::Moment;

/// What happened to the server in rounds of one kind.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(crate) struct Kills {
    pub(crate) rounds: u32,
    pub(crate) kills: u32,
    /// Kills that met the server in what the kind names, not just before or after it.
    pub(crate) met: u32,
}

/// The same of all kinds.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Tally(BTreeMap<&'static str, Kills>);

impl Tally {
    /// Adds what happened in one round.
    pub(crate) fn add(&mut self, moment: Moment, Kills { rounds, kills, met }: Kills) {
        let sum = self.0.entry(moment.name()).or_default();
        *sum = Kills { rounds: sum.rounds + rounds, kills: sum.kills + kills, met: sum.met + met };
    }

    /// What happened in rounds of this kind.
    pub(crate) fn of(&self, moment: Moment) -> Kills {
        self.0.get(moment.name()).copied().unwrap_or_default()
    }

    /// The first kind that no kill has met yet: a run that never met one has tested nothing of it.
    pub(crate) fn missing(&self) -> Option<Moment> {
        Moment::ALL.into_iter().find(|moment| self.of(*moment).met == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_missing_until_a_kill_has_met_it() {
        let mut tally = Tally::default();
        assert_eq!(tally.missing(), Some(Moment::Load));
        for moment in Moment::ALL {
            tally.add(moment, Kills { rounds: 1, kills: 4, met: 0 });
            assert_eq!(tally.missing(), Some(moment));
            tally.add(moment, Kills { rounds: 1, kills: 4, met: 1 });
            assert_ne!(tally.missing(), Some(moment));
        }
        assert_eq!(tally.missing(), None);
        let Kills { rounds, kills, met } = tally.of(Moment::StartUp);
        assert_eq!((rounds, kills, met), (2, 8, 1));
    }
}
