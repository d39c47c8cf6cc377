//! Loaders that are apart, and those beside them.

use super::{LOADERS, SlowSyncer, Way, World};

type Slow = World<SlowSyncer>;

/// Nothing fails, and no unit makes a group complete.
fn quiet() -> Slow {
    let mut world = Slow::new(Vec::new());
    world.loaders.iter_mut().zip([1, 1, 2, 1]).for_each(|(loader, sequence)| loader.sequence = sequence);
    world
}

/// A loader sends a unit without a key; gives its number.
fn send(world: &mut Slow, loader: u64) -> usize {
    world.send(loader, false, Way::Small);
    world.numbers
}

/// A loader that has sent a bad row, and then many units that wait for the writer, as do those of others behind them.
fn behind_a_loader_that_is_apart(units: usize) -> (Slow, Vec<usize>, Vec<usize>) {
    let mut world = quiet();
    world.loaders[0].poisoned = true;
    send(&mut world, 0);
    assert!(world.take(1));
    world.loaders[0].poisoned = false;
    assert!(world.pipeline.committer.is_apart(0));
    let its = (0..units).map(|_| send(&mut world, 0)).collect();
    let others = (0..units).map(|number| send(&mut world, 1 + number as u64 % (LOADERS - 1))).collect();
    world.coming.drain(..).for_each(|unit| world.queue.push(unit));
    (world, its, others)
}

#[test]
fn others_wait_for_one_unit_of_a_loader_that_is_apart_and_not_for_all() {
    let (mut world, its, others) = behind_a_loader_that_is_apart(100);
    let stored = |world: &Slow| world.model.lock().stored.clone();
    // One group of the others and one of its units, whichever is the first.
    assert!(world.take(0) && world.take(0));
    let now = stored(&world);
    assert!(others.iter().all(|unit| now.contains(unit)), "others wait for more than one unit: {now:?}");
    assert_eq!(now.len(), others.len() + 1);
    // Whatever comes goes with one unit of it.
    for round in 2..10 {
        let more: Vec<_> = (1..LOADERS).map(|loader| send(&mut world, loader)).collect();
        assert!(world.take(100) && world.take(0));
        let now = stored(&world);
        assert!(more.iter().all(|unit| now.contains(unit)));
        assert_eq!(its.iter().filter(|unit| now.contains(unit)).count(), round);
    }
    while world.take(0) {}
    let now = stored(&world);
    assert_eq!(
        now.iter().filter(|unit| its.contains(unit)).copied().collect::<Vec<_>>(),
        its,
        "out of order"
    );
}

#[test]
fn a_loader_that_is_no_longer_apart_commits_with_the_others_again_and_overtakes_none_of_its_own() {
    let (mut world, its, others) = behind_a_loader_that_is_apart(100);
    assert!(world.take(0));
    world.pipeline.committer.apart.end();
    let later = send(&mut world, 0);
    let groups = std::iter::from_fn(|| world.take(1).then_some(())).count();
    assert!(groups <= 3, "{groups} groups for {} units", its.len() + others.len());
    world.drain();
    let stored = world.model.lock().stored.clone();
    let its: Vec<_> = its.into_iter().chain([later]).collect();
    assert_eq!(stored.iter().filter(|unit| its.contains(unit)).copied().collect::<Vec<_>>(), its);
}

#[test]
fn what_makes_a_table_keeps_its_place_unless_units_of_its_loader_wait_aside() {
    let (mut world, its, others) = behind_a_loader_that_is_apart(3);
    world.send(0, true, Way::Creating);
    world.send(1, false, Way::Creating);
    let last = [world.numbers - 1, world.numbers];
    while world.take(2) {}
    world.drain();
    let stored = world.model.lock().stored.clone();
    let place = |unit: &usize| stored.iter().position(|stored| stored == unit).unwrap();
    assert!(its.iter().all(|unit| place(unit) < place(&last[0])), "{stored:?}");
    assert!(others.iter().all(|unit| place(unit) < place(&last[1])), "{stored:?}");
    assert!(place(&last[1]) < place(&its[2]), "it waits for another loader's: {stored:?}");
}

#[test]
fn loaders_that_are_apart_take_turns() {
    let mut world = quiet();
    for loader in 0..2 {
        world.loaders[loader].poisoned = true;
        send(&mut world, loader as u64);
        assert!(world.take(1));
        world.loaders[loader].poisoned = false;
    }
    let first: Vec<_> = (0..10).map(|_| send(&mut world, 0)).collect();
    let second = send(&mut world, 1);
    assert!(world.take(100) && world.take(0));
    assert_eq!(world.model.lock().stored, [first[0], second]);
}
