//! What counts and what does not.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Decimal128Array, DictionaryArray, Float64Array, Int16Array, Int32Array, Int64Array,
    LargeListArray, LargeStringArray, ListArray, ListViewArray, MapArray, RecordBatch, RunArray, StringArray,
    StringViewArray, StructArray,
    types::{Int16Type, Int32Type},
};
use arrow_schema::{DataType, Field};
use arrow_select::concat::concat_batches;

use super::{Content, Destination, Hashes};

fn to(table: &str) -> Destination {
    Destination { today: table.into(), before: table.into() }
}

fn hash(batches: &[RecordBatch]) -> Hashes {
    let mut content = Content::new(&to("t"), &batches[0].schema());
    batches.iter().for_each(|batch| content.add(batch).unwrap());
    content.finish()
}

fn hash_of(column: ArrayRef) -> Hashes {
    hash(&[batch(vec![("a", column)])])
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn rows(from: i64) -> RecordBatch {
    let ids: Vec<_> = (from..from + 10).collect();
    let names = ids.iter().map(|id| (id % 3 != 0).then(|| format!("name {id}")));
    let lists = ids.iter().map(|id| {
        (id % 4 != 0).then(|| (0..id % 5).map(|n| (n != 2).then_some(n as i32)).collect::<Vec<_>>())
    });
    let floats = ids.iter().map(|id| (id % 5 != 0).then_some(*id as f64));
    batch(vec![
        ("id", Arc::new(Int64Array::from(ids.clone()))),
        ("name", Arc::new(names.collect::<StringArray>())),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ("float", Arc::new(floats.collect::<Float64Array>())),
    ])
}

#[test]
fn batches_may_be_cut_anywhere() {
    let whole = concat_batches(&rows(0).schema(), &[rows(0), rows(10), rows(20)]).unwrap();
    let expected = hash(std::slice::from_ref(&whole));
    assert_eq!(hash(&[rows(0), rows(10), rows(20)]), expected);
    for cut in 0..=30 {
        assert_eq!(hash(&[whole.slice(0, cut), whole.slice(cut, 30 - cut)]), expected, "{cut}");
    }
}

#[test]
fn any_other_row_makes_it_another() {
    let hashes: Vec<_> = (0..20).map(|from| hash(&[rows(from)])).collect();
    let distinct: std::collections::HashSet<_> = hashes.iter().map(|hash| hash.today).collect();
    assert_eq!(distinct.len(), hashes.len());
    assert_ne!(hash(&[rows(0), rows(10)]), hash(&[rows(10), rows(0)]));
    assert_ne!(hash(&[rows(0)]), hash(&[rows(0).slice(0, 9)]));
}

#[test]
fn the_form_of_a_column_does_not_count() {
    let texts = vec![Some("a"), None, Some("b"), Some("b"), Some("a text that is longer than a view")];
    let dictionary: DictionaryArray<Int32Type> = texts.clone().into_iter().collect();
    let runs: RunArray<Int16Type> = texts.clone().into_iter().collect();
    let keys = Int32Array::from(vec![Some(0), Some(1), Some(2), Some(2), Some(3)]);
    let values = StringViewArray::from(vec![Some("a"), None, Some("b"), texts[4]]);
    let forms: [ArrayRef; 6] = [
        Arc::new(StringArray::from(texts.clone())),
        Arc::new(LargeStringArray::from(texts.clone())),
        Arc::new(StringViewArray::from(texts)),
        Arc::new(dictionary),
        Arc::new(runs),
        Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values))),
    ];
    let hashes = forms.map(hash_of);
    assert_eq!(hashes, [hashes[0]; 6]);
}

#[test]
fn pieces_in_which_values_are_hashed_do_not_count() {
    let texts: Vec<_> =
        (0..40_000).map(|row| "x".repeat(if row % 997 == 0 { 70_000 } else { row % 7 })).collect();
    let plain: ArrayRef = Arc::new(StringArray::from_iter_values(&texts));
    let views: ArrayRef = Arc::new(StringViewArray::from_iter_values(&texts));
    assert_eq!(hash_of(plain), hash_of(views));
}

#[test]
fn the_form_of_numbers_and_lists_does_not_count() {
    let numbers = vec![Some(7), None, Some(8), Some(8)];
    let keys = Int32Array::from(vec![Some(1), None, Some(0), Some(0)]);
    let values = Int64Array::from(vec![8, 7]);
    let forms: [ArrayRef; 3] = [
        Arc::new(Int64Array::from(numbers.clone())),
        Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values))),
        Arc::new(
            RunArray::<Int16Type>::try_new(
                &Int16Array::from(vec![1, 2, 4]),
                &Int64Array::from(vec![Some(7), None, Some(8)]),
            )
            .unwrap(),
        ),
    ];
    let hashes = forms.map(hash_of);
    assert_eq!(hashes, [hashes[0]; 3]);
    let lists = vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(1), None])];
    let distinct = ListArray::from_iter_primitive::<Int32Type, _, _>(lists[..3].to_vec());
    let keys = Int32Array::from(vec![Some(0), None, Some(2), Some(0)]);
    let forms: [ArrayRef; 4] = [
        Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists.clone())),
        Arc::new(LargeListArray::from_iter_primitive::<Int32Type, _, _>(lists.clone())),
        Arc::new(ListViewArray::from_iter_primitive::<Int32Type, _, _>(lists)),
        Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(distinct))),
    ];
    let hashes = forms.map(hash_of);
    assert_eq!(hashes, [hashes[0]; 4]);
}

#[test]
fn what_shares_its_bytes_is_never_written_out() {
    // 2 GiB and more, whose offsets would not fit either.
    let view = u128::from(1_u32 << 20) | u128::from(u32::from_le_bytes(*b"xxxx")) << 32;
    let views = vec![view; 2_100].into();
    let buffers = vec![arrow_buffer::Buffer::from(vec![b'x'; 1 << 20])];
    let shared: ArrayRef = Arc::new(StringViewArray::new(views, buffers, None));
    assert_ne!(hash_of(Arc::clone(&shared)), hash_of(shared.slice(0, 2_099)));
}

#[test]
fn names_that_mean_nothing_do_not_count_today() {
    let list = |name: &str| {
        let item = Arc::new(Field::new(name, DataType::Int32, true));
        let offsets = arrow_buffer::OffsetBuffer::from_lengths([2, 1]);
        let items: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        Arc::new(ListArray::new(item, offsets, items, None)) as ArrayRef
    };
    let map = |key: &str, value: &str| {
        let fields = [key, value].map(|name| Arc::new(Field::new(name, DataType::Int32, false)));
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int32Array::from(vec![1])), Arc::new(Int32Array::from(vec![2]))];
        let entries = StructArray::new(fields.to_vec().into(), columns, None);
        let field = Arc::new(Field::new(format!("{key}s"), entries.data_type().clone(), false));
        let offsets = arrow_buffer::OffsetBuffer::from_lengths([1]);
        Arc::new(MapArray::new(field, offsets, entries, None, false)) as ArrayRef
    };
    for (one, other) in [(list("item"), list("element")), (map("key", "value"), map("k", "v"))] {
        let (one, other) = (hash_of(one), hash_of(other));
        assert_eq!(one.today, other.today);
        assert_ne!(one.before, other.before);
    }
    let number = || Arc::new(Int32Array::from(vec![1])) as ArrayRef;
    let [small, large] = ["id", "ID"].map(|name| hash(&[batch(vec![(name, number())])]));
    assert_eq!(small.today, large.today);
    assert_ne!(small.before, large.before);
    let member = |name: &str| {
        let fields = vec![Arc::new(Field::new(name, DataType::Int32, true))];
        hash_of(Arc::new(StructArray::new(fields.into(), vec![number()], None)))
    };
    assert_eq!(member("x").today, member("X").today);
    assert_ne!(member("x").today, member("y").today);
}

#[test]
fn decimals_of_so_many_digits_are_the_same_in_any_width() {
    let numbers = [Some(-12_345_i128), None, Some(99)];
    let wide: ArrayRef = Arc::new(
        numbers.iter().copied().collect::<Decimal128Array>().with_precision_and_scale(9, 2).unwrap(),
    );
    let in_type = |data_type: DataType| arrow_cast::cast(&wide, &data_type).unwrap();
    let forms = [
        DataType::Decimal32(9, 2),
        DataType::Decimal64(9, 2),
        DataType::Decimal128(9, 2),
        DataType::Decimal256(9, 2),
    ];
    let hashes = forms.map(|form| hash_of(in_type(form)));
    assert!(hashes.iter().all(|hash| hash.today == hashes[0].today), "{hashes:?}");
    assert_ne!(hash_of(in_type(DataType::Decimal128(9, 3))).today, hashes[0].today);
    assert_ne!(hash_of(in_type(DataType::Decimal128(10, 2))).today, hashes[0].today);
}

#[test]
fn units_that_were_committed_before_are_known() {
    // As it was hashed before there were two spellings.
    assert_eq!(hash(&[rows(0), rows(10)]).before, 306_990_220_360_170_653_153_346_115_436_628_923_183);
}

#[test]
fn what_lies_under_a_null_does_not_count() {
    let valid = || Some(vec![true, false, true].into());
    let numbers = |under| Arc::new(Int32Array::new(vec![1, under, 3].into(), valid())) as ArrayRef;
    assert_eq!(hash(&[batch(vec![("a", numbers(7))])]), hash(&[batch(vec![("a", numbers(8))])]));
    let structs = |under| {
        let field = Arc::new(Field::new("x", DataType::Int32, true));
        let inner = Arc::new(Int32Array::from(vec![1, under, 3])) as ArrayRef;
        Arc::new(StructArray::new(vec![field].into(), vec![inner], valid())) as ArrayRef
    };
    assert_eq!(hash(&[batch(vec![("a", structs(7))])]), hash(&[batch(vec![("a", structs(8))])]));
    assert_ne!(
        hash(&[batch(vec![("a", numbers(7))])]),
        hash(&[batch(vec![("a", Arc::new(Int32Array::from(vec![1, 7, 3])))])])
    );
}

#[test]
fn destination_and_schema_count() {
    let schema = rows(0).schema();
    assert_ne!(Content::new(&to("a"), &schema).finish(), Content::new(&to("b"), &schema).finish());
    let narrow = batch(vec![("a", Arc::new(Int32Array::from(vec![1])))]);
    let wide = batch(vec![("a", Arc::new(Int64Array::from(vec![1])))]);
    assert_ne!(hash(&[narrow]), hash(&[wide]));
}
