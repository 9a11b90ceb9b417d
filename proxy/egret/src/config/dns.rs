//! `[dns]`: how names become addresses.
//!
//! Addresses given here are judged like any other: a name that is pointed at a forbidden address
//! stays refused until the policy opens that range.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use egret_policy::{
    HostName,
    source::{At, Table, Value, shown},
};
use egret_proxy::DnsSettings;

pub(super) fn read(table: &Table<'_>) -> DnsSettings {
    let default = DnsSettings::default();
    let duration = |key| Some(table.find(key)?.duration()?.value);
    DnsSettings {
        servers: table.find("servers").map(|value| servers(&value)),
        timeout: duration("timeout").unwrap_or(default.timeout),
        max_ttl: duration("max_ttl").unwrap_or(default.max_ttl),
        hosts: hosts(table),
    }
}

fn servers(value: &Value<'_>) -> Vec<SocketAddr> {
    let Some(entries) = value.list() else { return Vec::new() };
    if entries.value.is_empty() {
        value.problem("`servers` is empty: no name could be resolved", "name one, or leave it out");
    }
    entries.value.iter().filter_map(server).collect()
}

fn server(entry: &Value<'_>) -> Option<SocketAddr> {
    let text = entry.text()?;
    if text.value.contains("://") {
        entry.problem(
            "name servers by TLS or HTTPS are not available in this release",
            "write an IP address and a port: `127.0.0.1:53`",
        );
        return None;
    }
    let address = entry.socket_address()?.value;
    if address.port() == 0 || address.ip().is_unspecified() {
        entry.problem(
            format!("nobody can be asked at `{address}`"),
            "write the server's IP address and port, mostly 53",
        );
    }
    Some(address)
}

fn hosts(table: &Table<'_>) -> BTreeMap<HostName, Vec<IpAddr>> {
    let Some(hosts) = table.find("hosts").and_then(|value| value.table("`hosts`")) else {
        return BTreeMap::new();
    };
    let read = hosts.free_keys().into_iter().filter_map(|(name, value)| {
        let addresses = addresses(&value);
        Some((host(&hosts, &name)?, addresses))
    });
    read.collect()
}

fn host(hosts: &Table<'_>, name: &At<&str>) -> Option<HostName> {
    let problem = |message: String, fix: String| hosts.report().problem(&name.span, message, fix);
    match HostName::from_policy(name.value) {
        Ok(host) if host.as_str() == name.value => Some(host),
        Ok(host) => {
            let message = format!("host `{}` is not in normal form", shown(name.value));
            problem(message, format!("write `{host}`"));
            None
        }
        Err(error) => {
            let message = format!("`{}` is not a host name: {error}", shown(name.value));
            problem(message, "write a name such as `db.internal`".to_owned());
            None
        }
    }
}

fn addresses(value: &Value<'_>) -> Vec<IpAddr> {
    let Some(texts) = value.texts() else { return Vec::new() };
    if texts.value.is_empty() {
        value.problem("a name without an address", "write `[\"10.20.0.7\"]`, or leave it out");
    }
    let read = texts.value.iter().filter_map(|text| match text.value.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let message = format!("`{}` is not an IP address", shown(text.value));
            value.report().problem(&text.span, message, "write it as `10.20.0.7` or `2001:db8::7`");
            None
        }
    });
    read.collect()
}
