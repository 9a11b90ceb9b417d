//! Decides requests and tunnels: the index finds the rules of the host, each is judged once.
//!
//! Any matching deny wins, else the first matching allow in the order of the file; what no rule
//! matched is denied with the furthest that any allow for this worker came, or let through in
//! report mode. Nothing is allocated. Names and literals of metadata services are refused here,
//! before anything is looked up, whatever the rules say.

use std::sync::Arc;

use jiff::Timestamp;

use crate::address::{is_metadata, metadata_name};
use crate::denial::{Denial, DenialDetail};
use crate::host::Host;
use crate::path;
use crate::permit::{Candidates, Permit, Right, TunnelPermit};
use crate::policy::{Mode, Policy};
use crate::reason::Reason;
use crate::rule::{Asked, Effect, Miss, Rule, RuleId};
use crate::target::{Authority, Method, Scheme, Target};
use crate::worker::Worker;

/// A request that asks to be let out.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who asks.
    pub worker: &'a Worker,
    /// How.
    pub method: Method<'a>,
    /// For what.
    pub target: &'a Target,
}

/// A CONNECT that asks to be let out.
#[derive(Clone, Copy, Debug)]
pub struct TunnelAsk<'a> {
    /// Who asks.
    pub worker: &'a Worker,
    /// For what.
    pub authority: &'a Authority,
}

impl Policy {
    /// Decides one request.
    pub fn decide(&self, ask: &Ask<'_>, now: Timestamp) -> Result<Permit, Denial> {
        let Ask { worker, method, target } = *ask;
        let (host, port) = (target.authority().host(), target.authority().port());
        let path = target.path();
        let request = Some((method.as_str(), path));
        let asked = Asked { worker, scheme: target.scheme(), port, request, now };
        let mut tally = Tally::default();
        let mut strict = false;
        self.index.visit(host, |list| {
            for at in list {
                let rule = self.rule(*at);
                strict |= rule.paths.are_listed();
                tally.count(*at, rule.effect, rule.miss(&asked));
            }
        });
        if strict && let Err(fault) = path::check(path) {
            return Err(Denial::with(Reason::TargetMalformed, DenialDetail::Path(fault)));
        }
        let right = self.outcome(&tally)?;
        refuse_metadata(host, right.id())?;
        Ok(Permit {
            ground: self.ground.clone(),
            worker: worker.id.clone(),
            host: host.clone(),
            port,
            scheme: target.scheme(),
            right,
        })
    }

    /// Decides one CONNECT: for each protocol that the tunnel may carry.
    pub fn decide_tunnel(
        &self,
        ask: &TunnelAsk<'_>,
        now: Timestamp,
    ) -> Result<TunnelPermit, Denial> {
        let TunnelAsk { worker, authority } = *ask;
        let (host, port) = (authority.host(), authority.port());
        let candidates = self.candidates(&self.tallies(ask, now))?;
        let by_rule = candidates.all().into_iter().find_map(|found| found.as_ref().ok()?.id());
        refuse_metadata(host, by_rule)?;
        Ok(TunnelPermit {
            ground: self.ground.clone(),
            worker: worker.id.clone(),
            host: host.clone(),
            port,
            candidates,
        })
    }

    /// How far the rules came for a tunnel of which the protocol is known.
    pub(crate) fn furthest(&self, ask: &TunnelAsk<'_>, scheme: Scheme, now: Timestamp) -> Reason {
        self.tallies(ask, now).of(scheme).reason()
    }

    fn tallies(&self, ask: &TunnelAsk<'_>, now: Timestamp) -> Tallies {
        let TunnelAsk { worker, authority } = *ask;
        let mut tallies = Tallies::default();
        self.index.visit(authority.host(), |list| {
            for at in list {
                tallies.count(*at, self.rule(*at), worker, authority.port(), now);
            }
        });
        tallies
    }

    pub(crate) fn rule(&self, at: u32) -> &Arc<Rule> {
        &self.rules[at as usize]
    }

    fn outcome(&self, tally: &Tally) -> Result<Right, Denial> {
        match (tally.deny, tally.allow) {
            (Some(at), _) => Err(Denial::by(&self.rule(at).id)),
            (None, Some(at)) => Ok(Right::Rule(self.rule(at).clone())),
            (None, None) => match self.mode {
                Mode::Enforce => Err(Denial::new(tally.reason())),
                Mode::Report => Ok(Right::Reported(tally.reason())),
            },
        }
    }

    fn candidates(&self, tallies: &Tallies) -> Result<Candidates, Denial> {
        let furthest = tallies.reason();
        let tcp = self.unseen(&tallies.tcp).map_err(of_protocol);
        let tcp = tcp.map(|right| match right {
            Right::Rule(_) => right,
            Right::Reported(_) => Right::Reported(Reason::ProtocolNotAllowed),
        });
        let https = self.unseen(&tallies.https);
        let http = self.outcome(&tallies.http);
        let candidates = Candidates { https, http, tcp, furthest };
        if !candidates.are_none() {
            return Ok(candidates);
        }
        match [&tallies.https, &tallies.http, &tallies.tcp].iter().filter_map(|t| t.deny).min() {
            Some(at) => Err(Denial::by(&self.rule(at).id)),
            None => Err(Denial::new(furthest)),
        }
    }

    /// The outcome for what passes unseen. A deny on methods or paths cannot be judged there; no
    /// allow overlaps it (that is a load error), and report mode does not soften it.
    fn unseen(&self, tally: &Tally) -> Result<Right, Denial> {
        match (self.outcome(tally)?, tally.unseen_deny) {
            (Right::Reported(_), Some(at)) => Err(Denial::by(&self.rule(at).id)),
            (right, _) => Ok(right),
        }
    }
}

/// A protocol that no rule has is called so, once the first bytes have shown it.
fn of_protocol(denial: Denial) -> Denial {
    if denial.reason == Reason::RuleDenied {
        return denial;
    }
    Denial::new(Reason::ProtocolNotAllowed)
}

/// Metadata services and this machine are never reached, so their names are never looked up.
fn refuse_metadata(host: &Host, rule: Option<&RuleId>) -> Result<(), Denial> {
    let metadata = match host {
        Host::Name(name) => metadata_name(name),
        Host::Address(address) => is_metadata(*address),
    };
    if !metadata {
        return Ok(());
    }
    let denial = Denial::with(Reason::AddressForbidden, DenialDetail::MetadataName);
    Err(denial.under(rule))
}

/// What the rules of a host say, rule by rule.
#[derive(Debug, Default)]
struct Tally {
    /// The first deny that matches.
    deny: Option<u32>,
    /// The first allow that matches.
    allow: Option<u32>,
    /// The first deny that would have to see the request.
    unseen_deny: Option<u32>,
    /// How far the allows came that do not match.
    furthest: Option<Miss>,
}

impl Tally {
    fn count(&mut self, at: u32, effect: Effect, miss: Option<Miss>) {
        match (effect, miss) {
            (Effect::Deny, None) => first(&mut self.deny, at),
            (Effect::Allow, None) => first(&mut self.allow, at),
            // A deny that does not match says nothing about what is allowed.
            (Effect::Deny, Some(_)) => {}
            (Effect::Allow, Some(Miss::Workers | Miss::Expired)) => {}
            (Effect::Allow, miss) => self.furthest = self.furthest.max(miss),
        }
    }

    /// Why nothing matched.
    fn reason(&self) -> Reason {
        match self.furthest {
            None | Some(Miss::Workers | Miss::Expired) => Reason::HostNotAllowed,
            Some(Miss::Scheme) => Reason::SchemeNotAllowed,
            Some(Miss::Port) => Reason::PortNotAllowed,
            Some(Miss::Method) => Reason::MethodNotAllowed,
            Some(Miss::Path) => Reason::PathNotAllowed,
        }
    }
}

/// What the rules of a host say about each protocol.
#[derive(Debug, Default)]
struct Tallies {
    https: Tally,
    http: Tally,
    tcp: Tally,
    /// Whether an allow for this worker names the host.
    named: bool,
}

impl Tallies {
    fn count(&mut self, at: u32, rule: &Rule, worker: &Worker, port: u16, now: Timestamp) {
        if rule.absent(worker, now).is_some() {
            return;
        }
        self.named |= rule.effect == Effect::Allow;
        for scheme in [Scheme::Https, Scheme::Http, Scheme::Tcp] {
            let tally = self.of(scheme);
            let miss = rule.misses_tunnel(scheme, port);
            if miss.is_none() && rule.effect == Effect::Deny && rule.judges_requests() {
                first(&mut tally.unseen_deny, at);
            } else {
                tally.count(at, rule.effect, miss);
            }
        }
    }

    fn of(&mut self, scheme: Scheme) -> &mut Tally {
        match scheme {
            Scheme::Https => &mut self.https,
            Scheme::Http => &mut self.http,
            Scheme::Tcp => &mut self.tcp,
        }
    }

    /// How far the rules came, with no protocol known: to the host, then to the port.
    fn reason(&self) -> Reason {
        if self.named { Reason::PortNotAllowed } else { Reason::HostNotAllowed }
    }
}

fn first(found: &mut Option<u32>, at: u32) {
    *found = Some(found.map_or(at, |earlier| earlier.min(at)));
}

#[cfg(test)]
mod tests;
