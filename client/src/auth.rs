//! Logging in, and the token that every call carries from then on.

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

/// Exchanges a user and a password for a token, by Flight's Handshake.
pub(crate) async fn log_in(channel: Channel, credentials: &Credentials) -> Result<Bearer, Error> {
    let mut request = Request::new(stream::iter([HandshakeRequest::default()]));
    request.metadata_mut().insert(AUTHORIZATION, basic(credentials)?);
    let response = FlightServiceClient::new(channel).handshake(request).await?;
    let (headers, answers, _) = response.into_parts();
    // A refusal may come as the status that ends the stream, after the headers.
    answers.try_for_each(|_| async { Ok(()) }).await?;
    bearer(&headers)
}

fn basic(credentials: &Credentials) -> Result<AsciiMetadataValue, Error> {
    let Credentials { user, password } = credentials;
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

    fn credentials(user: &str, password: &str) -> Credentials {
        Credentials { user: user.into(), password: password.into() }
    }

    #[test]
    fn basic_is_base64_of_user_and_password() {
        let value = basic(&credentials("ada", "pä:ss")).unwrap();
        assert_eq!(value.to_str().unwrap(), "Basic YWRhOnDDpDpzcw==");
        assert!(value.is_sensitive());
    }

    #[test]
    fn a_colon_in_the_name_is_refused() {
        assert!(matches!(basic(&credentials("a:b", "c")), Err(Error::Usage(_))));
    }

    #[test]
    fn the_token_goes_on_every_call() {
        let mut headers = MetadataMap::new();
        assert!(matches!(bearer(&headers), Err(Error::Protocol(_))));
        headers.insert(AUTHORIZATION, AsciiMetadataValue::from_static("Bearer t"));
        let mut bearer = bearer(&headers).unwrap();
        let request = bearer.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get(AUTHORIZATION).unwrap(), "Bearer t");
    }
}
