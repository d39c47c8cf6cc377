//! What a request offers to prove who sends it. Everything here is foreign text.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header::AUTHORIZATION};

/// The header in which pyarrow and the C++ client send the token that `authenticate` was answered with.
const LEGACY_TOKEN: &str = "auth-token-bin";

/// Go's drivers send Basic without padding, everybody else with it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What came with a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// Nothing.
    Nothing,
    /// A token from Handshake.
    Token(String),
    /// A user and a password.
    Password {
        /// The user's name.
        name: String,
        /// The password in clear.
        password: String,
    },
    /// An `authorization` that is neither.
    Unreadable,
}

impl Offered {
    /// Reads the headers of a request.
    pub(crate) fn in_headers(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(AUTHORIZATION) else {
            return headers.get(LEGACY_TOKEN).map_or(Self::Nothing, |value| {
                text(BASE64.decode(value)).map_or(Self::Unreadable, Self::Token)
            });
        };
        let scheme_and_rest = value.to_str().ok().and_then(|value| value.trim().split_once(' '));
        match scheme_and_rest {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                Self::Token(token.trim().to_owned())
            }
            Some((scheme, encoded)) if scheme.eq_ignore_ascii_case("basic") => {
                basic(encoded.trim()).unwrap_or(Self::Unreadable)
            }
            _ => Self::Unreadable,
        }
    }
}

fn basic(encoded: &str) -> Option<Offered> {
    let decoded = text(BASE64.decode(encoded))?;
    let (name, password) = decoded.split_once(':')?;
    Some(Offered::Password { name: name.to_owned(), password: password.to_owned() })
}

fn text(decoded: Result<Vec<u8>, base64::DecodeError>) -> Option<String> {
    String::from_utf8(decoded.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn offered(name: &'static str, value: &str) -> Offered {
        Offered::in_headers(&HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            value.parse().unwrap(),
        )]))
    }

    fn password(name: &str, password: &str) -> Offered {
        Offered::Password { name: name.into(), password: password.into() }
    }

    #[test]
    fn basic_is_read_with_and_without_padding() {
        for value in ["Basic YW5hOnM=", "Basic YW5hOnM", "basic  YW5hOnM= "] {
            assert_eq!(offered("authorization", value), password("ana", "s"), "{value}");
        }
        let encoded = BASE64_STANDARD.encode("ana:a:b");
        assert_eq!(offered("authorization", &format!("Basic {encoded}")), password("ana", "a:b"));
    }

    #[test]
    fn tokens_are_read_from_both_headers() {
        assert_eq!(offered("authorization", "Bearer abc"), Offered::Token("abc".into()));
        assert_eq!(offered("auth-token-bin", "YWJj"), Offered::Token("abc".into()));
        assert_eq!(Offered::in_headers(&HeaderMap::new()), Offered::Nothing);
    }

    #[test]
    fn what_is_neither_is_unreadable() {
        for value in ["", "Basic", "Basic !!", "Basic YW5h", "Basic /w==", "Digest x", "Bearer"] {
            assert_eq!(offered("authorization", value), Offered::Unreadable, "{value:?}");
        }
        assert_eq!(offered("auth-token-bin", "!"), Offered::Unreadable);
    }
}
