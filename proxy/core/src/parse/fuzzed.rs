//! What must hold for every target that is accepted, for the fuzz target and for the bounded test.
//!
//! The HTTP library reads the same text on its own and must find the same host, port and path:
//! what is decided about is what would be sent.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use egret_policy::{Authority, Host, Scheme, Target};
use http::{Uri, uri::PathAndQuery};

/// Panics when an accepted target does not print back to itself, or the HTTP library reads
/// something else out of it.
pub fn accepted_targets_mean_one_thing(bytes: &[u8]) {
    // The gate passes no longer target, and the library takes no more than 64 KiB. It passes visible
    // ASCII only, too, but to that this parser is held itself.
    let Ok(text) = str::from_utf8(&bytes[..bytes.len().min(LONGEST)]) else { return };
    connect(text);
    absolute(text);
    origin(text);
    if let Ok(authority) = Authority::with_default(text, 80) {
        assert_eq!(Authority::connect(&authority.to_string()), Ok(authority));
    }
}

fn connect(text: &str) {
    let Ok(authority) = Authority::connect(text) else { return };
    let printed = authority.to_string();
    assert_eq!(Authority::connect(&printed), Ok(authority.clone()), "{printed}");
    same_authority(&authority, &uri(text));
    same_authority(&authority, &uri(&printed));
}

fn absolute(text: &str) {
    let Ok(target) = Target::absolute(text) else { return };
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    let printed = target.to_string();
    assert_eq!(Target::absolute(&printed), Ok(target.clone()), "{printed}");
    let uri = uri(text);
    assert_eq!(uri.scheme_str(), Some(target.scheme().as_str()), "{text}");
    same_authority(target.authority(), &uri);
    same_path(&target, &uri);
}

fn origin(text: &str) {
    let Ok(tunnel) = Authority::connect("api.example.com:80") else { return };
    let Ok(target) = Target::origin(Scheme::Http, &tunnel, text) else { return };
    assert_eq!((target.path_and_query(), target.authority()), (text, &tunnel));
    same_path(&target, &uri(text));
}

/// The library never refuses what this parser has passed.
fn uri(text: &str) -> Uri {
    match Uri::try_from(text) {
        Ok(uri) => uri,
        Err(error) => panic!("`{text}` was accepted, and the library says: {error}"),
    }
}

fn same_authority(authority: &Authority, uri: &Uri) {
    let host = uri.host().unwrap_or_default();
    match authority.host() {
        Host::Name(name) => {
            let plain = host.strip_suffix('.').unwrap_or(host);
            assert!(name.as_str().eq_ignore_ascii_case(plain), "{name} and {host}");
            assert!(plain.parse::<IpAddr>().is_err(), "{name} is an address");
        }
        Host::Address(address) => {
            let plain = host.trim_start_matches('[').trim_end_matches(']');
            assert_eq!(plain.parse(), Ok(*address), "{host}");
        }
    }
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    assert_eq!(uri.port_u16().unwrap_or(default), authority.port(), "{uri}");
}

/// What goes upstream is written by the library, from the text of the target.
fn same_path(target: &Target, uri: &Uri) {
    let path = target.path_and_query();
    assert_eq!(self::uri(path).to_string(), path);
    // An empty path is `/` (RFC 9110, section 4.2.3), which the library leaves unsaid.
    let read = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let same = read == path || path.strip_prefix('/') == Some(read);
    assert!(same, "`{path}` and the library's `{read}` of {uri}");
}

const LONGEST: usize = 8 << 10;
