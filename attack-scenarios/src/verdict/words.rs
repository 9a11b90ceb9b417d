//! The words of `must` and `also_ok`.
//!
//! A word that is not here is not observed, and says so by `None`.

use std::net::{IpAddr, SocketAddr};

use egret_testkit::{dns::Kind, http1::Message};

use super::{address, parse_address};
use crate::{
    case::Input,
    observed::{Observed, Outcome, PREVIOUS_POLICY, Seen, TunnelEnd, contains, find},
};

mod own;

/// Whether a condition holds; `None` when it cannot be observed.
pub(super) fn holds(word: &str, seen: &Observed<'_>) -> Option<bool> {
    let (name, operator, rest) = split(word);
    if let Some(held) = network(name, rest, seen) {
        return Some(held);
    }
    if let Some(held) = own::holds(name, rest, seen) {
        return held;
    }
    if let Some(held) = upstream(name, operator, rest, seen) {
        return held;
    }
    if let Some(list) = word.strip_prefix("status in ") {
        return status_in(list, seen);
    }
    client(name, rest, seen)
}

/// `status in 401,403 or tls_alert`: the first status is one of these, or there was none.
fn status_in(list: &str, seen: &Observed<'_>) -> Option<bool> {
    let (list, alternative) =
        list.split_once(" or ").map_or((list, None), |(list, word)| (list, Some(word)));
    let listed: Vec<u16> =
        list.split(',').map(|one| one.trim().parse().ok()).collect::<Option<_>>()?;
    let status = seen.outcome().status();
    Some(match alternative {
        None => listed.contains(&status),
        Some("tls_alert" | "reset" | "closed") => status == 0 || listed.contains(&status),
        Some(_) => return None,
    })
}

/// Predicate, operator and argument.
pub(crate) fn split(word: &str) -> (&str, &str, &str) {
    let end = word.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
    let Some(end) = end else { return (word, "", "") };
    let (name, tail) = word.split_at(end);
    for operator in ["==", "<=", ">=", "!=", ":"] {
        if let Some(rest) = tail.strip_prefix(operator) {
            return (name, operator, rest);
        }
    }
    (word, "", "")
}

/// Dials, datagrams, name look-ups and the process.
fn network(name: &str, rest: &str, seen: &Observed<'_>) -> Option<bool> {
    let dials = &seen.dials;
    let asked = |name: &str| {
        let below = format!(".{name}");
        seen.queries.iter().any(|query| query.name == name || query.name.ends_with(&below))
    };
    Some(match name {
        "no_upstream_connect" => dials.is_empty() || seen.keeps_previous_policy(),
        "canary_untouched" => {
            let canary = canary(rest, seen)?;
            dials.iter().all(|dial| dial.ip() != canary)
        }
        "no_private_connect" => dials.iter().all(|dial| address::is_public(dial.ip())),
        "no_dns_query" if rest.is_empty() => seen.queries.is_empty(),
        "no_dns_query" => !asked(rest),
        "no_dns_query_to" => {
            let server = parse_address(rest)?;
            seen.datagrams.iter().chain(dials).all(|to| to.ip() != server)
        }
        "no_multicast_dns" => seen.datagrams.iter().all(|to| to.port() != 5353),
        "dialled" => {
            let wanted: SocketAddr = rest.parse().ok()?;
            let last = &dials[seen.earlier.min(dials.len())..];
            let none = last.is_empty() && (!seen.outcome().is_allow() || seen.earlier > 0);
            none || !last.is_empty() && last.iter().all(|dial| *dial == wanted)
        }
        "each_allow_dialled" => {
            let wanted = parse_address(rest)?;
            dials.iter().all(|dial| dial.ip() == wanted)
        }
        "connect_attempts" => dials.len() <= rest.parse().ok()?,
        "policy_host" => seen.queries.iter().all(|query| query.name == rest),
        "dns_queries_per_decision" => [Kind::A, Kind::Aaaa].iter().all(|kind| {
            let same = |query: &&egret_testkit::dns::Query| {
                query.name == "api.example.com" && query.kind == *kind
            };
            seen.queries.iter().filter(same).count() <= 1
        }),
        "dns_txid_entropy_ok" => distinct(seen.queries.iter().map(|query| query.id), 9),
        "dns_src_port_entropy_ok" => distinct(seen.queries.iter().map(|query| query.port), 5),
        "process_alive" => seen.alive,
        "bounded_memory" => seen.growth < 64 << 20,
        "cpu_bounded" => seen.cpu.as_secs() < 5,
        "answered_within_ms" => {
            let bound: u128 = rest.parse().ok()?;
            !seen.silent && seen.elapsed.as_millis() <= bound
        }
        "next_request_ok_after_resolver_returns" => seen.recovered?,
        _ => return None,
    })
}

/// What the origins saw. The outer `None` is an unknown word, the inner one an unobservable one.
fn upstream(name: &str, operator: &str, rest: &str, seen: &Observed<'_>) -> Option<Option<bool>> {
    let requests: Vec<&Message> = seen.requests().collect();
    let connections = &seen.connections;
    let plain = || connections.iter().flat_map(Seen::outside_bodies).collect::<Vec<u8>>();
    let text = rest.as_bytes();
    let allowed = seen.outcome().is_allow();
    Some(Some(match name {
        "upstream_requests" => match (rest.parse::<usize>(), operator) {
            (Ok(count), "==") if allowed => requests.len() == count,
            (Ok(count), _) => requests.len() <= count,
            (Err(_), _) => return Some(None),
        },
        "no_upstream_request" | "no_http_bytes_to_upstream" => {
            requests.is_empty() && !connections.iter().any(|c| c.tls && !c.plain.is_empty())
        }
        "no_bytes_to_upstream" => connections.iter().all(|c| c.wire.is_empty()),
        "no_cleartext_upstream" => seen.dials.iter().all(|dial| dial.port() != 80),
        "not_forwarded_upstream" => requests.is_empty(),
        "second_not_forwarded_to" => requests.len() <= 1,
        "upstream_never_sees" => !contains(&plain(), text),
        "not_parsed_as_request" => requests.iter().all(|r| !contains(r.target(), text)),
        "upstream_receives_exactly_once" => {
            connections.iter().map(|c| occurrences(&c.wire, text)).sum::<usize>() == 1
        }
        "no_raw_bytes_forwarded" => {
            let plain = plain();
            odd_lines(&seen.sent).iter().all(|line| !contains(&plain, line))
        }
        "upstream_chunk_bytes_are_re-encoded" => {
            requests.iter().all(|r| !r.odd_chunks && !r.chunk_extension)
        }
        "upstream_extension_bytes" => requests.iter().all(|r| !r.chunk_extension),
        "upstream_request_incomplete_or_absent" => requests.iter().all(|r| !r.complete),
        "upstream_body" => !allowed || requests.iter().any(|r| r.body == text),
        "upstream_path" | "upstream_target" => requests.iter().any(|r| r.target() == text),
        "upstream_request_form" => requests.iter().all(|r| r.target().starts_with(b"/")),
        "upstream_header" => return Some(header(rest, &requests)),
        "upstream_header_count" => {
            let Some((field, count)) = rest.split_once("==") else { return Some(None) };
            let Ok(count) = count.parse::<usize>() else { return Some(None) };
            requests.iter().all(|r| r.values(field).len() == count)
        }
        "upstream_header_absent" => requests.iter().all(|r| r.values(rest).is_empty()),
        "upstream_trailer_absent" => {
            let name = rest.to_ascii_lowercase();
            let named = |r: &&Message| r.trailers.iter().any(|(key, _)| *key == name.as_bytes());
            !requests.iter().any(named)
        }
        "trailer_not_merged_into_headers" => trailer_kept_apart(seen, &requests),
        "no_crlf_injection" | "upstream_framing_valid" => {
            requests.iter().all(|r| !r.odd_framing && !r.odd_chunks)
        }
        "upstream_conn_not_reused" | "upstream_conn_not_reused_with_unread_body" => {
            connections.iter().all(|c| c.requests.len() <= 1)
        }
        "no_client_bytes_to_upstream_before_101" => {
            let smuggled = connections.iter().any(|c| contains(&c.plain, b"/__smuggled"));
            !smuggled || requests.len() == 2
        }
        "upstream_sni" => {
            let names: Vec<String> = connections.iter().filter_map(Seen::sni).collect();
            if names.is_empty() {
                return Some(None);
            }
            names.iter().all(|name| name == rest)
        }
        "sni_has_no_trailing_dot" => {
            connections.iter().filter_map(Seen::sni).all(|name| !name.ends_with('.'))
        }
        "upstream_host_header" => requests.iter().all(|r| r.values("host") == [text]),
        _ => return None,
    }))
}

/// What the client saw.
fn client(name: &str, rest: &str, seen: &Observed<'_>) -> Option<bool> {
    let outcome = seen.outcome();
    let replies = &seen.replies;
    let first = replies.first();
    Some(match name {
        "connection_closed_after_reject" => outcome.is_allow() || seen.closed,
        "first_response" | "second_response" => {
            let statuses = seen.statuses();
            match statuses.get(usize::from(name == "second_response")) {
                Some(status) => {
                    let wanted = rest.trim_end_matches('x');
                    status.to_string().starts_with(wanted) || rest == "403" && *status >= 400
                }
                None => !rest.starts_with('2') && seen.closed,
            }
        }
        "responses_in_order" => replies.len() == 2,
        "no_1xx_to_client" => !is_interim(&seen.raw),
        "client_body" => first?.body == rest.as_bytes(),
        "client_body_empty" => !contains(&seen.raw, b"evil"),
        "client_status" => first.is_some_and(|reply| reply.status().to_string() == rest),
        "client_header_absent" | "client_final_header_absent" => {
            replies.iter().all(|reply| reply.values(rest).is_empty())
        }
        "client_reason_absent" => replies.iter().all(|reply| !reply.reason().contains(rest)),
        "client_framing_unambiguous" => {
            let odd = |r: &Message| r.odd_framing || r.odd_chunks || r.status() == 0;
            !contains(&seen.raw, b"HTTP/0.9") && !replies.iter().any(odd)
        }
        "client_sees_incomplete_message" => {
            first.is_none_or(|reply| !reply.complete || reply.status() >= 500)
        }
        "client_sees_no_obs_fold" => !contains(&seen.raw, b"\r\n b"),
        "client_sees_no_valid_leaf_200" => !replies.iter().skip(1).any(|r| r.status() == 200),
        "client_tls_or_tcp_closed" => matches!(seen.tunnel, TunnelEnd::None | TunnelEnd::Cut),
        "no_tunnel_mode_without_request" | "no_tunnel_mode_without_101" => outcome.status() != 101,
        "tunnel_closed_within" => seen.tunnel == TunnelEnd::Cut,
        "second_request_is_policy_checked" | "if_second_served" => {
            outcome.status() != 101 && seen.tunnel == TunnelEnd::None
        }
        "no_file_access" => !contains(&seen.raw, b"root:x:0"),
        "no_unix_socket_connect" => {
            !seen.dials.is_empty() || !replies.iter().any(|reply| reply.status() == 200)
        }
        "if_allowed" if outcome.is_allow() => return holds(rest, seen),
        "if_allowed" => true,
        // No credential is bound in these runs, so only the cases that do not need one can tell.
        "secret_absent" if !seen.case.requires.iter().any(|word| word == "cred-inject") => true,
        _ => return None,
    })
}

/// Whether an alternative of `also_ok` covers the outcome.
pub(super) fn accepts(word: &str, outcome: Outcome, seen: &Observed<'_>) -> bool {
    let status = outcome.status();
    match outcome {
        Outcome::Allow(_) => match word {
            "sanitised-forward" => sanitised(seen),
            "allow-public-only" => seen.dials.iter().all(|dial| address::is_public(dial.ip())),
            "allow-without-ech" => {
                !seen.connections.iter().any(|c| c.hello.as_ref().is_some_and(|h| h.has_ech()))
            }
            "local-2xx" => seen.dials.is_empty(),
            PREVIOUS_POLICY => seen.keeps_previous_policy(),
            other => other == "allow" || other.starts_with("allow-"),
        },
        Outcome::NotStarted => word == "refuses-to-start",
        Outcome::Deny(_) | Outcome::Refused400 | Outcome::Silent => {
            let denied = matches!(outcome, Outcome::Deny(_));
            match word {
                "deny" | "response-blocked" => denied,
                "reject-400" => {
                    let listed = status != 0 && seen.case.status_ok.contains(&status);
                    outcome == Outcome::Refused400 || listed
                }
                "misdirected-421" => status == 421,
                "loop-508" => status == 508,
                "bad-gateway-502" => matches!(status, 502..=504),
                "local-404" => status == 404,
                "connection-closed" => {
                    let sent = match &seen.case.input {
                        Input::Raw { segments, several: true } => segments.len(),
                        Input::Raw { several: false, .. }
                        | Input::Connect { .. }
                        | Input::Absolute { .. }
                        | Input::Tls(_)
                        | Input::Dns { .. }
                        | Input::Response(_)
                        | Input::Load(_)
                        | Input::Config(_)
                        | Input::Undriven(_) => 0,
                    };
                    status == 0 || seen.closed && seen.replies.len() < sent
                }
                "abort-stream" => true,
                "rst-stream" | "goaway" => status == 0,
                _ => false,
            }
        }
    }
}

/// One message where one was meant, framed without doubt.
fn sanitised(seen: &Observed<'_>) -> bool {
    let messages: Vec<&Message> = if matches!(seen.case.input, Input::Response(_)) {
        seen.replies.iter().collect()
    } else {
        seen.requests().collect()
    };
    matches!(messages[..], [one] if !one.odd_framing && !one.odd_chunks)
}

/// The address of a canary, named by itself or by a host name of the case.
fn canary(word: &str, seen: &Observed<'_>) -> Option<IpAddr> {
    if let Some(address) = parse_address(word) {
        return Some(address);
    }
    let name = word.trim_matches(['[', ']']);
    let named = seen.case.resolver.iter().find(|(key, _)| key.as_str() == name);
    let address = named.and_then(|(_, found)| found.a.first().or(found.aaaa.first()));
    address.map_or(egret_testkit::EVIL, String::as_str).parse().ok()
}

fn header(expression: &str, requests: &[&Message]) -> Option<bool> {
    if requests.is_empty() {
        return Some(true);
    }
    let (negated, (field, value)) = match expression.split_once("!=") {
        Some(parts) => (true, parts),
        None => (false, expression.split_once("==")?),
    };
    if value.contains("<secret>") {
        return None;
    }
    let found: Vec<&[u8]> = requests.iter().flat_map(|request| request.values(field)).collect();
    Some(if negated {
        !found.contains(&value.as_bytes())
    } else {
        found.first() == Some(&value.as_bytes())
    })
}

/// The first trailer that the client sent is not a header field of any request upstream.
fn trailer_kept_apart(seen: &Observed<'_>, requests: &[&Message]) -> bool {
    let Some(at) = find(&seen.sent, b"\r\n0\r\n") else { return true };
    let tail = &seen.sent[at + 5..];
    let line = tail.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return true };
    let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
    let value = line[colon + 1..].trim_ascii();
    let every_request_has = ["host", "content-length", "transfer-encoding", "connection"];
    every_request_has.contains(&name.as_str())
        || !requests.iter().any(|request| request.values(&name).contains(&value))
}

/// Lines of the client's head that a strict sender would not have written.
fn odd_lines(sent: &[u8]) -> Vec<Vec<u8>> {
    let head = &sent[..sent.len().min(20_000)];
    let lines = head.split_inclusive(|byte| *byte == b'\n').skip(1);
    lines
        .take_while(|line| !matches!(*line, b"\r\n" | b"\n"))
        .filter(|line| line.len() > 3 && !is_strict_field(line))
        .map(<[u8]>::to_vec)
        .collect()
}

fn is_strict_field(line: &[u8]) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&byte);
    let Some(line) = line.strip_suffix(b"\r\n") else { return false };
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let value = &line[colon + 1..];
    colon > 0
        && line[..colon].iter().all(|byte| token(*byte))
        && value.iter().all(|byte| *byte == b'\t' || *byte >= 0x20 && *byte != 0x7f)
}

fn is_interim(raw: &[u8]) -> bool {
    let version = raw.starts_with(b"HTTP/1.1 1") || raw.starts_with(b"HTTP/1.0 1");
    version && raw.get(10..12).is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
}

fn occurrences(data: &[u8], part: &[u8]) -> usize {
    let (mut count, mut from) = (0, 0);
    while let Some(at) = find(&data[from..], part) {
        count += 1;
        from += at + part.len().max(1);
    }
    count
}

/// Whether more than so many tenths of some values are distinct, and there are any.
fn distinct(values: impl Iterator<Item = u16>, tenths: usize) -> bool {
    let all: Vec<u16> = values.collect();
    let mut different = all.clone();
    different.sort_unstable();
    different.dedup();
    !all.is_empty() && different.len() * 10 > all.len() * tenths
}
