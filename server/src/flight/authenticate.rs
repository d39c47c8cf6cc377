//! Who asks: one door in front of every service that needs one. Whatever passes it carries an
//! [`Identity`](crate::session::Identity) in its extensions, so that no method can forget to ask.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, Request, Response};
use tonic::{Status, body::Body, server::NamedService, transport::server::TlsConnectInfo};
use tower::Service;

use super::error::auth_status;
use crate::{
    network::Peer,
    session::{Authenticator, Offered, Sender},
};

/// The one method that is let through without credentials, because it may bring them in its body.
const HANDSHAKE: &str = "/arrow.flight.protocol.FlightService/Handshake";

/// The health service stands before the door.
const HEALTH: &str = "/grpc.health.";

/// Whether calls of this path come from those who have been let in.
pub(super) fn brings_credentials(path: &str) -> bool {
    path != HANDSHAKE && !path.starts_with(HEALTH)
}

/// What a request has to show before a service sees it.
async fn admit(authenticator: &Authenticator, mut request: Request<Body>) -> Result<Request<Body>, Status> {
    let offered = Offered::in_headers(request.headers());
    let sender = sender_of(request.extensions());
    let brings_none = authenticator.is_required() && offered == Offered::Nothing;
    let handshake = brings_none && request.uri().path() == HANDSHAKE;
    if !handshake || sender.certificate.is_some() {
        let identity = authenticator.identify(offered, &sender).await.map_err(auth_status)?;
        request.extensions_mut().insert(identity);
    }
    Ok(request)
}

/// Reads what the transport left with a request.
pub(super) fn sender_of(extensions: &Extensions) -> Sender {
    let certificates = extensions.get::<TlsConnectInfo<Peer>>().and_then(TlsConnectInfo::peer_certs);
    let certificate = certificates.and_then(|certificates| Some(certificates.first()?.to_vec()));
    Sender { address: extensions.get::<Peer>().and_then(|peer| peer.address), certificate }
}

/// A service behind the door.
#[derive(Clone)]
pub(crate) struct Authenticated<S> {
    service: S,
    authenticator: Arc<Authenticator>,
}

impl<S> Authenticated<S> {
    /// Puts a service behind the door.
    pub(crate) fn new(service: S, authenticator: &Arc<Authenticator>) -> Self {
        Self { service, authenticator: Arc::clone(authenticator) }
    }
}

impl<S: NamedService> NamedService for Authenticated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The service that was found ready is the one to call; its clone is not known to be.
        let clone = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, clone);
        let authenticator = Arc::clone(&self.authenticator);
        Box::pin(async move {
            match admit(&authenticator, request).await {
                Ok(request) => service.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
