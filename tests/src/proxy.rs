//! A connection that can be cut, or fall silent.

use std::net::SocketAddr;

use arrow_flight::flight_service_client::FlightServiceClient;
use merganser::Client;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tonic::transport::{Channel, Endpoint};

use crate::soon;

/// Passes one TCP connection on, until it is cut or silenced as if the client's machine had died.
pub struct Proxy {
    address: SocketAddr,
    silence: oneshot::Sender<()>,
    passing: JoinHandle<()>,
}

/// A connection on which nothing passes any more, with both sides open; closed when it is dropped.
pub struct Silenced {
    passing: JoinHandle<()>,
}

impl Proxy {
    /// Passes on to `server`.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let (silence, silenced) = oneshot::channel();
        let passing = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.expect("a client");
            let mut server = TcpStream::connect(server).await.expect("the server");
            tokio::select! {
                // Whichever side ends the connection, there is nothing more to pass on.
                _ = copy_bidirectional(&mut client, &mut server) => {}
                Ok(()) = silenced => std::future::pending().await,
            }
        });
        Self { address, silence, passing }
    }

    /// The one client whose connection goes this way.
    pub async fn client(&self) -> Client {
        let url = self.address.to_string();
        let connected = soon("a connection", Client::connect(&url)).await;
        connected.expect("a connection")
    }

    /// The same as a bare stub of the Flight service.
    pub async fn flight(&self) -> FlightServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("an address");
        FlightServiceClient::new(soon("a connection", endpoint.connect()).await.expect("a connection"))
    }

    /// Closes both sides in the middle of whatever is on its way.
    pub async fn cut(self) {
        self.passing.abort();
        let _ = self.passing.await;
    }

    /// Passes nothing on any more and closes nothing: neither side is told that the other one is gone.
    pub fn silence(self) -> Silenced {
        let _ = self.silence.send(());
        Silenced { passing: self.passing }
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        self.passing.abort();
    }
}
