//! `[network]`: ranges in canonical form, and which rules may reach them.

use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};

use crate::address::{NAT64_LENGTHS, Network, Unlock, is_metadata};
use crate::rule::Effect;
use crate::source::{Table, Value};

use super::fields::note_empty;
use super::rule::{Draft, report_unknown_id};

pub(super) fn read(root: &Table<'_>, drafts: &[Draft]) -> Network {
    let mut network = Network::default();
    let Some(table) = root.find("network").and_then(|value| value.table("`[network]`")) else {
        return network;
    };
    if let Some(list) = table.find("deny").and_then(|value| value.list()) {
        network.deny = list.value.iter().filter_map(range).collect();
    }
    if let Some(list) = table.find("nat64").and_then(|value| value.list()) {
        network.nat64 = list.value.iter().filter_map(translation_prefix).collect();
    }
    if let Some(value) = table.find("allow") {
        let tables = value.tables("`[[network.allow]]`");
        network.allow = tables.iter().filter_map(|table| unlock(table, drafts)).collect();
    }
    network
}

fn unlock(table: &Table<'_>, drafts: &[Draft]) -> Option<Unlock> {
    let cidr = table.require("cidr", "add `cidr = \"10.20.0.0/16\"`");
    let rules = table.require("rules", "add `rules = [ … ]`, the ids of the rules it is for");
    let network = cidr.and_then(|value| {
        let network = range(&value)?;
        if network.prefix_len() == network.max_prefix_len() && is_metadata(network.addr()) {
            let message = format!("`{}` is a metadata address", network.addr());
            value.problem(message, "remove it: it is never unlocked");
        }
        Some(network)
    });
    let mut ids: Vec<Arc<str>> = Vec::new();
    if let Some(value) = rules
        && let Some(list) = value.texts()
    {
        note_empty(&value, list.value.len(), Effect::Allow);
        for text in list.value {
            match drafts.iter().find(|draft| draft.rule.id.as_str() == text.value) {
                Some(draft) if draft.rule.effect == Effect::Deny && draft.whole => {
                    let message = format!("rule `{}` is a deny, which reaches nothing", text.value);
                    table.report().problem(&text.span, message, "take it off the list");
                }
                Some(_) => ids.push(text.value.into()),
                None => report_unknown_id(drafts, table, &text),
            }
        }
    }
    Some(Unlock { network: network?, rules: ids })
}

fn range(value: &Value<'_>) -> Option<IpNet> {
    Some(value.network()?.value)
}

fn translation_prefix(value: &Value<'_>) -> Option<Ipv6Net> {
    let prefix = match range(value)? {
        IpNet::V6(prefix) if NAT64_LENGTHS.contains(&prefix.prefix_len()) => return Some(prefix),
        IpNet::V6(prefix) => format!("`{prefix}` has a length that no NAT64 prefix has"),
        IpNet::V4(prefix) => format!("`{prefix}` is IPv4, which embeds nothing"),
    };
    value.problem(prefix, "write an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits (RFC 6052)");
    None
}
