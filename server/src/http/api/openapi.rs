//! `/v1/openapi.json`: the API as an OpenAPI 3.1 document, with the named queries of this server.

use axum::{Extension, response::Response};
use serde_json::{Map, Value, json};

use super::{
    answer,
    door::Visit,
    problem::Problem,
    queries::json_of,
    responses::{self, Does},
    schemas,
};
use crate::{
    engine::{Parameter, QueryCard},
    http::format::Format,
};

/// Describes what there is.
pub(super) async fn describe(Extension(visit): Extension<Visit>) -> Result<Response, Problem> {
    answer::json(&document(visit.api.engine.queries().iter().map(AsRef::as_ref)))
}

fn document<'a>(queries: impl Iterator<Item = &'a QueryCard>) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert("Problem".into(), problem());
    paths.insert("/v1/sql".into(), json!({ "post": sql() }));
    let tables = listing("tables", "Tables and views with their columns.", Does::List);
    paths.insert("/v1/tables".into(), json!({ "get": tables }));
    let names = listing("queries", "The named queries.", Does::Tell);
    paths.insert("/v1/queries".into(), json!({ "get": names }));
    paths.insert("/v1/openapi.json".into(), json!({ "get": itself() }));
    for card in queries {
        schemas.insert(row_name(card), schemas::row(&card.schema));
        paths.insert(format!("/v1/queries/{}", card.name), query(card));
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Merganser", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses::problems(),
            "securitySchemes": {
                "basic": { "type": "http", "scheme": "basic" },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
        },
        "security": [{}, { "basic": [] }, { "bearer": [] }],
    })
}

/// RFC 9457.
fn problem() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "slug"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "slug": { "type": "string", "pattern": "^[A-Z0-9_]+$" },
        },
    })
}

/// Rows in every form, with the schema of the answer in JSON.
fn rows(json: Value) -> Value {
    let mut content: Map<_, _> =
        Format::ALL.iter().map(|format| (format.media_type().to_owned(), json!({}))).collect();
    content.insert(Format::Json.media_type().to_owned(), json!({ "schema": json }));
    let header = |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    let headers = json!({
        "x-next-cursor": header("Where the next page is, if there is one."),
        "x-total-count": header("All rows, where total asked for them."),
    });
    json!({ "description": "Rows.", "headers": headers, "content": content })
}

fn listing(of: &str, description: &str, does: Does) -> Value {
    let schema = json!({
        "type": "object",
        "required": [of],
        "properties": { of: { "type": "array", "items": { "type": "object" } } },
    });
    told(of, description, &schema, does)
}

fn itself() -> Value {
    let schema = json!({
        "type": "object",
        "required": ["openapi", "info", "paths"],
        "properties": { "openapi": { "type": "string" }, "info": { "type": "object" }, "paths": { "type": "object" } },
    });
    told("openapi", "This document.", &schema, Does::Tell)
}

/// What is asked for without saying more, and answered in JSON.
fn told(id: &str, description: &str, schema: &Value, does: Does) -> Value {
    let content = json!({ "application/json": { "schema": schema } });
    json!({
        "summary": description,
        "operationId": id,
        "responses": responses::of(does, json!({ "description": description, "content": content })),
    })
}

fn sql() -> Value {
    let asked = json!({
        "type": "object",
        "required": ["sql"],
        "additionalProperties": false,
        "properties": {
            "sql": { "type": "string" },
            "parameters": { "type": ["object", "array", "null"] },
        },
    });
    json!({
        "summary": "Runs one statement.",
        "operationId": "sql",
        "parameters": [form()],
        "requestBody": {
            "required": true,
            "content": {
                "application/json": { "schema": asked },
                "application/sql": { "schema": { "type": "string" } },
            },
        },
        "responses": responses::of(Does::Run, rows(any_answer())),
    })
}

/// The columns are the statement's; one that has no rows tells how many it has changed.
fn any_answer() -> Value {
    let changed = json!({
        "type": "object",
        "required": ["changed"],
        "additionalProperties": false,
        "properties": { "changed": { "type": "integer", "minimum": 0 } },
    });
    json!({ "oneOf": [schemas::document(&json!({ "type": "object" })), changed] })
}

fn form() -> Value {
    let names: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
    json!({
        "name": "format",
        "in": "query",
        "description": "The form of the answer; else Accept tells.",
        "schema": { "type": "string", "enum": names },
    })
}

/// What the schema of a query's rows is called.
fn row_name(card: &QueryCard) -> String {
    format!("{}_row", card.name)
}

fn query(card: &QueryCard) -> Value {
    let count = json!({ "type": "integer", "minimum": 0 });
    let mut parameters: Vec<_> = card.parameters.iter().map(parameter).collect();
    parameters.extend([
        form(),
        json!({ "name": "limit", "in": "query", "schema": count }),
        json!({ "name": "offset", "in": "query", "schema": count }),
    ]);
    parameters.push(json!({
        "name": "cursor",
        "in": "query",
        "description": "Empty begins a cursor; else the x-next-cursor of the page before, with limit alone.",
        "schema": { "type": "string" },
    }));
    parameters.push(json!({
        "name": "total",
        "in": "query",
        "description": "Whether x-total-count tells the number of all rows.",
        "schema": { "type": "boolean" },
    }));
    let columns: Vec<_> = card.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let row = format!("#/components/schemas/{}", row_name(card));
    let answer = schemas::document(&json!({ "$ref": row }));
    let summary = card.description.clone().unwrap_or_else(|| format!("The query {}.", card.name));
    // No operation of the server's own begins so, whatever a query is called.
    let operation = |method: &str| {
        json!({
            "summary": summary,
            "description": format!("Columns: {}.", columns.join(", ")),
            "operationId": format!("{method}_{}", card.name),
            "parameters": parameters,
            "responses": responses::of(Does::Call, rows(answer.clone())),
        })
    };
    if card.input.is_none() {
        let mut post = operation("post");
        post["description"] = "The same, with parameters as a JSON object in the body.".into();
        post["requestBody"] =
            json!({ "content": { "application/json": { "schema": { "type": "object" } } } });
        return json!({ "get": operation("get"), "post": post });
    }
    let row = schemas::input(&card.input_schema);
    let mut post = operation("post");
    post["requestBody"] = json!({
        "required": true,
        "content": {
            "application/json": { "schema": { "type": "array", "items": row } },
            "application/x-ndjson": {},
            "text/csv": {},
            Format::Arrow.media_type(): {},
        },
    });
    json!({ "post": post })
}

fn parameter(parameter: &Parameter) -> Value {
    let mut schema = json!({ "type": json_type(&parameter.data_type) });
    if let Some(default) = &parameter.default {
        schema["default"] = json_of(default);
    }
    json!({
        "name": parameter.name,
        "in": "query",
        "required": parameter.is_required(),
        "schema": schema,
        "description": format!(
            "{} ({})",
            parameter.description.as_deref().unwrap_or("A parameter."),
            parameter.data_type
        ),
    })
}

/// The JSON type of a parameter in an address; what JSON has no type for, and what is nested, is a text.
fn json_type(data_type: &str) -> &'static str {
    match data_type.to_uppercase().as_str() {
        "BIGINT" | "INTEGER" | "INT" | "SMALLINT" | "TINYINT" | "UBIGINT" | "UINTEGER" | "USMALLINT"
        | "UTINYINT" | "HUGEINT" => "integer",
        "DOUBLE" | "FLOAT" | "REAL" => "number",
        "BOOLEAN" | "BOOL" => "boolean",
        nested if nested.ends_with(']') => "string",
        decimal if decimal.starts_with("DECIMAL") || decimal.starts_with("NUMERIC") => "number",
        _ => "string",
    }
}
