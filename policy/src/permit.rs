//! Permits: what a decision lets happen, to be spent on one exchange.
//!
//! Only deciding makes one, nothing clones one, and pinning consumes it: connecting without a
//! decision, or reusing one for a redirect, does not compile. A permit for a tunnel holds, for
//! each protocol that may turn out to be inside, the rights to it or why there is none. Nothing
//! here decides; the addresses are judged in `pin`.

use std::sync::Arc;

use jiff::Timestamp;

use crate::address::Network;
use crate::denial::Denial;
use crate::host::Host;
use crate::limits::RuleLimits;
use crate::policy::Revision;
use crate::reason::{Reason, Verdict};
use crate::rule::{Rule, RuleId};
use crate::target::Scheme;
use crate::worker::WorkerId;

/// The parts of a policy that a permit needs later; one shared copy for each policy.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) revision: Revision,
    pub(crate) network: Network,
    /// What bounds an exchange that no rule matched and that is only reported.
    pub(crate) limits: RuleLimits,
}

/// What entitles an exchange to go on.
#[derive(Clone, Debug)]
pub(crate) enum Right {
    /// A rule allows it.
    Rule(Arc<Rule>),
    /// No rule matched, for this reason, and the policy only reports.
    Reported(Reason),
}

impl Right {
    pub(crate) fn rule(&self) -> Option<&Arc<Rule>> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::Reported(_) => None,
        }
    }

    pub(crate) fn id(&self) -> Option<&RuleId> {
        self.rule().map(|rule| &rule.id)
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Rule(_) => Verdict::Allow,
            Self::Reported(reason) => Verdict::WouldDeny(*reason),
        }
    }

    pub(crate) fn limits<'a>(&'a self, ground: &'a Ground) -> &'a RuleLimits {
        self.rule().map_or(&ground.limits, |rule| &rule.limits)
    }

    pub(crate) fn expires(&self) -> Option<Timestamp> {
        self.rule().and_then(|rule| rule.expires)
    }
}

/// The right to one request, until its host has been resolved.
#[derive(Debug)]
pub struct Permit {
    pub(crate) ground: Arc<Ground>,
    pub(crate) worker: WorkerId,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) scheme: Scheme,
    pub(crate) right: Right,
    /// Whether some rule judged method or path, be it only to find that it does not match.
    pub(crate) judged: bool,
}

impl Permit {
    /// Returns the host that may be looked up.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the port that may be connected to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how the permit came about.
    pub fn verdict(&self) -> Verdict {
        self.right.verdict()
    }

    /// Returns the rule that allows the request; none where it is only reported.
    pub fn rule(&self) -> Option<&RuleId> {
        self.right.id()
    }

    /// Returns what bounds the exchange.
    pub fn limits(&self) -> &RuleLimits {
        self.right.limits(&self.ground)
    }

    /// Returns the revision of the policy that decided.
    pub fn revision(&self) -> Revision {
        self.ground.revision
    }
}

/// The right to one CONNECT, until its host has been resolved.
#[derive(Debug)]
pub struct TunnelPermit {
    pub(crate) ground: Arc<Ground>,
    pub(crate) worker: WorkerId,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) candidates: Candidates,
}

impl TunnelPermit {
    /// Returns the host that may be looked up.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the port that may be connected to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how the permit came about: allowed if any rule allows any protocol.
    pub fn verdict(&self) -> Verdict {
        self.candidates.verdict()
    }

    /// Returns what the tunnel would go on under, for each protocol that it may turn out to carry:
    /// the rule, or none where that is only reported, and what bounds it.
    pub fn outcomes(&self, now: Timestamp) -> impl Iterator<Item = (Option<&RuleId>, &RuleLimits)> {
        let candidates = self.candidates.all().into_iter();
        candidates.filter_map(move |candidate| candidate.outcome(&self.ground, now))
    }

    /// Says whether plain HTTP may go on in the tunnel, as far as that is known before its host is
    /// resolved.
    pub fn select_http(&self) -> Result<Verdict, Denial> {
        self.candidates.http.right().map(Right::verdict).map_err(Denial::clone)
    }

    /// Returns the first rule under which plain HTTP may go on in the tunnel.
    pub fn http_rule(&self, now: Timestamp) -> Option<&RuleId> {
        self.candidates.http.live(now).next().map(|rule| &rule.id)
    }

    /// Returns the revision of the policy that decided.
    pub fn revision(&self) -> Revision {
        self.ground.revision
    }
}

/// For each protocol that a tunnel may turn out to carry, the right to it or why there is none.
#[derive(Debug)]
pub(crate) struct Candidates {
    pub(crate) https: Candidate,
    pub(crate) http: Candidate,
    pub(crate) tcp: Candidate,
    /// How far the rules came for host and port, whatever the protocol.
    pub(crate) furthest: Reason,
}

impl Candidates {
    pub(crate) fn all(&self) -> [&Candidate; 3] {
        [&self.https, &self.http, &self.tcp]
    }

    pub(crate) fn all_mut(&mut self) -> [&mut Candidate; 3] {
        [&mut self.https, &mut self.http, &mut self.tcp]
    }

    pub(crate) fn of(&self, scheme: Scheme) -> &Candidate {
        match scheme {
            Scheme::Https => &self.https,
            Scheme::Http => &self.http,
            Scheme::Tcp => &self.tcp,
        }
    }

    pub(crate) fn are_none(&self) -> bool {
        self.all().iter().all(|candidate| candidate.right().is_err())
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match self.all().iter().any(|candidate| candidate.has_rule()) {
            true => Verdict::Allow,
            false => Verdict::WouldDeny(self.furthest),
        }
    }
}

/// The right to one protocol of a tunnel: by the first of its allows that holds when it is used.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The first allow, or what holds where no rule matches, or why nothing does.
    right: Result<Right, Denial>,
    /// The other allows, in the order of the file; hardly ever any.
    later: Vec<Arc<Rule>>,
    /// What holds once every allow has expired.
    without: Result<Right, Denial>,
}

impl Candidate {
    pub(crate) fn new(
        right: Result<Right, Denial>,
        later: Vec<Arc<Rule>>,
        without: Result<Right, Denial>,
    ) -> Self {
        Self { right, later, without }
    }

    pub(crate) fn right(&self) -> Result<&Right, &Denial> {
        self.right.as_ref()
    }

    pub(crate) fn is_denied_by_rule(&self) -> bool {
        self.right.as_ref().is_err_and(|denial| denial.reason == Reason::RuleDenied)
    }

    pub(crate) fn has_rule(&self) -> bool {
        self.rules().next().is_some()
    }

    /// Returns the allows, in the order of the file.
    fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.right.as_ref().ok().and_then(Right::rule).into_iter().chain(&self.later)
    }

    /// Returns the allows that have not expired, in the order of the file.
    pub(crate) fn live(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Rule>> {
        self.rules().filter(move |rule| !rule.has_expired(now))
    }

    /// Returns the right as it is at the time.
    pub(crate) fn at(&self, now: Timestamp) -> Result<Right, Denial> {
        match (self.live(now).next(), &self.right) {
            (Some(rule), _) => Ok(Right::Rule(rule.clone())),
            // As good as absent, all of them.
            (None, Ok(Right::Rule(rule))) => {
                self.without.clone().map_err(|denial| match denial.rule {
                    Some(_) => denial,
                    None => denial.under(Some(&rule.id)),
                })
            }
            (None, right) => right.clone(),
        }
    }

    /// Returns the rule of the right as it is at the time, and its limits; nothing where there is
    /// no right.
    pub(crate) fn outcome<'a>(
        &'a self,
        ground: &'a Ground,
        now: Timestamp,
    ) -> Option<(Option<&'a RuleId>, &'a RuleLimits)> {
        if let Some(rule) = self.live(now).next() {
            return Some((Some(&rule.id), &rule.limits));
        }
        // `at` says the same of who has no rule left; it clones the one that is left.
        self.at(now).ok().map(|_| (None, &ground.limits))
    }

    /// Gives what no rule matched another reason.
    pub(crate) fn call_unmatched(&mut self, reason: Reason) {
        for outcome in [&mut self.right, &mut self.without] {
            if let Ok(Right::Reported(own)) = outcome {
                *own = reason;
            }
        }
        self.call_refused(reason);
    }

    /// Gives what no rule matched another reason where it is refused and not only reported.
    pub(crate) fn call_refused(&mut self, reason: Reason) {
        for outcome in [&mut self.right, &mut self.without] {
            if let Err(denial) = outcome
                && denial.reason != Reason::RuleDenied
            {
                denial.reason = reason;
            }
        }
    }

    /// Drops every right that `judge` refuses. Returns the refusal if that was the last one.
    pub(crate) fn keep(
        &mut self,
        mut judge: impl FnMut(&Right) -> Result<(), Denial>,
    ) -> Option<Denial> {
        if let Ok(right) = &self.without
            && let Err(denial) = judge(right)
        {
            self.without = Err(denial);
        }
        self.later.retain(|rule| judge(&Right::Rule(rule.clone())).is_ok());
        let denial = judge(self.right.as_ref().ok()?).err()?;
        if self.later.is_empty() {
            self.right = Err(denial.clone());
            return Some(denial);
        }
        self.right = Ok(Right::Rule(self.later.remove(0)));
        None
    }
}
