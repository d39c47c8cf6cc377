//! The writer while the database is down.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{command::Command, queue::Queue};
use crate::engine::{
    Error,
    database::{Database, Pooled},
};

/// How long a command may wait for its refusal. Bulk uploads among them hold connections to the failed
/// instance, which has to go.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Closes the writer's connection and refuses everything until the database is open again, when it gets a new
/// one; `None` when the writer is to end.
///
/// An open database means that nothing is left of the old instance, so no command can still hold a part of it.
pub(crate) fn sit_out(
    database: &Arc<Database>,
    connection: &mut Pooled,
    commands: &mpsc::Receiver<Command>,
    queue: &mut Queue,
) -> Option<()> {
    connection.close();
    loop {
        match database.private_connection() {
            Ok(new) => {
                *connection = new;
                return Some(());
            }
            Err(_) => {
                refuse_all(queue, &database.check_open().err().unwrap_or(Error::EngineDown))?;
            }
        }
        // What comes is refused only after another look: the database may have been opened before it came.
        match commands.recv_timeout(LOOK_AGAIN) {
            Ok(command) => queue.push(command),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// Refuses what has come so far; `None` when the writer is to end.
pub(crate) fn refuse_all(queue: &mut Queue, error: &Error) -> Option<()> {
    match queue.take_all().any(|command| refuse(command, error.clone())) {
        true => None,
        false => Some(()),
    }
}

/// Tells whoever waits that nothing was written; true when that was the command to end.
fn refuse(command: Command, error: Error) -> bool {
    match command {
        Command::Unit(unit) => drop(unit.answer.send(Err(error))),
        Command::Bulk(bulk) => {
            drop(bulk.connection);
            for part in bulk.parts {
                let _ = part.answer.send(Err(error.clone()));
            }
        }
        Command::MakeLedger(done) | Command::CatchUp(done) => drop(done.send(Err(error))),
        Command::Settle => {}
        Command::Shutdown(done) => {
            let _ = done.send(());
            return true;
        }
    }
    false
}
