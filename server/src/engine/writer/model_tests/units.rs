//! Units, as the writer gets them.

use std::{
    sync::{Arc, LazyLock},
    time::Instant,
};

use tokio::sync::oneshot;

use crate::engine::{
    Options, Result,
    catalog::FullName,
    database::Database,
    ingest::Ack,
    insert::Target,
    ledger::Keyed,
    writer::{BulkCommit, Enter, Part, Unit, command::Held},
};

/// One that the model tells from others by its number.
pub(in crate::engine::writer) fn unit(
    number: usize,
    rows: usize,
    loader: u64,
    keyed: Option<Keyed>,
    answer: oneshot::Sender<Result<Ack>>,
) -> Unit {
    let table = FullName { catalog: "c".into(), schema: "s".into(), table: "t".into() };
    Unit {
        target: Target { table, columns: Vec::new(), casts: false },
        batches: Vec::new(),
        rows,
        bytes: number,
        create: None,
        loader,
        keyed,
        received: Instant::now(),
        answer,
        span: tracing::Span::none(),
        held: Held::nothing(),
    }
}

/// The same as an upload of its own.
pub(super) fn bulk(unit: Unit, staged: bool) -> BulkCommit {
    /// Its connections are what a bulk upload comes with; nothing is done on them.
    static DATABASE: LazyLock<Arc<Database>> =
        LazyLock::new(|| Arc::new(Database::open(&Options::default()).expect("a database in memory")));
    let Unit { target, rows, bytes, loader, keyed, received, answer, span, held, .. } = unit;
    BulkCommit {
        connection: DATABASE.connection().expect("a connection"),
        enter: staged.then(|| Enter { run: Box::new(|_| Ok(())), merges: false }),
        creates: false,
        table: target.table.table,
        parts: vec![Part { rows, bytes, loader: Some(loader), keyed, received, answer }],
        span,
        held,
    }
}
