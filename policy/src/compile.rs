//! Text to policy: every section is read, every check made, every problem collected.
//!
//! Sections are read first, each by its own module; then what holds between them is checked:
//! rules that overlap, and where credentials go. Only a text without any problem becomes a
//! policy. There is no clock here, so whether something has expired is judged when deciding.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::canonical::{self, Outline, Parts};
use crate::credential::Credential;
use crate::host::HostName;
use crate::index::{Index, IndexBuilder};
use crate::permit::Ground;
use crate::policy::{Loaded, Need, NeedKind, Policy};
use crate::rule::{CredentialId, Effect, Lends};
use crate::source::{Document, Report, Span, Table};

use self::defaults::StatedDefaults;
pub(crate) use self::rule::Draft;

mod credential;
mod defaults;
mod fields;
mod hosts;
mod inject;
mod network;
mod overlap;
mod own_tests;
mod proof;
mod rule;

/// Reads a policy file.
pub(crate) fn load(text: &str) -> Loaded {
    let document = Document::parse(text);
    let policy = compile(&document.root(), document.report(), |_| ());
    let broken = document.report().problem_count() > 0;
    let (problems, warnings) = document.finish();
    let policy = policy.filter(|_| !broken).map(|(policy, ())| policy);
    Loaded { policy, problems, warnings }
}

/// Reads what a policy file means; nothing if there is a problem with it.
pub(crate) fn outline(text: &str) -> Option<Outline> {
    let document = Document::parse(text);
    let compiled = compile(&document.root(), document.report(), canonical::outline);
    let (problems, _) = document.finish();
    compiled.filter(|_| problems.is_empty()).map(|(_, outline)| outline)
}

/// Returns something only where nothing essential is missing; problems refuse it all the same.
/// `look` sees the parts before they become the policy.
fn compile<T>(
    root: &Table<'_>,
    report: &Report<'_>,
    look: impl FnOnce(&Parts<'_>) -> T,
) -> Option<(Policy, T)> {
    read_version(root);
    let defaults = defaults::read(root);
    let mut drafts: Vec<Draft> = root
        .find("rule")
        .map(|rules| rules.tables("a rule"))
        .unwrap_or_default()
        .iter()
        .map(|table| rule::read(table, &defaults))
        .collect();
    let credentials = credential::read(root);
    let network = network::read(root, &drafts);
    let tests = own_tests::read(root, &drafts);

    check_unique(
        report,
        "rule",
        drafts.iter().map(|draft| (draft.rule.id.as_str(), &draft.id_span)),
    );
    let ids = credentials.credentials.iter().map(|one| (one.credential.id.as_str(), &one.id_span));
    check_unique(report, "credential", ids);
    let index = index(&drafts);
    overlap::check(&index, &drafts, report);
    proof::check(&drafts, &credentials, report);
    hosts::warn_of_forbidden_literals(&drafts, &network, report);
    if report.problem_count() > 0 {
        return None;
    }

    let credentials: Box<[_]> =
        credentials.credentials.into_iter().map(|stated| stated.credential).collect();
    let by_id: BTreeMap<_, _> =
        credentials.iter().enumerate().map(|(at, one)| (&one.id, (at, one))).collect();
    for draft in &mut drafts {
        draft.rule.lends = lends(draft, &by_id);
    }
    let needs = needs(&drafts, &defaults, report);
    let StatedDefaults { mode, defaults, .. } = defaults;
    let parts = Parts {
        mode,
        defaults: &defaults,
        network: &network,
        drafts: &drafts,
        credentials: &credentials,
    };
    let (revision, seen) = (canonical::revision(&parts), look(&parts));
    let policy = Policy {
        ground: Arc::new(Ground { revision, network, limits: defaults.limits.clone() }),
        mode,
        defaults,
        rules: drafts.into_iter().map(|draft| Arc::new(draft.rule)).collect(),
        index,
        credentials,
        tests: tests.into(),
        needs: needs.into(),
    };
    Some((policy, seen))
}

fn read_version(root: &Table<'_>) {
    let Some(value) = root.require("version", "write `version = 1` at the top") else { return };
    let Some(version) = value.integer(0..=u64::MAX) else { return };
    if version.value != VERSION {
        let message = format!("version {} is not known", version.value);
        value.problem(message, "write `version = 1`; a newer file needs a newer egret");
    }
}

fn check_unique<'a>(
    report: &Report<'_>,
    what: &str,
    ids: impl Iterator<Item = (&'a str, &'a Span)>,
) {
    let mut first: BTreeMap<&str, &Span> = BTreeMap::new();
    for (id, span) in ids.filter(|(id, _)| *id != rule::NO_ID) {
        if let Some(earlier) = first.get(id) {
            let (line, _) = report.position(earlier.start);
            let message = format!("{what} `{id}` is already on line {line}");
            report.problem(span, message, "give each its own id");
        }
        first.entry(id).or_insert(span);
    }
}

fn index(drafts: &[Draft]) -> Index {
    let mut builder = IndexBuilder::default();
    for (at, draft) in drafts.iter().enumerate() {
        for pattern in &draft.hosts {
            builder.add(&pattern.value, at as u32);
        }
    }
    builder.build()
}

/// Where a rule's hosts and the hosts of its credentials meet, in order; the credentials of each
/// place in the order of the file.
fn lends(
    draft: &Draft,
    credentials: &BTreeMap<&CredentialId, (usize, &Credential)>,
) -> Box<[Lends]> {
    let named: BTreeMap<usize, &Credential> =
        draft.credentials.iter().filter_map(|id| credentials.get(&id.value).copied()).collect();
    let mut meetings: BTreeMap<(&HostName, u16), Vec<CredentialId>> = BTreeMap::new();
    for credential in named.values() {
        for (host, port) in &credential.hosts {
            if draft.names(host) && draft.rule.ports.contain(*port) {
                meetings.entry((host, *port)).or_default().push(credential.id.clone());
            }
        }
    }
    let meetings = meetings.into_iter().map(|((host, port), credentials)| Lends {
        host: host.clone(),
        port,
        credentials: credentials.into(),
    });
    meetings.collect()
}

fn needs(drafts: &[Draft], defaults: &StatedDefaults, report: &Report<'_>) -> Vec<Need> {
    let mut needs = Vec::new();
    for draft in drafts {
        let mut need = |kind, span: Option<&Span>| {
            let span = span.unwrap_or(&draft.rule.span).clone();
            let (line, column) = report.position(span.start);
            needs.push(Need { kind, rule: draft.rule.id.clone(), span, line, column });
        };
        if draft.rule.effect == Effect::Allow && draft.rule.intercepts() {
            need(NeedKind::Interception, draft.tls_span.as_ref().or(defaults.tls_span.as_ref()));
        }
        if let Some(first) = draft.credentials.first() {
            need(NeedKind::Credentials, Some(&first.span));
        }
        if draft.rule.limits.are_counted() {
            need(NeedKind::CountedLimits, draft.limits_span.as_ref());
        }
    }
    needs
}

const VERSION: u64 = 1;

#[cfg(test)]
mod tests;
