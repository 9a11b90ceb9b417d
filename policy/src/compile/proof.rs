//! The proof of injection: every place that a credential lists can be reached, and only inspected.
//!
//! For each host of a credential there must be a rule that allows exactly it, intercepts, and
//! names the credential. A rule may name more hosts than its credentials have: what goes there
//! carries none, which is warned of. Where two credentials of a rule meet, they must not write
//! the same field.

use std::collections::HashMap;

use crate::host::Host;
use crate::index::HostPattern;
use crate::rule::{Effect, Schemes};
use crate::source::{At, Report, Span, nearest};
use crate::target::Scheme;

use super::credential::StatedCredential;
use super::rule::Draft;

pub(super) fn check(drafts: &[Draft], credentials: &[StatedCredential], report: &Report<'_>) {
    for credential in credentials {
        check_hosts(credential, drafts, report);
    }
    let known: HashMap<&str, &StatedCredential> =
        credentials.iter().map(|stated| (stated.credential.id.as_str(), stated)).collect();
    for draft in drafts.iter().filter(|draft| draft.rule.effect == Effect::Allow) {
        let mut named = Vec::new();
        for id in &draft.credentials {
            match known.get(id.value.as_str()) {
                Some(stated) => {
                    check_rule(draft, stated, &id.span, report);
                    check_places(draft, &named, stated, &id.span, report);
                    named.push(*stated);
                }
                None => {
                    let fix = match nearest(id.value.as_str(), known.keys().copied()) {
                        Some(id) => format!("did you mean `{id}`?"),
                        None => "write the `id` of a `[[credential]]` of this file".to_owned(),
                    };
                    report.missing(&id.span, format!("no credential `{}`", id.value), fix);
                }
            }
        }
    }
}

/// Every place of the credential is reached under interception by a rule that names it.
fn check_hosts(stated: &StatedCredential, drafts: &[Draft], report: &Report<'_>) {
    let id = &stated.credential.id;
    let naming: Vec<&Draft> = drafts
        .iter()
        .filter(|draft| draft.credentials.iter().any(|named| named.value == *id))
        .collect();
    if naming.is_empty() {
        // A rule that cannot be read may be the one that names it.
        if drafts.iter().all(|draft| draft.whole) {
            let fix = format!("add `credentials = [\"{id}\"]` to the rule for its hosts, or remove it");
            report.missing(&stated.id_span, format!("no rule names credential `{id}`"), fix);
        }
        return;
    }
    for At { value: (host, port), span } in &stated.hosts {
        let reaches = |draft: &&Draft| {
            !draft.whole
                || draft.rule.intercepts() && draft.names(host) && draft.rule.ports.contain(*port)
        };
        if !naming.iter().any(reaches) {
            let rule = &naming[0].rule.id;
            let message = format!(
                "no rule that names credential `{id}` allows exactly `{host}` on port {port} and \
                 intercepts"
            );
            let fix = format!(
                "list `{host}` and {port} in `hosts` and `ports` of rule `{rule}` with `tls = \
                 \"intercept\"`, or take it off this list"
            );
            report.problem(span, message, fix);
        }
    }
}

/// The rule can place the credential; where it cannot, it says so.
fn check_rule(draft: &Draft, stated: &StatedCredential, span: &Span, report: &Report<'_>) {
    let (rule, id) = (&draft.rule.id, &stated.credential.id);
    if !draft.whole {
        return;
    }
    if !draft.rule.intercepts() {
        report.problem(
            span,
            format!("rule `{rule}` names credential `{id}` but does not intercept https"),
            "write `tls = \"intercept\"` and a scheme of https",
        );
        return;
    }
    let goes = |host: &Host, port: u16| match host {
        Host::Name(name) => stated.credential.goes_to(name, port),
        Host::Address(_) => false,
    };
    let goes_everywhere = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(host) => draft.rule.ports.iter().all(|port| goes(host, port)),
        HostPattern::AtOrBelow(_)
        | HostPattern::Below(_)
        | HostPattern::AnyName
        | HostPattern::Anything => false,
    };
    let only_https = draft.rule.schemes == Schemes::NONE.with(Scheme::Https);
    if !only_https || !draft.hosts.iter().all(|pattern| goes_everywhere(&pattern.value)) {
        report.warning(
            span,
            format!("rule `{rule}` reaches further than credential `{id}` goes"),
            format!("`{id}` is placed only over https at its own hosts; split the rule to say so"),
        );
    }
}

/// No two credentials are written to one place of one request.
fn check_places(
    draft: &Draft,
    earlier: &[&StatedCredential],
    stated: &StatedCredential,
    span: &Span,
    report: &Report<'_>,
) {
    let id = &stated.credential.id;
    for other in earlier {
        if other.credential.id == *id {
            report.problem(span, format!("credential `{id}` is named twice"), "name it once");
            continue;
        }
        let shared = stated.credential.hosts.iter().find(|(host, port)| {
            other.credential.goes_to(host, *port)
                && draft.names(host)
                && draft.rule.ports.contain(*port)
        });
        let theirs = other.credential.inject.places();
        let place = stated.credential.inject.places().into_iter().find(|one| theirs.contains(one));
        if let (Some((host, _)), Some(place)) = (shared, place) {
            let other = &other.credential.id;
            report.problem(
                span,
                format!("credentials `{other}` and `{id}` both write `{place}` at `{host}`"),
                "name one of them, or split the rule",
            );
        }
    }
}
