//! What `SELECT * FROM merganser_statements()` shows: a row a statement that runs or waits.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{Activity, NOT_SHOWN, RunningStatement};
use crate::engine::clock::micros;

/// The columns of [`statements`].
pub(crate) fn statements_schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let count = |name| Field::new(name, DataType::UInt64, true);
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        count("id"),
        count("session"),
        text("user_name"),
        text("protocol"),
        text("kind"),
        text("state"),
        Field::new("started_at", time, true),
        count("elapsed_ms"),
        count("rows"),
        text("peer"),
        text("catalog"),
        text("sql"),
    ]))
}

/// A row a statement, in the order in which they began.
pub(crate) fn statements(activity: &Activity) -> RecordBatch {
    let all = activity.all();
    let texts = |text: &dyn Fn(&RunningStatement) -> Option<String>| -> ArrayRef {
        Arc::new(all.iter().map(|one| text(one)).collect::<StringArray>())
    };
    let counts = |count: &dyn Fn(&RunningStatement) -> Option<u64>| -> ArrayRef {
        Arc::new(all.iter().map(|one| count(one)).collect::<UInt64Array>())
    };
    let started = all.iter().map(|one| Some(micros(one.started_at)));
    let columns = vec![
        counts(&|one| Some(one.id)),
        counts(&|one| one.caller.session),
        texts(&|one| one.caller.user.as_deref().map(str::to_owned)),
        texts(&|one| Some(one.caller.protocol.to_owned())),
        texts(&|one| Some(one.kind.to_owned())),
        texts(&|one| Some(one.state().text().to_owned())),
        Arc::new(started.collect::<TimestampMicrosecondArray>().with_timezone("UTC")) as ArrayRef,
        counts(&|one| Some(one.started.elapsed().as_millis() as u64)),
        counts(&|one| Some(one.rows())),
        texts(&|one| one.caller.peer.map(|peer| peer.to_string())),
        texts(&|one| Some(one.caller.catalog.clone())),
        texts(&|one| Some(one.text().unwrap_or(NOT_SHOWN).to_owned())),
    ];
    RecordBatch::try_new(statements_schema(), columns)
        .unwrap_or_else(|_| RecordBatch::new_empty(statements_schema()))
}
