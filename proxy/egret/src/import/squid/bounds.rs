//! What earlier denies leave of the allows that follow them.
//!
//! `http_access deny !LIST` is how a squid.conf says what all that follows has to be: a port of
//! LIST, a source, a user, a host. `deny CONNECT !LIST` says so of tunnels.

use std::collections::BTreeSet;

use super::{
    Asked, Condition,
    acl::{Acl, Acls, Ports},
};
use crate::import::page::{Effect, Entry, Page, Rule};

/// What every allow has to keep from here on.
#[derive(Default)]
pub(super) struct Bounds {
    /// The first line that allows something.
    pub(super) first_allow: Option<usize>,
    /// Ports that must be, or must not be, of a list.
    ports: Vec<(bool, Ports)>,
    /// The same for tunnels alone.
    tunnel_ports: Vec<(bool, Ports)>,
    no_tunnels: bool,
    tunnels_alone: bool,
    hosts: Option<Vec<Entry>>,
    /// Users of whom the worker must be one.
    ids: Option<Vec<String>>,
    labels: BTreeSet<String>,
    /// Labels that rules ask for.
    used: BTreeSet<String>,
}

impl Bounds {
    /// Returns how many ranges a port is compared with.
    pub(super) fn ranges(&self) -> usize {
        self.ports.iter().chain(&self.tunnel_ports).map(|(_, ports)| ports.len()).sum()
    }

    /// Takes a deny as a bound, if it is one.
    pub(super) fn narrow(&mut self, conditions: &[Condition<'_>]) -> bool {
        match conditions {
            [Condition { holds, acl: Acl::Ports(ports), .. }] => {
                self.ports.push((!holds, ports.clone()));
            }
            [Condition { holds, acl, .. }] if is_connect(acl) => {
                self.no_tunnels |= holds;
                self.tunnels_alone |= !holds;
            }
            [Condition { holds: false, acl: Acl::Sources(_) | Acl::Users(None), name }] => {
                self.labels.insert((*name).to_owned());
            }
            [Condition { holds: false, acl: Acl::Users(Some(users)), .. }]
                if self.ids.is_none() =>
            {
                self.ids = Some(users.clone());
            }
            [Condition { holds: false, acl: Acl::Hosts(hosts), .. }] if self.hosts.is_none() => {
                self.hosts = Some(hosts.clone());
            }
            [one, other] => {
                let (connect, other) = match (is_connect(one.acl), is_connect(other.acl)) {
                    (true, false) => (one, other),
                    (false, true) => (other, one),
                    (true, true) | (false, false) => return false,
                };
                let (true, Acl::Ports(ports)) = (connect.holds, other.acl) else { return false };
                self.tunnel_ports.push((!other.holds, ports.clone()));
            }
            _ => return false,
        }
        true
    }

    /// Returns the rules that say what is asked for within the bounds: one for http and https, or
    /// one for each where they differ.
    pub(super) fn rules(
        &mut self,
        line: usize,
        source: &str,
        asked: Asked,
    ) -> Result<Vec<Rule>, String> {
        let Asked { hosts, ports, wide: _, methods, labels, ids } = asked;
        let hosts = match (hosts, &self.hosts) {
            (Some(asked), Some(bound)) if asked != *bound => {
                return Err("a deny before it names other hosts".to_owned());
            }
            (Some(hosts), _) => hosts,
            (None, Some(hosts)) => hosts.clone(),
            (None, None) => vec![Entry::Any],
        };
        let ids = match (ids, &self.ids) {
            (asked, Some(bound)) if !asked.is_empty() && asked != *bound => {
                return Err("a deny before it names other users".to_owned());
            }
            (asked, Some(bound)) if asked.is_empty() => bound.clone(),
            (asked, _) => asked,
        };
        let within = |bounds: &[(bool, Ports)], port: &u16| {
            bounds.iter().all(|(inside, ports)| ports.contain(*port) == *inside)
        };
        let of = |usual: u16| ports.clone().unwrap_or_else(|| BTreeSet::from([usual]));
        let any_method = methods.is_none();
        let mut plain = methods.unwrap_or_default();
        let tunnels = plain.remove("CONNECT") || any_method;
        // These are refused whatever a rule says, and none may name them.
        plain.retain(|method| !["TRACE", "TRACK", "DEBUG"].contains(&method.as_str()));
        let plainly = any_method || !plain.is_empty();
        let mut http = if plainly && !self.tunnels_alone { of(80) } else { BTreeSet::new() };
        let mut https = if tunnels && !self.no_tunnels { of(443) } else { BTreeSet::new() };
        http.retain(|port| within(&self.ports, port));
        https.retain(|port| within(&self.ports, port) && within(&self.tunnel_ports, port));
        if http.is_empty() && https.is_empty() {
            return Err("no port and method are left of it that a rule could name".to_owned());
        }
        let labels: BTreeSet<_> = self.labels.iter().cloned().chain(labels).collect();
        self.used.extend(labels.iter().cloned());
        let rule = |suffix: &str,
                    schemes: &[&'static str],
                    ports: BTreeSet<u16>,
                    methods: &BTreeSet<String>| Rule {
            id: format!("line-{line}{suffix}"),
            effect: Effect::Allow,
            line,
            source: source.to_owned(),
            labels: labels.iter().map(|name| (name.clone(), LABELLED.to_owned())).collect(),
            ids: ids.clone(),
            hosts: hosts.clone(),
            schemes: schemes.to_vec(),
            ports,
            methods: methods.iter().cloned().collect(),
        };
        if http == https && plain.is_empty() {
            return Ok(vec![rule("", &["http", "https"], http, &plain)]);
        }
        let rules = [
            (!http.is_empty()).then(|| rule("-http", &["http"], http, &plain)),
            (!https.is_empty()).then(|| rule("-https", &["https"], https, &BTreeSet::new())),
        ];
        Ok(rules.into_iter().flatten().collect())
    }

    /// Says whom to give which label.
    pub(super) fn explain_labels(&self, acls: &Acls, page: &mut Page) {
        for name in &self.used {
            let whom = match acls.find(name).map(|known| &known.acl) {
                Some(Acl::Sources(sources)) => {
                    format!("workers whose `source` is in {}", sources.join(", "))
                }
                Some(_) | None => "workers that show a token".to_owned(),
            };
            page.preface(&format!("Label `{name} = \"{LABELLED}\"`: for {whom}"));
        }
    }
}

fn is_connect(acl: &Acl) -> bool {
    matches!(acl, Acl::Methods(methods) if methods.iter().eq(["CONNECT"]))
}

/// The value of the labels that stand for lists.
const LABELLED: &str = "yes";
