//! Accepted connections: each has a number and one of a limited number of places, and tells when it is gone.

use std::{
    future, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;

use crate::{
    greeting::Greeting,
    session::{ConnectionId, Line},
};

/// The other end of a connection, as requests see it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Unlike the address, never used twice.
    pub(crate) connection: Line,
    /// Where it comes from.
    pub(crate) address: Option<SocketAddr>,
}

/// The places of connections. Clones are the same ones.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    all: usize,
}

impl Places {
    pub(crate) fn new(all: usize) -> Self {
        let all = all.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(all)), all }
    }

    /// A place for a connection; `None` when all are taken.
    pub(crate) fn take(&self, stream: &TcpStream) -> Option<OwnedSemaphorePermit> {
        let Ok(place) = Arc::clone(&self.free).try_acquire_owned() else {
            tracing::warn!("a connection was closed at once, because max-connections are open");
            return None;
        };
        // Small answers must not wait for more bytes.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        Some(place)
    }

    /// Connections that are open.
    pub(crate) fn taken(&self) -> usize {
        self.all - self.free.available_permits()
    }
}

/// Accepts connections; each has `patience` to begin, and is reported to `closed` when it is gone. One that comes
/// while all places are taken is closed at once: its client learns so immediately, and can try again, where one that is
/// left waiting cannot tell a full server from a dead one.
pub(crate) fn accept(
    listener: TcpListener,
    places: Places,
    patience: Duration,
    closed: mpsc::UnboundedSender<ConnectionId>,
) -> impl Stream<Item = io::Result<Connection>> {
    TcpListenerStream::new(listener).filter_map(move |accepted| {
        let connection = accepted.map(|stream| {
            let place = places.take(&stream)?;
            let peer = Peer { connection: Line::open(), address: stream.peer_addr().ok() };
            let address = peer.address.map(tracing::field::display);
            tracing::debug!(connection = peer.connection.id().0, address, "accepted");
            let greeting = Some(Greeting::within(patience));
            Some(Connection { stream, greeting, peer, closed: closed.clone(), _place: place })
        });
        future::ready(connection.transpose())
    })
}

/// An accepted connection.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Until it has begun.
    greeting: Option<Greeting>,
    peer: Peer,
    closed: mpsc::UnboundedSender<ConnectionId>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let line = &self.peer.connection;
        line.close();
        tracing::debug!(connection = line.id().0, "closed");
        // During shutdown nobody listens any more.
        let _ = self.closed.send(line.id());
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, greeting, .. } = &mut *self;
        let Some(expected) = greeting else { return Pin::new(stream).poll_read(context, buffer) };
        // Asked each time, so that a byte now and then does not put it off.
        if let Poll::Ready(late) = expected.poll_late(context) {
            return Poll::Ready(Err(late));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(context, buffer))?;
        if expected.heard(buffer.filled().len() - before) {
            *greeting = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
