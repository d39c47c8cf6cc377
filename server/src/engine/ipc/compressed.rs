//! Messages whose buffers are compressed, with LZ4 or Zstandard, as plain ones.
//!
//! Arrow's library could do this. But it allocates what a buffer claims to become before it has seen it, and with that
//! feature it would do so for uploads as well.

use std::io::Read;

use arrow_buffer::MutableBuffer;
use arrow_ipc::{
    Block, CompressionType, DictionaryBatch, DictionaryBatchArgs, Message, MessageArgs, RecordBatch,
    RecordBatchArgs,
};
use flatbuffers::FlatBufferBuilder;

use super::{
    Buffer, Fault,
    buffers::Columns,
    message::{CONTINUATION_MARKER, malformed, parsed},
};

/// What a message may become.
const MAX_BYTES: usize = 1 << 31;
/// In front of each buffer: how long it becomes.
const PREFIX_BYTES: usize = 8;
/// The prefix of a buffer that did not become shorter.
const PLAIN: i64 = -1;
/// Where buffers begin, so that no decoder has to move them.
const ALIGNMENT: usize = 64;

/// The same message with its buffers as they were. Those of columns that are not asked for are left empty.
pub(super) fn unpacked(block: Block, message: Buffer, columns: &Columns) -> Result<(Block, Buffer), Fault> {
    let header = parsed(&message)?;
    let dictionary = header.header_as_dictionary_batch();
    let batch = match &dictionary {
        Some(dictionary) => dictionary.data(),
        None => header.header_as_record_batch(),
    };
    let batch = batch.ok_or_else(malformed)?;
    let Some(compression) = batch.compression() else { return Ok((block, message)) };
    let body = message.get(block.metaDataLength() as usize..).unwrap_or_default();
    // A dictionary that comes this far is needed.
    let needed = if dictionary.is_some() { Vec::new() } else { columns.needed(&batch) };
    let is_needed = |index: usize| needed.get(index).copied().unwrap_or(true);
    let buffers = batch.buffers().into_iter().flatten().enumerate();
    let packed = buffers.map(|(index, buffer)| match is_needed(index) {
        true => Packed::of(buffer, body),
        false => Ok(Packed::EMPTY),
    });
    let packed: Vec<_> = packed.collect::<Result<_, _>>()?;
    let (places, body_bytes) = lay_out(&packed)?;
    let metadata = plain_metadata(&header, &batch, dictionary.as_ref(), &places, body_bytes);
    let mut plain = MutableBuffer::from_len_zeroed(metadata.len() + body_bytes);
    plain[..metadata.len()].copy_from_slice(&metadata);
    for (packed, place) in packed.iter().zip(&places) {
        let start = metadata.len() + place.offset() as usize;
        packed.unpack(compression.codec(), &mut plain[start..start + packed.bytes])?;
    }
    let block = Block::new(block.offset(), metadata.len() as i32, body_bytes as i64);
    Ok((block, plain.into()))
}

/// One buffer.
struct Packed<'a> {
    data: &'a [u8],
    /// How long it becomes.
    bytes: usize,
    is_plain: bool,
}

impl<'a> Packed<'a> {
    const EMPTY: Self = Self { data: &[], bytes: 0, is_plain: true };

    fn of(buffer: &arrow_ipc::Buffer, body: &'a [u8]) -> Result<Self, Fault> {
        let start = usize::try_from(buffer.offset()).map_err(|_| malformed())?;
        let length = usize::try_from(buffer.length()).map_err(|_| malformed())?;
        let end = start.checked_add(length).ok_or_else(malformed)?;
        let data = body.get(start..end).ok_or_else(malformed)?;
        if data.is_empty() {
            return Ok(Self::EMPTY);
        }
        let (prefix, data) = data.split_first_chunk::<PREFIX_BYTES>().ok_or_else(malformed)?;
        match i64::from_le_bytes(*prefix) {
            PLAIN => Ok(Self { data, bytes: data.len(), is_plain: true }),
            claimed => {
                let bytes = usize::try_from(claimed).map_err(|_| malformed())?;
                Ok(Self { data, bytes, is_plain: false })
            }
        }
    }

    /// Fills `into`, which has the length that it claims to become, and which it must have.
    fn unpack(&self, codec: CompressionType, into: &mut [u8]) -> Result<(), Fault> {
        if self.is_plain {
            into.copy_from_slice(self.data);
            return Ok(());
        }
        if into.is_empty() {
            return Ok(());
        }
        let filled = match codec {
            CompressionType::LZ4_FRAME => {
                let mut frame = lz4_flex::frame::FrameDecoder::new(self.data);
                let filled = frame.read_exact(into).and_then(|()| frame.read(&mut [0]));
                filled.is_ok_and(|more| more == 0)
            }
            CompressionType::ZSTD => {
                let filled = zstd::bulk::decompress_to_buffer(self.data, into);
                filled.is_ok_and(|bytes| bytes == into.len())
            }
            _ => return Err(Fault::Malformed("it is compressed in a way that is not known".into())),
        };
        if filled { Ok(()) } else { Err(Fault::Malformed("a compressed buffer is damaged".into())) }
    }
}

/// Where the buffers will be in the new body, and how long that is.
fn lay_out(packed: &[Packed<'_>]) -> Result<(Vec<arrow_ipc::Buffer>, usize), Fault> {
    let mut end = 0_usize;
    let mut places = Vec::with_capacity(packed.len());
    for buffer in packed {
        places.push(arrow_ipc::Buffer::new(end as i64, buffer.bytes as i64));
        end = end
            .checked_add(buffer.bytes)
            .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
            .filter(|end| *end <= MAX_BYTES)
            .ok_or_else(|| {
                Fault::Malformed(format!("a batch becomes more than {MAX_BYTES} bytes; write smaller ones"))
            })?;
    }
    Ok((places, end))
}

fn plain_metadata(
    header: &Message<'_>,
    batch: &RecordBatch<'_>,
    dictionary: Option<&DictionaryBatch<'_>>,
    places: &[arrow_ipc::Buffer],
    body_bytes: usize,
) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let nodes: Vec<_> = batch.nodes().iter().flatten().copied().collect();
    let nodes = builder.create_vector(&nodes);
    let buffers = builder.create_vector(places);
    let variadic = batch.variadicBufferCounts().map(|counts| counts.iter().collect::<Vec<_>>());
    let variadic = variadic.map(|counts| builder.create_vector(&counts));
    let plain = RecordBatchArgs {
        length: batch.length(),
        nodes: Some(nodes),
        buffers: Some(buffers),
        compression: None,
        variadicBufferCounts: variadic,
    };
    let plain = RecordBatch::create(&mut builder, &plain);
    let union = match dictionary {
        None => plain.as_union_value(),
        Some(dictionary) => {
            let (id, is_delta) = (dictionary.id(), dictionary.isDelta());
            let arguments = DictionaryBatchArgs { id, data: Some(plain), isDelta: is_delta };
            DictionaryBatch::create(&mut builder, &arguments).as_union_value()
        }
    };
    let message = MessageArgs {
        version: header.version(),
        header_type: header.header_type(),
        header: Some(union),
        bodyLength: body_bytes as i64,
        custom_metadata: None,
    };
    let message = Message::create(&mut builder, &message);
    builder.finish(message, None);
    let mut bytes = Vec::new();
    bytes.extend(CONTINUATION_MARKER);
    bytes.extend((builder.finished_data().len() as u32).to_le_bytes());
    bytes.extend(builder.finished_data());
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    bytes
}
