//! One column of each type of Arrow, and what its hashes have been since they are kept.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Decimal128Array, DictionaryArray,
    FixedSizeListArray, GenericListArray, GenericListViewArray, Int32Array, LargeBinaryArray,
    LargeStringArray, MapArray, NullArray, OffsetSizeTrait, RecordBatch, RunArray, StringArray,
    StringViewArray, StructArray, UnionArray, make_array, types::Int32Type,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field, FieldRef, IntervalUnit, Schema, TimeUnit, UnionFields, UnionMode};
use arrow_select::{concat::concat, take::take};

use super::{Content, Destination, Hashes};

/// Each column has as many, and the second is null.
const ROWS: usize = 4;

fn nulls() -> Option<NullBuffer> {
    Some(vec![true, false, true, true].into())
}

/// A column of a type. Whoever adds a type to Arrow is asked for it here, and whoever adds one here for its hashes below.
fn column(data_type: &DataType) -> ArrayRef {
    let texts = [Some("a"), None, Some(""), Some("longer than what fits in a view")];
    let blobs = texts.map(|text| text.map(str::as_bytes));
    match data_type {
        DataType::Null => Arc::new(NullArray::new(ROWS)),
        DataType::Boolean => Arc::new(BooleanArray::new(vec![true, true, false, true].into(), nulls())),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Timestamp(_, _)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Interval(_) => fixed(data_type, data_type.primitive_width().unwrap()),
        DataType::FixedSizeBinary(width) => fixed(data_type, *width as usize),
        DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _) => decimals(data_type),
        DataType::Utf8 => Arc::new(StringArray::from_iter(texts)),
        DataType::LargeUtf8 => Arc::new(LargeStringArray::from_iter(texts)),
        DataType::Utf8View => Arc::new(StringViewArray::from_iter(texts)),
        DataType::Binary => Arc::new(BinaryArray::from_iter(blobs)),
        DataType::LargeBinary => Arc::new(LargeBinaryArray::from_iter(blobs)),
        DataType::BinaryView => Arc::new(BinaryViewArray::from_iter(blobs)),
        DataType::List(item) => lists::<i32>(item),
        DataType::LargeList(item) => lists::<i64>(item),
        DataType::ListView(item) => list_views::<i32>(item, [0, 1, 2, 2]),
        DataType::LargeListView(item) => list_views::<i64>(item, [0, 1, 2, 2]),
        DataType::FixedSizeList(item, size) => {
            let items: Vec<_> = (0..*size).map(|_| column(item.data_type())).collect();
            let items = concat(&items.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap();
            Arc::new(FixedSizeListArray::new(Arc::clone(item), *size, items, nulls()))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| column(field.data_type())).collect();
            Arc::new(StructArray::new(fields.clone(), columns, nulls()))
        }
        DataType::Map(entries, ordered) => maps(entries, *ordered),
        DataType::Union(fields, mode) => union(fields, *mode),
        DataType::Dictionary(_, values) => {
            let keys = Int32Array::from(vec![Some(3), None, Some(0), Some(1)]);
            Arc::new(DictionaryArray::<Int32Type>::new(keys, column(values)))
        }
        DataType::RunEndEncoded(_, values) => {
            let ends = Int32Array::from(vec![1, 2, 4, 5]);
            Arc::new(RunArray::<Int32Type>::try_new(&ends, &column(values.data_type())).unwrap())
        }
    }
}

/// Values of one width, whose bytes are all different.
fn fixed(data_type: &DataType, width: usize) -> ArrayRef {
    let bytes: Buffer = (0..ROWS * width).map(|byte| byte as u8).collect();
    let data = ArrayData::builder(data_type.clone()).len(ROWS).add_buffer(bytes).nulls(nulls());
    make_array(data.build().unwrap())
}

fn decimals(data_type: &DataType) -> ArrayRef {
    let numbers: Decimal128Array = [Some(-12_345_i128), None, Some(99), Some(0)].into_iter().collect();
    arrow_cast::cast(&numbers.with_precision_and_scale(9, 2).unwrap(), data_type).unwrap()
}

fn lists<O: OffsetSizeTrait>(item: &FieldRef) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths([1, 1, 0, 2]);
    Arc::new(GenericListArray::<O>::new(Arc::clone(item), offsets, column(item.data_type()), nulls()))
}

/// With an item that two lists share.
fn list_views<O: OffsetSizeTrait>(item: &FieldRef, offsets: [usize; ROWS]) -> ArrayRef {
    let offsets: ScalarBuffer<O> = offsets.map(O::usize_as).to_vec().into();
    let sizes: ScalarBuffer<O> = [3, 1, 0, 2].map(O::usize_as).to_vec().into();
    let items = column(item.data_type());
    Arc::new(GenericListViewArray::<O>::new(Arc::clone(item), offsets, sizes, items, nulls()))
}

fn maps(entries: &FieldRef, ordered: bool) -> ArrayRef {
    let DataType::Struct(members) = entries.data_type() else { panic!("{entries} has no members") };
    let columns = members.iter().map(|member| column(member.data_type()));
    // Neither entries nor keys may be null.
    let columns = columns.map(|column| take(&column, &Int32Array::from(vec![3, 0, 2]), None).unwrap());
    let entry = StructArray::new(members.clone(), columns.collect(), None);
    let offsets = OffsetBuffer::from_lengths([1, 0, 0, 2]);
    Arc::new(MapArray::new(Arc::clone(entries), offsets, entry, nulls(), ordered))
}

/// Each member has its turn, and one of them a null.
fn union(fields: &UnionFields, mode: UnionMode) -> ArrayRef {
    let ids: Vec<i8> = fields.iter().map(|(id, _)| id).collect();
    let ids: Vec<i8> = ids.into_iter().cycle().take(ROWS).collect();
    let offsets = (mode == UnionMode::Dense).then(|| (0..ROWS as i32).collect());
    let members = fields.iter().map(|(_, field)| column(field.data_type())).collect();
    Arc::new(UnionArray::try_new(fields.clone(), ids.into(), offsets, members).unwrap())
}

fn hashes(field: Field) -> Hashes {
    let column = column(field.data_type());
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap();
    let destination = Destination { today: "c.s.t".into(), before: "\"c\".\"s\".\"T\"".into() };
    let mut content = Content::new(&destination, &batch.schema());
    content.add(&batch.slice(0, 1)).unwrap();
    content.add(&batch.slice(1, batch.num_rows() - 1)).unwrap();
    content.finish()
}

/// The types, with the hash that is kept today, and the one of before.
fn known() -> Vec<(DataType, u128, u128)> {
    use DataType::*;
    use IntervalUnit::*;
    use TimeUnit::*;
    let item = || Arc::new(Field::new("item", Int32, true));
    let texts = || Arc::new(Field::new("item", Utf8, true));
    let entries = |value| {
        let members = vec![Field::new("key", Utf8, false), Field::new("value", value, true)];
        Arc::new(Field::new("entries", Struct(members.into()), false))
    };
    let members = || vec![Field::new("Number", Int64, true), Field::new("text", Utf8View, true)];
    let union = || UnionFields::try_new([0, 3], members()).unwrap();
    let runs = |values| {
        let ends = Arc::new(Field::new("run_ends", Int32, false));
        RunEndEncoded(ends, Arc::new(Field::new("values", values, true)))
    };
    let utc = || Some("UTC".into());
    vec![
        (Null, 0x8283a79862a4b0a3dd4e09b75e13cca6, 0xe8e6fdd83342060402de868bf9bf6288),
        (Boolean, 0x75d9a0072cefaeaa32841526f712905b, 0xa717c2494d3dc6db7979f04217e25a77),
        (Int8, 0x843ef719b1c5ce7c0f0fee3d66a433d5, 0x2dddeebf04d55ef71499c4a6ee03d1e5),
        (Int16, 0xd2330540d55390f5ec96d570bdc7e23d, 0xee9cac29be54b2d0556669f7fd953126),
        (Int32, 0xab7641884f6d50f83a633c4c46691f89, 0x605a23a14dd52b9e088ee2a7a75f81f4),
        (Int64, 0xaab4288ce9d92987f87de37890ec8a20, 0x70a8ab12a69ec44747d87b578b765a1b),
        (UInt8, 0x94c951fdae82f14c6d4a827a36badfa2, 0xe7388b8a6c8533125d8bccc58be2ac49),
        (UInt16, 0x7753df7d532e59c6464b17d49c11b898, 0xf4b498ce6be2d38eeec56133f2cc8357),
        (UInt32, 0x0dc0cf6b8ecb4420142d76804adfa036, 0x457c77b439303dc9bc006833f406ae7e),
        (UInt64, 0x9d4c868c2a3e8af589086a59a3466bdf, 0xdef0bc0e0065c311dc25282d06e713e7),
        (Float16, 0x5a772aa7cf626a7061a0b9c4bb9c9f4f, 0x83eff4711d36cef55f99dfbbe909869f),
        (Float32, 0x55d4b92c4d97ed863622492269c5b43a, 0x666ef65da1c973a3c1163f72bd3c6f99),
        (Float64, 0x0f669998c13d08d16a16389d53db8711, 0x3b44a0bf277edd48404aebfd99aa58dd),
        (Timestamp(Second, None), 0x5fdd1a32afb03b3674970f857cecc464, 0xf21becbe7dbdd879101376a1f929b799),
        (
            Timestamp(Millisecond, None),
            0xddbbfb9a9f4870435cb54e11b1a33112,
            0xd76a8550942e15328e77d4f52dc767ff,
        ),
        (
            Timestamp(Microsecond, None),
            0x6222e5fec1abb8eb5eee15fe8074515f,
            0xc584d3ee750b846013fe9175ce1c73dd,
        ),
        (Timestamp(Nanosecond, None), 0xf68b4fa87394ee4bfab237fedc20244e, 0xb21b1c4318026062e62a3bd9f5435e32),
        (
            Timestamp(Microsecond, utc()),
            0x37e78a0913a01b1f1deadfa1554fb0f6,
            0x47e5518c7c93ae5c768675d14c2c88dc,
        ),
        (
            Timestamp(Nanosecond, utc()),
            0xd50583efced6d9df2b14492e8f87e6c3,
            0x3a284649625a2a4e41c357ddf604226e,
        ),
        (Date32, 0x18360831536e648705f474a191b37f6c, 0x2dec1c3d275433b2c38884dd0010b3c9),
        (Date64, 0xb35bf43121ddc8b34252032c3a64e797, 0x93f7cf3028867b4c3207368d586cc4e8),
        (Time32(Second), 0xa67afefce8103f850388b96cd9644768, 0x4e010e49339140b8b5cb43fd438a1d31),
        (Time32(Millisecond), 0x6ff62278b7c41cc8b5c6c6b34f963e87, 0x33ce6112da3bda88bf74bcb716de1fb5),
        (Time64(Microsecond), 0xe3d261ad51f267b2d6f1a5f2d69285bb, 0xfdfbde95cab5f370d703974250fdc500),
        (Time64(Nanosecond), 0x13439bc4ec0ef0ef03cf24f4394235d4, 0xea2eb39b9321b8a564a633e449a24f2e),
        (Duration(Second), 0xef0a5f837b7f9aaefaa8b68727303762, 0x3a09f07774a3c5d05c5e98af73afb5e1),
        (Duration(Millisecond), 0x818ec366c3ccb01d96f8c9d6041d165a, 0x3aa1285b47f264c0249f3e57d7182bc3),
        (Duration(Microsecond), 0xb7c931028c91b3446edead41f2766be8, 0x09667f3b05758d3382683c20f395c719),
        (Duration(Nanosecond), 0xdfaeecb1d56fca6379b29cf319bb8dfc, 0xdaec644ba7a495cd87a18cadd6c4e8c4),
        (Interval(YearMonth), 0x4b7408f9b2e369633ad4a4c571581010, 0x095e1f0ce6979ab20db19ed09b6dcd05),
        (Interval(DayTime), 0x25a8e5fc13f47433078f37bef89273db, 0x63048787a6e82ac3e6ab4a1fbedceee7),
        (Interval(MonthDayNano), 0xc9c6e2065c3a335a9244111c88405b42, 0x99deb4df7ca4d89e0d43b382957538a1),
        (FixedSizeBinary(3), 0xf83fb6ae08b16a37c0ff240430cf9580, 0x5b1a38c97b702c4ba9e77cc3d2fed69e),
        (Decimal32(9, 2), 0xc4b9665879a5511d2a776c04be10c8cd, 0x078568e1f21eb0d9047960124f519f3f),
        (Decimal64(9, 2), 0xc4b9665879a5511d2a776c04be10c8cd, 0x39b424f3b23e2a83c857220113a11d23),
        (Decimal128(9, 2), 0xc4b9665879a5511d2a776c04be10c8cd, 0x6683b6afcee9cf62da7f76194e1c47fd),
        (Decimal256(9, 2), 0xc4b9665879a5511d2a776c04be10c8cd, 0x190a65fcbd73f3367bebe24d5d67930d),
        (Decimal256(50, 2), 0x932bf3f5714bac2a06ec7ea427fd4bf1, 0x789ff7f7efaa43f2a033157188e77d75),
        (Utf8, 0x37381e62d4b62102d69a509215d08e34, 0x26a8f6b362e497243f0a32cf75a63c53),
        (LargeUtf8, 0x37381e62d4b62102d69a509215d08e34, 0x26a8f6b362e497243f0a32cf75a63c53),
        (Utf8View, 0x37381e62d4b62102d69a509215d08e34, 0x26a8f6b362e497243f0a32cf75a63c53),
        (Binary, 0x79b9ea81b014140db2e2ee9695a023f7, 0x1b333f71c17fb146a157775864b540d5),
        (LargeBinary, 0x79b9ea81b014140db2e2ee9695a023f7, 0x1b333f71c17fb146a157775864b540d5),
        (BinaryView, 0x79b9ea81b014140db2e2ee9695a023f7, 0x1b333f71c17fb146a157775864b540d5),
        (List(item()), 0x3d273d6de1225caf6f529c33308b7a80, 0x227be4ec6ffc9a894e4975ffef7f33fc),
        (List(texts()), 0xca916fbd3533556722d31345c9baa340, 0x6f2c8190cb95e927a92d10ec4f0a2507),
        (LargeList(texts()), 0xca916fbd3533556722d31345c9baa340, 0x6f2c8190cb95e927a92d10ec4f0a2507),
        (ListView(item()), 0x6ff3b261f9498bc8acfe59e26f8792bd, 0x73280a38aa75c5a572d309061122a4d6),
        (LargeListView(item()), 0x6ff3b261f9498bc8acfe59e26f8792bd, 0x73280a38aa75c5a572d309061122a4d6),
        (FixedSizeList(item(), 2), 0x8ab0a770a13ccb281c50d2d59adadf6a, 0x9080f17d0b357fdd6753e022b6dd335e),
        (Struct(members().into()), 0x9467c9a057b08b5f8408724ba7001102, 0xa31de1f44baee3c404d8874ac8713098),
        (Map(entries(Int32), false), 0x1bf9e778d1f1339b80e4f73f719b8502, 0xd6255d43e68fed1eb2420dbf7184a923),
        (
            Map(entries(List(texts())), true),
            0xd7a4569ca5409c71e36a313ab852d791,
            0x0d7bfb95818694e60f6b50edec1e1873,
        ),
        (
            Union(union(), UnionMode::Sparse),
            0xe1d774b548e6b8fe12778524dd13f38f,
            0xbd1b8361b6d516566fe4f21b633df082,
        ),
        (
            Union(union(), UnionMode::Dense),
            0xe1d774b548e6b8fe12778524dd13f38f,
            0xbd1b8361b6d516566fe4f21b633df082,
        ),
        (
            Dictionary(Box::new(Int32), Box::new(Utf8)),
            0x83d01577d05749c83e98a4b581fcd3e0,
            0xfb125aaa732ddcfdf795f5210b12c381,
        ),
        (
            Dictionary(Box::new(Int32), Box::new(Int64)),
            0xc926dadf4441138548d6953fa1170422,
            0x4fb8c8b031f8644ed83e63c3c0ec24f7,
        ),
        (
            Dictionary(Box::new(Int32), Box::new(Struct(members().into()))),
            0xa71717336e6b22c909bf4e20e56a2bb0,
            0x5891eecc9a073c1f09b929f5d7050968,
        ),
        (runs(LargeBinary), 0xefe584a0ebe5b38337c968a914cdb5ff, 0x8e96d54d8e60accdbb75572e201c0b68),
        (runs(Float64), 0x728d230458cf950ccbb271220bb04f85, 0xe08664fe42b29b54960203723291d10f),
    ]
}

#[test]
fn no_type_is_hashed_otherwise_than_it_was() {
    for (data_type, today, before) in known() {
        let hashes = hashes(Field::new("Column", data_type.clone(), true));
        assert_eq!(hashes, Hashes { today, before }, "{data_type}: {hashes:#x?}");
    }
}

/// What an extension makes of a type is another type.
#[test]
fn nor_is_an_extension() {
    let name = ("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned());
    let other = ("comment".to_owned(), "of no type".to_owned());
    let uuid = Field::new("Column", DataType::FixedSizeBinary(16), true);
    let hashes = hashes(uuid.with_metadata([name, other].into()));
    let today = 0x71a052300f6d1ef65d428a6735d8e224;
    let before = 0xe534f61f48dadf86cf00ba8f3ebe1af4;
    assert_eq!(hashes, Hashes { today, before }, "{hashes:#x?}");
}
