//! Loaders and readers from outside: processes that print their counters.

use std::io;

use futures::{Stream, TryStreamExt, stream};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use crate::{
    Failure,
    process::again,
    tally::{Tally, Total},
};

const LOADERS: usize = 4;
const READERS: usize = 2;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Puts events.
    Loader,
    /// Queries them.
    Reader,
}

impl Role {
    /// The name of the role, and of the subcommand that plays it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Loader => "loader",
            Self::Reader => "reader",
        }
    }
}

/// One process and what it last told.
pub(crate) struct Worker {
    pub(crate) role: Role,
    number: usize,
    child: Child,
    pub(crate) tally: Tally,
}

impl Worker {
    fn start(role: Role, number: usize, url: &str, seconds: u64) -> io::Result<Self> {
        let child = again(role.name())?.args([url, &seconds.to_string(), &number.to_string()]).spawn()?;
        Ok(Self { role, number, child, tally: Tally::default() })
    }

    /// Such as `loader 1`.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.role.name(), self.number)
    }

    /// The lines it prints, until it ends.
    fn tallies(&mut self) -> Result<impl Stream<Item = Result<Tally, Failure>> + use<>, Failure> {
        let stdout = self.child.stdout.take().ok_or("a worker has no stdout")?;
        let lines = BufReader::new(stdout).lines();
        Ok(stream::try_unfold(lines, async |mut lines| {
            let Some(line) = lines.next_line().await? else {
                return Ok(None);
            };
            Ok(Some((serde_json::from_str(&line)?, lines)))
        }))
    }
}

/// All loaders and readers. Dropping the crew ends the processes.
pub(crate) struct Crew(Vec<Worker>);

impl Crew {
    /// Starts everybody.
    pub(crate) fn start(url: &str, seconds: u64) -> io::Result<Self> {
        let loaders = (1..=LOADERS).map(|number| (Role::Loader, number));
        let readers = (1..=READERS).map(|number| (Role::Reader, number));
        let workers = loaders.chain(readers).map(|(role, number)| Worker::start(role, number, url, seconds));
        workers.collect::<io::Result<_>>().map(Self)
    }

    /// Reads what they print until all have ended; calls `show` after every line.
    pub(crate) async fn follow(&mut self, mut show: impl FnMut(&Self)) -> Result<(), Failure> {
        let mut lines = stream::SelectAll::new();
        for (index, worker) in self.0.iter_mut().enumerate() {
            let tallies = worker.tallies()?;
            lines.push(Box::pin(tallies.map_ok(move |tally| (index, tally))));
        }
        while let Some((index, tally)) = lines.try_next().await? {
            self.0[index].tally = tally;
            show(self);
        }
        for worker in &mut self.0 {
            let status = worker.child.wait().await?;
            if !status.success() {
                return Err(format!("{} ended badly: {status}", worker.name()).into());
            }
        }
        Ok(())
    }

    /// Everybody, the loaders first.
    pub(crate) fn workers(&self) -> &[Worker] {
        &self.0
    }

    /// What the processes of a role have done together.
    pub(crate) fn total(&self, role: Role) -> Total {
        self.0.iter().filter(|worker| worker.role == role).map(|worker| &worker.tally).collect()
    }
}
