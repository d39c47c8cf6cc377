//! Logging in, and the token that every call carries from then on.

use std::sync::{Mutex, PoisonError};

use arrow_flight::{HandshakeRequest, flight_service_client::FlightServiceClient};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{TryStreamExt, stream};
use tonic::{
    Request, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
    service::Interceptor,
    transport::Channel,
};

use crate::{Credentials, Error};

const AUTHORIZATION: &str = "authorization";

/// Puts the bearer token, if there is one, on every call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bearer(Option<AsciiMetadataValue>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }
}

/// Who a client is: what it logs in with, and the token it has for it.
#[derive(Debug)]
pub(crate) struct LogIn {
    credentials: Option<Credentials>,
    bearer: Mutex<Bearer>,
}

impl LogIn {
    /// Logs in, when there are credentials.
    pub(crate) async fn open(channel: Channel, credentials: Option<Credentials>) -> Result<Self, Error> {
        let bearer = match &credentials {
            Some(credentials) => log_in(channel, credentials).await?,
            None => Bearer::default(),
        };
        Ok(Self { credentials, bearer: Mutex::new(bearer) })
    }

    pub(crate) fn bearer(&self) -> Bearer {
        self.bearer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Exchanges the password for another token; false when there is none.
    pub(crate) async fn again(&self, channel: Channel) -> Result<bool, Error> {
        let Some(credentials @ Credentials::Password { .. }) = &self.credentials else {
            return Ok(false);
        };
        let bearer = log_in(channel, credentials).await?;
        *self.bearer.lock().unwrap_or_else(PoisonError::into_inner) = bearer;
        Ok(true)
    }
}

/// The token of a log-in: the one that is there, or one for a user and a password, by Flight's Handshake.
async fn log_in(channel: Channel, credentials: &Credentials) -> Result<Bearer, Error> {
    let (user, password) = match credentials {
        Credentials::Password { user, password } => (user, password),
        Credentials::Token(token) => return known(token),
    };
    let mut request = Request::new(stream::iter([HandshakeRequest::default()]));
    request.metadata_mut().insert(AUTHORIZATION, basic(user, password)?);
    let response = FlightServiceClient::new(channel).handshake(request).await?;
    let (headers, answers, _) = response.into_parts();
    // A refusal may come as the status that ends the stream, after the headers.
    answers.try_for_each(|_| async { Ok(()) }).await?;
    bearer(&headers)
}

fn known(token: &str) -> Result<Bearer, Error> {
    let mut value = AsciiMetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Error::Usage("the token cannot be sent in a header".into()))?;
    value.set_sensitive(true);
    Ok(Bearer(Some(value)))
}

fn basic(user: &str, password: &str) -> Result<AsciiMetadataValue, Error> {
    if user.contains(':') {
        return Err(Error::Usage("a user name cannot contain a colon".into()));
    }
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value = AsciiMetadataValue::try_from(format!("Basic {encoded}"))
        .map_err(|_| Error::Usage("the password cannot be sent in a header".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn bearer(headers: &MetadataMap) -> Result<Bearer, Error> {
    let mut token = headers
        .get(AUTHORIZATION)
        .cloned()
        .ok_or_else(|| Error::Protocol("the server answered the log-in without a token".into()))?;
    token.set_sensitive(true);
    Ok(Bearer(Some(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_base64_of_user_and_password() {
        let value = basic("ada", "pä:ss").unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic YWRhOnDDpDpzcw==");
        assert!(value.is_sensitive());
    }

    #[test]
    fn a_colon_in_the_name_is_refused() {
        assert!(matches!(basic("a:b", "c"), Err(Error::Usage(_))));
    }

    #[test]
    fn the_token_goes_on_every_call() {
        let mut headers = MetadataMap::new();
        assert!(matches!(bearer(&headers), Err(Error::Protocol(_))));
        headers.insert(AUTHORIZATION, AsciiMetadataValue::from_static("Bearer t"));
        for mut bearer in [bearer(&headers).unwrap(), known("t").unwrap()] {
            let request = bearer.call(Request::new(())).unwrap();
            assert_eq!(request.metadata().get(AUTHORIZATION).unwrap(), "Bearer t");
        }
        assert!(matches!(known("line\nend"), Err(Error::Usage(_))));
    }
}
