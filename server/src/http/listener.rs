//! Connections over HTTP/1.1: each has one of a limited number of places, its own task, a time in which a request's
//! head has to come, and one in which what is written has to be taken.

use std::{io, sync::Arc, time::Duration};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
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
    let under_way = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            stream = accepted(&listener, &places) => {
                let (stream, place) = stream;
                let (terms, watcher) = (Arc::clone(&terms), under_way.watcher());
                connections.spawn(async move {
                    if let Err(error) = connection(stream, &terms, watcher).await {
                        tracing::debug!(%error, "a connection over HTTP ended");
                    }
                    drop(place);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    // Connections without a request end at once.
    under_way.shutdown().await;
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

async fn connection(stream: TcpStream, terms: &Terms, watcher: Watcher) -> Ended {
    let mut sender = Sender { address: stream.peer_addr().ok(), certificate: None };
    let stream = Patient::new(stream, terms.patience);
    let Some(tls) = &terms.tls else { return requests(stream, sender, terms, watcher).await };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake did not come in time");
    let stream = tokio::time::timeout(terms.begin_within, tls.accept(stream)).await.map_err(late)??;
    let certificates = stream.get_ref().1.peer_certificates();
    sender.certificate = certificates.and_then(|certificates| Some(certificates.first()?.to_vec()));
    requests(stream, sender, terms, watcher).await
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    sender: Sender,
    terms: &Terms,
    watcher: Watcher,
) -> Ended {
    let routes = terms.routes.clone().layer(Extension(sender)).layer(Extension(ConnectionId::next()));
    let routes = TowerToHyperService::new(routes);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(terms.begin_within)
        .serve_connection(TokioIo::new(stream), routes);
    Ok(watcher.watch(connection).await?)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::oneshot,
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_kept_alive_ends_with_the_server_and_not_later() {
        let forever = Duration::from_secs(3600);
        let routes = Router::new().route("/", get(async || "here"));
        let terms = Terms { routes, tls: None, begin_within: forever, patience: forever };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(serve(listener, Places::new(4), terms, async { drop(stopped.await) }));
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it stays open");
        }
        stop.send(()).unwrap();
        timeout(Duration::from_secs(30), serving).await.expect("nothing holds up the stop").unwrap();
        assert_eq!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
}
