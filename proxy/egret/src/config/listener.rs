//! `[[listener]]`: where workers connect, and what proves who they are.

use std::{
    os::unix::net::SocketAddr as UnixAddress,
    path::{Component, Path},
};

use egret_policy::source::{At, Table, Value, shown};
use egret_proxy::{IdentityKind, ListenAddress, ListenerSettings};

/// A listener as it was read; what could not be read is missing and has been reported.
pub(super) struct Listener {
    pub(super) address: Option<At<ListenAddress>>,
    pub(super) identity: Vec<At<IdentityKind>>,
}

impl Listener {
    pub(super) fn takes(&self, kind: IdentityKind) -> bool {
        self.find(kind).is_some()
    }

    pub(super) fn find(&self, kind: IdentityKind) -> Option<&At<IdentityKind>> {
        self.identity.iter().find(|taken| taken.value == kind)
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

fn address(table: &Table<'_>) -> Option<At<ListenAddress>> {
    let value = table.require("address", "write `address = \"127.0.0.1:3128\"`")?;
    if value.is_text()
        && let Some(path) = value.text()?.value.strip_prefix("unix:")
    {
        return unix(&value, path);
    }
    Some(value.socket_address()?.map(ListenAddress::Tcp))
}

/// An absolute path, as long as a socket's name may be, that reads the same wherever it is printed.
fn unix(value: &Value<'_>, text: &str) -> Option<At<ListenAddress>> {
    let path = Path::new(text);
    let (message, fix) = if text.starts_with('@') {
        (
            "is a socket without a file: whoever shares the network namespace could connect",
            "write a path: `unix:/run/egret/proxy.sock`",
        )
    } else if !path.is_absolute() {
        (
            "is not an absolute path: where it is would depend on where egret was started",
            "write the whole path: `unix:/run/egret/proxy.sock`",
        )
    } else if text.chars().any(char::is_control)
        || path.components().any(|part| part == Component::ParentDir)
        || text.ends_with('/')
    {
        ("is not the plain path of a file", "leave out `..`, a slash at the end and controls")
    } else if UnixAddress::from_pathname(path).is_err() {
        ("is too long for the name of a socket", "write a path of at most 100 bytes")
    } else {
        return Some(At { value: ListenAddress::Unix(path.to_owned()), span: value.span() });
    };
    value.problem(format!("`unix:{}` {message}", shown(text)), fix);
    None
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
            "write `token`, `source`, `peer` or `anonymous`",
        );
        return None;
    }
    entry.choice(&[
        ("anonymous", IdentityKind::Anonymous),
        ("token", IdentityKind::Token),
        ("source", IdentityKind::Source),
        ("peer", IdentityKind::Peer),
    ])
}

/// Kinds of proof that the format has and this release does not.
const LATER: &[&str] = &["mtls", "lease"];
