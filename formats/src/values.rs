//! Values as JSON. Arrow's own encoders write what they write exactly: numbers, texts, structs. What they lack or
//! write otherwise than promised is here: times beyond their calendar, binary as base64, maps with any key, unions,
//! and lists whose items are of an extension type.

use std::{ops::Range, sync::Arc};

use arrow_array::{Array, MapArray, UnionArray, cast::AsArray};
use arrow_json::{
    Encoder, EncoderFactory, EncoderOptions,
    writer::{NullableEncoder, make_encoder},
};
use arrow_schema::{ArrowError, DataType, FieldRef};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::temporal::temporal;

/// What every encoder of a result is made with.
pub fn options() -> EncoderOptions {
    EncoderOptions::default().with_explicit_nulls(true).with_encoder_factory(json_values())
}

/// For writers of JSON that make their encoders themselves.
pub fn json_values() -> Arc<dyn EncoderFactory> {
    Arc::new(Ours)
}

/// Ours where we have one.
#[derive(Debug)]
struct Ours;

type Made<'a> = Box<dyn Encoder + 'a>;

impl EncoderFactory for Ours {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let made = match array.data_type() {
            DataType::FixedSizeBinary(16) if field.extension_type_name() == Some("arrow.uuid") => {
                Some(uuid(array))
            }
            data_type if is_binary(data_type) => binary(array),
            data_type if data_type.is_temporal() => temporal(array).map(plain),
            DataType::List(_)
            | DataType::LargeList(_)
            | DataType::FixedSizeList(_, _)
            | DataType::Map(_, _)
            | DataType::Union(_, _) => nested(array, options)?,
            _ => None,
        };
        Ok(made.map(|made| NullableEncoder::new(made, array.logical_nulls())))
    }
}

fn is_binary(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
    matches!(data_type, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

/// A text that needs no escapes.
struct Plain<F>(F);

impl<F: Fn(usize, &mut Vec<u8>)> Encoder for Plain<F> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        (self.0)(index, out);
        out.push(b'"');
    }
}

fn plain<'a>(write: impl Fn(usize, &mut Vec<u8>) + 'a) -> Made<'a> {
    Box::new(Plain(write))
}

fn uuid(array: &dyn Array) -> Made<'_> {
    let array = array.as_fixed_size_binary();
    plain(move |index, out| {
        for (at, byte) in array.value(index).iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                out.push(b'-');
            }
            let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default() as u8;
            out.extend([digit(byte >> 4), digit(byte & 15)]);
        }
    })
}

fn binary(array: &dyn Array) -> Option<Made<'_>> {
    fn base64(bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
    }
    macro_rules! of {
        ($array:expr) => {{
            let array = $array;
            plain(move |index, out| base64(array.value(index), out))
        }};
    }
    Some(match array.data_type() {
        DataType::Binary => of!(array.as_binary::<i32>()),
        DataType::LargeBinary => of!(array.as_binary::<i64>()),
        DataType::BinaryView => of!(array.as_binary_view()),
        DataType::FixedSizeBinary(_) => of!(array.as_fixed_size_binary()),
        _ => return None,
    })
}

fn nested<'a>(array: &'a dyn Array, options: &'a EncoderOptions) -> Result<Option<Made<'a>>, ArrowError> {
    Ok(match array.data_type() {
        DataType::List(item) => {
            let lists = array.as_list::<i32>();
            let offsets = lists.value_offsets();
            let range = move |index: usize| offsets[index] as usize..offsets[index + 1] as usize;
            Some(Box::new(List { range, items: make_encoder(item, lists.values(), options)? }))
        }
        DataType::LargeList(item) => {
            let lists = array.as_list::<i64>();
            let offsets = lists.value_offsets();
            let range = move |index: usize| offsets[index] as usize..offsets[index + 1] as usize;
            Some(Box::new(List { range, items: make_encoder(item, lists.values(), options)? }))
        }
        DataType::FixedSizeList(item, size) => {
            let (lists, size) = (array.as_fixed_size_list(), *size as usize);
            let range = move |index: usize| index * size..(index + 1) * size;
            Some(Box::new(List { range, items: make_encoder(item, lists.values(), options)? }))
        }
        DataType::Map(entries, _) => map(entries, array.as_map(), options)?,
        DataType::Union(_, _) => union(array, options)?,
        _ => None,
    })
}

struct List<'a, R> {
    range: R,
    items: NullableEncoder<'a>,
}

impl<R: Fn(usize) -> Range<usize>> Encoder for List<'_, R> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        out.push(b'[');
        let range = (self.range)(index);
        for at in range.clone() {
            if at > range.start {
                out.push(b',');
            }
            value(&mut self.items, at, out);
        }
        out.push(b']');
    }
}

/// An object; a key that is no text becomes one.
struct Map<'a> {
    array: &'a MapArray,
    keys: NullableEncoder<'a>,
    values: NullableEncoder<'a>,
    key: Vec<u8>,
}

fn map<'a>(
    entries: &'a FieldRef,
    array: &'a MapArray,
    options: &'a EncoderOptions,
) -> Result<Option<Made<'a>>, ArrowError> {
    let DataType::Struct(pair) = entries.data_type() else { return Ok(None) };
    let [key, value] = &pair[..] else { return Ok(None) };
    Ok(Some(Box::new(Map {
        array,
        keys: make_encoder(key, array.keys(), options)?,
        values: make_encoder(value, array.values(), options)?,
        key: Vec::new(),
    })))
}

impl Encoder for Map<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let offsets = self.array.value_offsets();
        let range = offsets[index] as usize..offsets[index + 1] as usize;
        out.push(b'{');
        for at in range.clone() {
            if at > range.start {
                out.push(b',');
            }
            self.key.clear();
            value(&mut self.keys, at, &mut self.key);
            match self.key.first() {
                Some(b'"') => out.extend_from_slice(&self.key),
                _ => text(&String::from_utf8_lossy(&self.key), out),
            }
            out.push(b':');
            value(&mut self.values, at, out);
        }
        out.push(b'}');
    }
}

/// The value of whichever member is there.
struct Union<'a> {
    array: &'a UnionArray,
    /// By type id.
    members: Vec<Option<NullableEncoder<'a>>>,
}

fn union<'a>(array: &'a dyn Array, options: &'a EncoderOptions) -> Result<Option<Made<'a>>, ArrowError> {
    let (DataType::Union(fields, _), Some(array)) =
        (array.data_type(), array.as_any().downcast_ref::<UnionArray>())
    else {
        return Ok(None);
    };
    let mut members = Vec::new();
    for (id, field) in fields.iter() {
        let at = usize::try_from(id).unwrap_or_default();
        members.resize_with(members.len().max(at + 1), || None);
        members[at] = Some(make_encoder(field, array.child(id), options)?);
    }
    Ok(Some(Box::new(Union { array, members })))
}

impl Encoder for Union<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let at = usize::try_from(self.array.type_id(index)).unwrap_or_default();
        match self.members.get_mut(at) {
            Some(Some(member)) => value(member, self.array.value_offset(index), out),
            _ => out.extend_from_slice(b"null"),
        }
    }
}

/// A value that may be null.
pub fn value(encoder: &mut NullableEncoder<'_>, index: usize, out: &mut Vec<u8>) {
    if encoder.is_null(index) {
        out.extend_from_slice(b"null");
    } else {
        encoder.encode(index, out);
    }
}

/// A text with its quotes and escapes.
pub fn text(text: &str, out: &mut Vec<u8>) {
    // Writing a text to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}
