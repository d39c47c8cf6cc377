//! What to do when no connection comes up, by what the layers below say.

/// Words of an error, what it means, and what to do.
const KNOWN: [(&str, &str); 11] = [
    (
        "InvalidContentType",
        "the server does not speak TLS on this port: use grpc:// in place of grpc+tls://, or the port that does",
    ),
    (
        "NoApplicationProtocol",
        "no gRPC is spoken on this port; it may be that of HTTP: use the one that the server names in grpc+tls:// at its \
         start",
    ),
    (
        "CaUsedAsEndEntity",
        "the server shows the certificate of an authority, as plain `openssl req -x509` makes it: make its certificate with \
         -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:NAME, NAME being the one in the address",
    ),
    (
        "not valid for name",
        "use a name for which it is valid in the address, or make it anew with subjectAltName=DNS:NAME, or IP:ADDRESS",
    ),
    (
        "UnknownIssuer",
        "none of the trusted authorities has signed the server's certificate: name the file of the one that has (--tls-ca)",
    ),
    (
        "BadSignature",
        "the server's certificate is signed by another authority of the same name: name the file of the one that has \
         signed it (--tls-ca)",
    ),
    ("certificate expired", "the server's certificate has to be made anew, or the clock here is wrong"),
    ("certificate not valid yet", "the server's certificate is made for later, or the clock here is wrong"),
    (
        "CertificateRequired",
        "the server asks for a certificate of the client: name its file and that of its key (--client-cert, --client-key)",
    ),
    (
        "UnknownCA",
        "the server does not trust the authority that has signed the client's certificate (--client-cert)",
    ),
    (
        "tls handshake eof",
        "it may be that the server does not speak TLS on this port, or has no place for a connection",
    ),
];

/// The reason, and what to do, where that is known.
pub(crate) fn with_advice(reason: String) -> String {
    match KNOWN.iter().find(|(words, _)| reason.contains(words)) {
        Some((_, advice)) => format!("{reason}; {advice}"),
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_stays_as_it_is() {
        assert_eq!(with_advice("Connection refused".into()), "Connection refused");
        let advised = with_advice("received corrupt message of type InvalidContentType".into());
        assert!(advised.starts_with("received") && advised.contains("use grpc://"), "{advised}");
    }
}
