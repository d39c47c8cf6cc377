//! In front of every request to the API: does the server serve, and who asks?

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode, Version,
        header::{self, CACHE_CONTROL},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Api, Limits, head, problem::Problem};
use crate::{
    engine::Error,
    failure::{Failure, Kind},
    http::Shared,
    readiness::Phase,
    session::{ConnectionId, Offered, Sender, Session},
};

/// Somebody who was let in, for one request.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) api: Arc<Api>,
    /// It ends with the request; what would need another is refused.
    pub(super) session: Arc<Session>,
    /// Whose rows those of the request are.
    pub(super) connection: ConnectionId,
    pub(super) limits: Limits,
    /// While it is there, a server that stops waits.
    pub(super) open: TaskTrackerToken,
}

/// Lets in whom the configuration names, while the server serves.
pub(super) async fn admit(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    // The body cannot be looked at from several threads, so that only what is asked of the request goes on.
    let sender = request.extensions().get::<Sender>().cloned().unwrap_or_default();
    let connection = request.extensions().get().copied().unwrap_or_else(ConnectionId::next);
    let allowed = check_version(request.version())
        .and_then(|()| head::check(request.headers()))
        .and_then(|()| check_origin(request.headers()));
    let offered = allowed.map(|()| Offered::in_headers(request.headers()));
    let host = check_host(request.headers(), &shared.hosts);
    let mut response = match visit(&shared, offered, host, &sender, connection).await {
        Ok(visit) => {
            request.extensions_mut().insert(visit);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    // Data change, and answers are for whoever has logged in.
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn visit(
    shared: &Shared,
    offered: Result<Offered, Problem>,
    host: Result<(), Problem>,
    sender: &Sender,
    connection: ConnectionId,
) -> Result<Visit, Problem> {
    // Before the look at the phase, so that a stop either waits for this or is seen here.
    let open = shared.open.token();
    let api = serving(shared)?;
    let offered = offered?;
    if !api.authenticator.is_required() {
        host?;
    }
    let identity = api.authenticator.identify(offered, sender).await?;
    let session = Arc::new(api.sessions.of_one_request(identity.principal, sender.address));
    Ok(Visit { api, session, connection, limits: shared.limits, open })
}

fn serving(shared: &Shared) -> Result<Arc<Api>, Problem> {
    let starting =
        || Failure::new(Kind::Unavailable, "NOT_READY", "the server is starting; try again in a moment");
    match shared.readiness.phase() {
        Phase::Starting => Err(starting().into()),
        Phase::Serving => Ok(shared.api.lock().clone().ok_or_else(starting)?),
        Phase::Down => Err(Error::EngineDown.into()),
        Phase::Stopping => Err(Error::Stopping.into()),
    }
}

/// In HTTP/1.0 the end of a body is the end of the connection, so that an answer that breaks off would look whole.
fn check_version(version: Version) -> Result<(), Problem> {
    if version >= Version::HTTP_11 {
        return Ok(());
    }
    let text = "send HTTP/1.1: over HTTP/1.0 nobody can see that an answer broke off (nginx: proxy_http_version 1.1)";
    Err(Problem::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, Kind::Unsupported, "HTTP_VERSION", text))
}

/// A browser sends simple requests to any server for any page that it shows, with what it knows of the user's
/// log-in. It says for whom.
fn check_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| Some(origin.split_once("://")?.1));
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if authority.is_some() && authority == host {
        return Ok(());
    }
    let text = "a page of another origin may not send requests here";
    Err(Failure::new(Kind::Forbidden, "CROSS_ORIGIN", text).into())
}

/// Where nobody logs in, a server that only its own machine or network reaches rests on that. A page of a name that is
/// made to lead to this address is of the same origin to its browser; the name is what gives it away.
fn check_host(headers: &HeaderMap, known: &[String]) -> Result<(), Problem> {
    let authority = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let host = authority.as_ref().map_or("", Authority::host);
    let mut names = known.iter().map(String::as_str).chain(["localhost"]);
    if is_address(host) || names.any(|name| name.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    let text = "without users this server answers to IP addresses and to localhost; its operator can name others \
                (http_hosts)";
    Err(Failure::new(Kind::Forbidden, "UNKNOWN_HOST", text).into())
}

fn is_address(host: &str) -> bool {
    let without_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    without_brackets.unwrap_or(host).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_anybody_may_give_an_address_are_not_known() {
        let known = ["lake.internal".to_owned()];
        for (host, is_known) in [
            ("127.0.0.1:9100", true),
            ("10.0.0.7", true),
            ("[::1]:9100", true),
            ("[::1]", true),
            ("localhost:9100", true),
            ("LocalHost", true),
            ("Lake.internal:9100", true),
            ("evil.example:9100", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("evil.lake.internal", false),
            ("evil.example@", false),
            ("", false),
            ("\"", false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            assert_eq!(check_host(&headers, &known).is_ok(), is_known, "{host}");
        }
        assert!(check_host(&HeaderMap::new(), &known).is_err());
    }
}
