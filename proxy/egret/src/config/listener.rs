//! `[[listener]]`: where workers connect, and what proves who they are.

use std::net::SocketAddr;

use egret_policy::source::{At, Table, Value, shown};
use egret_proxy::{IdentityKind, ListenerSettings};

/// A listener as it was read; what could not be read is missing and has been reported.
pub(super) struct Listener {
    pub(super) address: Option<At<SocketAddr>>,
    pub(super) identity: Vec<At<IdentityKind>>,
}

impl Listener {
    pub(super) fn takes(&self, kind: IdentityKind) -> bool {
        self.identity.iter().any(|taken| taken.value == kind)
    }

    pub(super) fn built(self) -> Option<ListenerSettings> {
        Some(ListenerSettings {
            address: self.address?.value,
            identity: self.identity.into_iter().map(|kind| kind.value).collect(),
        })
    }
}

pub(super) fn read(value: &Value<'_>) -> Vec<Listener> {
    let Some(entries) = value.list() else { return Vec::new() };
    if entries.value.is_empty() {
        value.problem("there is no listener", "add `[[listener]]` with `address` and `identity`");
    }
    let tables = entries.value.iter().filter_map(|entry| entry.table("[[listener]]"));
    tables.map(|table| Listener { address: address(&table), identity: identity(&table) }).collect()
}

fn address(table: &Table<'_>) -> Option<At<SocketAddr>> {
    let value = table.require("address", "write `address = \"127.0.0.1:3128\"`")?;
    if value.is_text() && value.text()?.value.starts_with("unix:") {
        value.problem(
            "Unix sockets are not available in this release",
            "write an IP address and a port: `127.0.0.1:3128`",
        );
        return None;
    }
    value.socket_address()
}

fn identity(table: &Table<'_>) -> Vec<At<IdentityKind>> {
    let fix = "write `identity = [\"token\"]`, or [\"anonymous\"] on a loopback address";
    let Some(value) = table.require("identity", fix) else { return Vec::new() };
    let Some(entries) = value.list() else { return Vec::new() };
    if entries.value.is_empty() {
        value.problem("`identity` is empty: the listener would admit nobody", fix);
    }
    let mut kinds: Vec<At<IdentityKind>> = Vec::new();
    for entry in &entries.value {
        let Some(kind) = kind(entry) else { continue };
        if kinds.iter().any(|before| before.value == kind.value) {
            entry.problem("this kind of proof is there twice", "keep one of the two");
        }
        kinds.push(kind);
    }
    kinds
}

fn kind(entry: &Value<'_>) -> Option<At<IdentityKind>> {
    let text = entry.text()?;
    if LATER.contains(&text.value) {
        entry.problem(
            format!("identity `{}` is not available in this release", shown(text.value)),
            "write `token`, or `anonymous` on a loopback address",
        );
        return None;
    }
    entry.choice(&[("anonymous", IdentityKind::Anonymous), ("token", IdentityKind::Token)])
}

/// Kinds of proof that the format has and this release does not.
const LATER: &[&str] = &["mtls", "lease", "source", "peer"];
