//! How an upload enters its table: what is done to the table before, and how rows meet those that are there.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};

use super::{
    IfExists, IfMissing, IngestRequest, Matching,
    fit::{self, Creation, Fit},
};
use crate::engine::{
    Error, Result,
    catalog::{FullName, TableInfo},
};

/// How rows enter their table, and what is done to the table before.
pub(super) struct Entry {
    pub(super) fit: Fit,
    /// The statements that create, replace or widen it.
    pub(super) create: Option<String>,
    /// Those statements add columns to a table that is there.
    pub(super) widens: bool,
    /// Those statements put a new table in the place of one that is there.
    pub(super) replaces: bool,
    /// How rows are matched with those that are there, or with each other; `None` adds them all.
    pub(super) matching: Option<Matching>,
}

impl Entry {
    pub(super) fn decide(
        name: &FullName,
        table: Option<&TableInfo>,
        request: &IngestRequest,
        schema: &SchemaRef,
    ) -> Result<Self> {
        match (table, request.if_missing, request.if_exists) {
            (Some(table), _, IfExists::Append) => {
                let fit = Fit::to_table(schema, table, request.new_columns)?;
                let matching = Matching::decide(request, &fit, Some(table))?;
                // Rows that are there may be updated without it.
                if matching.is_none() {
                    fit.check_missing(table)?;
                }
                let create = fit.widening(name);
                Ok(Self { fit, widens: create.is_some(), replaces: false, create, matching })
            }
            (Some(_), _, IfExists::Fail) => Err(Error::TableExists(name.to_string())),
            (None, IfMissing::Fail, _) => Err(Error::TableMissing(name.to_string())),
            (existing, _, _) => {
                let creation = match request.if_exists {
                    _ if existing.is_some() => Creation::Replace,
                    // Somebody else may be about to make it.
                    IfExists::Append => Creation::IfMissing,
                    IfExists::Replace | IfExists::Fail => Creation::New,
                };
                let create = Some(fit::create_table(name, schema, creation)?);
                let fit = Fit::to_new_table(schema);
                let matching = Matching::decide(request, &fit, None)?;
                Ok(Self { fit, create, widens: false, replaces: existing.is_some(), matching })
            }
        }
    }

    /// For a unit without rows into a table that is there: all that it brings is its key.
    pub(super) fn of_key_alone() -> Self {
        let fit = Fit::to_new_table(&Arc::new(Schema::empty()));
        Self { fit, create: None, widens: false, replaces: false, matching: None }
    }

    /// Whether nobody else may write meanwhile, but for appends.
    pub(super) fn needs_turn(&self) -> bool {
        self.create.is_some() || self.matching.is_some()
    }
}
