//! The names of a result's columns where each may be there once only.

use std::{collections::HashSet, sync::Arc};

use arrow_schema::{Schema, SchemaRef};

/// The columns' names; one that was there before gets the first of `_2`, `_3` ... that makes it new. The name that a
/// column was given by itself is never another's.
pub fn distinct(schema: &Schema) -> Vec<String> {
    let given: HashSet<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut taken = HashSet::new();
    let name = |field: &Arc<arrow_schema::Field>| {
        let mut name = field.name().clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{}_{number}", field.name());
            while given.contains(name.as_str()) {
                number += 1;
                name = format!("{}_{number}", field.name());
            }
            number += 1;
        }
        name
    };
    schema.fields().iter().map(name).collect()
}

/// The same columns under such names.
pub fn with_distinct(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().zip(distinct(schema));
    let fields = fields.map(|(field, name)| field.as_ref().clone().with_name(name));
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};

    use super::*;

    #[test]
    fn a_name_that_comes_again_gets_a_number_that_nobody_has() {
        let fields = ["a", "a", "a_2", "b", "a"].map(|name| Field::new(name, DataType::Int32, true));
        assert_eq!(distinct(&Schema::new(fields.to_vec())), ["a", "a_3", "a_2", "b", "a_4"]);
    }
}
