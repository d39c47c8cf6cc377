//! The units that are sent, or to be sent, and not yet acknowledged.

use std::{collections::VecDeque, sync::Arc};

use arrow_schema::SchemaRef;
use merganser_proto::IngestAck;
use tokio::sync::watch;

use super::{Window, unit::Unit};
use crate::{Error, IngestKey};

/// What a loader's server has acknowledged so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Sequence number of the last unit that is acknowledged, and with it all before it.
    pub sequence: Option<u64>,
    /// Number of units.
    pub units: u64,
    /// Rows of these units.
    pub rows: u64,
    /// Number of the commit that holds the last of them.
    pub commit_id: u64,
    /// Units that the server had before, because they were sent again.
    pub duplicates: u64,
    /// How often the stream broke and another one was tried.
    pub retries: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// In the order of their sequence numbers, without gaps.
    units: VecDeque<Arc<Unit>>,
    bytes: usize,
    /// No unit will come any more.
    pub(super) finished: bool,
    pub(super) acknowledged: Acknowledged,
    /// Why nothing goes on, and the first unit that it concerns.
    failure: Option<(IngestKey, Arc<Error>)>,
}

impl State {
    /// The first unit that is not acknowledged, or the one after `sent`.
    pub(super) fn after(&self, sent: Option<u64>) -> Option<&Arc<Unit>> {
        let front = self.units.front()?;
        let index = sent.map_or(0, |sent| (sent + 1).saturating_sub(front.key.sequence));
        self.units.get(usize::try_from(index).ok()?)
    }

    fn has_room(&self, bytes: usize, window: Window) -> bool {
        let fits = self.units.len() < window.units && self.bytes.saturating_add(bytes) <= window.bytes;
        fits || self.units.is_empty()
    }

    fn error(&self) -> Option<Error> {
        let (key, cause) = self.failure.clone()?;
        Some(Error::Unit { key, cause })
    }

    fn acknowledge(&mut self, ack: &IngestAck) -> bool {
        let before = self.acknowledged.units;
        let acknowledged = |unit: &Arc<Unit>| unit.key.sequence <= ack.sequence;
        while self.units.front().is_some_and(acknowledged) {
            let Some(unit) = self.units.pop_front() else { break };
            self.bytes -= unit.bytes;
            self.acknowledged.sequence = Some(unit.key.sequence);
            self.acknowledged.units += 1;
            self.acknowledged.rows += unit.rows;
        }
        self.acknowledged.commit_id = ack.commit_id;
        self.acknowledged.duplicates += u64::from(ack.duplicate);
        self.acknowledged.units > before
    }
}

/// The state, and everybody who waits for it to change.
#[derive(Debug)]
pub(super) struct Backlog(watch::Sender<State>);

impl Backlog {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(State::default()))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }

    pub(super) fn acknowledged(&self) -> Acknowledged {
        self.0.borrow().acknowledged
    }

    /// Adds a unit, once there is room in the window.
    pub(super) async fn push(&self, unit: Unit, window: Window) -> Result<(), Error> {
        let bytes = unit.bytes;
        self.wait(|state| state.has_room(bytes, window)).await?;
        self.0.send_modify(|state| {
            state.bytes += bytes;
            state.units.push_back(Arc::new(unit));
        });
        Ok(())
    }

    /// Waits until all is acknowledged.
    pub(super) async fn flushed(&self) -> Result<(), Error> {
        self.wait(|state| state.units.is_empty()).await
    }

    pub(super) fn finish(&self) {
        self.0.send_modify(|state| state.finished = true);
    }

    /// Waits for a unit to send, and returns its columns; none when no unit will come any more.
    pub(super) async fn work(&self) -> Option<SchemaRef> {
        let mut changes = self.0.subscribe();
        // The sender lives as long as this, so there is always a state.
        let state = changes.wait_for(|state| state.finished || !state.units.is_empty()).await.ok()?;
        state.units.front().map(|unit| unit.schema.clone())
    }

    /// Whether there are units that wait for their acknowledgement.
    pub(super) fn waiting(&self) -> Option<SchemaRef> {
        self.0.borrow().units.front().map(|unit| unit.schema.clone())
    }

    /// Takes out what is acknowledged.
    pub(super) fn acknowledge(&self, ack: &IngestAck) -> Result<(), Error> {
        let mut known = false;
        self.0.send_modify(|state| known = state.acknowledge(ack));
        if known {
            return Ok(());
        }
        Err(Error::Protocol(format!("the server acknowledged unit {}, which was not sent", ack.sequence)))
    }

    pub(super) fn retry(&self) {
        self.0.send_modify(|state| state.acknowledged.retries += 1);
    }

    /// Ends it all.
    pub(super) fn fail(&self, error: Error) {
        self.0.send_modify(|state| {
            if let Some(unit) = state.units.front() {
                state.failure = Some((unit.key.clone(), Arc::new(error)));
            }
        });
    }

    async fn wait(&self, mut condition: impl FnMut(&State) -> bool) -> Result<(), Error> {
        let mut changes = self.0.subscribe();
        let state = changes.wait_for(|state| state.failure.is_some() || condition(state)).await;
        state.ok().and_then(|state| state.error()).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;
    use futures::FutureExt;

    use super::*;

    fn unit(sequence: u64, bytes: usize) -> Unit {
        let schema = Arc::new(Schema::empty());
        Unit { key: IngestKey::new("a", 1, sequence), schema, rows: 10, bytes, messages: Vec::new() }
    }

    const WINDOW: Window = Window { units: 3, bytes: 100 };

    fn push(backlog: &Backlog, sequence: u64, bytes: usize) -> Option<Result<(), Error>> {
        backlog.push(unit(sequence, bytes), WINDOW).now_or_never()
    }

    fn ack(sequence: u64, duplicate: bool) -> IngestAck {
        IngestAck { sequence, duplicate, commit_id: 100 + sequence, ..IngestAck::default() }
    }

    #[test]
    fn the_window_is_bounded_in_units_and_bytes() {
        let backlog = Backlog::new();
        for sequence in 5..8 {
            assert!(matches!(push(&backlog, sequence, 10), Some(Ok(()))));
        }
        assert!(push(&backlog, 8, 10).is_none());
        backlog.acknowledge(&ack(5, false)).unwrap();
        assert!(push(&backlog, 8, 81).is_none());
        assert!(push(&backlog, 8, 80).is_some());
        backlog.acknowledge(&ack(8, true)).unwrap();
        assert!(push(&backlog, 9, 1000).is_some(), "one unit is let through whatever its size");
        let expected =
            Acknowledged { sequence: Some(8), units: 4, rows: 40, commit_id: 108, duplicates: 1, retries: 0 };
        assert_eq!(backlog.acknowledged(), expected);
        assert!(matches!(backlog.acknowledge(&ack(8, false)), Err(Error::Protocol(_))));
    }

    #[test]
    fn a_stream_begins_with_what_is_not_acknowledged() {
        let backlog = Backlog::new();
        for sequence in 1..4 {
            push(&backlog, sequence, 1).unwrap().unwrap();
        }
        let next = |sent| backlog.subscribe().borrow().after(sent).map(|unit| unit.key.sequence);
        assert_eq!((next(None), next(Some(1)), next(Some(3))), (Some(1), Some(2), None));
        backlog.acknowledge(&ack(2, false)).unwrap();
        assert_eq!((next(None), next(Some(2)), next(Some(3))), (Some(3), Some(3), None));
    }

    #[test]
    fn a_failure_names_the_first_unit_and_stays() {
        let backlog = Backlog::new();
        push(&backlog, 1, 1).unwrap().unwrap();
        backlog.fail(Error::Disconnected("reset".into()));
        for error in [
            push(&backlog, 2, 1).unwrap().unwrap_err(),
            backlog.flushed().now_or_never().unwrap().unwrap_err(),
        ] {
            assert!(error.to_string().ends_with("reset (unit a/1/1)"), "{error}");
        }
    }
}
