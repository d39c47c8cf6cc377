//! Handshake: credentials in, a token out.

use std::time::Duration;

use arrow_flight::{BasicAuth, HandshakeRequest, HandshakeResponse};
use prost::Message;
use tokio::time;
use tonic::{Request, Status, Streaming};

use super::{
    Answers, Flight, Reply,
    authenticate::sender_of,
    error::{auth_status, internal, unauthenticated},
    stream,
};
use crate::session::{Identity, Offered, Principal};

/// How long the credentials may take that come in the body.
const PATIENCE: Duration = Duration::from_secs(10);

impl Flight {
    /// Answers a token to whoever was let in: the one that came with the request, if one did, else a new one.
    pub(super) async fn shake_hands(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Reply<Answers<HandshakeResponse>> {
        let offered = Offered::in_headers(request.metadata().as_ref());
        let token = match (request.extensions().get::<Identity>().cloned(), offered) {
            (Some(Identity { token: Some(_), .. }), Offered::Token(token)) => token,
            (Some(identity), _) => self.token_for(identity.principal)?,
            (None, _) => {
                let sender = sender_of(request.extensions());
                let offered = in_body(request.into_inner()).await?;
                let identity = self.authenticator.identify(offered, &sender).await.map_err(auth_status)?;
                self.token_for(identity.principal)?
            }
        };
        let mut response =
            stream::one(HandshakeResponse { protocol_version: 0, payload: token.clone().into() });
        let bearer = format!("Bearer {token}").parse().map_err(|error| internal(&error))?;
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    fn token_for(&self, principal: Principal) -> Result<String, Status> {
        self.authenticator.issue(principal).map_err(|error| internal(&error))
    }
}

/// The credentials in the first message.
async fn in_body(mut messages: Streaming<HandshakeRequest>) -> Result<Offered, Status> {
    match time::timeout(PATIENCE, messages.message()).await {
        Ok(Ok(Some(message))) if !message.payload.is_empty() => Ok(in_payload(&message.payload)),
        Ok(Ok(_)) => Ok(Offered::Nothing),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(unauthenticated("the credentials did not come in time")),
    }
}

/// What a HandshakeRequest carries, in which pyarrow's `authenticate` sends user and password.
fn in_payload(payload: &[u8]) -> Offered {
    match BasicAuth::decode(payload) {
        Ok(BasicAuth { username, password }) if !username.is_empty() => {
            Offered::Password { name: username, password }
        }
        _ => Offered::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_a_user_and_a_password() {
        let payload = BasicAuth { username: "ana".into(), password: "s".into() }.encode_to_vec();
        assert_eq!(in_payload(&payload), Offered::Password { name: "ana".into(), password: "s".into() });
        assert_eq!(in_payload(b""), Offered::Unreadable);
        assert_eq!(in_payload(b"\xff"), Offered::Unreadable);
    }
}
