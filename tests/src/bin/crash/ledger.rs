//! The ledger beside the tables: both must tell the same of every loader.

use std::time::{Duration, Instant};

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use futures::TryStreamExt;
use merganser::Client;

use crate::{Failure, unit::LOADERS, verdict::Verdict};

/// A ledger that has not told of what is in a table by then never does.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(5);

/// The last unit of each loader by the ledger; 0 for one that it does not know.
pub(crate) async fn last_units(client: &Client) -> Result<Vec<u64>, Failure> {
    let sql = "SELECT replace(loader, 'loader-', '')::BIGINT, sequence::BIGINT FROM merganser_ingest() WHERE commits > 0";
    let batches: Vec<RecordBatch> = client.query(sql).await?.try_collect().await?;
    let mut last = vec![0; LOADERS as usize];
    for batch in batches {
        let [loaders, sequences] = [0, 1].map(|at| batch.column(at).as_primitive::<Int64Type>());
        for (loader, sequence) in loaders.values().iter().zip(sequences.values()) {
            *last.get_mut(*loader as usize).ok_or("the ledger has a loader that is none")? = *sequence as u64;
        }
    }
    Ok(last)
}

/// The same once the tables were read, with what these told. Rows can be seen as soon as DuckDB has committed them, and
/// the server tells of their units a moment later: its thread has to go on for that, which may take long where many wait
/// for a processor. So a ledger that is behind is asked again for a while.
pub(crate) async fn caught_up(client: &Client, tables: &[Option<u64>]) -> Result<Vec<u64>, Failure> {
    asked_until_caught_up(async || last_units(client).await, tables, PATIENCE).await
}

async fn asked_until_caught_up(
    mut ask: impl AsyncFnMut() -> Result<Vec<u64>, Failure>,
    tables: &[Option<u64>],
    patience: Duration,
) -> Result<Vec<u64>, Failure> {
    let late = Instant::now() + patience;
    loop {
        let told = ask().await?;
        let is_behind = tables.iter().zip(&told).any(|(table, told)| table.is_some_and(|last| last > *told));
        if !is_behind || Instant::now() >= late {
            return Ok(told);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is known of one loader's last unit, in the order in which it was found out. Loaders may go on meanwhile, so
/// none may be smaller than the one before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last {
    pub(crate) acknowledged: u64,
    /// What the ledger said before the table was read.
    pub(crate) before: u64,
    /// What the table said; `None` where it tells nothing.
    pub(crate) table: Option<u64>,
    /// What the ledger said after that.
    pub(crate) after: u64,
}

impl Last {
    /// Judges it.
    pub(crate) fn examine(self, loader: u64, verdict: &mut Verdict) {
        let Self { acknowledged, before, table, after } = self;
        let table = table.unwrap_or(before);
        if !(acknowledged <= before && before <= table && table <= after) {
            verdict.ledger_differs += 1;
            verdict.example(|| format!("loader {loader}: the ledger and its table differ: {self:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ledger_that_is_behind_for_a_moment_is_asked_again_and_one_that_stays_behind_is_not_waited_for()
    {
        let tables = [Some(7), None, Some(3)];
        let behind = [vec![6, 0, 3], vec![7, 5, 2]];
        let asked_of = async |answers: &[Vec<u64>], patience| {
            let (mut answers, mut asked) = (answers.iter().cloned(), 0);
            let ask = async || {
                asked += 1;
                answers.next().ok_or_else(|| "asked too often".into())
            };
            let told = asked_until_caught_up(ask, &tables, patience).await.unwrap();
            (told, asked)
        };
        let [first, second] = behind;
        let caught_up = vec![7, 0, 4];
        let answers = [first.clone(), second, caught_up.clone()];
        assert_eq!(asked_of(&answers, PATIENCE).await, (caught_up, 3));
        assert_eq!(asked_of(&answers, Duration::ZERO).await, (first, 1));
    }

    #[test]
    fn a_ledger_that_is_behind_or_ahead_of_the_table_differs() {
        let differs = |acknowledged, before, table, after| {
            let mut verdict = Verdict::default();
            Last { acknowledged, before, table, after }.examine(3, &mut verdict);
            assert_eq!(verdict.passes(), verdict.ledger_differs == 0);
            verdict.ledger_differs > 0
        };
        for (acknowledged, before, table, after) in [(5, 5, Some(5), 5), (5, 6, Some(7), 8), (5, 6, None, 6)]
        {
            assert!(!differs(acknowledged, before, table, after));
        }
        for (acknowledged, before, table, after) in
            [(5, 4, Some(5), 5), (5, 5, Some(4), 5), (5, 5, Some(6), 5), (5, 4, None, 4), (5, 6, None, 5)]
        {
            assert!(differs(acknowledged, before, table, after));
        }
    }
}
