//! The rows of a keyed upload on their way, and what they amount to.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use arrow_schema::Schema;
use futures::Stream;

use super::{Arrived, IngestRequest};
use crate::engine::{
    Error, Result,
    catalog::FullName,
    ledger::{Content, Keyed},
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
        let hash = self.content.take()?.finish();
        request.key.clone().map(|key| Keyed { key, hash })
    }
}

impl<S: Stream<Item = Result<Arrived>> + Unpin> Stream for Hashing<S> {
    type Item = Result<Arrived>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.batches).poll_next(context));
        if let (Some(Ok(Arrived::Rows(rows))), Some(content)) = (&next, &mut self.content)
            && let Err(error) = content.add(&rows.batch)
        {
            return Poll::Ready(Some(Err(Error::BadArrow(error.to_string()))));
        }
        Poll::Ready(next)
    }
}

/// Where the rows go and how: a unit that is sent again must say the same.
fn destination(request: &IngestRequest, name: &FullName) -> String {
    let IngestRequest { if_missing, if_exists, merge, new_columns, .. } = request;
    let merge = merge
        .as_ref()
        .map_or(String::new(), |merge| format!("{:?} {}", merge.on_conflict, merge.keys.join(",")));
    format!("{name} {if_missing:?} {if_exists:?} {new_columns:?} {merge}")
}
