//! Permits: what a decision lets happen, to be spent on one exchange.
//!
//! Only deciding makes one, nothing clones one, and pinning consumes it: connecting without a
//! decision, or reusing one for a redirect, does not compile. A permit for a tunnel holds, for
//! each protocol that may turn out to be inside, the right to it or why there is none. Nothing
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

    /// Returns the revision of the policy that decided.
    pub fn revision(&self) -> Revision {
        self.ground.revision
    }
}

/// For each protocol that a tunnel may turn out to carry, the right to it or why there is none.
#[derive(Debug)]
pub(crate) struct Candidates {
    pub(crate) https: Result<Right, Denial>,
    pub(crate) http: Result<Right, Denial>,
    pub(crate) tcp: Result<Right, Denial>,
    /// How far the rules came for host and port, whatever the protocol.
    pub(crate) furthest: Reason,
}

impl Candidates {
    pub(crate) fn all(&self) -> [&Result<Right, Denial>; 3] {
        [&self.https, &self.http, &self.tcp]
    }

    pub(crate) fn all_mut(&mut self) -> [&mut Result<Right, Denial>; 3] {
        [&mut self.https, &mut self.http, &mut self.tcp]
    }

    pub(crate) fn are_none(&self) -> bool {
        self.all().iter().all(|candidate| candidate.is_err())
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let by_rule = |candidate: &&Result<Right, Denial>| matches!(candidate, Ok(Right::Rule(_)));
        match self.all().iter().any(by_rule) {
            true => Verdict::Allow,
            false => Verdict::WouldDeny(self.furthest),
        }
    }
}
