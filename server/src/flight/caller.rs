//! Who is calling: the session that a request belongs to.

use std::sync::Arc;

use tonic::{Request, Status, metadata::MetadataMap};

use super::{
    Flight,
    error::{internal, not_found, session_status},
};
use crate::{
    network::Peer,
    session::{ConnectionId, Identity, Line, Session, SessionKey},
};

/// The cookie by which clients that keep cookies are recognised on another connection.
const COOKIE: &str = "merganser_session";

impl Flight {
    /// The session of a request: by its token, its cookie, or its connection.
    pub(super) fn session<T>(&self, request: &Request<T>) -> Result<Arc<Session>, Status> {
        let session = self.find_session(request)?;
        session.is_heard_from(request.extensions().get::<Peer>().and_then(|peer| peer.address));
        Ok(session)
    }

    fn find_session<T>(&self, request: &Request<T>) -> Result<Arc<Session>, Status> {
        let line = request.extensions().get::<Peer>().map(|peer| &peer.connection);
        let Identity { principal, token } = request
            .extensions()
            .get::<Identity>()
            .cloned()
            .ok_or_else(|| internal(&"a request passed the door without an identity"))?;
        let by_cookie = || match cookie(request.metadata()) {
            Some(id) => self.sessions.of_cookie(&id, &principal, line).map_err(session_status),
            None => Ok(None),
        };
        let key = match token {
            Some(token) => SessionKey::Token(token),
            None => match by_cookie()? {
                Some(session) => return Ok(session),
                None => SessionKey::Connection(line.map_or(ConnectionId(0), Line::id), principal.clone()),
            },
        };
        self.sessions.of(key, &principal, line).map_err(session_status)
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

/// A number for the client's connection.
pub(super) fn connection_of<T>(request: &Request<T>) -> Option<ConnectionId> {
    request.extensions().get::<Peer>().map(|peer| peer.connection.id())
}

/// The value of `set-cookie` that names a session.
pub(super) fn set_cookie(session: &Session) -> String {
    let id: String = session.id().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{COOKIE}={id}; HttpOnly")
}

/// The session's id in the request's cookies.
fn cookie(metadata: &MetadataMap) -> Option<Vec<u8>> {
    let cookies = metadata.get_all("cookie").into_iter().filter_map(|value| value.to_str().ok());
    let value = cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value.trim_matches('"')))?;
    (0..value.len())
        .step_by(2)
        .map(|at| value.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
        .collect()
}
