//! The load: numbered requests, a part of each kind, and which of them the origins saw.

use std::collections::BTreeSet;

use egret_testkit::{
    client::get,
    hello::HelloShape,
    meter::Connections,
    origin::Origin,
    workers::{Ask, Pace},
};

/// What a handful of workers asks.
pub(crate) fn pace(rate: u32) -> Pace {
    Pace { workers: 16, rate, connections: Connections::Mixed }
}

/// The request of a number: half are requests that are allowed, a quarter tunnels, and a quarter is
/// denied.
pub(crate) fn mixed(number: u64) -> Ask {
    match number % 4 {
        0 | 1 => request("www.example.org", number),
        2 => tunnel(number),
        _ if number % 8 == 3 => request("evil.test", number),
        _ => Ask::Tunnel { connect: connect("evil.test"), hello: Vec::new() },
    }
}

/// Whether [`mixed`] asks for what is denied.
pub(crate) fn is_denied(number: u64) -> bool {
    number % 4 == 3
}

/// A request whose path tells its number.
pub(crate) fn request(host: &str, number: u64) -> Ask {
    Ask::Request(get(&format!("http://{host}/n{number}")).into_bytes())
}

/// A tunnel whose host tells its number, on port 443.
pub(crate) fn tunnel(number: u64) -> Ask {
    tunnel_to("example.org", number)
}

/// The same below another name.
pub(crate) fn tunnel_to(suffix: &str, number: u64) -> Ask {
    let host = format!("n{number}.{suffix}");
    Ask::Tunnel { connect: connect(&host), hello: HelloShape::named(&host).write() }
}

pub(crate) fn connect(host: &str) -> Vec<u8> {
    format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n").into_bytes()
}

/// The number that a path or a host tells.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = text.trim_start_matches('/').strip_prefix('n')?;
    digits.split('.').next()?.parse().ok()
}

/// The numbers of all requests of which an origin has seen a byte since its last reset.
pub(crate) fn seen(origin: &Origin) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    for connection in origin.connections() {
        let targets = connection
            .requests()
            .into_iter()
            .filter_map(|request| number(&String::from_utf8_lossy(request.target())));
        seen.extend(targets);
        seen.extend(connection.sni().and_then(|name| number(&name)));
    }
    seen
}
