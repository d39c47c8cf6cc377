//! The Arrow IPC stream, as Arrow's own writer makes it.

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;

use super::Encode;
use crate::engine::Error;

/// A stream whose bytes are taken as they come.
pub(super) struct Stream(StreamWriter<Vec<u8>>);

impl Stream {
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, Error> {
        Ok(Self(StreamWriter::try_new(Vec::new(), schema)?))
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }
}

impl Encode for Stream {
    fn head(&mut self) -> Result<Vec<u8>, Error> {
        Ok(self.take())
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, Error> {
        self.0.write(batch)?;
        Ok(self.take())
    }

    fn tail(&mut self) -> Result<Vec<u8>, Error> {
        self.0.finish()?;
        Ok(self.take())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};
    use arrow_ipc::reader::StreamReader;

    use super::*;
    use crate::http::format::{Format, testing::encoded};

    #[test]
    fn a_stream_reads_back_as_it_was() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(i64::MAX), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
        let bytes = encoded(Format::Arrow, &[batch.clone(), batch.clone()]);
        let read: Vec<_> = StreamReader::try_new(&bytes[..], None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [batch.clone(), batch]);
    }
}
