//! Handshake: credentials in, a token out.

use std::time::Duration;

use arrow_flight::{HandshakeRequest, HandshakeResponse};
use tokio::time;
use tonic::{Request, Status, Streaming};

use super::{
    Answers, Flight, Reply,
    authenticate::Sender,
    credentials::Offered,
    error::{internal, unauthenticated},
    stream,
};
use crate::session::Identity;

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
            (Some(identity), _) => self.authenticator.issue(identity.principal)?,
            (None, _) => {
                let sender = Sender::of(request.extensions());
                let offered = in_body(request.into_inner()).await?;
                self.authenticator.issue(self.authenticator.identify(offered, &sender).await?.principal)?
            }
        };
        let mut response =
            stream::one(HandshakeResponse { protocol_version: 0, payload: token.clone().into() });
        let bearer = format!("Bearer {token}").parse().map_err(|error| internal(&error))?;
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }
}

/// The credentials in the first message.
async fn in_body(mut messages: Streaming<HandshakeRequest>) -> Result<Offered, Status> {
    match time::timeout(PATIENCE, messages.message()).await {
        Ok(Ok(Some(message))) if !message.payload.is_empty() => Ok(Offered::in_payload(&message.payload)),
        Ok(Ok(_)) => Ok(Offered::Nothing),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(unauthenticated("the credentials did not come in time")),
    }
}
