//! `[[rule]]`: one rule, and what must hold within it.

use std::collections::HashSet;

use crate::host::{Host, HostName};
use crate::index::HostPattern;
use crate::rule::{CredentialId, Ech, Effect, Ports, Rule, RuleId, Schemes, SniDemand, Tls};
use crate::source::{At, Span, Table, nearest, shown};
use crate::target::Scheme;

use super::defaults::StatedDefaults;
use super::{fields, hosts};

/// A rule that has been read, with what is checked against other sections.
pub(crate) struct Draft {
    pub(crate) rule: Rule,
    pub(crate) hosts: Vec<At<HostPattern>>,
    pub(crate) credentials: Vec<At<CredentialId>>,
    /// The names that the rule lists as they are, where credentials may ask for them.
    exact: HashSet<HostName>,
    pub(super) id_span: Span,
    pub(super) tls_span: Option<Span>,
    pub(super) limits_span: Option<Span>,
    /// Where the rule first names methods or paths.
    pub(super) request_span: Option<Span>,
    /// Whether it was read without a problem, so that what others lack for it is their fault.
    pub(super) whole: bool,
}

impl Draft {
    /// Whether the rule, which names credentials, lists the name itself.
    pub(super) fn names(&self, host: &HostName) -> bool {
        self.exact.contains(host)
    }
}

fn exact(pattern: &HostPattern) -> Option<&HostName> {
    match pattern {
        HostPattern::Exact(Host::Name(name)) => Some(name),
        HostPattern::Exact(Host::Address(_))
        | HostPattern::AtOrBelow(_)
        | HostPattern::Below(_)
        | HostPattern::AnyName
        | HostPattern::Anything => None,
    }
}

/// Reads one rule; what cannot be read is left at its strictest, since the file is refused anyway.
pub(super) fn read(table: &Table<'_>, stated: &StatedDefaults) -> Draft {
    let report = table.report();
    let problems_before = report.problem_count();
    let stated_effect = read_effect(table);
    // What is neither is read as a deny, which asks for less; the file is refused anyway.
    let effect = stated_effect.unwrap_or(Effect::Deny);
    let id = table.require("id", "add `id = \"…\"`");
    let id_span = id.map_or(table.span().clone(), |value| value.span());
    let id = id.and_then(|value| {
        let text = value.text()?.value;
        let id = RuleId::parse(text);
        if id.is_none() {
            let message = format!("`{}` is not an id", shown(text));
            value.problem(message, ID_FIX);
        }
        id
    });
    let (line, column) = report.position(id_span.start);
    let mut draft = Draft {
        rule: Rule {
            id: id.unwrap_or_else(RuleId::unnamed),
            effect,
            workers: fields::workers(table, effect),
            schemes: fields::schemes(table, effect).unwrap_or(match effect {
                Effect::Allow => stated.defaults.schemes,
                Effect::Deny => Schemes::EVERY,
            }),
            ports: fields::ports(table, effect).unwrap_or_else(|| match effect {
                Effect::Allow => stated.defaults.ports.clone(),
                Effect::Deny => Ports::Every,
            }),
            methods: fields::methods(table, effect),
            paths: fields::paths(table, effect),
            tls: match effect {
                Effect::Allow => stated.defaults.tls,
                Effect::Deny => Tls::Tunnel,
            },
            sni: SniDemand::Required,
            ech: Ech::Refuse,
            expires: None,
            limits: stated.defaults.limits.clone(),
            lends: Box::default(),
            span: table.span().clone(),
            line,
            column,
        },
        hosts: hosts::read(table, effect),
        credentials: Vec::new(),
        exact: HashSet::new(),
        id_span,
        tls_span: None,
        limits_span: None,
        request_span: ["methods", "paths"].into_iter().find_map(|key| table.key_span(key)),
        whole: false,
    };
    match stated_effect {
        Some(Effect::Allow) => read_allow(table, &mut draft),
        Some(Effect::Deny) => refuse_allow_keys(table),
        None => ALLOW_KEYS.into_iter().for_each(|key| table.ignore(key)),
    }
    if !draft.credentials.is_empty() {
        draft.exact = draft.hosts.iter().filter_map(|at| exact(&at.value)).cloned().collect();
    }
    draft.whole = report.problem_count() == problems_before;
    draft
}

fn read_effect(table: &Table<'_>) -> Option<Effect> {
    table
        .require("effect", "add `effect = \"allow\"` or `effect = \"deny\"`")
        .and_then(|value| value.choice(&[("allow", Effect::Allow), ("deny", Effect::Deny)]))
        .map(|effect| effect.value)
}

fn read_allow(table: &Table<'_>, draft: &mut Draft) {
    let rule = &mut draft.rule;
    let tls = fields::tls(table);
    if let Some(tls) = &tls {
        rule.tls = tls.value;
    }
    if let Some(list) = table.find("credentials").and_then(|value| value.texts()) {
        let ids = list.value.into_iter().filter_map(|text| read_credential_id(table, &text));
        draft.credentials = ids.collect();
    }
    if let Some(expires) = table.find("expires").and_then(|value| value.instant()) {
        rule.expires = Some(expires.value);
    }
    let sni = [("required", SniDemand::Required), ("optional", SniDemand::Optional)];
    if let Some(sni) = table.find("sni").and_then(|value| value.choice(&sni)) {
        rule.sni = sni.value;
    }
    let ech = [("refuse", Ech::Refuse), ("allow", Ech::Allow)];
    if let Some(ech) = table.find("ech").and_then(|value| value.choice(&ech)) {
        rule.ech = ech.value;
    }
    if let Some(limits) = table.find("limits").and_then(|value| value.table("`limits`")) {
        draft.limits_span = Some(limits.span().clone());
        fields::single_limits(&limits, &mut rule.limits);
        fields::counted_limits(&limits, &mut rule.limits);
    }
    check_inspection(table, rule, tls.as_ref());
    draft.tls_span = tls.map(|tls| tls.span);
}

/// What names methods, paths or interception must be able to see requests.
fn check_inspection(table: &Table<'_>, rule: &Rule, tls: Option<&At<Tls>>) {
    let report = table.report();
    let opaque = rule.schemes.contain(Scheme::Tcp);
    let blind = rule.schemes.contain(Scheme::Https) && rule.tls == Tls::Tunnel;
    for (key, listed) in
        [("methods", rule.methods.are_listed()), ("paths", rule.paths.are_listed())]
    {
        let Some(span) = table.key_span(key).filter(|_| listed) else { continue };
        if opaque {
            report.problem(
                &span,
                format!("`{key}` on a rule with scheme tcp, which is never inspected"),
                format!("remove `{key}`"),
            );
        } else if blind {
            report.problem(
                &span,
                format!("`{key}` on a rule whose https is not inspected"),
                "write `tls = \"intercept\"`, or `schemes = [\"http\"]`",
            );
        }
    }
    if let Some(At { value: Tls::Intercept, span }) = tls
        && opaque
    {
        let message = "`tls = \"intercept\"` on a rule with scheme tcp, which is never inspected";
        report.problem(span, message, "remove `tls`, or write `schemes = [\"https\"]`");
    }
}

fn read_credential_id(table: &Table<'_>, text: &At<&str>) -> Option<At<CredentialId>> {
    let id = CredentialId::parse(text.value);
    if id.is_none() {
        let message = format!("`{}` is not an id", shown(text.value));
        table.report().problem(&text.span, message, ID_FIX);
    }
    Some(At { value: id?, span: text.span.clone() })
}

/// A deny is not bounded by anything that only describes what is let through.
fn refuse_allow_keys(table: &Table<'_>) {
    for key in ALLOW_KEYS {
        if let (Some(_), Some(span)) = (table.find(key), table.key_span(key)) {
            let fix = match key {
                "expires" => "remove it; take the rule out when it is no longer needed",
                _ => "remove it",
            };
            table.report().problem(&span, format!("a deny takes no `{key}`"), fix);
        }
    }
}

/// Reports that no rule has the id, and the one that was likely meant.
pub(super) fn report_unknown_id(drafts: &[Draft], table: &Table<'_>, text: &At<&str>) {
    let ids = drafts.iter().map(|draft| draft.rule.id.as_str()).filter(|id| *id != NO_ID);
    let fix = match nearest(text.value, ids) {
        Some(id) => format!("did you mean `{id}`?"),
        None => "write the `id` of a rule of this file".to_owned(),
    };
    table.report().missing(&text.span, format!("no rule `{}`", shown(text.value)), fix);
}

/// What a rule without a valid id is called.
pub(super) const NO_ID: &str = "?";
/// The keys that describe what is let through.
const ALLOW_KEYS: [&str; 6] = ["tls", "credentials", "expires", "sni", "ech", "limits"];
const ID_FIX: &str = "write 1 to 64 of `A-Z a-z 0-9 . _ -`, a letter or digit first";
