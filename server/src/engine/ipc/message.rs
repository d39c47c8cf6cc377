//! One message of Arrow's IPC formats: where it is, and what it holds.

use arrow_buffer::MutableBuffer;
use arrow_ipc::{Block, Message, MessageHeader, MetadataVersion, root_as_message};

use super::{Buffer, Fault, HEAD_BYTES, ReadAt};

/// What is in front of the length of a message since version 0.15 of Arrow.
pub(super) const CONTINUATION_MARKER: [u8; 4] = [0xff; 4];
/// What a schema may have for a description, and a batch for the list of its buffers.
const MAX_METADATA_BYTES: u64 = 64 << 20;

/// Where a message is: its metadata with their length in front, then its body.
pub(super) struct Place {
    offset: u64,
    metadata_bytes: u64,
    body_bytes: u64,
}

/// What a message holds.
pub(super) enum Content {
    Batch,
    Dictionary,
}

impl Place {
    /// As a footer has it; `size` is that of the file.
    pub(super) fn of(block: &Block, size: u64) -> Result<Self, Fault> {
        let number = |number: i64| u64::try_from(number).ok();
        let place = number(block.offset())
            .zip(number(block.metaDataLength().into()))
            .zip(number(block.bodyLength()))
            .map(|((offset, metadata_bytes), body_bytes)| Self { offset, metadata_bytes, body_bytes })
            .filter(|place| place.offset >= HEAD_BYTES && place.metadata_bytes >= HEAD_BYTES);
        place
            .ok_or_else(|| Fault::Malformed("its footer is malformed".into()))?
            .checked(size, "its footer tells of more than there is")
    }

    /// As it is found at `offset` of a stream; `None` is the end.
    pub(super) fn at(offset: u64, bytes: &mut impl ReadAt) -> Result<Option<Self>, Fault> {
        const SHORT: &str = "it ends in the middle of a message";
        let size = bytes.size();
        if offset == size {
            return Ok(None);
        }
        let mut word = [0; 4];
        let mut next_word = |at: u64| {
            if at + 4 > size {
                return Err(Fault::CutOff(SHORT));
            }
            bytes.read_at(at, &mut word)?;
            Ok(word)
        };
        let first = next_word(offset)?;
        let (prefix, length) = match first == CONTINUATION_MARKER {
            true => (8, next_word(offset + 4)?),
            false => (4, first),
        };
        let length = u64::from(u32::from_le_bytes(length));
        if length == 0 {
            return Ok(None);
        }
        if length > MAX_METADATA_BYTES {
            return Err(malformed());
        }
        let place = Self { offset, metadata_bytes: prefix + length, body_bytes: 0 }.checked(size, SHORT)?;
        let (_, metadata) = place.read(bytes)?;
        let body_bytes = u64::try_from(parsed(&metadata)?.bodyLength()).map_err(|_| malformed())?;
        Self { body_bytes, ..place }.checked(size, SHORT).map(Some)
    }

    fn checked(self, size: u64, otherwise: &'static str) -> Result<Self, Fault> {
        let end =
            self.offset.checked_add(self.metadata_bytes).and_then(|end| end.checked_add(self.body_bytes));
        if end.is_none_or(|end| end > size) {
            return Err(Fault::CutOff(otherwise));
        }
        if self.metadata_bytes > MAX_METADATA_BYTES + 8 {
            return Err(malformed());
        }
        Ok(self)
    }

    /// Where the next message begins in a stream.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.metadata_bytes + self.body_bytes
    }

    /// The whole message, and how Arrow's decoder wants to be told of it.
    pub(super) fn read(&self, bytes: &mut impl ReadAt) -> Result<(Block, Buffer), Fault> {
        let mut buffer = MutableBuffer::from_len_zeroed((self.metadata_bytes + self.body_bytes) as usize);
        bytes.read_at(self.offset, &mut buffer)?;
        let block = Block::new(self.offset as i64, self.metadata_bytes as i32, self.body_bytes as i64);
        Ok((block, buffer.into()))
    }
}

/// True when a file begins as a stream does: with the length of some metadata.
pub(super) fn begins_stream(head: &[u8; HEAD_BYTES as usize]) -> bool {
    let [first @ .., a, b, c, d] = head;
    let length = if *first == CONTINUATION_MARKER { [*a, *b, *c, *d] } else { *first };
    let length = u64::from(u32::from_le_bytes(length));
    length > 0 && length <= MAX_METADATA_BYTES
}

/// What is in a message behind the schema.
pub(super) fn content(message: &[u8]) -> Result<Content, Fault> {
    match parsed(message)?.header_type() {
        MessageHeader::RecordBatch => Ok(Content::Batch),
        MessageHeader::DictionaryBatch => Ok(Content::Dictionary),
        other => {
            let what = other.variant_name().unwrap_or("nothing that is known");
            Err(Fault::Malformed(format!("a message holds {what}")))
        }
    }
}

/// The schema, which is in the first message of a stream.
pub(super) fn schema(message: &[u8]) -> Result<(MetadataVersion, arrow_ipc::Schema<'_>), Fault> {
    let message = parsed(message)?;
    let schema = message.header_as_schema().ok_or(Fault::NotArrow)?;
    Ok((message.version(), schema))
}

/// The metadata of a message.
pub(super) fn parsed(message: &[u8]) -> Result<Message<'_>, Fault> {
    let prefix = if message.starts_with(&CONTINUATION_MARKER) { 8 } else { 4 };
    let metadata = message.get(prefix..).unwrap_or_default();
    root_as_message(metadata).map_err(|error| Fault::Malformed(error.to_string()))
}

/// A message that contradicts itself.
pub(super) fn malformed() -> Fault {
    Fault::Malformed("a message is malformed".into())
}
