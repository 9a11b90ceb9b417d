//! Which allows come closest to what was asked, and everything that keeps each of them from it.
//!
//! The tree of an explanation stops at the first thing that does not match, as deciding does. Who
//! is to mend a policy has to know all of them: what is one word away in one rule may be three in
//! another. Denies are left out, since one that does not match keeps nobody from anything.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Question, Subject, tree::said};
use crate::policy::Policy;
use crate::rule::{Asked, Effect, Miss, Rule, RuleId};
use crate::target::Scheme;

/// An allow that does not match what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearRule {
    /// Its id.
    pub id: RuleId,
    /// The line of the text that it stands in, from 1.
    pub line: usize,
    /// What it does not match in, and what it says about that.
    pub misses: Vec<(Field, String)>,
}

/// A key of a rule, as something that can fail to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `hosts` and `suffixes`.
    Hosts,
    /// `workers`.
    Workers,
    /// `expires`.
    Expires,
    /// `schemes`.
    Schemes,
    /// `ports`.
    Ports,
    /// `methods`.
    Methods,
    /// `paths`.
    Paths,
}

impl Field {
    /// Returns the key.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Workers => "workers",
            Self::Expires => "expires",
            Self::Schemes => "schemes",
            Self::Ports => "ports",
            Self::Methods => "methods",
            Self::Paths => "paths",
        }
    }
}

impl Policy {
    /// Returns the allows that name the host but do not match, those that miss least first, and
    /// then those that match in all but the host, in the order of the file.
    pub fn near(&self, question: &Question<'_>, now: Timestamp) -> Vec<NearRule> {
        let Ok(subject) = Subject::parse(question.url) else { return Vec::new() };
        let authority = subject.authority();
        let mut naming: BTreeSet<u32> = BTreeSet::new();
        self.index.visit(authority.host(), |list| naming.extend(list));
        let (scheme, path) = match &subject {
            Subject::Url(target) => (target.scheme(), target.path()),
            Subject::Opaque(_) => (Scheme::Tcp, ""),
        };
        let (mut named, mut others) = (Vec::new(), Vec::new());
        for (at, rule) in (0..).zip(&self.rules) {
            if rule.effect == Effect::Deny {
                continue;
            }
            let seen = match scheme {
                Scheme::Http => true,
                Scheme::Https => rule.intercepts(),
                Scheme::Tcp => false,
            };
            let request = seen.then_some((question.method, path));
            let asked =
                Asked { worker: question.worker, scheme, port: authority.port(), request, now };
            let misses = rule.misses(&asked);
            match (naming.contains(&at), misses.is_empty()) {
                (true, false) => named.push(near(rule, &misses)),
                (false, true) => others.push(elsewhere(rule)),
                (true, true) | (false, false) => {}
            }
        }
        named.sort_by_key(|near| near.misses.len());
        named.append(&mut others);
        named
    }
}

fn near(rule: &Rule, misses: &[Miss]) -> NearRule {
    let field = |miss: &Miss| match miss {
        Miss::Workers => Field::Workers,
        Miss::Expired => Field::Expires,
        Miss::Scheme => Field::Schemes,
        Miss::Port => Field::Ports,
        Miss::Method => Field::Methods,
        Miss::Path => Field::Paths,
    };
    let misses = misses.iter().map(|miss| (field(miss), said(rule, *miss))).collect();
    NearRule { id: rule.id.clone(), line: rule.line, misses }
}

fn elsewhere(rule: &Rule) -> NearRule {
    let misses = vec![(Field::Hosts, "names other hosts".to_owned())];
    NearRule { id: rule.id.clone(), line: rule.line, misses }
}
