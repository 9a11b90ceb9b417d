//! What must hold between rules that can meet at one host.
//!
//! The index gives the lists of rules that some host can meet together; most hosts of a rule meet
//! the same lists, and each two lists are looked at once. So a file is checked in about the time
//! that it takes to read it, and not in the square of it.

use std::collections::HashSet;

use crate::index::{Index, ListId, RuleAt};
use crate::rule::{Effect, Rule, Tls};
use crate::source::{Report, Span};
use crate::target::Scheme;

use super::rule::Draft;

pub(super) fn check(index: &Index, drafts: &[Draft], report: &Report<'_>) {
    let mut met: HashSet<(ListId, ListId)> = HashSet::new();
    // One problem for each allow is enough to mend it.
    let mut told: HashSet<&str> = HashSet::new();
    index.combinations(|lists, host| {
        for (at, ours) in lists.iter().enumerate() {
            for theirs in &lists[..=at] {
                if !met.insert((*ours, *theirs)) {
                    continue;
                }
                for (first, second) in pairs(index.list(ours), index.list(theirs)) {
                    let [first, second] = [first, second].map(|at| &drafts[at as usize]);
                    if first.whole
                        && second.whole
                        && let Some(conflict) = conflict(first, second, host)
                        && told.insert(conflict.allow.rule.id.as_str())
                    {
                        report.problem(conflict.span, conflict.message, conflict.fix);
                    }
                }
            }
        }
    });
}

/// Every pair of two different rules of two lists, the one that stands first in the file first.
fn pairs(ours: &[RuleAt], theirs: &[RuleAt]) -> impl Iterator<Item = (RuleAt, RuleAt)> {
    ours.iter()
        .flat_map(|our| theirs.iter().map(|their| (*our.min(their), *our.max(their))))
        .filter(|(first, second)| first != second)
}

/// Two rules that cannot both hold.
struct Conflict<'d> {
    /// The allow that has to change, or the later of two.
    allow: &'d Draft,
    span: &'d Span,
    message: String,
    fix: String,
}

fn conflict<'d>(
    first: &'d Draft,
    second: &'d Draft,
    host: &dyn Fn() -> String,
) -> Option<Conflict<'d>> {
    let (ours, theirs) = (&first.rule, &second.rule);
    if !ours.workers.may_share(&theirs.workers) || !ours.ports.may_share(&theirs.ports) {
        return None;
    }
    match (ours.effect, theirs.effect) {
        (Effect::Allow, Effect::Allow) => mixed(first, second, host),
        (Effect::Deny, Effect::Allow) => unseen(first, second, host),
        (Effect::Allow, Effect::Deny) => unseen(second, first, host),
        (Effect::Deny, Effect::Deny) => None,
    }
}

/// The first bytes of a tunnel could not say which of two allows it is for.
fn mixed<'d>(
    first: &'d Draft,
    second: &'d Draft,
    host: &dyn Fn() -> String,
) -> Option<Conflict<'d>> {
    let (ours, theirs) = (way(&first.rule), way(&second.rule));
    let mix = match (ours, theirs) {
        (Way::Tunnel, Way::Intercept) | (Way::Intercept, Way::Tunnel) => true,
        (Way::Tcp, Way::Tunnel | Way::Intercept | Way::Plain)
        | (Way::Tunnel | Way::Intercept | Way::Plain, Way::Tcp) => true,
        (Way::Plain, Way::Plain | Way::Tunnel | Way::Intercept)
        | (Way::Tunnel | Way::Intercept, Way::Plain)
        | (Way::Tunnel, Way::Tunnel)
        | (Way::Intercept, Way::Intercept)
        | (Way::Tcp, Way::Tcp)
        | (Way::Nothing, _)
        | (_, Way::Nothing) => false,
    };
    mix.then(|| Conflict {
        allow: second,
        span: second.tls_span.as_ref().unwrap_or(&second.id_span),
        message: format!(
            "rule `{}` has `{}` as {}, and rule `{}` as {}, for one worker and port",
            second.rule.id,
            host(),
            theirs.as_str(),
            first.rule.id,
            ours.as_str()
        ),
        fix: "let both treat it alike, or keep their workers, hosts or ports apart".to_owned(),
    })
}

/// A deny on methods or paths that an allow keeps out of sight.
fn unseen<'d>(
    deny: &'d Draft,
    allow: &'d Draft,
    host: &dyn Fn() -> String,
) -> Option<Conflict<'d>> {
    let span = deny.request_span.as_ref()?;
    let hidden = |scheme: Scheme| match scheme {
        Scheme::Https => allow.rule.tls == Tls::Tunnel,
        Scheme::Tcp => true,
        Scheme::Http => false,
    };
    let mut shared = allow.rule.schemes.iter().filter(|one| deny.rule.schemes.contain(*one));
    if !shared.any(hidden) {
        return None;
    }
    let (denied_by, allowed_by) = (&deny.rule.id, &allow.rule.id);
    let remedy = match way(&allow.rule) {
        Way::Tcp => format!("write `schemes = [\"https\", \"http\"]` in `{denied_by}`"),
        Way::Tunnel | Way::Intercept | Way::Plain | Way::Nothing => {
            format!("write `tls = \"intercept\"` in `{allowed_by}`")
        }
    };
    Some(Conflict {
        allow,
        span,
        message: format!(
            "deny `{denied_by}` judges requests, but rule `{allowed_by}` lets `{}` through \
             uninspected",
            host()
        ),
        fix: format!("{remedy}, or deny without `methods` and `paths`"),
    })
}

/// What a tunnel under a rule is, apart from plain HTTP where TLS is possible too.
#[derive(Clone, Copy)]
enum Way {
    Tunnel,
    Intercept,
    Tcp,
    Plain,
    Nothing,
}

impl Way {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tunnel => "a blind tunnel",
            Self::Intercept => "intercepted",
            Self::Tcp => "opaque tcp",
            Self::Plain => "plain http",
            Self::Nothing => "nothing",
        }
    }
}

fn way(rule: &Rule) -> Way {
    if rule.schemes.contain(Scheme::Tcp) {
        Way::Tcp
    } else if rule.schemes.contain(Scheme::Https) {
        match rule.tls {
            Tls::Tunnel => Way::Tunnel,
            Tls::Intercept => Way::Intercept,
        }
    } else if rule.schemes.contain(Scheme::Http) {
        Way::Plain
    } else {
        Way::Nothing
    }
}
