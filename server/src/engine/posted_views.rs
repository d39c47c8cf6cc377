//! Connections on which posted rows are a view already, ready for the rows of another request.
//!
//! To connect, to make the view and to plan a query takes a third of the time of seven analyses of 10,000 rows. A view
//! holds no rows between two requests, and serves one at a time.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Result,
    database::{Database, Pooled},
    ffi::{Offer, SCAN_FUNCTION},
    posted::{Posted, Relation},
};
use crate::sql::quote;

/// Views that wait for rows.
const KEPT: usize = 16;

/// A connection with a temporary view, and the rows that it shows.
pub(super) struct PostedView {
    pub(super) connection: Pooled,
    relation: Relation,
    rows: Offer,
}

/// Those of one instance that wait for rows, the last used last.
#[derive(Default)]
pub(super) struct PostedViews(Mutex<Vec<PostedView>>);

impl PostedView {
    /// Makes the view, without rows.
    fn open(database: &Arc<Database>, relation: Relation) -> Result<Self> {
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
        Ok(Self { connection, relation, rows })
    }
}

impl Database {
    /// Reads rows through a view of their own. The view is kept for others if all went well.
    pub(super) fn with_posted(
        self: &Arc<Self>,
        relation: Relation,
        posted: &Posted,
        read: impl FnOnce(&mut Pooled) -> Result<()>,
    ) -> Result<()> {
        let waiting = self.posted_views(|views| views.take(&relation))?;
        let mut view = waiting.map_or_else(|| PostedView::open(self, relation), Ok)?;
        view.rows.replace(posted.slices());
        read(&mut view.connection)?;
        view.rows.clear();
        if view.connection.is_open() {
            self.posted_views(|views| views.keep(view))?;
        }
        Ok(())
    }
}

impl PostedViews {
    fn take(&self, relation: &Relation) -> Option<PostedView> {
        let mut waiting = self.0.lock();
        let at = waiting.iter().rposition(|view| view.relation == *relation)?;
        Some(waiting.remove(at))
    }

    fn keep(&self, view: PostedView) {
        let mut waiting = self.0.lock();
        let oldest = (waiting.len() == KEPT).then(|| waiting.remove(0));
        waiting.push(view);
        drop(waiting);
        drop(oldest);
    }
}
