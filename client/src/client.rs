//! The connection, and the calls that are one request each.

use std::{sync::Arc, time::Duration};

use arrow_flight::{
    FlightData, FlightDescriptor, FlightInfo,
    flight_service_client::FlightServiceClient,
    sql::{CommandStatementQuery, CommandStatementUpdate, DoPutUpdateResult, ProstMessageExt},
};
use futures::stream;
use prost::Message;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    ClientOptions, Error, RowStream, TlsOptions,
    advice::with_advice,
    auth::{Bearer, LogIn},
    error::root_cause,
    greeting::wrong_port,
    upload::acknowledgement,
    url::endpoint_uri,
};

/// Servers split results at about 2 MB, but one very long value cannot be split.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// How much of one result may be on its way before it is read.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// Wide enough that results which nobody reads at the moment never hold up another call on the same
/// connection; each stream is bounded by its own window.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
/// A call in progress over a dead connection fails after about the sum of these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The connection with the bearer token on every call.
pub(crate) type Transport = InterceptedService<Channel, Bearer>;
/// The stub of the Flight service over it.
pub(crate) type Flight = FlightServiceClient<Transport>;

/// A connection to a Merganser server. Clones share it; a clone costs next to nothing.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    log_in: Arc<LogIn>,
}

impl Client {
    /// Connects to `grpc://HOST:PORT`, `http://HOST:PORT` or a bare `HOST[:PORT]`; to `grpc+tls://HOST:PORT`
    /// or `https://HOST:PORT` with encryption.
    ///
    /// # Errors
    /// [`Error::Usage`] for an address that cannot be dialled, [`Error::Connect`] when nobody answers.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_with(url, &ClientOptions::default()).await
    }

    /// Connects like [`connect`](Self::connect), with options; logs in when there are credentials.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect), and [`Error::Server`] when the credentials are refused.
    pub async fn connect_with(url: &str, options: &ClientOptions) -> Result<Self, Error> {
        let uri = endpoint_uri(url)?;
        let authority = uri.authority().map_or_else(String::new, ToString::to_string);
        let encrypted = uri.scheme_str() == Some("https");
        let mut endpoint = Endpoint::from(uri);
        if encrypted {
            endpoint = endpoint.tls_config(tls_config(&options.tls)?).map_err(|error| {
                Error::Usage(format!("the certificates cannot be used: {}", root_cause(&error)))
            })?;
        }
        let channel = endpoint
            .user_agent(concat!("merganser/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| Error::Connect(root_cause(&error)))?
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .connect()
            .await
            .map_err(|error| {
                let reason = with_advice(root_cause(&error));
                Error::Connect(format!("cannot connect to {authority}: {reason}"))
            })?;
        let log_in = match LogIn::open(channel.clone(), options.credentials.clone()).await {
            Err(error @ Error::Disconnected(_)) => return Err(wrong_port(url).await.unwrap_or(error)),
            log_in => log_in?,
        };
        Ok(Self { channel, log_in: Arc::new(log_in) })
    }

    /// Runs one SQL statement and streams its rows. Dropping the stream cancels the query on the server.
    ///
    /// A statement that returns no rows (DDL, DML) works too and has run by the time this returns; see
    /// [`RowStream::affected_rows`].
    ///
    /// # Errors
    /// [`Error::Server`] with the reason, such as a syntax error or an unknown table.
    pub async fn query(&self, sql: &str) -> Result<RowStream, Error> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        self.rows_of(command).await
    }

    /// Runs one SQL statement that returns no rows and tells how many rows it affected; -1 when the
    /// server does not know.
    ///
    /// # Errors
    /// [`Error::Server`] with the reason; the statement then changed nothing.
    pub async fn execute(&self, sql: &str) -> Result<i64, Error> {
        let command = CommandStatementUpdate { query: sql.to_owned(), transaction_id: None };
        let data = FlightData::new().with_descriptor(descriptor(command));
        let answers = self.flight().do_put(stream::iter([data])).await?;
        let result: DoPutUpdateResult = acknowledgement(answers.into_inner()).await?;
        Ok(result.record_count)
    }

    /// Asks what a Flight SQL command returns, and opens the result.
    pub(crate) async fn rows_of(&self, command: impl ProstMessageExt) -> Result<RowStream, Error> {
        let mut flight = self.flight();
        let info: FlightInfo = flight.get_flight_info(descriptor(command)).await?.into_inner();
        RowStream::open(flight, info).await
    }

    pub(crate) fn flight(&self) -> Flight {
        FlightServiceClient::new(self.transport()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn transport(&self) -> Transport {
        InterceptedService::new(self.channel.clone(), self.log_in.bearer())
    }

    /// Gets a new token for this client and its clones, when the old one has expired or the server that gave it
    /// was started again. False when there is no password to get one with.
    ///
    /// # Errors
    /// [`Error::Server`] when the password is refused, and those of the connection.
    pub async fn log_in_again(&self) -> Result<bool, Error> {
        self.log_in.again(self.channel.clone()).await
    }
}

fn tls_config(options: &TlsOptions) -> Result<ClientTlsConfig, Error> {
    let config = ClientTlsConfig::new();
    let config = match &options.ca {
        Some(authorities) => {
            let authorities = pem(
                authorities,
                "CERTIFICATE-----",
                "the file of authorities (--tls-ca) has no certificate",
            )?;
            config.ca_certificate(Certificate::from_pem(authorities))
        }
        None => config.with_native_roots(),
    };
    Ok(match &options.identity {
        Some((certificate, key)) => {
            let certificate =
                pem(certificate, "CERTIFICATE-----", "the file of --client-cert has no certificate")?;
            let key = pem(key, "PRIVATE KEY-----", "the file of --client-key has no private key")?;
            config.identity(Identity::from_pem(certificate, key))
        }
        None => config,
    })
}

/// Refuses a file without what is wanted of it: TLS would take it for one without anything in it.
fn pem<'a>(text: &'a [u8], wanted: &str, refusal: &str) -> Result<&'a [u8], Error> {
    if text.windows(wanted.len()).any(|part| part == wanted.as_bytes()) {
        return Ok(text);
    }
    Err(Error::Usage(format!("{refusal} in PEM, which begins with -----BEGIN")))
}

/// The descriptor that carries a Flight SQL command.
pub(crate) fn descriptor(command: impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
}
