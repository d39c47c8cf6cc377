//! Calling a named query by its name.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, cast::AsArray, types::Int64Type};
use arrow_schema::{DataType, Field, Schema};
use futures::StreamExt;

use super::{
    Error, Parameter, QueryCard, Result,
    values::{Verdict, verdict},
};
use crate::{
    engine::{BatchStream, Engine, Statement},
    sql::{as_subquery, placeholders, write_at},
};

/// The values that a caller gives, as texts; `None` is NULL.
pub type Arguments = BTreeMap<String, Option<String>>;

/// A part of a result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Page {
    /// Rows at the most.
    pub limit: Option<u64>,
    /// Rows that are left out before.
    pub offset: u64,
}

/// Takes what belongs to a page out of the parameters of a call.
///
/// # Errors
/// [`Error::BadParameter`].
pub fn page_of(arguments: &mut Arguments) -> Result<Page> {
    let mut number = |name: &str| match arguments.remove(name).flatten() {
        None => Ok(None),
        Some(text) => text.trim().parse::<u64>().map(Some).map_err(|_| {
            Error::BadParameter(format!("{name} is a number of rows; {:?} is none", excerpt(&text)))
        }),
    };
    Ok(Page { limit: number("limit")?, offset: number("offset")?.unwrap_or(0) })
}

/// Takes out whether a call wants to know how many rows there are in all.
///
/// # Errors
/// [`Error::BadParameter`].
pub fn total_of(arguments: &mut Arguments) -> Result<bool> {
    match arguments.remove("total").flatten().as_deref() {
        Some("" | "true" | "1") => Ok(true),
        None | Some("false" | "0") => Ok(false),
        Some(other) => {
            Err(Error::BadParameter(format!("total is true or false; {:?} is neither", excerpt(other))))
        }
    }
}

/// `name=value` as arguments; the value may be empty.
///
/// # Errors
/// [`Error::BadParameter`] for a text without `=`, or a name that is there twice.
pub fn arguments_of<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Result<Arguments> {
    let mut arguments = Arguments::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            Error::BadParameter(format!("{:?} is no parameter; write name=value", excerpt(pair)))
        })?;
        add_argument(&mut arguments, name, Some(value.to_owned()))?;
    }
    Ok(arguments)
}

/// Adds one value; names are compared in lower case.
///
/// # Errors
/// [`Error::BadParameter`] for a name that is there already.
pub fn add_argument(arguments: &mut Arguments, name: &str, value: Option<String>) -> Result<()> {
    match arguments.insert(name.to_lowercase(), value) {
        None => Ok(()),
        Some(_) => Err(Error::BadParameter(format!("the parameter {name:?} is there twice"))),
    }
}

/// As much of a caller's text as an error shows.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(64).collect()
}

impl Engine {
    /// The named queries, in the order of the configuration.
    pub fn queries(&self) -> &[Arc<QueryCard>] {
        &self.shared.database.queries
    }

    /// One of them.
    ///
    /// # Errors
    /// [`Error::QueryMissing`]; [`Error::QueryUnavailable`].
    pub fn query(&self, name: &str) -> Result<&Arc<QueryCard>> {
        let found = self.queries().iter().find(|card| card.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let mut declared = self.shared.database.options().queries.iter();
            match declared.find(|query| query.name.eq_ignore_ascii_case(name)) {
                Some(query) => Error::QueryUnavailable(query.name.clone()),
                None => Error::QueryMissing(excerpt(name)),
            }
        })
    }
}

impl QueryCard {
    /// Its parameter of a name, in whatever case that is.
    pub(crate) fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(name))
    }

    /// The statement that answers a call, with values that only DuckDB may know to be of no use; it has to be
    /// [settled](Self::settled).
    pub(super) fn statement(&self, mut arguments: Arguments, page: Page) -> Result<Statement> {
        let values = self
            .parameters
            .iter()
            .map(|parameter| parameter.value(arguments.remove(&parameter.name)))
            .collect::<Result<Vec<_>>>()?;
        if let Some(unknown) = arguments.keys().next() {
            let known: Vec<_> = self.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
            return Err(Error::BadParameter(format!(
                "the query {} has no parameter {unknown:?}; it has: {}",
                self.name,
                if known.is_empty() { "none".into() } else { known.join(", ") }
            )));
        }
        let names = self.parameters.iter().map(|parameter| parameter.name.as_str());
        let parameters = bound(names.zip(values))?;
        Ok(Statement { sql: self.paged(page), parameters, by_name: true, names: None })
    }

    /// The statement that counts all rows of a call; [`counted`] reads its answer.
    ///
    /// # Errors
    /// [`Error::BadParameter`].
    pub fn count_statement(&self, arguments: Arguments) -> Result<Statement> {
        let mut statement = self.statement(arguments, Page::default())?;
        statement.sql = format!("SELECT count(*) AS total FROM {}", as_subquery(&self.sql));
        self.settled(statement)
    }

    /// A statement whose values stand in its text where none can be bound, and are no parameters if they stand nowhere else.
    pub(super) fn settled(&self, mut statement: Statement) -> Result<Statement> {
        let Some(values) = statement.parameters.as_ref().filter(|_| self.has_parameter_at) else {
            return Ok(statement);
        };
        let value = |name: &str| {
            let column = values.column_by_name(name)?.as_string::<i32>();
            column.is_valid(0).then(|| column.value(0).to_owned())
        };
        statement.sql = write_at(&statement.sql, value);
        let mentioned = placeholders(&statement.sql);
        let is_left = |name: &str| mentioned.iter().any(|(left, _)| left == name);
        let fields = values.schema_ref().fields();
        let left: Vec<_> = (0..fields.len()).filter(|&at| is_left(fields[at].name())).collect();
        let parameters = (!left.is_empty()).then(|| values.project(&left));
        statement.parameters = parameters.transpose().map_err(|error| Error::Internal(error.to_string()))?;
        Ok(statement)
    }

    fn paged(&self, page: Page) -> String {
        if page == Page::default() {
            return self.sql.clone();
        }
        let limit = page.limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
        format!("FROM {}{limit} OFFSET {}", as_subquery(&self.sql), page.offset)
    }
}

/// The number that a statement counts.
///
/// # Errors
/// Those of the query.
pub async fn counted(mut rows: BatchStream) -> Result<i64> {
    let batch = rows.next().await.transpose()?;
    Ok(batch.map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0)))
}

/// The values as one row of texts, which DuckDB casts; `None` where there are none.
fn bound<'a>(values: impl Iterator<Item = (&'a str, Option<String>)>) -> Result<Option<RecordBatch>> {
    let (fields, columns): (Vec<_>, Vec<ArrayRef>) = values
        .map(|(name, value)| {
            (Field::new(name, DataType::Utf8, true), Arc::new(StringArray::from(vec![value])) as ArrayRef)
        })
        .unzip();
    if fields.is_empty() {
        return Ok(None);
    }
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    batch.map(Some).map_err(|error| Error::Internal(error.to_string()))
}

impl Parameter {
    /// What is bound for it.
    fn value(&self, given: Option<Option<String>>) -> Result<Option<String>> {
        match given {
            Some(None) => Ok(None),
            Some(Some(text)) => self.checked(text).map(Some),
            None if self.is_required() => Err(Error::BadParameter(format!(
                "the parameter {} ({}) is missing",
                self.name, self.data_type
            ))),
            None => Ok(self.default.as_ref().map(|value| value.text())),
        }
    }

    /// Refuses what is plainly not of its type; see [`values`](super::values) for the rest.
    pub(super) fn checked(&self, text: String) -> Result<String> {
        match verdict(&self.data_type, &text) {
            Verdict::DoesNot => Err(Error::BadParameter(self.is_not(&text))),
            Verdict::Fits | Verdict::Unknown => Ok(text),
        }
    }
}
