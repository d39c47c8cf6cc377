//! Uploads that are collected whole: on their way to the writer.

use std::time::Instant;

use arrow_schema::SchemaRef;
use tokio::sync::oneshot;

use super::{Ack, Admission, Collected, IngestRequest, Pending};
use crate::engine::{
    Engine, Result,
    ledger::Keyed,
    writer::{Held, Unit, WriterHandle},
};

impl Engine {
    /// Gives an upload that is complete to the writer.
    pub(super) async fn queue(
        &self,
        writer: &WriterHandle,
        request: &IngestRequest,
        schema: SchemaRef,
        collected: Collected,
        keyed: Option<Keyed>,
    ) -> Result<Pending> {
        let has_something_to_merge = collected.rows > 0 || keyed.is_some();
        if request.merge.is_some() && has_something_to_merge {
            return self.queue_merge(request, schema, collected, keyed).await;
        }
        self.queue_append(writer, request, schema, collected, keyed).await
    }

    /// The same for one whose rows are added to those that are there.
    pub(super) async fn queue_append(
        &self,
        writer: &WriterHandle,
        request: &IngestRequest,
        schema: SchemaRef,
        collected: Collected,
        keyed: Option<Keyed>,
    ) -> Result<Pending> {
        let admission = match collected.rows {
            0 => self.admit_without_rows(request, &schema, keyed.is_some()).await?,
            _ => Some(self.admit(request, &schema, self.shared.options.wait).await?),
        };
        match admission {
            Some(admission) => append(writer, admission, collected, keyed, request.loader).await,
            None => Ok(Pending::nothing()),
        }
    }

    /// The acknowledgement of an upload whose key was committed before.
    pub(super) async fn repeated(&self, keyed: Option<&Keyed>, bytes: usize) -> Result<Option<Ack>> {
        match keyed {
            Some(keyed) => self.committed_before(keyed, bytes).await,
            None => Ok(None),
        }
    }
}

/// Gives a collected upload to the writer.
pub(super) async fn append(
    writer: &WriterHandle,
    admission: Admission,
    collected: Collected,
    keyed: Option<Keyed>,
    loader: u64,
) -> Result<Pending> {
    let (answer, answered) = oneshot::channel();
    let unit = Unit {
        target: admission.target(),
        batches: admission.fit.apply(collected.batches)?,
        rows: collected.rows,
        bytes: collected.bytes,
        create: admission.create,
        loader,
        keyed,
        received: Instant::now(),
        answer,
        span: tracing::Span::current(),
        held: Held { budget: collected.reserved.into_share(), ..admission.held },
    };
    writer.append(unit).await?;
    Ok(Pending::queued(answered))
}
