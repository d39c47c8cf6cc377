//! Rows of a body that is an Arrow stream, batch by batch.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{ArrowError, SchemaRef};
use axum::body::Bytes;

use super::rows::Decode;

/// The batches that have not been decoded. The decoder takes what there is: a reader would set aside whatever the stream
/// says of its lengths.
pub(super) struct ArrowRows {
    decoder: StreamDecoder,
    bytes: usize,
    rest: Buffer,
    /// Decoded already, because the columns come before it.
    first: Option<RecordBatch>,
}

impl ArrowRows {
    /// The columns of a stream, and its batches.
    ///
    /// # Errors
    /// [`ArrowError`] where they are not there.
    pub(super) fn open(body: Bytes) -> Result<(SchemaRef, Self), ArrowError> {
        let (bytes, rest) = (body.len(), Buffer::from(body));
        let mut rows = Self { decoder: StreamDecoder::new(), bytes, rest, first: None };
        rows.first = rows.next()?;
        let no_schema = || ArrowError::IpcError("there is no schema".into());
        Ok((rows.decoder.schema().ok_or_else(no_schema)?, rows))
    }
}

impl Decode for ArrowRows {
    fn next(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let next = self.decoder.decode(&mut self.rest)?;
        if next.is_none() {
            self.decoder.finish()?;
        }
        Ok(next)
    }

    fn read(&self) -> usize {
        self.bytes - self.rest.len()
    }
}
