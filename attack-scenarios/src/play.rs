//! Drivers: one function for each kind of case, which does what the case says and notes what the
//! client saw. What the other sides saw is collected by the cell.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    client::{Channel, PATIENCE, Patience, Segment, Tunnel, is_timeout},
    hello::pieces,
    http1::{self, Message},
};

use crate::{
    case::{Case, ChannelName, Input, Response, TlsInput},
    cell::{Cell, has_event},
    observed::{Observed, TunnelEnd},
};

mod config;

/// Stands in raw cases for the name that the proxy writes in `Via`.
pub(crate) const VIA_PLACEHOLDER: &[u8] = b"PROXY_VIA_NAME";

/// Plays a case; an error is a fault of the surroundings.
pub(crate) fn play(
    cell: &Cell<'_>,
    case: &Case,
    channel: ChannelName,
    seen: &mut Observed<'_>,
) -> io::Result<()> {
    match &case.input {
        Input::Connect { authority } => connect(cell, authority, seen),
        Input::Absolute { method, url, host } => {
            let head = format!("{method} {url} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            exchange(&mut cell.client()?.connect()?, &[Segment::now(head.as_bytes())], seen);
            Ok(())
        }
        Input::Raw { segments, .. } => raw(cell, segments, channel, seen),
        Input::Tls(input) => tls(cell, input, seen),
        Input::Dns { requests, .. } => names(cell, requests, seen),
        Input::Response(response) => answered(cell, response, channel, seen),
        Input::Load(_) => Err(io::Error::other("load cases have a proxy of their own")),
        Input::Config(configured) => config::play(cell, configured, seen),
        Input::Undriven(why) => Err(io::Error::other(format!("played in spite of: {why}"))),
    }
}

fn connect(cell: &Cell<'_>, authority: &str, seen: &mut Observed<'_>) -> io::Result<()> {
    let tunnel = cell.client()?.tunnel_with(authority, "", patience(seen.case))?;
    note_tunnel(&tunnel, seen);
    seen.replies = tunnel.reply.iter().cloned().collect();
    if tunnel.status() / 100 == 2 {
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        let port = port.parse().unwrap_or(443);
        through(cell, tunnel, host, port, Sni::Same, None, seen);
        seen.replies = answer_in(cell, &seen.replies);
    }
    Ok(())
}

fn raw(
    cell: &Cell<'_>,
    segments: &[Segment],
    channel: ChannelName,
    seen: &mut Observed<'_>,
) -> io::Result<()> {
    let mut segments = segments.to_vec();
    for segment in &mut segments {
        segment.bytes = replaced(&segment.bytes, VIA_PLACEHOLDER, cell.via().as_bytes());
    }
    let mut channel = match channel {
        ChannelName::Plain => cell.client()?.connect()?,
        ChannelName::Mitm => {
            if let Some(first) = segments.first_mut() {
                first.bytes = replaced(&first.bytes, b"http://api.example.com/", b"/");
            }
            let Some(channel) = intercepted(cell, seen)? else { return Ok(()) };
            channel
        }
    };
    let descriptors = cell.proxy()?.descriptors();
    exchange(&mut channel, &segments, seen);
    if seen.case.must.iter().any(|word| word.starts_with("fd_released_within")) {
        seen.released = released(cell, descriptors)?;
    }
    let only = if let [only] = &segments[..] { only.bytes.as_slice() } else { &[] };
    let tunnelled = only.starts_with(b"CONNECT ")
        && http1::head_end(only, 0).is_some_and(|end| end < only.len());
    let granted = seen.replies.first().is_some_and(|reply| reply.status() == 200);
    if tunnelled && granted && seen.closed && !origin_has_bytes(cell) {
        seen.tunnel = TunnelEnd::Cut;
    }
    Ok(())
}

fn answered(
    cell: &Cell<'_>,
    response: &Response,
    channel: ChannelName,
    seen: &mut Observed<'_>,
) -> io::Result<()> {
    let body = if response.with_body { vec![b'x'; 1 << 20] } else { Vec::new() };
    let path = response.url.splitn(4, '/').nth(3).unwrap_or_default();
    let target = match channel {
        ChannelName::Plain => response.url.clone(),
        ChannelName::Mitm => format!("/{path}"),
    };
    let length = if response.with_body {
        format!("Content-Length: {}\r\n", body.len())
    } else {
        String::new()
    };
    let head = |target: &str| {
        format!("{} {target} HTTP/1.1\r\nHost: api.example.com\r\n{length}\r\n", response.method)
            .into_bytes()
    };
    let open = |seen: &mut Observed<'_>| match channel {
        ChannelName::Plain => cell.client()?.connect().map(Some),
        ChannelName::Mitm => intercepted(cell, seen),
    };
    if let Some(mut channel) = open(seen)? {
        let request = [head(&target), body].concat();
        exchange(&mut channel, &[Segment::now(&request)], seen);
    }
    seen.forgeries = cell.forgeries();
    // A second request shows whether the poisoned connection is used again.
    if !response.with_body && seen.case.must.iter().any(|w| w == "upstream_conn_not_reused") {
        let mut second = Observed::new(seen.case, seen.policy);
        if let Some(mut channel) = open(&mut second)? {
            let target =
                target.strip_suffix("/a").map_or(target.clone(), |t| format!("{t}/second"));
            exchange(&mut channel, &[Segment::now(&head(&target))], &mut second);
        }
    }
    Ok(())
}

fn tls(cell: &Cell<'_>, input: &TlsInput, seen: &mut Observed<'_>) -> io::Result<()> {
    let host = input.connect.rsplit_once(':').map_or(input.connect.as_str(), |(host, _)| host);
    let mut tunnel = cell.client()?.tunnel_with(&input.connect, "", patience(seen.case))?;
    note_tunnel(&tunnel, seen);
    seen.replies = tunnel.reply.iter().cloned().collect();
    if tunnel.status() != 200 {
        return Ok(());
    }
    if let Some(inner) = &input.inner {
        let sni = input.sni.as_deref().map_or(Sni::None, Sni::Name);
        seen.sent = inner.as_bytes().to_vec();
        through(cell, tunnel, host, 443, sni, Some(inner.as_bytes()), seen);
        seen.replies = seen.replies.split_off(1);
        return Ok(());
    }
    if let Some(silence) = input.client_silent_ms {
        let wait = Duration::from_millis(silence.min(12_000));
        seen.tunnel = match tunnel.channel.receive(wait) {
            Ok(bytes) if bytes.is_empty() => TunnelEnd::Cut,
            Ok(_) => TunnelEnd::Served,
            Err(error) if is_timeout(&error) => TunnelEnd::Idle,
            Err(_) => TunnelEnd::Cut,
        };
        return Ok(());
    }
    let payload = match (&input.raw_after_200, &input.raw_hex_after_200) {
        (Some(text), _) => Some(text.as_bytes().to_vec()),
        (None, Some(hex)) => egret_testkit::from_hex(hex),
        (None, None) => input.hello().map(|shape| shape.write()),
    };
    let payload = payload.ok_or_else(|| io::Error::other("not hexadecimal"))?;
    seen.payload.clone_from(&payload);
    for piece in pieces(&payload, &input.tcp_split) {
        tunnel.channel.send(piece);
        thread::sleep(Duration::from_millis(30));
    }
    let first = tunnel.channel.receive(Duration::from_secs(3)).unwrap_or_default();
    if first.starts_with(b"HTTP") {
        // Answered in cleartext: that status is the verdict.
        let mut heard = egret_testkit::client::Exchange {
            raw: first,
            ..egret_testkit::client::Exchange::default()
        };
        tunnel.channel.hear(&mut heard, &[b"GET".to_vec()], 1, Patience::UntilClosed);
        (seen.replies, seen.closed) = (heard.replies, heard.closed);
    } else {
        let served = first.first() == Some(&0x16);
        seen.tunnel = if served { TunnelEnd::Served } else { TunnelEnd::Cut };
    }
    Ok(())
}

fn names(cell: &Cell<'_>, requests: &[String], seen: &mut Observed<'_>) -> io::Result<()> {
    for (number, request) in requests.iter().enumerate() {
        if number + 1 == requests.len() {
            // `dialled` speaks of the last request.
            cell.note_packets(seen);
            seen.earlier = seen.dials.len();
        }
        if let Some(words) = request.strip_prefix("wait ") {
            let seconds = words.split('s').next().and_then(|digits| digits.parse().ok());
            thread::sleep(Duration::from_secs(seconds.unwrap_or(2)));
            if words.contains("drop") {
                cell.dns.set_silent(true);
            }
            continue;
        }
        if has_event(seen.case) {
            cell.dns.set_silent(true);
        }
        match spread(request) {
            Some(all) => {
                for one in all {
                    name(cell, &one, Depth::ReplyOnly, seen)?;
                }
            }
            None => {
                let depth = if number > 2 { Depth::ReplyOnly } else { Depth::Through };
                name(cell, request, depth, seen)?;
            }
        }
    }
    Ok(())
}

/// Whether a granted tunnel is also used.
#[derive(PartialEq, Eq)]
enum Depth {
    Through,
    ReplyOnly,
}

/// `x{1..20000}.example.org` as single requests, at most 300 of them.
fn spread(request: &str) -> Option<Vec<String>> {
    let (before, rest) = request.split_once('{')?;
    let (range, after) = rest.split_once('}')?;
    let (from, to) = range.split_once("..")?;
    let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
    Some((from..=to.min(300)).map(|number| format!("{before}{number}{after}")).collect())
}

fn name(cell: &Cell<'_>, request: &str, depth: Depth, seen: &mut Observed<'_>) -> io::Result<()> {
    let begin = Instant::now();
    let mut words = request.splitn(3, ' ');
    let (verb, url) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let extra = words.next().unwrap_or_default();
    let mut one = Observed::new(seen.case, seen.policy);
    let status = if verb == "CONNECT" {
        let tunnel = cell.client()?.tunnel_with(url, "", patience(seen.case))?;
        note_tunnel(&tunnel, &mut one);
        one.replies = tunnel.reply.iter().cloned().collect();
        if tunnel.status() == 200 && depth == Depth::Through {
            let (host, port) = url.rsplit_once(':').unwrap_or((url, "443"));
            let sni = extra.split_once("SNI ").map_or(Sni::Same, |(_, name)| Sni::Name(name));
            through(cell, tunnel, host, port.parse().unwrap_or(443), sni, None, &mut one);
        }
        if one.tunnel == TunnelEnd::Cut {
            0
        } else {
            answer_in(cell, &one.replies).first().map_or(0, Message::status)
        }
    } else {
        let authority = url.split('/').nth(2).unwrap_or_default();
        let host = extra.split_once("Host: ").map_or(authority, |(_, host)| host);
        let head = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        exchange(&mut cell.client()?.connect()?, &[Segment::now(head.as_bytes())], &mut one);
        one.replies.last().map_or(0, Message::status)
    };
    seen.results.push(status);
    seen.silent = one.silent;
    seen.closed = one.closed;
    // A flood of answers proves nothing more than its first ones.
    if seen.replies.len() < 20 {
        seen.replies.extend(one.replies);
    }
    seen.elapsed = begin.elapsed();
    Ok(())
}

fn exchange(channel: &mut Channel, segments: &[Segment], seen: &mut Observed<'_>) {
    let in_order = seen.case.must.iter().any(|word| word.starts_with("responses_in_order"));
    let heard = if in_order {
        channel.exchange_for(segments, 2, Patience::UntilClosed)
    } else {
        channel.exchange(segments, Patience::UntilClosed)
    };
    seen.hear(heard);
}

/// The server name that a client uses in its tunnel.
enum Sni<'a> {
    Same,
    None,
    Name(&'a str),
}

/// Uses a tunnel as an ordinary client would, so that a proxy that dials late has to; notes what
/// became of the tunnel and adds the replies that came in it.
fn through(
    cell: &Cell<'_>,
    tunnel: Tunnel,
    host: &str,
    port: u16,
    sni: Sni<'_>,
    inner: Option<&[u8]>,
    seen: &mut Observed<'_>,
) {
    let host = host.trim_end_matches('.');
    let plain = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let inner = inner.unwrap_or(&plain);
    let channel = if port == 80 {
        Ok(tunnel.channel)
    } else {
        let bare = host.trim_matches(['[', ']']);
        match sni {
            Sni::Same => tunnel.tls(Some(bare)),
            Sni::Name("") | Sni::None => tunnel.tls(None),
            Sni::Name(name) => tunnel.tls(Some(name)),
        }
    };
    let Ok(mut channel) = channel else {
        seen.tunnel = if origin_has_bytes(cell) { TunnelEnd::Served } else { TunnelEnd::Cut };
        return;
    };
    let several = egret_testkit::client::methods(inner).len() > 1;
    let patience = if several { Patience::Brief } else { Patience::None };
    let heard = channel.exchange(&[Segment::now(inner)], patience);
    seen.tunnel = if !heard.replies.is_empty() {
        TunnelEnd::Served
    } else if heard.closed {
        TunnelEnd::Cut
    } else {
        TunnelEnd::Idle
    };
    (seen.closed, seen.silent) = (heard.closed, heard.silent);
    seen.raw.extend(heard.raw);
    seen.replies.extend(heard.replies);
}

/// The reply that counts after a CONNECT: an intercepting proxy may say 200 and refuse inside.
fn answer_in(cell: &Cell<'_>, replies: &[Message]) -> Vec<Message> {
    match replies {
        [_, .., last] if last.status() >= 400 && !origin_has_bytes(cell) => vec![last.clone()],
        [first, ..] => vec![first.clone()],
        [] => Vec::new(),
    }
}

/// TLS inside a tunnel to `api.example.com`; `None` when the proxy refused, which is noted.
fn intercepted(cell: &Cell<'_>, seen: &mut Observed<'_>) -> io::Result<Option<Channel>> {
    let tunnel = cell.client()?.tunnel("api.example.com:443")?;
    let replies = tunnel.reply.iter().cloned().collect();
    if tunnel.status() == 200 {
        if let Ok(channel) = tunnel.tls(Some("api.example.com")) {
            return Ok(Some(channel));
        }
        seen.tunnel = TunnelEnd::Cut;
    }
    (seen.replies, seen.closed) = (replies, true);
    Ok(None)
}

fn note_tunnel(tunnel: &Tunnel, seen: &mut Observed<'_>) {
    seen.raw.extend(&tunnel.raw);
    seen.sent.extend(&tunnel.sent);
    (seen.closed, seen.silent) = (tunnel.closed, tunnel.silent);
}

/// Whether the proxy comes back to some number of descriptors while the client keeps its end open,
/// in the time for which it keeps what is idle and a little more.
fn released(cell: &Cell<'_>, descriptors: usize) -> io::Result<Option<bool>> {
    let Some(idle) = cell.idle_timeout() else { return Ok(None) };
    let deadline = Instant::now() + idle + Duration::from_secs(2);
    while cell.proxy()?.descriptors() > descriptors {
        if Instant::now() > deadline {
            return Ok(Some(false));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Some(true))
}

fn origin_has_bytes(cell: &Cell<'_>) -> bool {
    cell.origin.connections().iter().any(|connection| !connection.wire().is_empty())
}

/// How long an answer to CONNECT is waited for: what the case allows, and a little more.
fn patience(case: &Case) -> Duration {
    let bounds = case.must.iter().filter_map(|word| word.strip_prefix("answered_within_ms:"));
    let longest = bounds.filter_map(|digits| digits.parse().ok()).max().unwrap_or(0);
    PATIENCE.max(Duration::from_millis(longest + 500))
}

/// The bytes with the first occurrence of a part replaced.
fn replaced(bytes: &[u8], part: &[u8], by: &[u8]) -> Vec<u8> {
    match crate::observed::find(bytes, part) {
        Some(at) => [&bytes[..at], by, &bytes[at + part.len()..]].concat(),
        None => bytes.to_vec(),
    }
}
