//! Encryption, with the certificate that Flight has too.

use std::{io, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// Takes connections with TLS. Nobody has to show a certificate, because who scrapes metrics or asks for health has
/// none; one that is shown must be good, and the API asks for it.
///
/// # Errors
/// What is wrong with the certificates; the configuration has checked them before.
pub(super) fn acceptor(tls: &Tls) -> io::Result<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let certificates = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let config = match &tls.client_ca {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(authority)? {
                roots.add(certificate).map_err(io::Error::other)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(io::Error::other)?;
            config.with_client_cert_verifier(verifier)
        }
        None => config.with_no_client_auth(),
    };
    let mut config = config.with_single_cert(certificates, key).map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(io::Error::other)
}
