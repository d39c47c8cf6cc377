//! The rows of a keyed upload on their way, and what they amount to.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use arrow_schema::Schema;
use futures::Stream;

use super::{Arrived, IngestRequest};
use crate::{
    engine::{
        Error, Result,
        catalog::FullName,
        import::caught,
        ledger::{Content, Destination, Keyed},
    },
    sql::quote,
};

/// Passes batches on, and hashes them where the upload has a key.
pub(super) struct Hashing<S> {
    batches: S,
    content: Option<Content>,
}

impl<S> Hashing<S> {
    pub(super) fn new(batches: S, request: &IngestRequest, name: &FullName, schema: &Schema) -> Self {
        let content = request.key.is_some().then(|| Content::new(&destination(request, name), schema));
        Self { batches, content }
    }

    /// What makes the upload known again, once all of its rows have passed.
    pub(super) fn finish(&mut self, request: &IngestRequest) -> Option<Keyed> {
        let hashes = self.content.take()?.finish();
        let key = request.key.clone()?;
        Some(Keyed { key, hash: hashes.today, hash_before: hashes.before })
    }
}

impl<S: Stream<Item = Result<Arrived>> + Unpin> Stream for Hashing<S> {
    type Item = Result<Arrived>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.batches).poll_next(context));
        if let (Some(Ok(Arrived::Rows(rows))), Some(content)) = (&next, &mut self.content)
            && let Err(error) = caught(|| content.add(&rows.batch))
                .and_then(|added| added.map_err(|error| Error::BadArrow(error.to_string())))
        {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(next)
    }
}

/// Where the rows go and how: a unit that is sent again must say the same, in whatever capitals. The catalog is the one
/// that the ledger is in, however it is called when the unit comes again.
fn destination(request: &IngestRequest, name: &FullName) -> Destination {
    let IngestRequest { if_missing, if_exists, merge, new_columns, .. } = request;
    let keys = merge.as_ref().map(|merge| merge.keys.join(",")).unwrap_or_default();
    let on_conflict = merge.as_ref().map(|merge| format!("{:?} ", merge.on_conflict)).unwrap_or_default();
    let modes = format!("{if_missing:?} {if_exists:?} {new_columns:?} {on_conflict}");
    let [schema, table] = [&name.schema, &name.table].map(|part| quote(&part.to_ascii_lowercase()));
    Destination {
        today: format!("{schema}.{table} {modes}{}", keys.to_ascii_lowercase()),
        before: format!("{name} {modes}{keys}"),
    }
}
