//! The address of a server, as people write it.

use tonic::transport::Uri;

use crate::Error;

/// The port of a URL that names none.
pub const DEFAULT_PORT: u16 = 8815;

/// Turns `grpc://HOST:PORT`, `grpc+tcp://`, `http://` or a bare `HOST[:PORT]` into what the transport
/// takes: `http://HOST:PORT`; and `grpc+tls://`, `grpcs://` or `https://` into `https://HOST:PORT`.
pub(crate) fn endpoint_uri(url: &str) -> Result<Uri, Error> {
    let (scheme, rest) = url.trim().split_once("://").unwrap_or(("grpc", url.trim()));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "grpc" | "grpc+tcp" | "http" => "http",
        "grpcs" | "grpc+tls" | "https" => "https",
        _ => return Err(usage(url, "the scheme is none of grpc, grpc+tls, http and https")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err(usage(url, "a user and password do not belong in the address"));
    }
    if rest.contains(['/', '?', '#']) {
        return Err(usage(url, "only a host and a port may follow the scheme"));
    }
    let uri: Uri = format!("{scheme}://{rest}/").parse().map_err(|_| usage(url, "it is not HOST:PORT"))?;
    match (uri.host(), uri.port_u16()) {
        (None | Some("" | "[]"), _) => Err(usage(url, "the host is missing")),
        (Some(_), Some(_)) => Ok(uri),
        // `HOST:` and ports above 65535 leave a colon behind the host that is no port.
        (Some(host), None) if rest.len() > host.len() => {
            Err(usage(url, "the port is not a number up to 65535"))
        }
        (Some(host), None) => format!("{scheme}://{host}:{DEFAULT_PORT}/")
            .parse()
            .map_err(|_| usage(url, "it is not HOST:PORT")),
    }
}

fn usage(url: &str, why: &str) -> Error {
    // Whatever stands before an @ may be a password, which has no place on a screen or in a log.
    let shown = url.rsplit('@').next().unwrap_or(url);
    Error::Usage(format!("cannot use the server address {shown:?}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_becomes_one() {
        for (given, expected) in [
            ("grpc://localhost:8815", "http://localhost:8815/"),
            ("grpc+tcp://db.example:99", "http://db.example:99/"),
            ("http://127.0.0.1:1234/", "http://127.0.0.1:1234/"),
            ("GRPC://127.0.0.1:1234", "http://127.0.0.1:1234/"),
            ("127.0.0.1:4000", "http://127.0.0.1:4000/"),
            (" localhost ", "http://localhost:8815/"),
            ("grpc://[::1]:4000", "http://[::1]:4000/"),
            ("[::1]", "http://[::1]:8815/"),
            ("grpc+tls://localhost:8815", "https://localhost:8815/"),
            ("grpcs://localhost", "https://localhost:8815/"),
            ("https://localhost:99", "https://localhost:99/"),
        ] {
            assert_eq!(endpoint_uri(given).unwrap().to_string(), expected, "{given}");
        }
    }

    #[test]
    fn what_cannot_be_dialled_is_a_usage_error() {
        for given in [
            "",
            "grpc://",
            "ftp://host",
            "grpc://host:1/table",
            "host:port",
            "host:",
            "host:70000",
            "two words:1",
            "ada:hunter2@host:1",
        ] {
            let error = endpoint_uri(given).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{given}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
