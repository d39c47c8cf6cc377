//! What answers where no gRPC is spoken.
//!
//! A connection without encryption to the wrong port comes up, and breaks off at the first call with an error that says
//! nothing. The first bytes of the other side tell what it is.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic::transport::Uri;

use crate::{DEFAULT_PORT, Error, url::endpoint_uri};

/// What begins a connection of HTTP/2: its name, and settings of which there are none.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// What servers of HTTP/1 answer, also those that close a connection of HTTP/2 without a word.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(2);

/// To tell an alert of TLS, or HTTP/1.
const ENOUGH_BYTES: u64 = 6;

/// Looks why calls without encryption break off: none where the other side speaks HTTP/2, as it should, or says nothing.
pub async fn wrong_port(url: &str) -> Option<Error> {
    let uri = endpoint_uri(url).ok().filter(|uri| uri.scheme_str() == Some("http"))?;
    let mut answer = ask(&uri, PREFACE).await?;
    if answer.is_empty() {
        answer = ask(&uri, REQUEST).await?;
    }
    let advice = advice(&answer)?;
    Some(Error::Connect(format!("cannot connect to {}: {advice}", uri.authority()?)))
}

/// How the other side begins its answer; empty where it only closes.
async fn ask(uri: &Uri, said: &[u8]) -> Option<Vec<u8>> {
    let asking = async {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let mut stream = TcpStream::connect((host, uri.port_u16().unwrap_or(DEFAULT_PORT))).await?;
        stream.write_all(said).await?;
        let mut begin = Vec::new();
        stream.take(ENOUGH_BYTES).read_to_end(&mut begin).await?;
        Ok::<_, io::Error>(begin)
    };
    timeout(PATIENCE, asking).await.ok()?.ok()
}

fn advice(answer: &[u8]) -> Option<&'static str> {
    match answer {
        // An alert of TLS, in whose records the version comes second.
        [0x15, 0x03, ..] => Some("the server speaks TLS on this port: use grpc+tls:// in place of grpc://"),
        _ if answer.starts_with(b"HTTP/1") => Some(
            "no gRPC is spoken on this port; it may be that of HTTP: use the one that the server names in grpc:// at its \
             start",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_who_answers() {
        assert!(advice(b"\x15\x03\x03\0\x02\x02F").unwrap().contains("grpc+tls://"));
        assert!(advice(b"HTTP/1.1 400").unwrap().contains("HTTP"));
        for answer in [&b""[..], b"\0\0\x12\x04\0", b"SSH-2.0-"] {
            assert_eq!(advice(answer), None, "{answer:?}");
        }
    }
}
