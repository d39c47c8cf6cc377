//! PollFlightInfo: FlightInfo for those who do not want to wait for it.
//!
//! What runs at DoGet is answered at once and complete: its rows stream as they are computed. A statement that
//! is run for its effect is started by the first poll, exactly once, and goes on without a request; the
//! polls after it ask how far it is.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arrow_flight::{CancelStatus, FlightDescriptor, FlightInfo, PollInfo};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    Flight,
    asked::Query,
    error::{internal, not_found, session_status},
    info::Planned,
};
use crate::{
    engine::Execution,
    session::{Expiring, Principal, RESULT_IDLE, Session, new_handle},
};

/// How long the first poll, and a cancellation, wait for the end of the statement.
const SHORT: Duration = Duration::from_millis(500);
/// How long a later poll waits for news.
const LONG: Duration = Duration::from_secs(5);
/// How often a waiting poll looks at the progress: DuckDB tells nobody when it changes.
const LOOK: Duration = Duration::from_millis(250);
/// A smaller step is no news.
const STEP: f64 = 0.01;
/// Started statements that are remembered.
const REMEMBERED: usize = 10_000;

/// How a statement ended.
type Answer = Result<FlightInfo, Status>;

/// The statements that polls have started, by handle. One that nobody asks after is forgotten; it runs to its
/// end all the same.
pub(super) struct Polls {
    started: Expiring<Arc<Started>>,
}

impl Default for Polls {
    fn default() -> Self {
        Self { started: Expiring::new(REMEMBERED, RESULT_IDLE) }
    }
}

impl Polls {
    fn find(&self, handle: &[u8], principal: &Principal) -> Result<Arc<Started>, Status> {
        let started = self.started.get(handle).filter(|started| started.principal == *principal);
        started.ok_or_else(|| {
            not_found(
                "POLL_EXPIRED",
                "the statement is unknown, or nobody asked after it for too long; look at what it was to change",
            )
        })
    }
}

/// A statement that goes on without a request.
struct Started {
    principal: Principal,
    execution: Execution,
    stop: CancellationToken,
    answer: watch::Receiver<Option<Answer>>,
    /// The progress that was answered last.
    told: Mutex<Option<f64>>,
}

impl Started {
    async fn ended(&self) -> Answer {
        let mut answer = self.answer.clone();
        match answer.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(answer)) => answer.clone(),
            _ => Err(internal(&"a statement in the background ended without an answer")),
        }
    }

    async fn ended_within(&self, wait: Duration) -> Option<Answer> {
        tokio::time::timeout(wait, self.ended()).await.ok()
    }

    /// How the statement ended; `None` when it has only come further, or nothing has changed for long.
    async fn news(&self) -> Option<Answer> {
        tokio::select! {
            biased;
            answer = self.ended() => Some(answer),
            _ = tokio::time::timeout(LONG, self.comes_further()) => None,
        }
    }

    async fn comes_further(&self) {
        let told = *self.told.lock();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let further = match (told, self.execution.progress()) {
                (Some(told), Some(now)) => now >= told + STEP,
                (told, now) => told.is_none() && now.is_some(),
            };
            if further {
                return;
            }
        }
    }

    /// The progress to answer: it never goes back.
    fn progress(&self) -> Option<f64> {
        let now = self.execution.progress();
        let mut told = self.told.lock();
        *told = match (*told, now) {
            (Some(told), Some(now)) => Some(told.max(now)),
            (told, now) => told.or(now),
        };
        *told
    }

    /// Stops the statement, and tells what became of it.
    async fn cancel(&self) -> CancelStatus {
        if self.answer.borrow().is_some() {
            return CancelStatus::NotCancellable;
        }
        self.stop.cancel();
        match self.ended_within(SHORT).await {
            Some(Ok(_)) => CancelStatus::NotCancellable,
            Some(Err(_)) => CancelStatus::Cancelled,
            None => CancelStatus::Cancelling,
        }
    }
}

impl Flight {
    /// PollFlightInfo, for the first time with what is asked, and then with what was answered.
    pub(super) async fn poll(
        &self,
        session: &Arc<Session>,
        descriptor: FlightDescriptor,
    ) -> Result<PollInfo, Status> {
        if let Some(handle) = self.tickets.polled(&descriptor.cmd)? {
            let started = self.polls.find(&handle, session.principal())?;
            return match started.news().await {
                Some(answer) => answer.map(complete),
                None => Ok(self.under_way(handle, session, &started)),
            };
        }
        let asked = self.asked(&descriptor)?;
        match self.plan(session, asked, &descriptor).await? {
            Planned::Info(info) => Ok(complete(info)),
            Planned::RunsAtOnce(query) => self.start(session, query, descriptor).await,
        }
    }

    async fn start(
        &self,
        session: &Arc<Session>,
        query: Query,
        descriptor: FlightDescriptor,
    ) -> Result<PollInfo, Status> {
        let started = Arc::new(self.run_in_background(session, query, descriptor)?);
        // A client that goes away before it has the handle could neither ask after the statement nor stop it.
        let unless_handed_out = started.stop.clone().drop_guard();
        if let Some(answer) = started.ended_within(SHORT).await {
            return answer.map(complete);
        }
        let handle = new_handle().map_err(|error| internal(&error))?;
        self.polls.started.insert(handle.clone(), Arc::clone(&started));
        unless_handed_out.disarm();
        Ok(self.under_way(handle, session, &started))
    }

    fn run_in_background(
        &self,
        session: &Arc<Session>,
        query: Query,
        descriptor: FlightDescriptor,
    ) -> Result<Started, Status> {
        let (room, stop) = session.background().map_err(session_status)?;
        let execution = Execution::watched(stop.clone());
        let (end, answer) = watch::channel(None);
        let (flight, session_of_it, watched) = (self.clone(), Arc::clone(session), execution.clone());
        tokio::spawn(async move {
            let answer = flight.run_at_once(&session_of_it, query, descriptor, &watched).await;
            drop(room);
            end.send_replace(Some(answer));
        });
        Ok(Started {
            principal: session.principal().clone(),
            execution,
            stop,
            answer,
            told: Mutex::default(),
        })
    }

    /// The answer while a statement runs: an info without endpoints, and what to poll with.
    fn under_way(&self, handle: Vec<u8>, session: &Session, started: &Started) -> PollInfo {
        let descriptor = FlightDescriptor::new_cmd(self.tickets.poll(handle, session.id()));
        let info = FlightInfo {
            flight_descriptor: Some(descriptor.clone()),
            total_records: -1,
            total_bytes: -1,
            ordered: true,
            ..FlightInfo::default()
        };
        PollInfo {
            info: Some(info),
            flight_descriptor: Some(descriptor),
            progress: started.progress(),
            expiration_time: Some((SystemTime::now() + RESULT_IDLE).into()),
        }
    }

    /// Cancels the statement that an info without endpoints is of; `None` when it is of none.
    pub(super) async fn cancel_polled(
        &self,
        session: &Session,
        info: &FlightInfo,
    ) -> Result<Option<CancelStatus>, Status> {
        let Some(descriptor) = &info.flight_descriptor else { return Ok(None) };
        let Some(handle) = self.tickets.polled(&descriptor.cmd)? else { return Ok(None) };
        Ok(Some(self.polls.find(&handle, session.principal())?.cancel().await))
    }
}

/// Nothing is left to poll for.
fn complete(info: FlightInfo) -> PollInfo {
    PollInfo { info: Some(info), flight_descriptor: None, progress: Some(1.0), expiration_time: None }
}
