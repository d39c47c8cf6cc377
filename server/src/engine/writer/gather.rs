//! Who is committed together: what waits behind the first unit, up to the size of a group.

use std::{collections::VecDeque, sync::mpsc};

use super::{Unit, command::Command, committer::Committer, group::Size, storage::Storage};

/// Takes the units that are waiting behind `first`, up to the size of a group.
pub(crate) fn gather<S: Storage>(
    first: Unit,
    committer: &mut Committer<S>,
    waiting: &mut VecDeque<Command>,
    commands: &mpsc::Receiver<Command>,
) -> Vec<Unit> {
    let alone = committer.runs_alone(&first);
    let mut size = Size::of([&first]);
    let mut group = vec![first];
    while !alone && !size.is_complete() {
        match waiting.pop_front().map_or_else(|| commands.try_recv(), Ok) {
            Ok(Command::Unit(unit)) if !committer.runs_alone(&unit) => {
                size.add(unit.rows, unit.bytes);
                group.push(*unit);
            }
            Ok(other) => {
                waiting.push_front(other);
                break;
            }
            Err(_) => break,
        }
    }
    group
}
