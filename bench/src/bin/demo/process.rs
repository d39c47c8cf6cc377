//! Processes of the demo: how they are started, and how they notice that nobody needs them any more.

use std::{env, io, path::PathBuf, process::Stdio};

use tokio::process::Command;

/// A command that runs this executable again. It ends when its stdin does, which is when the child is
/// dropped or this process dies, however that happens.
pub(crate) fn again(part: &str) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    // A process group of its own keeps the terminal's Ctrl-C away: only the director decides who stops when.
    command.arg(part).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    Ok(command)
}

/// An executable in the folder of this one.
pub(crate) fn beside(name: &str) -> io::Result<PathBuf> {
    let path = env::current_exe()?.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    let missing = format!("there is no {}: run `make build`", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, missing))
}

/// Ready once the director has closed our stdin or is gone.
pub(crate) async fn released() {
    // A stdin that cannot be read has no director behind it either.
    let _ = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await;
}
