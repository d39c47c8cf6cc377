//! The course of a run: start, load, kill, and have it judged, round by round.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use merganser::Client;
use serde::Serialize;
use tempfile::TempDir;

use crate::{
    Failure,
    crew::{Crew, Judge},
    latest,
    moment::Moment,
    numbers::Numbers,
    report::Question,
    server::{Server, Site},
    tally::{Kills, Tally},
    unit::{COLUMNS, LOADERS, TABLE},
    verdict::Verdict,
};

/// Kills of a start in one round.
const START_UP_KILLS: u32 = 3;
/// Rounds after those that were asked for, for the kinds of moments that none of these has met.
const MORE_ROUNDS: u32 = 20;
/// A checkpoint that has not begun by then does not.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks whether it has begun.
const LOOK: Duration = Duration::from_micros(200);

/// The line at the end, for programs.
#[derive(Serialize)]
struct Summary<'a> {
    rounds: u32,
    seed: u64,
    seconds: f64,
    kills: &'a Tally,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

/// The part without a subcommand.
pub(crate) async fn run(
    rounds: u32,
    seed: Option<u64>,
    server: Option<PathBuf>,
) -> Result<ExitCode, Failure> {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    // Short enough to be typed again.
    let seed = seed.unwrap_or_else(|| clock() % 1_000_000_000);
    println!("{rounds} rounds of {LOADERS} loaders, seed {seed}");
    let folder = tempfile::Builder::new().prefix("merganser-crash-").tempdir()?;
    let outcome = Course::begin(seed, server, &folder).await?.perform(rounds).await;
    match outcome {
        Ok(verdict) if verdict.passes() => Ok(ExitCode::SUCCESS),
        Ok(verdict) => {
            for example in &verdict.examples {
                println!("  {example}");
            }
            println!(
                "a promise was broken; run it again with --seed {seed}; left: {}",
                folder.keep().display()
            );
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(format!("{error}\nseed {seed}; left: {}", folder.keep().display()).into()),
    }
}

/// Everything that lives through the rounds.
struct Course {
    begun: Instant,
    seed: u64,
    numbers: Numbers,
    site: Site,
    judge: Judge,
    crew: Crew,
    /// Of the last start that was let through.
    start_up: Duration,
    tally: Tally,
}

impl Course {
    async fn begin(seed: u64, server: Option<PathBuf>, folder: &TempDir) -> Result<Self, Failure> {
        let mut numbers = Numbers::of(seed);
        let site = Site::new(server, folder.path(), &mut numbers)?;
        let mut server = site.start(Moment::Load.checkpoint_size())?;
        let start_up = server.ready().await?;
        let client = Client::connect(&site.url()).await?;
        for (table, columns) in [(TABLE, COLUMNS), (latest::TABLE, latest::COLUMNS)] {
            client.execute(&format!("CREATE TABLE {table} ({columns})")).await?;
        }
        server.stop().await?;
        let judge = Judge::start(&site.url(), folder.path()).await?;
        let crew = Crew::start(&site.url(), &judge)?;
        let begun = Instant::now();
        Ok(Self { begun, seed, numbers, site, judge, crew, start_up, tally: Tally::default() })
    }

    /// All rounds, and the judgement over all of them. Ends at the first broken promise.
    async fn perform(mut self, rounds: u32) -> Result<Verdict, Failure> {
        let mut round = 0;
        while let Some(moment) = self.next(round, rounds)? {
            let verdict = self.round(round, moment).await?;
            if !verdict.passes() {
                self.print(round, &verdict)?;
                return Ok(verdict);
            }
            round += 1;
        }
        let mut server = self.site.start(Moment::Load.checkpoint_size())?;
        server.ready().await?;
        let mut verdict = self.judge.ask(Question::Compare).await?;
        // A loader that still waits for a unit that was lost may wait for ever.
        if verdict.passes() {
            self.crew.finish().await?;
            verdict = self.judge.ask(Question::CompareAll).await?;
        }
        server.stop().await?;
        self.print(round, &verdict)?;
        self.judge.dismiss().await?;
        match verdict.missing(round).filter(|_| verdict.passes()) {
            Some(missing) => Err(format!("in {round} rounds {missing}, so nothing is known of that").into()),
            None => Ok(verdict),
        }
    }

    /// When the server is killed in the next round, if there is one. After those that were asked for come more, until
    /// every kind of moment has been met, within a bound.
    fn next(&mut self, round: u32, rounds: u32) -> Result<Option<Moment>, Failure> {
        if round < rounds {
            return Ok(Some(Moment::of_round(round, &mut self.numbers)));
        }
        match self.tally.missing() {
            Some(moment) if round == rounds + MORE_ROUNDS => Err(format!(
                "in {round} rounds no kill has met the server {}, so nothing is known of that",
                moment.name()
            )
            .into()),
            missing => Ok(missing),
        }
    }

    /// Start, judge what the last kill left, load, kill.
    async fn round(&mut self, round: u32, moment: Moment) -> Result<Verdict, Failure> {
        let mut server = self.site.start(moment.checkpoint_size())?;
        self.start_up = server.ready().await?;
        let verdict = self.judge.ask(Question::Compare).await?;
        tokio::time::sleep(self.numbers.milliseconds(300, 1_200)).await;
        let met = self.meet(moment).await;
        server.kill().await?;
        let mut counts = Kills { rounds: 1, kills: 1, met: u32::from(met) };
        if moment == Moment::StartUp {
            for _ in 0..START_UP_KILLS {
                counts.kills += 1;
                counts.met += u32::from(self.kill_a_start(moment).await?);
            }
        }
        println!(
            "round {:>3}: killed {:<16} {:>8} units acknowledged, start-up {:.2} s",
            round + 1,
            moment.name(),
            verdict.acknowledged,
            self.start_up.as_secs_f64()
        );
        self.tally.add(moment, counts);
        Ok(verdict)
    }

    /// Waits for what the moment is about; false when it did not come.
    async fn meet(&mut self, moment: Moment) -> bool {
        match moment {
            Moment::Load => true,
            // The starts that follow are its subject.
            Moment::StartUp => false,
            Moment::BulkUpload => {
                let met = self.crew.bulk_upload().await;
                tokio::time::sleep(self.numbers.milliseconds(0, 30)).await;
                met
            }
            Moment::Checkpoint => {
                let late = Instant::now() + PATIENCE;
                let under_way = || self.site.checkpoints(moment.checkpoint_size());
                while !under_way() && Instant::now() < late {
                    tokio::time::sleep(LOOK).await;
                }
                tokio::time::sleep(self.numbers.milliseconds(0, 5)).await;
                under_way()
            }
        }
    }

    /// Starts the server and kills it on its way; false when it was ready before.
    async fn kill_a_start(&mut self, moment: Moment) -> Result<bool, Failure> {
        // The log to read is longer than the last one was.
        let longest = 2 * self.start_up.as_millis() as u64;
        let after = self.numbers.milliseconds(0, longest);
        let mut server: Server = self.site.start(moment.checkpoint_size())?;
        let met = server.still_starts(after).await?;
        server.kill().await?;
        Ok(met)
    }

    /// The table for people, and the line for programs.
    fn print(&self, rounds: u32, verdict: &Verdict) -> Result<(), Failure> {
        let elapsed = self.begun.elapsed();
        println!("\n{:<18} {:>8} {:>8} {:>8}", "killed", "rounds", "kills", "met it");
        for moment in Moment::ALL {
            let Kills { rounds, kills, met } = self.tally.of(moment);
            println!("{:<18} {rounds:>8} {kills:>8} {met:>8}", moment.name());
        }
        let Verdict { acknowledged, streamed, upserts, upserted_together, answers_lost, repeated, .. } =
            verdict;
        println!(
            "\n{acknowledged} units acknowledged in {:.0} s; {answers_lost} of them were committed before a crash \
             that kept their answer; {repeated} sent once more\n\
             {streamed} of them over long streams\n\
             {upserts} of them upserts, {upserted_together} of these committed with another loader's",
            elapsed.as_secs_f64()
        );
        let Verdict { lost, doubled, partial, wrong_answers, ledger_differs, .. } = verdict;
        println!(
            "lost {lost}   doubled {doubled}   partial {partial}   wrong answers {wrong_answers}   \
             ledger differs {ledger_differs}\n"
        );
        let (seed, seconds, kills) = (self.seed, elapsed.as_secs_f64(), &self.tally);
        let summary = Summary { rounds, seed, seconds, kills, verdict };
        println!("{}", serde_json::to_string(&summary)?);
        Ok(())
    }
}
