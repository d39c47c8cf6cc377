//! Rows of a query that enter a table as an upload's would: checked against it, matched by key, widened.

use super::{Entry, IngestRequest, merge_stage::MergeStage};
use crate::engine::{
    Result,
    answers::text_or_null,
    catalog::{FullName, TableInfo},
    ffi::Connection,
    types::wire_schema,
};

/// The rows in a temporary table of a connection.
pub(crate) struct StagedQuery {
    stage: MergeStage,
    /// The statements that make or widen the table.
    create: Option<String>,
}

impl StagedQuery {
    /// Runs the query. `table` is what its rows go to as it is now, if it is there.
    pub(crate) fn fill(
        connection: &Connection,
        name: &FullName,
        table: Option<&TableInfo>,
        request: &IngestRequest,
        query: &str,
    ) -> Result<Self> {
        let schema = wire_schema(&connection.extract(query)?.prepare(0)?.schema()?);
        let Entry { fit, create, matching, .. } = Entry::decide(name, table, request, &schema)?;
        let stage = MergeStage::open(connection, name, fit, matching)?;
        stage.fill_from(connection, query)?;
        Ok(Self { stage, create })
    }

    /// The greatest value of a column as text; `None` where there are no rows, or none has a value.
    pub(crate) fn last(&self, connection: &Connection, column: &str) -> Result<Option<String>> {
        let Some(at) = self.stage.fit().columns().iter().position(|one| one.eq_ignore_ascii_case(column))
        else {
            return Ok(None);
        };
        text_or_null(connection, &format!("SELECT max(c{at})::VARCHAR FROM {}", self.stage.sql()))
    }

    /// Leaves one row of each key, and none that is there already with the same values; tells how many rows are
    /// left.
    pub(crate) fn settle(&self, connection: &Connection, name: &FullName) -> Result<u64> {
        self.stage.settle(connection)?;
        if self.create.is_none() {
            self.stage.drop_known(connection, name)?;
        }
        self.stage.count(connection)
    }

    /// Brings the rows into the table, in the transaction that is open: in one statement where it is of files.
    pub(crate) fn enter(&self, connection: &Connection, name: &FullName, at_once: bool) -> Result<()> {
        let create = self.create.as_deref();
        match at_once {
            true => self.stage.enter_at_once(connection, name, create),
            false => self.stage.enter_as_staged(connection, name, create, true),
        }
    }

    /// Whether the table is made or widened.
    pub(crate) fn changes_schema(&self) -> bool {
        self.create.is_some()
    }

    /// Ends it; the connection goes on.
    pub(crate) fn close(self, connection: &Connection) -> Result<()> {
        self.stage.close(connection)
    }
}
