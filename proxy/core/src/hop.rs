//! What of a message belongs to one hop and ends here (RFC 9110, section 7.6).
//!
//! Works on fields only: framing is the gate's towards the worker and hyper's towards the origin,
//! so `Content-Length`, `Transfer-Encoding` and `Host` are never nominated away, and the `Host`
//! that goes out is always the permitted one.

use egret_policy::{Authority, Grant, Scheme};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{
        ALT_SVC, CONNECTION, CONTENT_LENGTH, HOST, MAX_FORWARDS, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE, VIA,
    },
    request,
};

/// How egret names itself in `Via`, and what it takes for a loop.
const PSEUDONYM: &str = "egret";
const VIA_EGRET: HeaderValue = HeaderValue::from_static("1.1 egret");

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const CONNECTION_UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Fields by which some frameworks let a request claim another method or path than its own.
const OVERRIDES: [&str; 5] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Whether a field is an override; many servers read an underscore as a hyphen.
fn overrides(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    OVERRIDES.contains(&name.as_str())
}

/// Whether a request has been through this proxy, or one that calls itself the same.
pub(crate) fn has_looped(headers: &HeaderMap) -> bool {
    let tokens =
        headers.get_all(VIA).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    tokens.into_iter().any(|entry| {
        let mut words =
            entry.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let (_protocol, by) = (words.next(), words.next());
        by.is_some_and(|by| by.eq_ignore_ascii_case(PSEUDONYM.as_bytes()))
    })
}

/// Whether a request asks to go on as WebSocket (RFC 6455, section 4.1), the one protocol that is
/// let through. Every other `Upgrade` ends here: what it opens is not looked into.
pub(crate) fn asks_for_websocket(request: &request::Parts) -> bool {
    let headers = &request.headers;
    request.method == Method::GET
        && request.version == Version::HTTP_11
        && !headers.contains_key(TRANSFER_ENCODING)
        && headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0")
        && names_websocket(headers)
}

/// Whether an answer of 101 goes on as WebSocket.
pub(crate) fn names_websocket(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(UPGRADE).iter();
    let only = named.next().filter(|_| named.next().is_none());
    only.is_some_and(|name| name.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket"))
        && nominated(headers).contains(&UPGRADE)
}

/// Asks, or answers, for the protocol to go on as WebSocket. To be called after the fields were
/// made fit to be sent.
pub(crate) fn go_on_as_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, CONNECTION_UPGRADE);
    headers.insert(UPGRADE, WEBSOCKET);
}

/// How much further a request may go (RFC 9110, section 7.6.2).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Onward,
    /// We are the last to have it.
    Here,
    /// The field cannot be read.
    Malformed,
}

/// Reads `Max-Forwards`, which only OPTIONS heeds here: TRACE is never served.
pub(crate) fn reach(method: &str, headers: &HeaderMap) -> Reach {
    let mut values = headers.get_all(MAX_FORWARDS).iter();
    let Some(value) = values.next().filter(|_| method == "OPTIONS") else { return Reach::Onward };
    let digits = value.as_bytes();
    let readable = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    if !readable || values.next().is_some() {
        Reach::Malformed
    } else if digits.iter().all(|digit| *digit == b'0') {
        Reach::Here
    } else {
        Reach::Onward
    }
}

/// Makes the fields of a request fit to be sent to the origin.
pub(crate) fn towards_origin(
    headers: &mut HeaderMap,
    scheme: Scheme,
    authority: &Authority,
    grant: &Grant,
) {
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    end_here(headers);
    if chunked {
        // hyper frames the body anew, but believes that GET and HEAD have none unless it is told.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    for name in [TRAILER, TRACESTATE, BAGGAGE] {
        headers.remove(name);
    }
    if grant.strips_method_override() {
        let claims: Vec<_> = headers.keys().filter(|name| overrides(name)).cloned().collect();
        for name in claims {
            headers.remove(name);
        }
    }
    let left = headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    if let Some(left) = left {
        headers.insert(MAX_FORWARDS, left.saturating_sub(1).into());
    }
    let host = if Some(authority.port()) == scheme.default_port() {
        authority.host().to_string()
    } else {
        authority.to_string()
    };
    let host = HeaderValue::from_str(&host).expect("a canonical authority is visible ASCII");
    headers.insert(HOST, host);
    headers.append(VIA, VIA_EGRET);
}

/// Makes the fields of an answer fit to be sent to the worker.
pub(crate) fn towards_worker(headers: &mut HeaderMap) {
    // hyper sends the trailers that are announced, to a worker that takes them, and no others.
    let trailers = headers.contains_key(TRANSFER_ENCODING);
    end_here(headers);
    if !trailers {
        headers.remove(TRAILER);
    }
    headers.remove(ALT_SVC);
    headers.append(VIA, VIA_EGRET);
}

/// Makes the trailers of an answer fit to be sent to the worker.
pub(crate) fn trailers_towards_worker(trailers: &mut HeaderMap) {
    end_here(trailers);
    trailers.remove(ALT_SVC);
}

fn end_here(headers: &mut HeaderMap) {
    for name in nominated(headers) {
        headers.remove(name);
    }
    for name in [CONNECTION, KEEP_ALIVE, TE, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    let proxys: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with("proxy-")).cloned().collect();
    for name in proxys {
        headers.remove(name);
    }
}

/// The fields that `Connection` names, without those that say where a message goes and ends.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name))
        .collect()
}

/// Whether an answer's framing could be read in two ways (RFC 9112, section 6.3).
pub(crate) fn is_ambiguous(headers: &HeaderMap) -> bool {
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    let chunked =
        |value: &&HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    let listed = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .any(|length| !length.as_bytes().trim_ascii().iter().all(u8::is_ascii_digit));
    match codings.as_slice() {
        [] => lengths > 1 || listed,
        [one] => !chunked(one) || lengths > 0,
        _ => true,
    }
}

/// Whether the connection that an answer comes over is at the beginning of a next one when its body
/// has ended, with nothing to be taken on trust. To be asked before the fields are made fit.
pub(crate) fn frames_itself<B>(method: &str, response: &Response<B>) -> bool {
    let (headers, status) = (response.headers(), response.status());
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let length = headers.get(CONTENT_LENGTH);
    let bodiless =
        method == "HEAD" || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let ends = if bodiless {
        // A length without a body invites an origin to send one after all.
        !chunked && length.is_none_or(|length| length == "0")
    } else {
        chunked || length.is_some()
    };
    ends && response.version() == Version::HTTP_11 && !nominated(headers).contains(&CLOSE)
}

const CLOSE: HeaderName = HeaderName::from_static("close");

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn what_connection_names_ends_here_but_never_the_framing() {
        let mut map = headers(&[
            ("connection", "close, X-Audit-Id, content-length"),
            ("connection", "keep-alive"),
            ("x-audit-id", "7"),
            ("content-length", "5"),
            ("keep-alive", "timeout=5"),
            ("x-kept", "yes"),
        ]);
        towards_worker(&mut map);
        assert_eq!(
            map,
            headers(&[("content-length", "5"), ("x-kept", "yes"), ("via", "1.1 egret")])
        );
    }

    #[test]
    fn proxy_fields_and_alternative_services_never_pass() {
        let mut map = headers(&[
            ("proxy-authenticate", "Basic"),
            ("proxy-status", "other"),
            ("proxy-connection", "keep-alive"),
            ("alt-svc", "h3=\":443\""),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
        ]);
        towards_worker(&mut map);
        assert_eq!(map, headers(&[("via", "1.1 egret")]));
    }

    #[test]
    fn only_our_own_name_in_via_is_a_loop() {
        assert!(has_looped(&headers(&[("via", "1.0 fred, 1.1 egret")])));
        assert!(has_looped(&headers(&[("via", "1.1 fred"), ("via", "HTTP/1.1 EGRET (x)")])));
        assert!(!has_looped(&headers(&[("via", "1.1 egrets, 1.1 p.example.net")])));
        assert!(!has_looped(&headers(&[])));
    }

    #[test]
    fn answers_that_can_be_read_in_two_ways_are_told_apart() {
        assert!(!is_ambiguous(&headers(&[("content-length", "5")])));
        assert!(!is_ambiguous(&headers(&[("transfer-encoding", "Chunked")])));
        assert!(!is_ambiguous(&headers(&[])));
        assert!(is_ambiguous(&headers(&[
            ("transfer-encoding", "chunked"),
            ("content-length", "5")
        ])));
        assert!(is_ambiguous(&headers(&[("transfer-encoding", "gzip, chunked")])));
        assert!(is_ambiguous(&headers(&[("content-length", "5"), ("content-length", "6")])));
        assert!(is_ambiguous(&headers(&[
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked")
        ])));
    }
}
