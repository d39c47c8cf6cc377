//! Who is calling: the session that a request belongs to.

use std::sync::Arc;

use tonic::{Request, Status, metadata::MetadataMap};

use super::{
    Flight,
    error::{internal, not_found, session_status},
};
use crate::{
    network::Peer,
    session::{ConnectionId, HANDLE_BYTES, Identity, Line, Session, SessionKey},
};

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
        if let Some(token) = token {
            return self.sessions.of(SessionKey::Token(token), &principal, line).map_err(session_status);
        }
        let cookie = Cookie::of(request.metadata());
        if let Some(Cookie { id, .. }) = &cookie
            && let Some(session) = self.sessions.of_cookie(id, &principal, line).map_err(session_status)?
        {
            return Ok(session);
        }
        let key = SessionKey::Connection(line.map_or(ConnectionId(0), Line::id), principal.clone());
        let session = self.sessions.of(key, &principal, line).map_err(session_status)?;
        if let Some(Cookie { id, in_transaction }) = cookie {
            session.is_taken_for(id, in_transaction);
        }
        Ok(session)
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

/// A cookie: by it clients that keep cookies are recognised on another connection, and a server that does not know the
/// session, because it was started again, learns what its client believes to be in.
pub(super) struct Cookie {
    /// Of the session.
    id: Vec<u8>,
    /// Its client has begun a transaction there, and not ended it.
    in_transaction: bool,
}

impl Cookie {
    const NAME: &str = "merganser_session";
    /// What follows the id in a transaction.
    const IN_TRANSACTION: &str = ".transaction";

    /// What names a session as it is now.
    pub(super) fn naming(session: &Session) -> Self {
        Self { id: session.id().to_vec(), in_transaction: session.has_transactions() }
    }

    /// The value of `set-cookie`.
    pub(super) fn to_set(&self) -> String {
        let id: String = self.id.iter().map(|byte| format!("{byte:02x}")).collect();
        let mark = if self.in_transaction { Self::IN_TRANSACTION } else { "" };
        format!("{}={id}{mark}; HttpOnly", Self::NAME)
    }

    /// The value of `set-cookie` by which a client forgets its session.
    pub(super) fn to_forget() -> String {
        format!("{}=; Max-Age=0; HttpOnly", Self::NAME)
    }

    /// That of a request. One that cannot be ours is none.
    fn of(metadata: &MetadataMap) -> Option<Self> {
        let lines = metadata.get_all("cookie").into_iter().filter_map(|value| value.to_str().ok());
        let value = lines
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(name, value)| (name == Self::NAME).then_some(value.trim_matches('"')))?;
        let unmarked = value.strip_suffix(Self::IN_TRANSACTION);
        let id = unmarked.unwrap_or(value);
        let digits = (0..id.len()).step_by(2).map(|at| id.get(at..at + 2));
        let id: Vec<u8> =
            digits.map(|two| two.and_then(|two| u8::from_str_radix(two, 16).ok())).collect::<Option<_>>()?;
        (id.len() == HANDLE_BYTES).then_some(Self { id, in_transaction: unmarked.is_some() })
    }
}
