//! `[[credential]]`: one credential. Where it may go is proved against the rules in `proof`.

use std::collections::HashSet;

use crate::credential::{Credential, ReferenceFault, SecretReference, Unscannable};
use crate::host::HostName;
use crate::rule::CredentialId;
use crate::source::{At, Span, Table, Value, shown};

use super::inject;

/// A credential that has been read, with the places that a later problem may point at.
pub(super) struct StatedCredential {
    pub(super) credential: Credential,
    pub(super) id_span: Span,
    pub(super) hosts: Vec<At<(HostName, u16)>>,
}

/// The credentials of a file.
pub(super) struct Stated {
    /// Those that could be read well enough to be checked further; the rest was reported.
    pub(super) credentials: Vec<StatedCredential>,
    /// Whether all were read without a problem, so that what others lack of them is missing.
    pub(super) whole: bool,
}

pub(super) fn read(root: &Table<'_>) -> Stated {
    let problems_before = root.report().problem_count();
    let tables = root.find("credential").map(|value| value.tables("a credential"));
    let credentials = tables.unwrap_or_default().iter().filter_map(read_one).collect();
    Stated { credentials, whole: root.report().problem_count() == problems_before }
}

fn read_one(table: &Table<'_>) -> Option<StatedCredential> {
    let id = table.require("id", "add `id = \"…\"`").and_then(|value| read_id(&value));
    let secret = table
        .require("secret", "add `secret = \"local:NAME\"`")
        .and_then(|value| read_reference(&value));
    let hosts = table
        .require("hosts", "add `hosts = [ … ]`, the only places it may go to")
        .and_then(|value| read_hosts(&value));
    let inject = table
        .require(
            "inject",
            "add `inject = { header = \"authorization\", value = \"Bearer {secret}\" }`",
        )
        .and_then(|value| inject::read(&value));
    let required = table.find("required").and_then(|value| value.boolean());
    let unscannable = table.find("unscannable").and_then(|value| {
        value.choice(&[("refuse", Unscannable::Refuse), ("pass", Unscannable::Pass)])
    });
    let (id, hosts) = (id?, hosts?);
    let mut places: Vec<_> = hosts.iter().map(|host| host.value.clone()).collect();
    places.sort();
    Some(StatedCredential {
        credential: Credential {
            id: id.value,
            secret: secret?,
            hosts: places.into(),
            inject: inject?,
            required: required.is_none_or(|required| required.value),
            unscannable: unscannable.map_or(Unscannable::Refuse, |unscannable| unscannable.value),
        },
        id_span: id.span,
        hosts,
    })
}

fn read_id(value: &Value<'_>) -> Option<At<CredentialId>> {
    let text = value.text()?;
    let id = CredentialId::parse(text.value);
    if id.is_none() {
        let message = format!("`{}` is not an id", shown(text.value));
        value.problem(message, "write 1 to 64 of `A-Z a-z 0-9 . _ -`, a letter or digit first");
    }
    Some(At { value: id?, span: text.span })
}

fn read_reference(value: &Value<'_>) -> Option<SecretReference> {
    let text = value.text()?.value;
    match SecretReference::parse(text) {
        Ok(reference) => Some(reference),
        Err(fault) => {
            // The text is not shown: it may be the secret itself, put in the wrong place.
            let fix = match fault {
                ReferenceFault::Backend => {
                    "write `local:NAME`, `vault:MOUNT#PATH:FIELD`, `aws:NAME:FIELD` or `file:NAME`; \
                     a secret never stands in a file"
                }
                ReferenceFault::Empty | ReferenceFault::Character | ReferenceFault::Segment => {
                    "write `local:NAME`, `vault:MOUNT#PATH:FIELD`, `aws:NAME:FIELD` or `file:NAME`"
                }
            };
            value.problem(format!("the reference {fault}"), fix);
            None
        }
    }
}

fn read_hosts(value: &Value<'_>) -> Option<Vec<At<(HostName, u16)>>> {
    let list = value.list()?;
    if list.value.is_empty() {
        value.problem("`hosts` is empty: the credential could go nowhere", "list its hosts");
    }
    let mut hosts: Vec<At<(HostName, u16)>> = Vec::new();
    let mut known = HashSet::new();
    for entry in &list.value {
        let Some(host) = read_host(entry) else { continue };
        if !known.insert(host.clone()) {
            let message = format!("`{}:{}` is listed twice", host.0, host.1);
            entry.problem(message, "take one off the list");
            continue;
        }
        hosts.push(At { value: host, span: entry.span() });
    }
    Some(hosts)
}

fn read_host(entry: &Value<'_>) -> Option<(HostName, u16)> {
    let text = entry.text()?.value;
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let digits = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port.map(|port| (port, port.parse())) {
        None => Ok(443),
        Some((text, Ok(port))) if port > 0 && digits(&text) && !text.starts_with('0') => Ok(port),
        Some(_) => Err(()),
    };
    match (HostName::from_policy(host), port) {
        (Ok(name), Ok(port)) if name.as_str() == host => Some((name, port)),
        (Ok(name), Ok(_)) => {
            let message = format!("host `{}` is not in normal form", shown(host));
            entry.problem(message, format!("write `{name}`"));
            None
        }
        (Err(_), _) | (_, Err(())) => {
            entry.problem(
                format!("`{}` is not an exact host name", shown(text)),
                "write one name such as `api.example.com`, with `:PORT` unless it is 443",
            );
            None
        }
    }
}
