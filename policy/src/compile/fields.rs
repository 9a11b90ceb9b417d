//! The fields that rules and defaults share, read alike in both.

use std::collections::BTreeSet;

use crate::limits::RuleLimits;
use crate::path::{PathPattern, PatternFault};
use crate::rule::{Effect, Methods, Paths, Ports, Schemes, Tls, Workers};
use crate::source::{At, Table, Value, shown};
use crate::target::{Method, Scheme, TargetError};
use crate::worker::{Labels, WorkerId};

pub(super) fn schemes(table: &Table<'_>, effect: Effect) -> Option<Schemes> {
    let value = table.find("schemes")?;
    let list = value.list()?;
    note_empty(&value, list.value.len(), effect);
    let choices = [("https", Scheme::Https), ("http", Scheme::Http), ("tcp", Scheme::Tcp)];
    let read = list.value.iter().filter_map(|entry| entry.choice(&choices));
    let schemes = read.fold(Schemes::NONE, |schemes, scheme| schemes.with(scheme.value));
    let mixed = schemes.contain(Scheme::Tcp) && schemes.iter().count() > 1;
    if effect == Effect::Allow && mixed {
        value.problem(
            "`tcp` beside other schemes: an opaque tunnel is not inspected",
            "give `tcp` a rule of its own",
        );
    }
    Some(schemes)
}

pub(super) fn ports(table: &Table<'_>, effect: Effect) -> Option<Ports> {
    let value = table.find("ports")?;
    let list = value.list()?;
    note_empty(&value, list.value.len(), effect);
    let read = list.value.iter().filter_map(|entry| entry.integer(1..=65535));
    let ports: BTreeSet<u16> = read.filter_map(|port| port.value.try_into().ok()).collect();
    Some(Ports::listed(&ports))
}

pub(super) fn tls(table: &Table<'_>) -> Option<At<Tls>> {
    table.find("tls")?.choice(&[("tunnel", Tls::Tunnel), ("intercept", Tls::Intercept)])
}

pub(super) fn methods(table: &Table<'_>, effect: Effect) -> Methods {
    let Some(value) = table.find("methods") else { return Methods::Every };
    let Some(list) = value.list() else { return Methods::Every };
    note_empty(&value, list.value.len(), effect);
    let read: BTreeSet<Box<str>> = list.value.iter().filter_map(method).map(Box::from).collect();
    Methods::Listed(read.into_iter().collect())
}

fn method<'d>(entry: &Value<'d>) -> Option<&'d str> {
    let text = entry.text()?.value;
    if text == "*" {
        entry.problem("`*` is not a method", "leave `methods` out for every method");
        return None;
    }
    match Method::parse(text) {
        Err(TargetError::MethodRefused) => {
            let message = format!("`{text}` is always refused");
            entry.problem(message, "take it off the list");
            None
        }
        Err(TargetError::Malformed(_) | TargetError::Scheme) => {
            let message = format!("`{}` is not a method", shown(text));
            entry.problem(message, "write a token of at most 32 characters, such as `GET`");
            None
        }
        Ok(_) if text.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            let upper = text.to_ascii_uppercase();
            let message = format!("method `{text}` is not in normal form");
            entry.problem(message, format!("write `{upper}`"));
            None
        }
        Ok(_) if text == "CONNECT" => {
            entry.problem(
                "`CONNECT` opens tunnels, which are judged by host and port",
                "take it off the list",
            );
            None
        }
        Ok(_) => Some(text),
    }
}

pub(super) fn paths(table: &Table<'_>, effect: Effect) -> Paths {
    let Some(value) = table.find("paths") else { return Paths::Every };
    let Some(list) = value.list() else { return Paths::Every };
    note_empty(&value, list.value.len(), effect);
    Paths::Listed(list.value.iter().filter_map(path).collect())
}

fn path(entry: &Value<'_>) -> Option<PathPattern> {
    let text = entry.text()?.value;
    match PathPattern::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(fault) => {
            let fix = match fault {
                PatternFault::NoSlash => "begin it with `/`",
                PatternFault::NoPath(_) => "leave out query and fragment",
                PatternFault::Byte(_) => "percent-encode it, as clients do",
                PatternFault::Form(_) => "write the path in its plain form",
                PatternFault::Partial => "`*` stands for a whole segment, `**` for any number",
            };
            entry.problem(format!("path `{}` {fault}", shown(text)), fix);
            None
        }
    }
}

pub(super) fn workers(table: &Table<'_>, effect: Effect) -> Workers {
    let Some(value) = table.find("workers") else { return Workers::default() };
    let Some(table) = value.table("`workers`") else { return Workers::default() };
    let (ids, labels) = (table.find("ids"), table.find("labels"));
    if ids.is_none() && labels.is_none() {
        value.problem("`workers` names none", "leave `workers` out to mean every worker");
    }
    let ids = ids.and_then(|value| {
        let list = value.list()?;
        note_empty(&value, list.value.len(), effect);
        Some(list.value.iter().filter_map(worker_id).collect())
    });
    Workers { ids, labels: labels.map(|value| read_labels(&value)).unwrap_or_default() }
}

pub(super) fn worker_id(entry: &Value<'_>) -> Option<WorkerId> {
    match WorkerId::parse(entry.text()?.value) {
        Ok(id) => Some(id),
        Err(fault) => {
            entry.problem(fault.to_string(), "write 1 to 128 of `A-Z a-z 0-9 . _ : @ -`");
            None
        }
    }
}

/// Labels that are demanded: `{}` would demand nothing, which nobody writes on purpose.
fn read_labels(value: &Value<'_>) -> Labels {
    if value.table("`labels`").is_some_and(|table| table.free_keys().is_empty()) {
        value.problem("`labels` names none", "leave `labels` out, or write `{ name = \"value\" }`");
        return Labels::default();
    }
    any_labels(value)
}

pub(super) fn any_labels(value: &Value<'_>) -> Labels {
    let Some(table) = value.table("`labels`") else { return Labels::default() };
    let labels = table.free_keys().into_iter();
    labels.filter_map(|(name, value)| Some((name.value, value.text()?.value))).collect()
}

/// The limits that hold for a single exchange; they stand in `[defaults]` and in `limits`.
pub(super) fn single_limits(table: &Table<'_>, limits: &mut RuleLimits) {
    let RuleLimits { idle_timeout, max_duration, max_request_bytes, max_response_bytes, .. } =
        limits;
    for (key, limit) in
        [("max_response_bytes", max_response_bytes), ("max_request_bytes", max_request_bytes)]
    {
        if let Some(bytes) = table.find(key).and_then(|value| value.bytes()) {
            *limit = bytes.value;
        }
    }
    for (key, limit) in [("idle_timeout", idle_timeout), ("max_duration", max_duration)] {
        if let Some(duration) = table.find(key).and_then(|value| value.duration()) {
            *limit = duration.value;
        }
    }
}

/// The limits that count over several exchanges; they stand in `limits` alone.
pub(super) fn counted_limits(table: &Table<'_>, limits: &mut RuleLimits) {
    let RuleLimits { requests_per_minute, tunnels, bytes_up_per_day, bytes_down_per_day, .. } =
        limits;
    for (key, limit) in [("requests_per_minute", requests_per_minute), ("tunnels", tunnels)] {
        let count = table.find(key).and_then(|value| value.integer(1..=u32::MAX.into()));
        *limit = count.and_then(|count| count.value.try_into().ok());
    }
    for (key, limit) in
        [("bytes_up_per_day", bytes_up_per_day), ("bytes_down_per_day", bytes_down_per_day)]
    {
        *limit = table.find(key).and_then(|value| value.bytes()).map(|bytes| bytes.value);
    }
}

/// An empty list allows nothing, which is safe but hardly meant; what it would deny is unclear.
pub(super) fn note_empty(value: &Value<'_>, entries: usize, effect: Effect) {
    if entries > 0 {
        return;
    }
    let name = value.name();
    match effect {
        Effect::Allow => value.report().warning(
            &value.span(),
            format!("{name} is empty, so nothing matches"),
            "list what is meant",
        ),
        Effect::Deny => {
            let message = format!("{name} is empty in a deny");
            value.problem(message, format!("leave {name} out to deny every one, or list some"));
        }
    }
}
