//! What must hold between rules that can meet at one host.
//!
//! The index lists every combination of patterns that some host can meet; most hosts of a rule
//! give the same combination, which is looked at once. Each pair of rules is judged once, so a
//! file is checked in about the time that it takes to read it.

use std::collections::HashSet;

use crate::index::{Index, ListId};
use crate::rule::{Effect, Rule, Tls};
use crate::source::Report;
use crate::target::Scheme;

use super::rule::Draft;

pub(super) fn check(index: &Index, drafts: &[Draft], report: &Report<'_>) {
    let mut combinations: HashSet<Box<[ListId]>> = HashSet::new();
    let mut pairs: HashSet<(u32, u32)> = HashSet::new();
    // One problem for each rule is enough to mend it.
    let mut told: HashSet<u32> = HashSet::new();
    index.combinations(|lists, host| {
        if !combinations.insert(lists.into()) {
            return;
        }
        let mut rules: Vec<u32> =
            lists.iter().flat_map(|list| index.list(list)).copied().collect();
        rules.sort_unstable();
        rules.dedup();
        for (at, later) in rules.iter().enumerate() {
            for earlier in &rules[..at] {
                if !pairs.insert((*earlier, *later)) {
                    continue;
                }
                let pair = [earlier, later].map(|at| &drafts[*at as usize]);
                if pair.iter().all(|draft| draft.whole)
                    && let Some(conflict) = conflict(pair, &host)
                    && told.insert(if conflict.about_first { *earlier } else { *later })
                {
                    conflict.tell(pair, report);
                }
            }
        }
    });
}

struct Conflict {
    about_first: bool,
    message: String,
    fix: String,
}

impl Conflict {
    fn tell(self, [first, second]: [&Draft; 2], report: &Report<'_>) {
        let draft = if self.about_first { first } else { second };
        let span = match draft.rule.effect {
            Effect::Deny => draft.request_span.as_ref(),
            Effect::Allow => draft.tls_span.as_ref(),
        };
        report.problem(span.unwrap_or(&draft.id_span), self.message, self.fix);
    }
}

fn conflict(pair: [&Draft; 2], host: &dyn Fn() -> String) -> Option<Conflict> {
    let [first, second] = pair.map(|draft| &draft.rule);
    if !first.workers.may_share(&second.workers) || !first.ports.may_share(&second.ports) {
        return None;
    }
    match (first.effect, second.effect) {
        (Effect::Allow, Effect::Allow) => mixed(first, second, host),
        (Effect::Deny, Effect::Allow) => unseen(first, second, true, host),
        (Effect::Allow, Effect::Deny) => unseen(second, first, false, host),
        (Effect::Deny, Effect::Deny) => None,
    }
}

/// The first bytes of a tunnel could not say which of the two it is.
fn mixed(first: &Rule, second: &Rule, host: &dyn Fn() -> String) -> Option<Conflict> {
    let (ours, theirs) = (way(first), way(second));
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
        about_first: false,
        message: format!(
            "rule `{}` has {} as {}, and rule `{}` as {}, for one worker and port",
            second.id,
            host(),
            theirs.as_str(),
            first.id,
            ours.as_str()
        ),
        fix: "let both treat it alike, or keep their workers, hosts or ports apart".to_owned(),
    })
}

/// A deny on methods or paths that an allow keeps out of sight.
fn unseen(
    deny: &Rule,
    allow: &Rule,
    deny_first: bool,
    host: &dyn Fn() -> String,
) -> Option<Conflict> {
    let hidden = |scheme: &Scheme| match scheme {
        Scheme::Https => allow.tls == Tls::Tunnel,
        Scheme::Tcp => true,
        Scheme::Http => false,
    };
    let both = |scheme: &Scheme| deny.schemes.contain(*scheme);
    let hidden = allow.schemes.iter().filter(both).any(|scheme| hidden(&scheme));
    (hidden && deny.judges_requests()).then(|| Conflict {
        about_first: deny_first,
        message: format!(
            "deny `{}` judges requests, but rule `{}` lets {} through uninspected",
            deny.id,
            allow.id,
            host()
        ),
        fix: format!(
            "write `tls = \"intercept\"` in `{}`, or deny without `methods` and `paths`",
            allow.id
        ),
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
