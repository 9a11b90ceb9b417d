//! What must hold between rules that can meet at one host.
//!
//! The index gives the lists of rules that some host can meet together; most hosts of a rule meet
//! the same lists, and each two lists are looked at once. Within them only kinds of rules that
//! could conflict are held against each other, and of those with worker ids only those that share
//! one. So a file is checked in about the time that it takes to read it, and not in the square of
//! it; rules that only labels or ports keep apart are still compared pair by pair.

use std::collections::{HashMap, HashSet};

use crate::index::{Index, ListId, RuleAt};
use crate::rule::{Effect, Rule, Tls};
use crate::source::{Report, Span};
use crate::target::Scheme;
use crate::worker::WorkerId;

use super::rule::Draft;

pub(super) fn check(index: &Index, drafts: &[Draft], report: &Report<'_>) {
    let mut met: HashSet<(ListId, ListId)> = HashSet::new();
    let mut kinds: HashMap<ListId, Vec<Group<'_>>> = HashMap::new();
    // One problem for each allow is enough to mend it.
    let mut told: HashSet<&str> = HashSet::new();
    index.combinations(|lists, host| {
        for (at, ours) in lists.iter().enumerate() {
            for theirs in &lists[..=at] {
                if !met.insert((*ours, *theirs)) {
                    continue;
                }
                for id in [ours, theirs] {
                    kinds.entry(*id).or_insert_with(|| groups(index.list(id), drafts));
                }
                each_pair(&kinds[ours], &kinds[theirs], drafts, |first, second| {
                    let (first, second) = (&drafts[first as usize], &drafts[second as usize]);
                    let allow = match second.rule.effect {
                        Effect::Allow => second,
                        Effect::Deny => first,
                    };
                    let id = allow.rule.id.as_str();
                    if !told.contains(id)
                        && let Some(conflict) = conflict(first, second, host)
                    {
                        told.insert(id);
                        report.problem(conflict.span, conflict.message, conflict.fix);
                    }
                });
            }
        }
    });
}

/// What a rule can be in conflict about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An allow.
    Allow(Way),
    /// A deny on methods or paths.
    Judging,
}

/// The kind of a rule, if it can be in conflict with another.
fn kind(draft: &Draft) -> Option<Kind> {
    if !draft.whole || draft.rule.workers.are_none() {
        return None;
    }
    match (draft.rule.effect, way(&draft.rule)) {
        (Effect::Allow, Way::Nothing) => None,
        (Effect::Allow, way) => Some(Kind::Allow(way)),
        (Effect::Deny, _) => draft.request_span.as_ref().map(|_| Kind::Judging),
    }
}

fn may_conflict(ours: Kind, theirs: Kind) -> bool {
    match (ours, theirs) {
        (Kind::Allow(ours), Kind::Allow(theirs)) => mix(ours, theirs),
        (Kind::Judging, Kind::Allow(way)) | (Kind::Allow(way), Kind::Judging) => match way {
            Way::Tunnel | Way::Tcp => true,
            Way::Intercept | Way::Plain | Way::Nothing => false,
        },
        (Kind::Judging, Kind::Judging) => false,
    }
}

/// The rules of one kind in a list, in the order of the file.
struct Group<'d> {
    kind: Kind,
    rules: Vec<RuleAt>,
    by_worker: HashMap<&'d WorkerId, Vec<RuleAt>>,
    /// Those without worker ids.
    by_none: Vec<RuleAt>,
}

fn groups<'d>(list: &[RuleAt], drafts: &'d [Draft]) -> Vec<Group<'d>> {
    let mut groups: Vec<Group<'d>> = Vec::new();
    for at in list {
        let draft = &drafts[*at as usize];
        let Some(kind) = kind(draft) else { continue };
        let known = groups.iter().position(|group| group.kind == kind).unwrap_or_else(|| {
            let (rules, by_worker, by_none) = (Vec::new(), HashMap::new(), Vec::new());
            groups.push(Group { kind, rules, by_worker, by_none });
            groups.len() - 1
        });
        let group = &mut groups[known];
        group.rules.push(*at);
        match &draft.rule.workers.ids {
            Some(ids) => {
                ids.iter().for_each(|id| group.by_worker.entry(id).or_default().push(*at));
            }
            None => group.by_none.push(*at),
        }
    }
    groups
}

/// Calls `seen` with pairs of rules of two lists, the one that stands first in the file first:
/// every pair that may conflict, some more than once.
fn each_pair(
    ours: &[Group<'_>],
    theirs: &[Group<'_>],
    drafts: &[Draft],
    mut seen: impl FnMut(RuleAt, RuleAt),
) {
    for our in ours {
        for their in theirs.iter().filter(|their| may_conflict(our.kind, their.kind)) {
            let (few, many) = match our.rules.len() <= their.rules.len() {
                true => (our, their),
                false => (their, our),
            };
            for one in &few.rules {
                many.sharing(&drafts[*one as usize], |other| {
                    seen(*one.min(&other), *one.max(&other))
                });
            }
        }
    }
}

impl Group<'_> {
    /// Calls `seen` with the rules that may be for a worker of `draft`.
    fn sharing(&self, draft: &Draft, seen: impl FnMut(RuleAt)) {
        let of = |id: &WorkerId| self.by_worker.get(id).map_or(&[][..], |rules| rules);
        match &draft.rule.workers.ids {
            Some(ids) if ids.iter().map(|id| of(id).len()).sum::<usize>() < self.rules.len() => {
                let sharing = ids.iter().flat_map(of).chain(&self.by_none);
                sharing.copied().for_each(seen);
            }
            Some(_) | None => self.rules.iter().copied().for_each(seen),
        }
    }
}

/// Two rules that cannot both hold.
struct Conflict<'d> {
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
    mix(ours, theirs).then(|| Conflict {
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

/// Whether a tunnel could not be both.
fn mix(ours: Way, theirs: Way) -> bool {
    match (ours, theirs) {
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
    }
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
#[derive(Clone, Copy, PartialEq, Eq)]
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
