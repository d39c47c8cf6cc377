//! Files of Arrow's IPC formats: the file format (`.arrow`, `.feather` of version 2), whose footer tells where its
//! batches are, and the stream format (`.arrows`), which is read from its beginning on. Both hold the same messages.
//!
//! The bytes are hostile: lengths are compared with the size of the file before anything is allocated, all values are
//! validated, and a panic of the decoder is caught. One batch at a time is in memory.

mod buffers;
mod compressed;
mod message;
mod pieces;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{
    Block, MetadataVersion,
    convert::fb_to_schema,
    reader::{FileDecoder, read_footer_length},
    root_as_footer,
};
use arrow_schema::{ArrowError, DataType, FieldRef, Schema, SchemaRef};

use super::ffi::DuckError;
use buffers::Columns;
pub(crate) use buffers::is_as_schema_says;
use compressed::unpacked;
use message::{Content, Place, malformed};
pub(crate) use pieces::Pieces;

/// What Arrow's decoder says of rows that clients send, but where that is about how this server was built.
pub(crate) fn words_of_decoder(error: &impl ToString) -> String {
    let text = error.to_string();
    match text.contains("IPC decompression requires") {
        true => "compressed uploads are not taken; send them uncompressed".into(),
        false => text,
    }
}

/// What a file of the file format begins and ends with.
const MAGIC: &[u8; 6] = b"ARROW1";
/// The magic and what aligns it.
const HEAD_BYTES: u64 = 8;
/// The length of the footer and the magic.
const TAIL_BYTES: u64 = 10;

/// Bytes of a file, in any order.
pub(crate) trait ReadAt {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills `into` with those from `offset` on.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), DuckError>;
}

/// A file that is in memory: what tests and the fuzzer read.
#[cfg(any(test, feature = "fuzz"))]
impl ReadAt for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Result<(), DuckError> {
        let found = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)?.get(..into.len()));
        let short = || DuckError::new(super::Class::Io, "IO Error: the file ends too early");
        into.copy_from_slice(found.ok_or_else(short)?);
        Ok(())
    }
}

/// Reads all of a file; true when that went well.
#[cfg(feature = "fuzz")]
pub(crate) fn reads(bytes: &[u8]) -> bool {
    let read = || -> Result<(), Fault> {
        let file = ArrowFile::open(bytes)?;
        let columns = file.columns()?;
        let mut pieces = file.pieces(&columns, (0..columns.fields().len()).collect())?;
        while pieces.next()?.is_some() {}
        Ok(())
    };
    read().is_ok()
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The bytes are not to be had.
    #[error("{0}")]
    Unread(#[from] DuckError),
    /// It is something else.
    #[error("it is no Arrow file: it begins neither as Arrow's file format nor as its stream format does")]
    NotArrow,
    /// It ends in the middle.
    #[error("it is cut off: {0}")]
    CutOff(&'static str),
    /// It is not of the kind of the files beside it.
    #[error("it has other columns than the first file: {0}")]
    OtherColumns(String),
    /// A column or value for which DuckDB has no place.
    #[error("{0}")]
    NoPlace(String),
    /// It contradicts itself, or is not what this reads.
    #[error("it cannot be decoded: {0}")]
    Malformed(String),
}

impl From<ArrowError> for Fault {
    fn from(error: ArrowError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// A file whose schema has been read.
pub(crate) struct ArrowFile<R> {
    bytes: R,
    schema: SchemaRef,
    version: MetadataVersion,
    layout: Layout,
}

/// Where the messages are.
enum Layout {
    /// As the footer says.
    Blocks { dictionaries: Vec<Block>, batches: VecDeque<Block> },
    /// One after the other.
    Stream { at: u64 },
}

impl<R: ReadAt> ArrowFile<R> {
    /// Reads what is in front of, or behind, the batches.
    pub(crate) fn open(bytes: R) -> Result<Self, Fault> {
        caught(|| Self::read_schema(bytes))
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        self.bytes.size()
    }

    /// The rows, with the columns of these indexes in the schema, in ascending order.
    fn batches(self, columns: Vec<usize>) -> Result<Batches<R>, Fault> {
        let Self { mut bytes, schema, version, layout } = self;
        let skips_dictionaries = !columns.iter().any(|&index| has_dictionary(&schema.fields()[index]));
        let mut decoder = FileDecoder::new(Arc::clone(&schema), version).with_projection(columns.clone());
        let columns = Columns::new(schema, columns);
        if let Layout::Blocks { dictionaries, .. } = &layout
            && !skips_dictionaries
        {
            caught(|| {
                dictionaries.iter().try_for_each(|block| {
                    let (block, buffer) = Place::of(block, bytes.size())?.read(&mut bytes)?;
                    let (block, buffer) = unpacked(block, buffer, &columns)?;
                    Ok(decoder.read_dictionary(&block, &buffer)?)
                })
            })?;
        }
        Ok(Batches { bytes, decoder, columns, layout, skips_dictionaries, ended: false })
    }

    fn read_schema(mut bytes: R) -> Result<Self, Fault> {
        let mut head = [0; HEAD_BYTES as usize];
        let known = bytes.size().min(HEAD_BYTES) as usize;
        bytes.read_at(0, &mut head[..known])?;
        match &head {
            _ if head.starts_with(MAGIC) => Self::read_footer(bytes),
            _ if message::begins_stream(&head) => Self::read_stream_head(bytes),
            _ => Err(Fault::NotArrow),
        }
    }

    fn read_footer(mut bytes: R) -> Result<Self, Fault> {
        const NO_FOOTER: Fault = Fault::CutOff("it has no footer");
        let end = bytes.size().checked_sub(TAIL_BYTES).filter(|end| *end >= HEAD_BYTES).ok_or(NO_FOOTER)?;
        let mut tail = [0; TAIL_BYTES as usize];
        bytes.read_at(end, &mut tail)?;
        let length = read_footer_length(tail).map_err(|_| NO_FOOTER)? as u64;
        let start = end.checked_sub(length).filter(|start| *start >= HEAD_BYTES).ok_or(NO_FOOTER)?;
        let mut footer = vec![0; (end - start) as usize];
        bytes.read_at(start, &mut footer)?;
        let footer = root_as_footer(&footer).map_err(|error| Fault::Malformed(error.to_string()))?;
        let schema = footer.schema().ok_or_else(|| Fault::Malformed("it has no schema".into()))?;
        let schema = known_schema(schema)?;
        let layout = Layout::Blocks {
            dictionaries: footer.dictionaries().iter().flatten().copied().collect(),
            batches: footer.recordBatches().iter().flatten().copied().collect(),
        };
        Ok(Self { bytes, schema, version: footer.version(), layout })
    }

    fn read_stream_head(mut bytes: R) -> Result<Self, Fault> {
        let place = Place::at(0, &mut bytes)?.ok_or(Fault::NotArrow)?;
        let at = place.end();
        let (_, buffer) = place.read(&mut bytes)?;
        let (version, schema) = message::schema(&buffer)?;
        Ok(Self { bytes, schema: known_schema(schema)?, version, layout: Layout::Stream { at } })
    }
}

/// The batches of a file, one after the other.
struct Batches<R> {
    bytes: R,
    decoder: FileDecoder,
    columns: Columns,
    layout: Layout,
    /// No column that is asked for needs one.
    skips_dictionaries: bool,
    ended: bool,
}

impl<R: ReadAt> Batches<R> {
    /// The next one; nothing comes after an error.
    fn next(&mut self) -> Result<Option<RecordBatch>, Fault> {
        if self.ended {
            return Ok(None);
        }
        let next = caught(|| self.decode_next());
        self.ended = !matches!(next, Ok(Some(_)));
        next
    }

    fn decode_next(&mut self) -> Result<Option<RecordBatch>, Fault> {
        while let Some(place) = self.next_place()? {
            let (block, buffer) = place.read(&mut self.bytes)?;
            let content = message::content(&buffer)?;
            if matches!(content, Content::Dictionary) && self.skips_dictionaries {
                continue;
            }
            let (block, buffer) = unpacked(block, buffer, &self.columns)?;
            match content {
                Content::Batch => return Ok(self.decoder.read_record_batch(&block, &buffer)?),
                Content::Dictionary => self.decoder.read_dictionary(&block, &buffer)?,
            }
        }
        Ok(None)
    }

    fn next_place(&mut self) -> Result<Option<Place>, Fault> {
        match &mut self.layout {
            Layout::Blocks { batches, .. } => {
                batches.pop_front().map(|block| Place::of(&block, self.bytes.size())).transpose()
            }
            Layout::Stream { at } => {
                let place = Place::at(*at, &mut self.bytes)?;
                *at = place.as_ref().map_or(*at, Place::end);
                Ok(place)
            }
        }
    }
}

/// What Arrow's library makes of hostile bytes may be a panic.
fn caught<T>(decode: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(malformed()))
}

fn known_schema(schema: arrow_ipc::Schema<'_>) -> Result<SchemaRef, Fault> {
    if !schema.endianness().equals_to_target_endianness() {
        return Err(Fault::Malformed("its numbers are in the byte order of another machine".into()));
    }
    let schema: Schema = fb_to_schema(schema);
    Ok(Arc::new(schema))
}

fn has_dictionary(field: &FieldRef) -> bool {
    match field.data_type() {
        DataType::Dictionary(_, _) => true,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _)
        | DataType::RunEndEncoded(_, item) => has_dictionary(item),
        DataType::Struct(members) => members.iter().any(has_dictionary),
        DataType::Union(members, _) => members.iter().any(|(_, member)| has_dictionary(member)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        ArrayRef, DictionaryArray, Int64Array, ListArray, StringArray, types::Int32Type, types::Int64Type,
    };
    use arrow_ipc::writer::{FileWriter, StreamWriter};

    use super::*;

    fn rows(start: i64) -> RecordBatch {
        let ids = start..start + 3;
        let names: DictionaryArray<Int32Type> =
            ids.clone().map(|id| if id % 2 == 0 { "even" } else { "odd" }).collect();
        let lists = ids.clone().map(|id| Some(vec![Some(id), None]));
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from_iter_values(ids)) as _),
            ("name", Arc::new(names) as _),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)) as _),
        ])
        .unwrap()
    }

    fn file(batches: &[RecordBatch]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = FileWriter::try_new(&mut bytes, &batches[0].schema()).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        drop(writer);
        bytes
    }

    fn stream(batches: &[RecordBatch]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &batches[0].schema()).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        drop(writer);
        bytes
    }

    /// The rows of these columns, batch by batch.
    fn read(bytes: &[u8], columns: &[usize]) -> Result<Vec<RecordBatch>, Fault> {
        let file = ArrowFile::open(bytes)?;
        let expected = file.columns()?;
        let mut pieces = file.pieces(&expected, columns.to_vec())?;
        std::iter::from_fn(|| pieces.next().transpose()).collect()
    }

    #[test]
    fn both_formats_hold_the_same_rows() {
        let batches = [rows(0), rows(2)];
        for bytes in [file(&batches), stream(&batches)] {
            let found = read(&bytes, &[0, 1, 2]).unwrap();
            assert_eq!(found.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 3]);
            assert_eq!(found[1].column(0), batches[1].column(0));
            // A dictionary has become its values.
            let names: ArrayRef = Arc::new(StringArray::from(vec!["even", "odd", "even"]));
            assert_eq!(found[1].column(1), &names);
            assert_eq!(found[1].column(2), batches[1].column(2));
        }
    }

    #[test]
    fn only_what_is_asked_for_is_decoded() {
        for bytes in [file(&[rows(0), rows(4)]), stream(&[rows(0), rows(3)])] {
            let found = read(&bytes, &[0]).unwrap();
            assert_eq!((found[0].num_columns(), found[0].column(0)), (1, rows(0).column(0)));
            let counted: usize = read(&bytes, &[]).unwrap().iter().map(RecordBatch::num_rows).sum();
            assert_eq!(counted, 6);
        }
    }

    #[test]
    fn a_file_that_is_cut_off_anywhere_is_refused() {
        let bytes = file(&[rows(0), rows(4)]);
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end], &[0, 1, 2]).is_err(), "{end} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_is_refused_or_ends_with_a_whole_message() {
        let bytes = stream(&[rows(0), rows(3)]);
        let whole = (0..bytes.len()).filter(|&end| read(&bytes[..end], &[0, 1, 2]).is_ok()).count();
        // Behind the schema, behind each of two batches and the dictionary of the first, and within the mark of the end.
        assert!(whole <= 6, "{whole}");
    }

    #[test]
    fn a_file_of_other_columns_is_told_apart() {
        let expected = ArrowFile::open(file(&[rows(0)]).as_slice()).unwrap().columns().unwrap();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
        let other = |columns: Vec<(&str, ArrayRef)>| {
            let bytes = file(&[RecordBatch::try_from_iter(columns).unwrap()]);
            let pieces = ArrowFile::open(bytes.as_slice()).unwrap().pieces(&expected, vec![0]);
            pieces.err().unwrap().to_string()
        };
        let told = other(vec![("id", Arc::clone(&texts))]);
        assert!(told.contains("first file: id, and not id, name, list"), "{told}");
        let list = Arc::clone(rows(0).slice(0, 1).column(2));
        let told = other(vec![("id", Arc::clone(&texts)), ("name", texts), ("list", list)]);
        assert!(told.contains("id is Utf8, and not Int64"), "{told}");
    }
}
