//! What the server's ledger knows of a loader.

use arrow_array::{RecordBatch, UInt64Array, cast::AsArray, types::UInt64Type};
use futures::TryStreamExt;

use crate::{Client, Error};

/// The last unit of a loader that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The epoch that committed it.
    pub epoch: u64,
    /// Its sequence number.
    pub sequence: u64,
}

impl Client {
    /// Asks the server's ledger for the last unit of a loader that is committed in a catalog, by default the server's
    /// own database; none when it does not know the loader.
    ///
    /// # Errors
    /// [`Error::Server`] with the reason.
    pub async fn committed(&self, loader: &str, catalog: Option<&str>) -> Result<Option<Committed>, Error> {
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let catalog = catalog.map_or("current_database()".into(), literal);
        let sql = format!(
            "SELECT epoch, sequence FROM merganser_ingest() \
             WHERE loader = {} AND lower(catalog) = lower({catalog}) AND commits > 0",
            literal(loader)
        );
        let batches: Vec<RecordBatch> = self.query(&sql).await?.try_collect().await?;
        let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
        let (epoch, sequence) = (numbers(batch, "epoch")?.value(0), numbers(batch, "sequence")?.value(0));
        Ok(Some(Committed { epoch, sequence }))
    }
}

fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a UInt64Array, Error> {
    batch
        .column_by_name(name)
        .and_then(|column| column.as_primitive_opt::<UInt64Type>())
        .ok_or_else(|| Error::Protocol(format!("the ledger has no number {name}")))
}
