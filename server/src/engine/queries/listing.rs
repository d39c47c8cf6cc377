//! What `SELECT * FROM merganser_queries()` shows: a row a query, for clients that speak SQL and nothing else.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use super::{Parameter, QueryCard};
use crate::engine::type_name;

/// The columns of [`listing`]. `input` is NULL where a query takes no rows.
pub(crate) fn listing_schema() -> SchemaRef {
    let input = Fields::from(vec![text("name"), list("columns", column())]);
    Arc::new(Schema::new(vec![
        text("name"),
        text("description"),
        list("parameters", parameter()),
        list("columns", column()),
        Field::new("input", DataType::Struct(input), true),
    ]))
}

fn parameter() -> Fields {
    let required = Field::new("required", DataType::Boolean, true);
    vec![text("name"), text("type"), required, text("default"), text("description")].into()
}

fn column() -> Fields {
    vec![text("name"), text("type")].into()
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn list(name: &str, item: Fields) -> Field {
    Field::new(name, DataType::List(item_field(item)), true)
}

fn item_field(item: Fields) -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Struct(item), true))
}

/// A row a query, in the order of the configuration.
pub(crate) fn listing(cards: &[Arc<QueryCard>]) -> RecordBatch {
    let texts = |text: fn(&QueryCard) -> Option<&str>| -> ArrayRef {
        Arc::new(cards.iter().map(|card| text(card)).collect::<StringArray>())
    };
    let columns = cards.iter().map(|card| {
        card.schema.fields().iter().map(|field| (field.name().clone(), type_name(field))).collect()
    });
    let inputs = cards.iter().map(|card| {
        let columns = card.input.iter().flat_map(|input| &input.columns);
        columns.map(|(name, data_type)| (name.clone(), data_type.clone())).collect()
    });
    let input = StructArray::new(
        Fields::from(vec![text("name"), list("columns", column())]),
        vec![
            texts(|card| card.input.as_ref().map(|input| input.name.as_str())),
            pairs(inputs.collect::<Vec<_>>()),
        ],
        Some(cards.iter().map(|card| card.input.is_some()).collect::<NullBuffer>()),
    );
    let made = RecordBatch::try_new(
        listing_schema(),
        vec![
            texts(|card| Some(&card.name)),
            texts(|card| card.description.as_deref()),
            parameters(cards),
            pairs(columns.collect::<Vec<_>>()),
            Arc::new(input),
        ],
    );
    made.unwrap_or_else(|_| RecordBatch::new_empty(listing_schema()))
}

fn parameters(cards: &[Arc<QueryCard>]) -> ArrayRef {
    let all: Vec<&Parameter> = cards.iter().flat_map(|card| &card.parameters).collect();
    let texts = |text: fn(&Parameter) -> Option<String>| -> ArrayRef {
        Arc::new(all.iter().map(|parameter| text(parameter)).collect::<StringArray>())
    };
    let required = all.iter().map(|parameter| Some(parameter.is_required())).collect::<BooleanArray>();
    let columns = vec![
        texts(|parameter| Some(parameter.name.clone())),
        texts(|parameter| Some(parameter.data_type.clone())),
        Arc::new(required) as ArrayRef,
        texts(|parameter| parameter.default.as_ref().map(|value| value.text())),
        texts(|parameter| parameter.description.clone()),
    ];
    lists(parameter(), columns, cards.iter().map(|card| card.parameters.len()))
}

/// Names and types, a list a query.
fn pairs(of_queries: Vec<Vec<(String, String)>>) -> ArrayRef {
    let names = of_queries.iter().flatten().map(|(name, _)| Some(name)).collect::<StringArray>();
    let types = of_queries.iter().flatten().map(|(_, data_type)| Some(data_type)).collect::<StringArray>();
    lists(column(), vec![Arc::new(names), Arc::new(types)], of_queries.iter().map(Vec::len))
}

fn lists(item: Fields, columns: Vec<ArrayRef>, lengths: impl Iterator<Item = usize>) -> ArrayRef {
    let items = StructArray::new(item.clone(), columns, None);
    Arc::new(ListArray::new(item_field(item), OffsetBuffer::from_lengths(lengths), Arc::new(items), None))
}
