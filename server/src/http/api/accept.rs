//! Which form the answer is to have.

use axum::http::{HeaderMap, StatusCode, Uri, header::ACCEPT};

use super::{address, problem::Problem};
use crate::{failure::Kind, http::format::Format};

/// Other names of what there is.
const ALIASES: [(&str, Format); 3] = [
    ("application/ndjson", Format::Ndjson),
    ("application/jsonl", Format::Ndjson),
    ("application/x-jsonlines", Format::Ndjson),
];

/// The form that `?format=` names, else the one that `Accept` likes best, else JSON.
pub(super) fn format(uri: &Uri, headers: &HeaderMap) -> Result<Format, Problem> {
    let mut asked = None;
    for pair in address::pairs(uri.query().unwrap_or_default()) {
        let (name, value) = pair?;
        if name == "format" && asked.replace(value).is_some() {
            return Err(address::twice(&name));
        }
    }
    if let Some(name) = asked {
        let named = Format::ALL.into_iter().find(|format| format.name() == name);
        return named.ok_or_else(|| not_acceptable(&name));
    }
    let accept: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accept = accept.join(",");
    if accept.trim().is_empty() {
        return Ok(Format::Json);
    }
    accepted(&accept).ok_or_else(|| not_acceptable(&accept))
}

/// The one with the highest weight; among equals, the first.
fn accepted(accept: &str) -> Option<Format> {
    let mut best: Option<(f32, Format)> = None;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.filter_map(|part| part.strip_prefix("q=")?.parse().ok()).next().unwrap_or(1.0);
        let Some(format) = by_media_type(&media_type) else { continue };
        if weight > best.map_or(0.0, |(weight, _)| weight) {
            best = Some((weight, format));
        }
    }
    best.map(|(_, format)| format)
}

fn by_media_type(media_type: &str) -> Option<Format> {
    match media_type {
        "*/*" | "application/*" => return Some(Format::Json),
        "text/*" => return Some(Format::Csv),
        _ => {}
    }
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == media_type).map(|(_, format)| *format);
    Format::ALL.into_iter().find(|format| format.media_type() == media_type).or_else(alias)
}

fn not_acceptable(asked: &str) -> Problem {
    let there: Vec<_> =
        Format::ALL.iter().map(|format| format!("{} ({})", format.media_type(), format.name())).collect();
    let text = format!("there is no answer as {asked}; there is {}", there.join(", "));
    Problem::new(StatusCode::NOT_ACCEPTABLE, Kind::BadRequest, "NOT_ACCEPTABLE", &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &'static str, accept: Option<&'static str>) -> Option<Format> {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(ACCEPT, accept.parse().unwrap());
        }
        format(&Uri::from_static(uri), &headers).ok()
    }

    #[test]
    fn the_heaviest_that_there_is_wins() {
        for (accept, format) in [
            ("*/*", Some(Format::Json)),
            ("", Some(Format::Json)),
            ("text/html, application/xhtml+xml;q=0.9, */*;q=0.1", Some(Format::Json)),
            ("text/csv;q=0.5, application/x-ndjson", Some(Format::Ndjson)),
            ("Application/VND.apache.Arrow.stream", Some(Format::Arrow)),
            ("application/json;q=0, text/csv;q=0.1", Some(Format::Csv)),
            ("application/json;q=0", None),
            ("image/png", None),
        ] {
            assert_eq!(asked("/v1/sql", Some(accept)), format, "{accept}");
        }
    }

    #[test]
    fn the_address_goes_before_the_header() {
        assert_eq!(asked("/v1/sql", None), Some(Format::Json));
        assert_eq!(asked("/v1/sql?a=b&format=parquet", Some("text/csv")), Some(Format::Parquet));
        assert_eq!(asked("/v1/sql?form%61t=arr%6fw", Some("text/csv")), Some(Format::Arrow));
        assert_eq!(asked("/v1/sql?format=xml", Some("text/csv")), None);
        assert_eq!(asked("/v1/sql?format=csv&format=csv", None), None, "which one was meant?");
    }
}
