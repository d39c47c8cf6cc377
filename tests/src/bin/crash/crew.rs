//! Loaders and the judge from outside: processes of this executable.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::watch,
};

use crate::{Failure, report::Question, unit::LOADERS, verdict::Verdict};

/// Processes that the loaders share.
const PROCESSES: u64 = 4;
/// A bulk upload that has not begun by then does not.
const PATIENCE: Duration = Duration::from_secs(5);

/// A command that plays a part until its stdin ends, which is when it is dropped or this process dies.
fn part(name: &str) -> Result<Command, Failure> {
    let mut command = Command::new(env::current_exe()?);
    // A process group of its own keeps the terminal's Ctrl-C away: only the director decides who stops when.
    command.arg(name).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    Ok(command)
}

/// The judge.
pub(crate) struct Judge {
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    socket: PathBuf,
}

impl Judge {
    /// Starts the judge, whose files are in `folder`, and waits until loaders can report.
    pub(crate) async fn start(server: &str, folder: &Path) -> Result<Self, Failure> {
        let socket = folder.join("judge.socket");
        let mut child =
            part("judge")?.arg(server).arg(&socket).arg(folder.join("acknowledged.jsonl")).spawn()?;
        let questions = child.stdin.take().ok_or("the judge has no stdin")?;
        let answers = BufReader::new(child.stdout.take().ok_or("the judge has no stdout")?).lines();
        let mut judge = Self { child, questions, answers, socket };
        judge.answers.next_line().await?.ok_or("the judge did not start")?;
        Ok(judge)
    }

    /// Has the judge compare.
    pub(crate) async fn ask(&mut self, question: Question) -> Result<Verdict, Failure> {
        let question = serde_json::to_string(&question)? + "\n";
        self.questions.write_all(question.as_bytes()).await?;
        let answer = self.answers.next_line().await?.ok_or("the judge has left")?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Lets the judge go.
    pub(crate) async fn dismiss(mut self) -> Result<(), Failure> {
        drop(self.questions);
        let status = self.child.wait().await?;
        if status.success() { Ok(()) } else { Err(format!("the judge ended badly: {status}").into()) }
    }
}

/// All loaders.
pub(crate) struct Crew {
    processes: Vec<Child>,
    /// Counts the bulk uploads that have come to their middle.
    bulk: watch::Receiver<u64>,
}

impl Crew {
    /// Starts all loaders, which report to this judge.
    pub(crate) fn start(server: &str, judge: &Judge) -> Result<Self, Failure> {
        let (count, bulk) = watch::channel(0);
        let each = LOADERS / PROCESSES;
        let mut processes = Vec::new();
        for process in 0..PROCESSES {
            let numbers = [process * each, each].map(|number| number.to_string());
            let mut child = part("loader")?.arg(server).arg(&judge.socket).args(numbers).spawn()?;
            let stdout = child.stdout.take().ok_or("a loader has no stdout")?;
            let count = count.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(_)) = lines.next_line().await {
                    count.send_modify(|count| *count += 1);
                }
            });
            processes.push(child);
        }
        Ok(Self { processes, bulk })
    }

    /// Waits until a bulk upload is in its middle; false when none comes.
    pub(crate) async fn bulk_upload(&mut self) -> bool {
        self.bulk.mark_unchanged();
        matches!(tokio::time::timeout(PATIENCE, self.bulk.changed()).await, Ok(Ok(())))
    }

    /// Has all loaders finish the units under way, and waits for them.
    pub(crate) async fn finish(&mut self) -> Result<(), Failure> {
        for process in &mut self.processes {
            // Waiting closes the process's stdin.
            let status = process.wait().await?;
            if !status.success() {
                return Err(format!("a loader process ended badly: {status}").into());
            }
        }
        Ok(())
    }
}
