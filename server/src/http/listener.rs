//! Connections over HTTP/1.1: each has one of a limited number of places, its own task, a time in which a request's
//! head has to come, and one in which what is written has to be taken.

use std::{io, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::patient::Patient;
use crate::{
    network::Places,
    session::{ConnectionId, Sender},
};

/// After a failure to accept, such as no descriptor left, the next attempt waits for so long.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// What connections have in common.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) routes: Router,
    pub(super) tls: Option<TlsAcceptor>,
    /// How long the handshake of TLS, and each request's head, may take.
    pub(super) begin_within: Duration,
    /// How long a client may take nothing of an answer.
    pub(super) patience: Duration,
}

/// Serves connections until `stop`, then lets requests under way finish. Dropping it ends them.
pub(super) async fn serve(
    listener: TcpListener,
    places: Places,
    terms: Terms,
    stop: impl Future<Output = ()>,
) {
    let terms = Arc::new(terms);
    let under_way = Arc::new(GracefulShutdown::new());
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            stream = accepted(&listener, &places) => {
                let (stream, place) = stream;
                let (terms, under_way) = (Arc::clone(&terms), Arc::clone(&under_way));
                connections.spawn(async move {
                    if let Err(error) = connection(stream, &terms, &under_way).await {
                        tracing::debug!(%error, "a connection over HTTP ended");
                    }
                    drop(place);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection that has a place.
async fn accepted(listener: &TcpListener, places: &Places) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Some(place) = places.take(&stream) {
                    return (stream, place);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection over HTTP was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn connection(stream: TcpStream, terms: &Terms, under_way: &GracefulShutdown) -> Ended {
    let mut sender = Sender { address: stream.peer_addr().ok(), certificate: None };
    let stream = Patient::new(stream, terms.patience);
    let Some(tls) = &terms.tls else { return requests(stream, sender, terms, under_way).await };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake did not come in time");
    let stream = tokio::time::timeout(terms.begin_within, tls.accept(stream)).await.map_err(late)??;
    let certificates = stream.get_ref().1.peer_certificates();
    sender.certificate = certificates.and_then(|certificates| Some(certificates.first()?.to_vec()));
    requests(stream, sender, terms, under_way).await
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    sender: Sender,
    terms: &Terms,
    under_way: &GracefulShutdown,
) -> Ended {
    let routes = terms.routes.clone().layer(Extension(sender)).layer(Extension(ConnectionId::next()));
    let routes = TowerToHyperService::new(routes);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(terms.begin_within)
        .serve_connection(TokioIo::new(stream), routes);
    Ok(under_way.watch(connection).await?)
}
