//! `merganser-server hash-password`: the hash of a password, for the configuration. The password is never an
//! argument, because arguments are in the shell's history and visible to every user of the machine.

use std::io::{self, BufRead, IsTerminal};

use crate::config::{PasswordError, PasswordHash};

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashPasswordError {
    /// The password was typed differently the second time.
    #[error("the two passwords are not the same")]
    Different,
    /// No password, or one that cannot be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Standard input or the terminal cannot be read.
    #[error("the password cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Asks on the terminal, without an echo and twice, when standard input is one; else reads one line of it.
///
/// # Errors
/// [`HashPasswordError`].
pub fn from_stdin() -> Result<PasswordHash, HashPasswordError> {
    let password = if io::stdin().is_terminal() { ask()? } else { first_line(io::stdin().lock())? };
    Ok(PasswordHash::of(&password)?)
}

fn ask() -> Result<String, HashPasswordError> {
    let password = rpassword::prompt_password("Password: ")?;
    if rpassword::prompt_password("Once more: ")? != password {
        return Err(HashPasswordError::Different);
    }
    Ok(password)
}

fn first_line(mut input: impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_line_is_cut_off() {
        for (input, password) in [
            ("secret\nmore\n", "secret"),
            (" pä ss \r\n", " pä ss "),
            ("no end", "no end"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(first_line(input.as_bytes()).unwrap(), password);
        }
    }
}
