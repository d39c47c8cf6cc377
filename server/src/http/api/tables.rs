//! `GET /v1/tables`: what there is.

use axum::{Extension, http::Uri, response::Response};
use serde::Serialize;

use super::{address, answer, door::Visit, problem::Problem};
use crate::engine::Relation;

#[derive(Serialize)]
struct Listing {
    tables: Vec<Table>,
}

#[derive(Serialize)]
struct Table {
    catalog: String,
    schema: String,
    name: String,
    /// `TABLE`, `VIEW` or `LOCAL TEMPORARY`.
    r#type: String,
    columns: Vec<Column>,
}

#[derive(Serialize)]
struct Column {
    name: String,
    /// DuckDB's own type.
    r#type: String,
    nullable: bool,
}

/// Lists all tables and views with their columns.
pub(super) async fn list(Extension(visit): Extension<Visit>, uri: Uri) -> Result<Response, Problem> {
    address::only(&uri, &[])?;
    let relations = visit.session.catalog().relations().await?;
    answer::json(&Listing { tables: relations.into_iter().map(Table::from).collect() })
}

impl From<Relation> for Table {
    fn from(relation: Relation) -> Self {
        let columns = relation.columns.fields().iter().zip(relation.details);
        let columns = columns.map(|(field, detail)| Column {
            name: field.name().clone(),
            r#type: detail.sql_type,
            nullable: field.is_nullable(),
        });
        Self {
            columns: columns.collect(),
            catalog: relation.catalog,
            schema: relation.schema,
            name: relation.name,
            r#type: relation.kind,
        }
    }
}
