//! What the configuration says of a named query.

use std::collections::BTreeMap;

use crate::engine::OptionValue;

/// A query as it is configured.
#[derive(Debug, Clone)]
pub struct NamedQuery {
    /// Its name.
    pub name: String,
    /// What it answers, for people.
    pub description: Option<String>,
    /// The SQL, with its parameters as `$name`.
    pub sql: String,
    /// Its parameters, in the order in which the SQL mentions them first.
    pub parameters: Vec<Parameter>,
    /// The columns that callers get and their DuckDB types, where they are promised.
    pub returns: Option<BTreeMap<String, String>>,
    /// Rows that come with the request, where it takes some.
    pub input: Option<Input>,
    /// Whether the server does not start where it cannot be answered.
    pub required: bool,
}

impl NamedQuery {
    /// Its parameter of a name, as the SQL mentions it.
    pub(super) fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

/// A parameter of a query.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name, in lower case.
    pub name: String,
    /// Its DuckDB type.
    pub data_type: String,
    /// What it is when nobody gives it.
    pub default: Option<OptionValue>,
    /// Whether it may be left out without a default; then it is NULL.
    pub optional: bool,
    /// What it means, for people.
    pub description: Option<String>,
}

impl Parameter {
    /// Whether a caller has to give it.
    pub fn is_required(&self) -> bool {
        self.default.is_none() && !self.optional
    }
}

/// The rows that come with a request: a relation of this name, for this request alone.
#[derive(Debug, Clone)]
pub struct Input {
    /// The name by which the SQL, and the views that it reads, know the rows.
    pub name: String,
    /// Columns and their DuckDB types, in the order that they have in the relation.
    pub columns: Vec<(String, String)>,
}
