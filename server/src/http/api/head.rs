//! What the head of a request says of the way it came, and this server does not do. Whoever overlooked it would take the
//! request for another one than its sender, or than a proxy between them.

use axum::http::{
    HeaderMap, StatusCode,
    header::{CONTENT_ENCODING, HOST, HeaderName, TRANSFER_ENCODING},
};

use super::problem::Problem;
use crate::failure::Kind;

/// The slug of a body that is packed.
const PACKED: &str = "UNSUPPORTED_ENCODING";

/// Refuses several hosts, and a body that is packed.
///
/// # Errors
/// `BAD_HOST`, `UNSUPPORTED_ENCODING`.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get_all(HOST).iter().count() > 1 {
        return Err(Problem::bad_request("BAD_HOST", "the request has more than one Host; send one"));
    }
    if !all_are(headers, &TRANSFER_ENCODING, "chunked") {
        let text = "the body is transferred in another way than chunked; send it as it is";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, Kind::Unsupported, PACKED, text));
    }
    if !all_are(headers, &CONTENT_ENCODING, "identity") {
        let text = "the body has a Content-Encoding, and this server unpacks none; send it as it is";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Kind::BadRequest, PACKED, text));
    }
    Ok(())
}

/// True where a header is not there, or says nothing else.
fn all_are(headers: &HeaderMap, name: &HeaderName, expected: &str) -> bool {
    let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?"));
    let mut codings =
        values.flat_map(|value| value.split(',')).map(str::trim).filter(|coding| !coding.is_empty());
    codings.all(|coding| coding.eq_ignore_ascii_case(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_in_a_way_that_is_not_understood_is_refused() {
        for (headers, slug) in [
            (&[("host", "localhost")][..], None),
            (&[("transfer-encoding", "Chunked"), ("content-encoding", "identity")], None),
            (&[("content-encoding", "")], None),
            (&[("host", "localhost"), ("host", "localhost")], Some("BAD_HOST")),
            (&[("transfer-encoding", "gzip, chunked")], Some(PACKED)),
            (&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")], Some(PACKED)),
            (&[("content-encoding", "gzip")], Some(PACKED)),
            (&[("content-encoding", "identity, br")], Some(PACKED)),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            assert_eq!(check(&map).err().map(|problem| problem.slug()), slug, "{headers:?}");
        }
    }
}
