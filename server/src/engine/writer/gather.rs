//! Who is committed together: what waits behind the first unit, up to the size of a group.

use super::{Unit, committer::Committer, group::Size, queue::Queue, storage::Storage};

/// Adds the units that wait behind a group which has begun, up to the size of one.
pub(crate) fn gather<S: Storage>(group: &mut Vec<Unit>, committer: &Committer<S>, queue: &mut Queue) {
    if group.iter().any(|unit| committer.runs_alone(unit)) {
        return;
    }
    let mut size = Size::of(&*group);
    while !size.is_complete()
        && let Some(unit) = queue.next_to_join(|unit| committer.stands_apart(unit))
    {
        size.add(unit.rows, unit.bytes);
        group.push(unit);
    }
}
