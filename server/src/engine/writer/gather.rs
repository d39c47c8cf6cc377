//! Who is committed together: what waits behind the first unit, up to the size of a group.

use std::{collections::VecDeque, sync::mpsc};

use super::{Unit, command::Command, committer::Committer, storage::Storage};

/// A group is complete at this many units,
const GROUP_UNITS: usize = 256;
/// this many rows,
const GROUP_ROWS: usize = 65_536;
/// or this many bytes.
const GROUP_BYTES: usize = 32 << 20;

/// Takes the units that are waiting behind `first`, up to the size of a group.
pub(crate) fn gather<S: Storage>(
    first: Unit,
    committer: &mut Committer<S>,
    waiting: &mut VecDeque<Command>,
    commands: &mpsc::Receiver<Command>,
) -> Vec<Unit> {
    let (mut rows, mut bytes) = (first.rows, first.bytes);
    let alone = committer.runs_alone(&first);
    let mut group = vec![first];
    while !alone && group.len() < GROUP_UNITS && rows < GROUP_ROWS && bytes < GROUP_BYTES {
        match waiting.pop_front().map_or_else(|| commands.try_recv(), Ok) {
            Ok(Command::Unit(unit)) if !committer.runs_alone(&unit) => {
                rows += unit.rows;
                bytes += unit.bytes;
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
