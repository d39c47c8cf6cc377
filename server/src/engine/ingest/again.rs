//! Uploads that may be committed already: what can be answered without the writer.

use std::sync::Arc;

use futures::Stream;

use super::{Ack, Arrived, IngestRequest, collected::bytes_of};
use crate::engine::{
    Engine, Error, IngestKey, Result,
    catalog::FullName,
    ledger::{Keyed, Verdict, compare_older},
};

impl Engine {
    /// Refuses a key where the ledger could not commit together with the rows.
    pub(super) fn check_key(&self, request: &IngestRequest, name: &FullName) -> Result<()> {
        let Some(key) = &request.key else { return Ok(()) };
        let (takes_keys, ledger) = match self.shared.attached.site(&name.catalog) {
            Some(site) => (site.catalog.keeps_keys(), &site.ledger),
            None => (name.catalog == self.default_catalog(), &self.shared.ledger),
        };
        if takes_keys {
            return ledger.lock().check_epoch(key);
        }
        Err(Error::KeyNotHere(
            "a key is for tables of the server's own database, and of a [[catalog]] of type ducklake or duckdb: \
             elsewhere there is no ledger that could commit together with the rows",
        ))
    }

    /// The acknowledgement of a unit that was committed before; `None` where the writer has to decide. Whatever
    /// else has happened to its table since does not matter then.
    ///
    /// # Errors
    /// [`Error::KeyReused`], [`Error::KeyExpired`].
    pub(super) async fn committed_before(&self, keyed: &Keyed, bytes: usize) -> Result<Option<Ack>> {
        let (verdict, expected) = {
            let ledger = self.shared.ledger.lock();
            (ledger.judge(&keyed.key), ledger.expected(&keyed.key.loader))
        };
        let known = match verdict {
            Ok(Verdict::Known(committed)) => Some(committed),
            Ok(Verdict::Older) => self.look_up(&keyed.key).await?,
            // What waits in the writer's queue may still change these.
            Ok(Verdict::Next) | Err(_) => return Ok(None),
        };
        let committed = compare_older(keyed, known, expected)?;
        self.shared.ledger.lock().count_duplicate(&keyed.key.loader);
        Ok(Some(Ack::of_duplicate(committed, bytes as u64)))
    }

    /// Whether a unit of this key is committed, so that its rows need only be compared.
    pub(super) fn is_repeat(&self, key: Option<&IngestKey>) -> bool {
        key.is_some_and(|key| {
            matches!(self.shared.ledger.lock().judge(key), Ok(Verdict::Known(_) | Verdict::Older))
        })
    }

    /// Reads the rest of an upload without keeping it; gives the number of bytes.
    pub(super) async fn read_through(
        &self,
        batches: &mut (impl Stream<Item = Result<Arrived>> + Unpin),
    ) -> Result<usize> {
        let mut bytes = 0;
        let mut no_room = false;
        while let Some(arrived) = self.next_arrived(batches, &mut no_room).await? {
            if let Arrived::Rows(rows) = arrived {
                bytes += bytes_of(&rows.batch);
            }
        }
        Ok(bytes)
    }

    async fn look_up(&self, key: &IngestKey) -> Result<Option<crate::engine::ledger::Committed>> {
        let (database, table, key) =
            (Arc::clone(&self.shared.database), Arc::clone(&self.shared.ledger_table), key.clone());
        self.blocking(move || table.look_up(&*database.connection()?, &key)).await
    }
}
