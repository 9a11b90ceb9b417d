//! The proof of injection: every place that a credential lists can be reached, and only inspected.
//!
//! For each host of a credential there must be a rule that allows exactly it, intercepts, and
//! names the credential. A rule may name more hosts than its credentials have: what goes there
//! carries none. Where two credentials of a rule meet, they must not write the same field.

use std::collections::BTreeMap;

use crate::credential::{Clash, Place};
use crate::host::HostName;
use crate::rule::{CredentialId, Effect};
use crate::source::{At, Report, Span, nearest};

use super::credential::{Stated, StatedCredential};
use super::rule::Draft;

/// Looks at nothing while a credential is not whole: what is missing may be what could not be read.
pub(super) fn check(drafts: &[Draft], stated: &Stated, report: &Report<'_>) {
    if !stated.whole {
        return;
    }
    let problems_before = report.problem_count();
    let mut naming: BTreeMap<&CredentialId, Vec<&Draft>> = BTreeMap::new();
    for draft in drafts {
        for id in &draft.credentials {
            naming.entry(&id.value).or_default().push(draft);
        }
    }
    for credential in &stated.credentials {
        let naming = naming.get(&credential.credential.id).map_or(&[][..], |naming| naming);
        check_hosts(credential, naming, drafts, report);
    }
    let proved = report.problem_count() == problems_before;
    let known: BTreeMap<&str, &StatedCredential> =
        stated.credentials.iter().map(|stated| (stated.credential.id.as_str(), stated)).collect();
    for draft in drafts.iter().filter(|draft| draft.rule.effect == Effect::Allow) {
        let mut named = Vec::new();
        for id in &draft.credentials {
            match known.get(id.value.as_str()) {
                Some(stated) => {
                    // Else the rule's side would only repeat what the credential's side has said.
                    if proved {
                        check_rule(draft, stated, &id.span, report);
                    }
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
fn check_hosts(
    stated: &StatedCredential,
    naming: &[&Draft],
    drafts: &[Draft],
    report: &Report<'_>,
) {
    let id = &stated.credential.id;
    if naming.is_empty() {
        // A rule that cannot be read may be the one that names it.
        if drafts.iter().all(|draft| draft.whole) {
            let fix =
                format!("add `credentials = [\"{id}\"]` to the rule for its hosts, or remove it");
            report.missing(&stated.id_span, format!("no rule names credential `{id}`"), fix);
        }
        return;
    }
    for At { value: place, span } in &stated.hosts {
        // A rule that cannot be read, or does not intercept, has its own problem.
        let excused = |draft: &Draft| !draft.whole || !draft.rule.intercepts();
        let proves = |draft: &Draft| draft.rule.can_match() && reaches(draft, place);
        if !naming.iter().any(|draft| excused(draft) || proves(draft)) {
            let (host, port) = place;
            let rule = &naming[0].rule.id;
            let message = format!(
                "no rule that names credential `{id}` allows exactly `{host}` on port {port} and \
                 intercepts"
            );
            let fix = match naming.iter().find(|draft| reaches(draft, place)) {
                Some(Draft { rule, .. }) => {
                    format!("rule `{}` has an empty list, so it matches nothing: fill it", rule.id)
                }
                None => format!(
                    "list `{host}` and {port} in `hosts` and `ports` of rule `{rule}` with `tls = \
                     \"intercept\"`, or take it off this list"
                ),
            };
            report.problem(span, message, fix);
        }
    }
}

/// The rule can place the credential somewhere.
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
    } else if !stated.hosts.iter().any(|host| reaches(draft, &host.value)) {
        report.problem(
            span,
            format!("rule `{rule}` names credential `{id}`, which goes to none of its hosts"),
            "take it off the list, or add the host to the credential",
        );
    }
}

/// Whether the rule names the very host and port.
fn reaches(draft: &Draft, (host, port): &(HostName, u16)) -> bool {
    draft.names(host) && draft.rule.ports.contain(*port)
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
        let shared = stated
            .credential
            .hosts
            .iter()
            .find(|place| other.credential.goes_to(&place.0, place.1) && reaches(draft, place));
        let clash = stated.credential.inject.clash(&other.credential.inject);
        if let (Some((host, _)), Some((clash, place))) = (shared, clash) {
            let other = &other.credential.id;
            let (message, fix) = match clash {
                Clash::BothWrite => {
                    (format!("credentials `{other}` and `{id}` both write `{place}`"), SPLIT)
                }
                Clash::Overwrites => (overwrites(id, other, &place), SPLIT),
                Clash::OtherOverwrites => (overwrites(other, id, &place), SPLIT),
                Clash::Nested => (
                    format!(
                        "one of the placeholders of credentials `{other}` and `{id}` contains \
                         the other, and both are looked for in `{place}`"
                    ),
                    "give each a placeholder that no other contains",
                ),
            };
            report.problem(span, format!("{message} at `{host}`"), fix);
        }
    }
}

fn overwrites(writer: &CredentialId, other: &CredentialId, place: &Place) -> String {
    format!("credential `{writer}` writes all of `{place}`, where `{other}` has its placeholder,")
}

const SPLIT: &str = "name one of them, or split the rule";
