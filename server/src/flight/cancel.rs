//! CancelFlightInfo, CancelQuery and RenewFlightEndpoint: what is done with tickets besides fetching.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use arrow_flight::{
    CancelFlightInfoResult, CancelStatus, FlightData, FlightEndpoint, FlightInfo, Ticket,
    sql::{ActionCancelQueryRequest, ActionCancelQueryResult},
};
use futures::{StreamExt, future::Either};
use parking_lot::Mutex;
use prost::{Message, bytes::Bytes};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};

use super::{
    Answers, Flight, Reply,
    asked::TicketFor,
    error::{bad_request, cancelled, result_expired},
    info::{endpoint, kept_endpoint},
};
use crate::session::{Expiring, Session};

/// Cancelled tickets that are remembered, so that they do not start afterwards.
const REMEMBERED: usize = 10_000;
/// For how long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// By what a fetch is found again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum CancelKey {
    /// A ticket of ours, which nobody else has.
    Ticket(Bytes),
    /// The text of a statement as its own ticket, and the session that sent it.
    Sql(Bytes),
}

impl CancelKey {
    /// For a ticket that was made in the session `made_in`. One that was made in none is text of SQL, which is
    /// anybody's: only the session that sent it may stop it.
    pub(super) fn of(ticket: Bytes, made_in: &[u8], caller: &[u8]) -> Self {
        match made_in.is_empty() {
            true => Self::Sql([caller, ticket.as_ref()].concat().into()),
            false => Self::Ticket(ticket),
        }
    }
}

/// The tickets that are being fetched, and those that must not be.
pub(super) struct Running {
    fetches: Arc<Mutex<HashMap<CancelKey, Fetches>>>,
    /// By their hashes, because a ticket may be as long as its statement.
    cancelled: Expiring<()>,
    hasher: RandomState,
}

/// One token for all fetches of a ticket, and their number.
struct Fetches {
    token: CancellationToken,
    count: usize,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            fetches: Arc::default(),
            cancelled: Expiring::new(REMEMBERED, FORGOTTEN_AFTER),
            hasher: RandomState::new(),
        }
    }
}

impl Running {
    /// A fetch of a ticket begins.
    pub(super) fn begin(&self, key: CancelKey) -> Result<Fetch, Status> {
        // Under the lock, or else a ticket might be cancelled between the look and its entry here, and run all the same.
        let mut fetches = self.fetches.lock();
        if let CancelKey::Ticket(ticket) = &key
            && self.cancelled.get(&self.hash(ticket)).is_some()
        {
            return Err(cancelled());
        }
        let entry = fetches
            .entry(key.clone())
            .or_insert_with(|| Fetches { token: CancellationToken::new(), count: 0 });
        entry.count += 1;
        Ok(Fetch { token: entry.token.clone(), key, fetches: Arc::clone(&self.fetches) })
    }

    fn hash(&self, ticket: &Bytes) -> Vec<u8> {
        self.hasher.hash_one(ticket).to_le_bytes().to_vec()
    }

    /// Stops every fetch of a ticket, and of our own those that have not begun.
    fn cancel(&self, key: &CancelKey) {
        if let CancelKey::Ticket(ticket) = key {
            self.cancelled.insert(self.hash(ticket), ());
        }
        if let Some(fetches) = self.fetches.lock().get(key) {
            fetches.token.cancel();
        }
    }
}

/// One fetch of a ticket, until dropped.
pub(super) struct Fetch {
    token: CancellationToken,
    key: CancelKey,
    fetches: Arc<Mutex<HashMap<CancelKey, Fetches>>>,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let mut fetches = self.fetches.lock();
        if let Some(entry) = fetches.get_mut(&self.key) {
            entry.count -= 1;
            if entry.count == 0 {
                fetches.remove(&self.key);
            }
        }
    }
}

impl Fetch {
    /// The answer, unless somebody cancels before its end. Dropping what answers stops the query.
    pub(super) async fn or_cancelled(
        self,
        answer: impl Future<Output = Reply<Answers<FlightData>>>,
    ) -> Reply<Answers<FlightData>> {
        let token = self.token.clone();
        let response = tokio::select! {
            response = answer => response?,
            () = token.cancelled() => return Err(cancelled()),
        };
        Ok(response_until(response, self))
    }
}

fn response_until(response: Response<Answers<FlightData>>, fetch: Fetch) -> Response<Answers<FlightData>> {
    let (metadata, rows, extensions) = response.into_parts();
    let state = Some((rows, fetch));
    let rows = futures::stream::unfold(state, |state| async move {
        let (mut rows, fetch) = state?;
        let token = fetch.token.clone();
        match futures::future::select(rows.next(), std::pin::pin!(token.cancelled())).await {
            Either::Left((next, _)) => next.map(|next| (next, Some((rows, fetch)))),
            Either::Right(_) => Some((Err(cancelled()), None)),
        }
    });
    Response::from_parts(metadata, Box::pin(rows), extensions)
}

impl Flight {
    /// CancelFlightInfo: stops whatever the endpoints of an info run, now or later; or, where it has none, the
    /// statement that the info is of.
    pub(super) async fn cancel_flight_info(
        &self,
        session: &Arc<Session>,
        info: &FlightInfo,
    ) -> Result<CancelFlightInfoResult, Status> {
        let tickets: Vec<_> = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref()).collect();
        let keys = tickets.iter().map(|ticket| self.cancel_key(&ticket.ticket, session));
        for key in keys.collect::<Result<Vec<_>, _>>()? {
            self.running.cancel(&key);
        }
        let status = if tickets.is_empty() {
            self.cancel_polled(session, info).await?.unwrap_or(CancelStatus::NotCancellable)
        } else {
            CancelStatus::Cancelled
        };
        Ok(CancelFlightInfoResult { status: status.into() })
    }

    /// CancelQuery, the older form of the same.
    pub(super) async fn cancel_query(
        &self,
        session: &Arc<Session>,
        request: &ActionCancelQueryRequest,
    ) -> Result<ActionCancelQueryResult, Status> {
        let info = FlightInfo::decode(request.info.clone())
            .map_err(|_| bad_request("BAD_COMMAND", "the FlightInfo to cancel cannot be read"))?;
        // The older enumeration has the numbers of the newer one.
        let result = self.cancel_flight_info(session, &info).await?.status;
        Ok(ActionCancelQueryResult { result })
    }

    /// By what a fetch of a ticket is cancelled, where whoever asks may fetch it.
    fn cancel_key(&self, ticket: &Bytes, session: &Arc<Session>) -> Result<CancelKey, Status> {
        let made_in = match self.tickets.read(ticket) {
            Ok(TicketFor::Query(_, id)) => id,
            _ => Vec::new(),
        };
        self.session_of_ticket(&made_in, session)?;
        Ok(CancelKey::of(ticket.clone(), &made_in, session.id()))
    }

    /// RenewFlightEndpoint: the same ticket with its whole time before it.
    pub(super) fn renew_endpoint(
        &self,
        session: &Arc<Session>,
        old: FlightEndpoint,
    ) -> Result<FlightEndpoint, Status> {
        let Some(Ticket { ticket }) = old.ticket else {
            return Err(bad_request("BAD_TICKET", "the endpoint has no ticket"));
        };
        let renewed = match self.tickets.read(&ticket)? {
            TicketFor::Query(_, id) => {
                self.session_of_ticket(&id, session)?;
                endpoint(self.tickets.renew(&ticket)?)
            }
            TicketFor::Result(handle) if self.results.renew(&handle, session.principal()) => {
                kept_endpoint(ticket)
            }
            TicketFor::Result(_) => return Err(result_expired()),
            TicketFor::Command(_) => endpoint(ticket),
        };
        Ok(FlightEndpoint { location: old.location, app_metadata: old.app_metadata, ..renewed })
    }
}
