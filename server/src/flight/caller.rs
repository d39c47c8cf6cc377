//! Who is calling: the session that a request belongs to.

use std::sync::Arc;

use tonic::{Request, Status};

use super::{
    Flight,
    cookie::Cookie,
    error::{internal, not_found, session_status},
};
use crate::{
    network::Peer,
    session::{ConnectionId, Identity, Line, Session, SessionKey},
};

impl Flight {
    /// The session of a request: by its token, its cookie, or its connection.
    pub(super) fn session<T>(&self, request: &Request<T>) -> Result<Arc<Session>, Status> {
        let session = self.find_session(request)?;
        session.is_heard_from(request.extensions().get::<Peer>().and_then(|peer| peer.address));
        Ok(session)
    }

    fn find_session<T>(&self, request: &Request<T>) -> Result<Arc<Session>, Status> {
        let line = line_of(request);
        let Identity { principal, token } = request
            .extensions()
            .get::<Identity>()
            .cloned()
            .ok_or_else(|| internal(&"a request passed the door without an identity"))?;
        let cookie = Cookie::of(request.metadata());
        if token.is_none()
            && let Some(cookie) = &cookie
            && let Some(session) =
                self.sessions.of_cookie(&cookie.id, &principal, line).map_err(session_status)?
        {
            return Ok(session);
        }
        let of_connection =
            || SessionKey::Connection(line.map_or(ConnectionId(0), Line::id), principal.clone());
        let key = token.map_or_else(of_connection, SessionKey::Token);
        let session = self.sessions.of(key, &principal, line).map_err(session_status)?;
        // What this run has forgotten had nothing left.
        if let Some(cookie) = cookie.filter(|cookie| cookie.run != self.sessions.run()) {
            session.note_forgotten(cookie.id, cookie.in_transaction);
        }
        Ok(session)
    }

    /// The cookie that names a session as it is now.
    pub(super) fn cookie(&self, session: &Session) -> Cookie {
        Cookie {
            id: session.id().to_vec(),
            run: self.sessions.run(),
            in_transaction: session.is_in_transaction(),
        }
    }

    /// The session that a ticket was made in; an empty id means the caller's.
    pub(super) fn session_of_ticket(&self, id: &[u8], caller: &Arc<Session>) -> Result<Arc<Session>, Status> {
        if id.is_empty() || id == caller.id() {
            return Ok(Arc::clone(caller));
        }
        self.sessions.by_id(id, caller.principal()).ok_or_else(|| {
            not_found(
                "SESSION_ENDED",
                "the session in which the ticket was made has ended; ask for a new FlightInfo",
            )
        })
    }
}

/// The client's connection.
pub(super) fn line_of<T>(request: &Request<T>) -> Option<&Line> {
    request.extensions().get::<Peer>().map(|peer| &peer.connection)
}

/// A number for it.
pub(super) fn connection_of<T>(request: &Request<T>) -> Option<ConnectionId> {
    line_of(request).map(Line::id)
}
