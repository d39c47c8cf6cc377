//! A connection that can be cut.

use std::net::SocketAddr;

use merganser::Client;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::soon;

/// Passes one TCP connection on, until it is cut as if the client's machine had died.
pub struct Proxy {
    address: SocketAddr,
    passing: JoinHandle<()>,
}

impl Proxy {
    /// Passes on to `server`.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let passing = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.expect("a client");
            let mut server = TcpStream::connect(server).await.expect("the server");
            // Whichever side ends the connection, there is nothing more to pass on.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
        Self { address, passing }
    }

    /// The one client whose connection goes this way.
    pub async fn client(&self) -> Client {
        let url = self.address.to_string();
        let connected = soon("a connection", Client::connect(&url)).await;
        connected.expect("a connection")
    }

    /// Closes both sides in the middle of whatever is on its way.
    pub async fn cut(self) {
        self.passing.abort();
        let _ = self.passing.await;
    }
}
