//! Accepted connections: each has a number, and tells when it is gone.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use futures::{Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;

use crate::{metrics, session::ConnectionId};

/// The other end of a connection, as requests see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// Unlike the address, never used twice.
    pub(crate) connection: ConnectionId,
    /// Where it comes from.
    pub(crate) address: Option<SocketAddr>,
}

/// Accepts connections; each is reported to `closed` when it is gone.
pub(crate) fn accept(
    listener: TcpListener,
    closed: mpsc::UnboundedSender<ConnectionId>,
) -> impl Stream<Item = io::Result<Connection>> {
    let next = AtomicU64::new(1);
    TcpListenerStream::new(listener).map(move |accepted| {
        let stream = accepted?;
        // Small answers must not wait for more bytes.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        let connection = ConnectionId(next.fetch_add(1, Ordering::Relaxed));
        let peer = Peer { connection, address: stream.peer_addr().ok() };
        metrics::connection_opened();
        tracing::debug!(connection = connection.0, address = ?peer.address, "accepted");
        Ok(Connection { stream, peer, closed: closed.clone() })
    })
}

/// An accepted connection.
pub(crate) struct Connection {
    stream: TcpStream,
    peer: Peer,
    closed: mpsc::UnboundedSender<ConnectionId>,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        metrics::connection_closed();
        tracing::debug!(connection = self.peer.connection.0, "closed");
        // During shutdown nobody listens any more.
        let _ = self.closed.send(self.peer.connection);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
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
