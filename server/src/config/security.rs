//! Who may come in, and whether what is said is encrypted.

use std::{collections::HashSet, fmt, path::Path, path::PathBuf, time::Duration};

use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};

use super::{ConfigError, invalid};
pub use crate::session::{PasswordError, PasswordHash};

/// Users, tokens and encryption. The default is none of them.
#[derive(Debug, Clone)]
pub struct Security {
    /// Who may log in. Nobody here and no client certificates means that authentication is off.
    pub users: Vec<User>,
    /// How long a token is good without use.
    pub token_idle: Duration,
    /// Encryption, if any.
    pub tls: Option<Tls>,
    /// Names of secrets of which a file holds a part that is secret, while statements may read every file.
    pub readable_secrets: Vec<String>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            token_idle: Duration::from_secs(3600),
            tls: None,
            readable_secrets: Vec::new(),
        }
    }
}

/// Somebody who may log in.
#[derive(Debug, Clone)]
pub struct User {
    /// The name; no two are equal.
    pub name: String,
    /// What the password is checked against.
    pub password: PasswordHash,
}

/// What TLS needs, in PEM, checked.
#[derive(Clone)]
pub struct Tls {
    /// The server's certificate and those between it and its authority.
    pub certificate: Vec<u8>,
    /// The private key of the certificate.
    pub key: Vec<u8>,
    /// Who signs the certificates of clients; when given, a client must have one.
    pub client_ca: Option<Vec<u8>>,
}

// Written by hand, so that the key cannot reach a log.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("client_ca", &self.client_ca.is_some()).finish_non_exhaustive()
    }
}

/// A user as the file has it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserEntry {
    name: String,
    password_hash: String,
}

// Written by hand, so that the hash cannot reach a log.
impl fmt::Debug for UserEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserEntry").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Checks the users.
pub(super) fn users(entries: Vec<UserEntry>) -> Result<Vec<User>, ConfigError> {
    let mut names = HashSet::new();
    entries.into_iter().map(|entry| user(entry, &mut names)).collect()
}

fn user(entry: UserEntry, names: &mut HashSet<String>) -> Result<User, ConfigError> {
    let UserEntry { name, password_hash } = entry;
    if name.is_empty() {
        return Err(invalid("user.name", "is empty"));
    }
    // HTTP's Basic scheme ends the name at the first colon.
    if name.contains(':') || name.chars().any(char::is_control) {
        return Err(invalid("user.name", &format!("{name:?} has a colon or a control character")));
    }
    if !names.insert(name.clone()) {
        return Err(invalid("user.name", &format!("{name:?} is there twice")));
    }
    let password = PasswordHash::parse(&password_hash)
        .map_err(|error| invalid("user.password_hash", &format!("of the user {name:?} {error}")))?;
    Ok(User { name, password })
}

/// The files of TLS as they were given.
#[derive(Debug)]
pub(super) struct TlsFiles {
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads and checks them; `None` when there are none.
    pub(super) fn read(&self) -> Result<Option<Tls>, ConfigError> {
        let (certificate, key) = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => (read("tls_cert", certificate)?, read("tls_key", key)?),
            (Some(_), None) => return Err(invalid("tls_key", "is needed together with tls_cert")),
            (None, Some(_)) => return Err(invalid("tls_cert", "is needed together with tls_key")),
            (None, None) if self.client_ca.is_some() => {
                return Err(invalid("tls_client_ca", "needs tls_cert and tls_key"));
            }
            (None, None) => return Ok(None),
        };
        check_pair(&certificate, &key)?;
        let client_ca = self.client_ca.as_deref().map(|file| read("tls_client_ca", file)).transpose()?;
        client_ca.as_deref().map(check_authority).transpose()?;
        Ok(Some(Tls { certificate, key, client_ca }))
    }
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(file).map_err(|error| invalid(option, &format!("{}: {error}", file.display())))
}

/// Whether the key is that of the first certificate.
fn check_pair(certificate: &[u8], key: &[u8]) -> Result<(), ConfigError> {
    let certificates = certificates("tls_cert", certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| invalid("tls_key", "has no private key in PEM (PKCS#8, PKCS#1 or SEC1)"))?;
    let key = ring::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|error| invalid("tls_key", &format!("has a private key that cannot be used: {error}")))?;
    match CertifiedKey::new(certificates, key).keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(invalid("tls_key", "is not the key of the certificate in tls_cert"))
        }
        Err(error) => Err(invalid("tls_cert", &format!("has a certificate that cannot be used: {error}"))),
    }
}

fn check_authority(pem: &[u8]) -> Result<(), ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_client_ca", pem)? {
        roots.add(certificate).map_err(|error| {
            invalid("tls_client_ca", &format!("has a certificate that cannot be used: {error}"))
        })?;
    }
    Ok(())
}

fn certificates(option: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(invalid(option, "has no certificate in PEM")),
    }
}
