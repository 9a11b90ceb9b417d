//! `hosts` and `suffixes`: each entry in normal form, or a fix that says what it is.

use std::net::{IpAddr, SocketAddr};

use crate::address::{AddressClass, Forbidden, Network, OwnAddresses, is_metadata, metadata_name};
use crate::host::{Host, HostError, HostName};
use crate::index::HostPattern;
use crate::rule::Effect;
use crate::source::{At, Report, Table, Value, shown};

use super::fields::note_empty;
use super::rule::Draft;

/// Reads both lists of a rule. A deny without either denies every host; an allow needs one.
pub(super) fn read(table: &Table<'_>, effect: Effect) -> Vec<At<HostPattern>> {
    let (hosts, suffixes) = (table.find("hosts"), table.find("suffixes"));
    if hosts.is_none() && suffixes.is_none() {
        match effect {
            Effect::Deny => {
                return vec![At { value: HostPattern::Anything, span: table.span().clone() }];
            }
            Effect::Allow => table.report().missing(
                table.span(),
                "an allow names no hosts",
                "add `hosts = [ … ]` or `suffixes = [ … ]`",
            ),
        }
    }
    let mut patterns = Vec::new();
    for (value, read) in [(hosts, host as ReadEntry), (suffixes, suffix as ReadEntry)] {
        let Some((value, list)) = value.and_then(|value| Some((value, value.list()?))) else {
            continue;
        };
        note_empty(&value, list.value.len(), effect);
        patterns.reserve(list.value.len());
        for entry in &list.value {
            let Some(text) = entry.text() else { continue };
            if let Some(pattern) = read(entry, text.value) {
                check_use(entry, text.value, &pattern, effect);
                patterns.push(At { value: pattern, span: text.span });
            }
        }
    }
    patterns
}

type ReadEntry = fn(&Value<'_>, &str) -> Option<HostPattern>;

fn host(entry: &Value<'_>, text: &str) -> Option<HostPattern> {
    if text == "*" {
        return Some(HostPattern::AnyName);
    }
    if let Some(rest) = text.strip_prefix("*.") {
        let message = format!("`{}` is not a host", shown(text));
        entry.problem(
            message,
            match rest {
                "" => "write `*` for every name, or name the hosts".to_owned(),
                name => format!("write `suffixes = [\".{}\"]`", shown(name)),
            },
        );
        return None;
    }
    match Host::from_policy(text) {
        Ok(host) => {
            let normal = match &host {
                Host::Name(name) => name.to_string(),
                Host::Address(address) => address.to_string(),
            };
            demand_normal(entry, text, &normal, &host.to_string())?;
            Some(HostPattern::Exact(host))
        }
        Err(error) => refuse(entry, text, &error),
    }
}

fn suffix(entry: &Value<'_>, text: &str) -> Option<HostPattern> {
    let (dot, name) = match text.strip_prefix('.') {
        Some(name) => (".", name),
        None => ("", text),
    };
    if let Some(rest) = text.strip_prefix('*') {
        let message = format!("suffix `{}` has a `*`", shown(text));
        let fix = match rest.strip_prefix('.') {
            Some(name) if !name.is_empty() => format!("write `.{}`", shown(name)),
            Some(_) | None => "write `hosts = [\"*\"]` for every name".to_owned(),
        };
        entry.problem(message, fix);
        return None;
    }
    let name = match Host::from_policy(name) {
        Ok(Host::Name(name)) => name,
        Ok(Host::Address(address)) => {
            let message = format!("`{}` is an address, which has nothing below it", shown(text));
            entry.problem(message, format!("write `hosts = [\"{address}\"]`"));
            return None;
        }
        Err(error) => return refuse(entry, text, &error),
    };
    let normal = format!("{dot}{name}");
    demand_normal(entry, text, &normal, &normal)?;
    if !name.as_str().contains('.') {
        entry.report().warning(
            &entry.span(),
            format!("suffix `{normal}` is a whole top-level domain"),
            "name the domains that are meant",
        );
    }
    Some(match dot {
        "" => HostPattern::AtOrBelow(name),
        _ => HostPattern::Below(name),
    })
}

/// Both spellings of an address are normal: with brackets, as in a URL, and without.
fn demand_normal(entry: &Value<'_>, text: &str, normal: &str, bracketed: &str) -> Option<()> {
    if text == normal || text == bracketed {
        return Some(());
    }
    let message = format!("host `{}` is not in normal form", shown(text));
    entry.problem(message, format!("write `{normal}`"));
    None
}

fn refuse<T>(entry: &Value<'_>, text: &str, error: &HostError) -> Option<T> {
    let fix = if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or(rest);
        format!("write the host alone: `{}`", shown(host))
    } else if text.trim() != text {
        format!("write `{}`", shown(text.trim()))
    } else if let Some((host, _)) = text.split_once('/') {
        format!("write the host alone: `{}`; paths go into `paths`", shown(host))
    } else if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        format!("write `{}`; ports go into `ports`", shown(host))
    } else if let Some(name) = text.strip_prefix('.')
        && HostName::from_policy(name).is_ok()
    {
        format!("write `suffixes = [\"{}\"]` for what is below it", shown(text))
    } else if *error == HostError::NumericForm {
        "write an address as four decimal numbers without leading zeros".to_owned()
    } else {
        "write a DNS name such as `api.example.com`, or an IP address".to_owned()
    };
    entry.problem(format!("`{}` is not a host: {error}", shown(text)), fix);
    None
}

/// What is valid as a host, but not where it stands.
fn check_use(entry: &Value<'_>, text: &str, pattern: &HostPattern, effect: Effect) {
    if effect == Effect::Deny {
        return;
    }
    let metadata = match pattern {
        HostPattern::Exact(Host::Name(name))
        | HostPattern::AtOrBelow(name)
        | HostPattern::Below(name) => metadata_name(name),
        HostPattern::Exact(Host::Address(address)) => is_metadata(*address),
        HostPattern::AnyName => {
            entry.report().warning(
                &entry.span(),
                "`*` allows every DNS name",
                "name the hosts that are meant",
            );
            false
        }
        HostPattern::Anything => false,
    };
    if metadata {
        let message = format!("`{}` is this machine or a metadata service", shown(text));
        entry.problem(message, "take it off the list: it is never unlocked");
    }
}

/// A literal that no `[[network.allow]]` opens for its rule is listed in vain.
pub(super) fn warn_of_forbidden_literals(drafts: &[Draft], network: &Network, report: &Report<'_>) {
    let literals = |draft: &Draft| -> Vec<At<IpAddr>> {
        let patterns = draft.hosts.iter().filter(|_| draft.rule.effect == Effect::Allow);
        let literal = |pattern: &At<HostPattern>| match pattern.value {
            HostPattern::Exact(Host::Address(value)) => {
                Some(At { value, span: pattern.span.clone() })
            }
            HostPattern::Exact(Host::Name(_))
            | HostPattern::AtOrBelow(_)
            | HostPattern::Below(_)
            | HostPattern::AnyName
            | HostPattern::Anything => None,
        };
        patterns.filter_map(literal).collect()
    };
    for draft in drafts {
        let id = draft.rule.id.as_str();
        for At { value: address, span } in literals(draft) {
            let to = SocketAddr::new(address, 443);
            match network.judge(to, Some(id), &OwnAddresses::default()) {
                // Metadata is a problem already.
                Ok(()) | Err(Forbidden::Class(AddressClass::Metadata)) => {}
                Err(Forbidden::Denied) => report.warning(
                    &span,
                    format!("`{address}` is in `[network] deny`"),
                    "take it off one of the two lists",
                ),
                Err(Forbidden::Class(AddressClass::Isatap { .. })) => report.warning(
                    &span,
                    format!("`{address}` is an ISATAP form, which is never unlocked"),
                    "take it off the list",
                ),
                Err(forbidden) => report.warning(
                    &span,
                    format!("`{address}` stays forbidden: {forbidden}"),
                    format!("open it in a `[[network.allow]]` with `rules = [\"{id}\"]`"),
                ),
            }
        }
    }
}
