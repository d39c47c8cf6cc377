//! Connections on which posted rows are a view already, ready for the rows of another request.
//!
//! To connect, to make the view and to plan a query takes a third of the time of seven analyses of 10,000 rows. A view
//! holds no rows between two requests, and serves one at a time.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{Posted, Redirects, Relation};
use crate::{
    engine::{
        Result,
        database::{Database, Pooled},
        ffi::{Offer, SCAN_FUNCTION},
    },
    sql::quote,
};

/// Views that wait for rows.
const KEPT: usize = 16;

/// A connection with a temporary view, and the rows that it shows.
struct PostedView {
    connection: Pooled,
    relation: Relation,
    rows: Offer,
    redirects: Redirects,
    /// How many changes of schemas there had been when it was made.
    schemas: u64,
    /// The last statement, and how it was written here.
    last: Option<(String, String)>,
}

/// Those of one instance that wait for rows, the last used last.
#[derive(Default)]
pub(in crate::engine) struct PostedViews(Mutex<Vec<PostedView>>);

impl PostedView {
    /// Makes the view, without rows.
    fn open(database: &Arc<Database>, relation: Relation, schemas: u64) -> Result<Self> {
        let mut connection = database.private_connection()?;
        connection.use_names(relation.names.as_ref())?;
        let rows = database.scans.offer(&connection, &relation.schema)?;
        let sql = format!(
            "CREATE TEMP VIEW {} AS SELECT {} FROM {SCAN_FUNCTION}({}::UBIGINT)",
            quote(&relation.name),
            relation.selected(),
            rows.key()
        );
        connection.execute(&sql)?;
        let redirects = Redirects::make(&connection, &relation.name)?;
        Ok(Self { connection, relation, rows, redirects, schemas, last: None })
    }

    /// The statement as it is to be written here.
    fn written(&mut self, sql: &str) -> Result<String> {
        if let Some((_, written)) = self.last.as_ref().filter(|(last, _)| last == sql) {
            return Ok(written.clone());
        }
        let written = self.redirects.of_query(&self.connection, sql)?.into_owned();
        self.last = Some((sql.to_owned(), written.clone()));
        Ok(written)
    }
}

impl Database {
    /// Reads rows through a view of their own, by the statement as it is to be written there. The view is kept for
    /// others if all went well, until there have been more changes of `schemas`.
    pub(in crate::engine) fn with_posted(
        self: &Arc<Self>,
        posted: (&Posted, Relation),
        schemas: u64,
        sql: &str,
        read: impl FnOnce(&mut Pooled, &str) -> Result<()>,
    ) -> Result<()> {
        let (posted, relation) = posted;
        let waiting = self.posted_views(|views| views.take(&relation, schemas))?;
        let mut view = waiting.map_or_else(|| PostedView::open(self, relation, schemas), Ok)?;
        let sql = view.written(sql)?;
        view.rows.replace(posted.slices());
        read(&mut view.connection, &sql)?;
        view.rows.clear();
        if view.connection.is_open() {
            self.posted_views(|views| views.keep(view))?;
        }
        Ok(())
    }
}

impl PostedViews {
    fn take(&self, relation: &Relation, schemas: u64) -> Option<PostedView> {
        let mut waiting = self.0.lock();
        let stale: Vec<_> = waiting.extract_if(.., |view| view.schemas != schemas).collect();
        let at = waiting.iter().rposition(|view| view.relation == *relation);
        let found = at.map(|at| waiting.remove(at));
        drop(waiting);
        drop(stale);
        found
    }

    fn keep(&self, view: PostedView) {
        let mut waiting = self.0.lock();
        let oldest = (waiting.len() == KEPT).then(|| waiting.remove(0));
        waiting.push(view);
        drop(waiting);
        drop(oldest);
    }
}
