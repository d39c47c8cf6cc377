//! What happens to the writer, and how it is drawn at random.

use proptest::{collection::vec, prelude::*};

use super::{LOADERS, model::Fault};

#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// A loader sends its present unit, keyed or not, once more.
    Send { loader: u64, keyed: bool, way: Way },
    /// A loader begins a new epoch.
    TakeOver { loader: u64 },
    /// A loader's present unit is one that the table refuses.
    Poison { loader: u64 },
    /// A loader skips its present unit.
    Skip { loader: u64 },
    /// So many units come to the writer, which takes a group.
    Take { units: usize },
    /// No loader is apart any more.
    EndApart,
    /// The second thread is done with a COMMIT, and begins the next.
    Land,
    /// The writer waits until nothing is under way.
    Drain,
    /// The process dies and starts again; of a COMMIT that runs then nobody is told.
    Crash { durable: bool },
}

/// How a unit comes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// In a group.
    Small,
    /// In a group, of which it makes the table.
    Creating,
    /// Appended in a transaction of its own.
    Appended,
    /// Staged, to be brought in by a transaction of the writer.
    Staged,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![
        8 => Just(Way::Small),
        1 => Just(Way::Creating),
        1 => Just(Way::Appended),
        1 => Just(Way::Staged),
    ]
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let loader = 0..LOADERS;
    let step = prop_oneof![
        8 => (loader.clone(), prop::bool::weighted(0.85), way())
            .prop_map(|(loader, keyed, way)| Step::Send { loader, keyed, way }),
        1 => loader.clone().prop_map(|loader| Step::TakeOver { loader }),
        1 => loader.clone().prop_map(|loader| Step::Poison { loader }),
        1 => loader.prop_map(|loader| Step::Skip { loader }),
        5 => (1..12_usize).prop_map(|units| Step::Take { units }),
        3 => Just(Step::Land),
        1 => Just(Step::Drain),
        1 => Just(Step::EndApart),
        1 => prop::bool::ANY.prop_map(|durable| Step::Crash { durable }),
    ];
    vec(step, 1..100)
}

pub(super) fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        6 => Just(Fault::None),
        2 => Just(Fault::Conflict),
        1 => Just(Fault::OutOfMemory),
        1 => Just(Fault::DiskFull),
        2 => Just(Fault::Overtaken),
        2 => prop::bool::ANY.prop_map(|durable| Fault::Unknown { durable }),
    ];
    vec(fault, 0..50)
}
