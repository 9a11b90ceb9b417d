//! The canonical form of a policy, and its digest.
//!
//! What means the same has one form: comments, the order of keys and of lists that are sets, and
//! whether a default is written out play no part. The order of rules does, since the first match
//! wins; tests do not. Each value is quoted, so nothing can be read two ways, and the form has a
//! version of its own, to be raised when the meaning of a field changes. An [`Outline`] is the same
//! form kept apart, to say in what two policies differ.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

pub use self::outline::{Outline, Section, SectionKind};

use sha2::{Digest, Sha256};

use crate::address::Network;
use crate::compile::Draft;
use crate::credential::{Credential, Inject, Unscannable};
use crate::host::Host;
use crate::index::HostPattern;
use crate::limits::RuleLimits;
use crate::policy::{Defaults, Mode, Revision};
use crate::rule::{Ech, Effect, Methods, Paths, Rule, SniDemand, Tls};
use crate::target::Scheme;

mod outline;

/// What a policy consists of.
pub(crate) struct Parts<'a> {
    pub(crate) mode: Mode,
    pub(crate) defaults: &'a Defaults,
    pub(crate) network: &'a Network,
    pub(crate) drafts: &'a [Draft],
    pub(crate) credentials: &'a [Credential],
}

/// Returns the digest of what a policy means.
pub(crate) fn revision(parts: &Parts<'_>) -> Revision {
    let mut text = String::new();
    write(parts, |key, value| {
        let value = match value {
            Entry::Only(value) | Entry::Member(value) => value,
            Entry::Count(count) => count.to_string(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key} {value:?}");
    });
    Revision(Sha256::digest(text.as_bytes()).into())
}

/// Returns what a policy means, key by key.
pub(crate) fn outline(parts: &Parts<'_>) -> Outline {
    let mut outline = outline::Outliner::default();
    write(parts, |key, value| outline.add(key, value));
    outline.finish()
}

/// One line of the form.
enum Entry {
    /// The one value of a key.
    Only(String),
    /// How many values of a key follow.
    Count(usize),
    /// One of several.
    Member(String),
}

fn write(parts: &Parts<'_>, put: impl FnMut(&'static str, Entry)) {
    let Parts { mode, defaults, network, drafts, credentials } = *parts;
    let mut form = Form(put);
    form.line("form", 1);
    form.line(
        "mode",
        match mode {
            Mode::Enforce => "enforce",
            Mode::Report => "report",
        },
    );
    // The other defaults are in the rules that take them.
    if mode == Mode::Report {
        form.limits(&defaults.limits);
    }
    form.network(network);
    for draft in drafts {
        form.rule(draft);
    }
    let by_id = credentials.iter().map(|credential| (credential.id(), credential));
    for credential in by_id.collect::<std::collections::BTreeMap<_, _>>().into_values() {
        form.credential(credential);
    }
}

/// Lines of key and value; a value is quoted and escaped, so that no value looks like a line.
struct Form<F>(F);

impl<F: FnMut(&'static str, Entry)> Form<F> {
    fn line(&mut self, key: &'static str, value: impl Display) {
        (self.0)(key, Entry::Only(value.to_string()));
    }

    fn set<T: Display>(&mut self, key: &'static str, values: impl IntoIterator<Item = T>) {
        let values: BTreeSet<String> = values.into_iter().map(|value| value.to_string()).collect();
        (self.0)(key, Entry::Count(values.len()));
        for value in values {
            (self.0)(key, Entry::Member(value));
        }
    }

    fn network(&mut self, network: &Network) {
        let Network { deny, nat64, allow } = network;
        self.set("network.deny", deny);
        self.set("network.nat64", nat64);
        // One entry for each pair: two entries of one range are the same as one for both rules.
        let pairs = allow.iter().flat_map(|unlock| {
            unlock.rules.iter().map(|rule| format!("{} {rule}", unlock.network))
        });
        self.set("network.allow", pairs);
    }

    fn rule(&mut self, draft: &Draft) {
        let Rule {
            id,
            effect,
            workers,
            schemes,
            ports,
            methods,
            paths,
            tls,
            sni,
            ech,
            expires,
            limits,
            lends: _,
            span: _,
            line: _,
            column: _,
        } = &draft.rule;
        self.line("rule", id);
        self.line(
            "effect",
            match effect {
                Effect::Allow => "allow",
                Effect::Deny => "deny",
            },
        );
        match &workers.ids {
            Some(ids) => self.set("ids", ids),
            None => self.line("ids", "*"),
        }
        self.set("labels", workers.labels.iter().map(|pair| format!("{pair:?}")));
        self.set("hosts", draft.hosts.iter().map(|pattern| host(&pattern.value)));
        self.set("schemes", schemes.iter());
        match ports.are_every() {
            true => self.line("ports", "*"),
            false => self.set("ports", ports.iter()),
        }
        match methods {
            Methods::Every => self.line("methods", "*"),
            Methods::Listed(methods) => self.set("methods", methods),
        }
        match paths {
            Paths::Every => self.line("paths", "*"),
            Paths::Listed(paths) => self.set("paths", paths),
        }
        // What follows bounds what is let through; a deny has none of it, whatever the defaults.
        if *effect == Effect::Deny {
            return;
        }
        if schemes.contain(Scheme::Https) {
            self.line(
                "tls",
                match tls {
                    Tls::Tunnel => "tunnel",
                    Tls::Intercept => "intercept",
                },
            );
        }
        self.line(
            "sni",
            match sni {
                SniDemand::Required => "required",
                SniDemand::Optional => "optional",
            },
        );
        self.line(
            "ech",
            match ech {
                Ech::Refuse => "refuse",
                Ech::Allow => "allow",
            },
        );
        self.set("expires", expires);
        self.limits(limits);
        self.set("credentials", draft.credentials.iter().map(|id| &id.value));
    }

    fn limits(&mut self, limits: &RuleLimits) {
        let RuleLimits {
            idle_timeout,
            max_duration,
            max_request_bytes,
            max_response_bytes,
            requests_per_minute,
            tunnels,
            bytes_up_per_day,
            bytes_down_per_day,
        } = limits;
        self.line("idle_timeout", idle_timeout.as_millis());
        self.line("max_duration", max_duration.as_millis());
        self.line("max_request_bytes", max_request_bytes);
        self.line("max_response_bytes", max_response_bytes);
        self.set("requests_per_minute", requests_per_minute);
        self.set("tunnels", tunnels);
        self.set("bytes_up_per_day", bytes_up_per_day);
        self.set("bytes_down_per_day", bytes_down_per_day);
    }

    fn credential(&mut self, credential: &Credential) {
        let Credential { id, secret, hosts, inject, required, unscannable } = credential;
        self.line("credential", id);
        self.line("secret", secret);
        self.set("hosts", hosts.iter().map(|(host, port)| format!("{host}:{port}")));
        self.inject(inject);
        self.line("required", required);
        self.line(
            "unscannable",
            match unscannable {
                Unscannable::Refuse => "refuse",
                Unscannable::Pass => "pass",
            },
        );
    }

    fn inject(&mut self, inject: &Inject) {
        match inject {
            Inject::Header { name, value } => {
                self.line("header", name);
                self.line("value", value);
            }
            Inject::Basic { user, password } => {
                self.line("user", user);
                self.line("password", password);
            }
            Inject::Query { key, value } => {
                self.line("query", key);
                self.line("value", value);
            }
            Inject::Placeholder { placeholder, places } => {
                self.line("placeholder", placeholder);
                self.set("in", places);
            }
            Inject::Sigv4 { access_key, secret_key, region, service } => {
                self.line("access_key", access_key);
                self.line("secret_key", secret_key);
                self.line("region", region);
                self.line("service", service);
            }
            Inject::Oauth2 { token_url, client_id, client_secret, scope } => {
                self.line("token_url", token_url);
                self.line("client_id", client_id);
                self.line("client_secret", client_secret);
                self.set("scope", scope);
            }
        }
    }
}

fn host(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Exact(Host::Name(name)) => name.to_string(),
        HostPattern::Exact(Host::Address(address)) => address.to_string(),
        HostPattern::AtOrBelow(name) => format!("+{name}"),
        HostPattern::Below(name) => format!(".{name}"),
        HostPattern::AnyName => "*".to_owned(),
        HostPattern::Anything => "**".to_owned(),
    }
}

#[cfg(test)]
mod tests;
