//! `[dns]`: how names become addresses.
//!
//! Addresses given here are judged like any other: a name that is pointed at a forbidden address
//! stays refused until the policy opens that range.

use std::{collections::BTreeMap, net::IpAddr};

use egret_policy::{
    HostName,
    source::{At, Table, Value, shown},
};
use egret_proxy::{DnsSettings, NameServer, Roots};

mod server;

/// Servers are asked one after the other within one deadline; more would each have too little.
const MOST_SERVERS: usize = 8;

pub(super) fn read(table: &Table<'_>) -> DnsSettings {
    let default = DnsSettings::default();
    let duration = |key| Some(table.find(key)?.duration()?.value);
    DnsSettings {
        servers: table.find("servers").map(|value| servers(&value)),
        roots: Roots::default(),
        timeout: duration("timeout").unwrap_or(default.timeout),
        max_ttl: duration("max_ttl").unwrap_or(default.max_ttl),
        hosts: hosts(table),
    }
}

fn servers(value: &Value<'_>) -> Vec<NameServer> {
    let Some(entries) = value.list() else { return Vec::new() };
    if entries.value.is_empty() {
        value.problem("`servers` is empty: no name could be resolved", "name one, or leave it out");
    }
    if entries.value.len() > MOST_SERVERS {
        value.problem(
            format!("there are {} name servers", entries.value.len()),
            format!("name {MOST_SERVERS} at most; two or three are enough"),
        );
    }
    let read: Vec<_> =
        entries.value.iter().filter_map(|entry| Some((entry, server::read(entry)?))).collect();
    not_weaker_than_it_looks(&read);
    read.into_iter().map(|(_, server)| server).collect()
}

/// Whoever can silence the encrypted servers would be asked, or overheard, in cleartext. That is
/// refused unless the cleartext server is this machine's own, where nobody is on the way.
fn not_weaker_than_it_looks(servers: &[(&Value<'_>, NameServer)]) {
    if !servers.iter().any(|(_, server)| server.transport.is_encrypted()) {
        return;
    }
    for (entry, server) in servers {
        if !server.transport.is_encrypted() && !server.address.ip().is_loopback() {
            entry.problem(
                format!(
                    "`{}` would be asked in cleartext when the encrypted servers fail",
                    server.address
                ),
                "write it as `tls://` or `https://` too, or leave it out",
            );
        }
    }
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
