//! Decides requests and tunnels: the index finds the rules of the host, each is judged once.
//!
//! Any matching deny wins, else the first matching allow in the order of the file; what no rule
//! matched is denied with the furthest that any allow for this worker came, or let through in
//! report mode. Nothing is allocated, but for a tunnel that several allows may turn out to be for;
//! it holds all of them, since an allow may expire or not reach the addresses. Names and literals of metadata services are refused here,
//! before anything is looked up, whatever the rules say.

use std::sync::Arc;

use jiff::Timestamp;

use crate::address::{is_metadata, metadata_name};
use crate::denial::{Denial, DenialDetail};
use crate::host::Host;
use crate::path;
use crate::permit::{Candidate, Candidates, Permit, Right, TunnelPermit};
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
        let (mut strict, mut judged) = (false, false);
        self.index.visit(host, |list| {
            for at in list {
                let rule = self.rule(*at);
                let miss = rule.miss(&asked);
                strict |= rule.paths.are_listed();
                judged |= rule.judges_requests() && !miss.is_some_and(Miss::is_absence);
                tally.count(*at, rule.effect, miss);
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
            judged,
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
        let candidates = self.candidates(self.tallies(ask, now))?;
        let by_rule = candidates.all().into_iter().find_map(|found| found.right().ok()?.id());
        refuse_metadata(host, by_rule)?;
        Ok(TunnelPermit {
            ground: self.ground.clone(),
            worker: worker.id.clone(),
            host: host.clone(),
            port,
            candidates,
        })
    }

    /// Why a tunnel is refused of which the protocol is known.
    pub(crate) fn refusal_of(
        &self,
        ask: &TunnelAsk<'_>,
        scheme: Scheme,
        now: Timestamp,
    ) -> Option<Denial> {
        let mut tallies = self.tallies(ask, now);
        self.candidate(scheme, tallies.of(scheme)).right().err().cloned()
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
            (None, None) => self.without(tally),
        }
    }

    /// The outcome as if no allow matched.
    fn without(&self, tally: &Tally) -> Result<Right, Denial> {
        match self.mode {
            Mode::Enforce => Err(Denial::new(tally.reason())),
            Mode::Report => Ok(Right::Reported(tally.reason())),
        }
    }

    fn candidates(&self, mut tallies: Tallies) -> Result<Candidates, Denial> {
        let furthest = tallies.reason();
        let (beating, first_deny) = (tallies.beating_deny(), tallies.first_deny());
        let https = self.candidate(Scheme::Https, &mut tallies.https);
        let mut http = self.candidate(Scheme::Http, &mut tallies.http);
        let mut tcp = self.candidate(Scheme::Tcp, &mut tallies.tcp);
        // The tunnel opens for others, so only its first bytes show that those are not meant.
        if https.has_rule() || http.has_rule() {
            tcp.call_unmatched(Reason::ProtocolNotAllowed);
        }
        if https.has_rule() {
            // Where it is only reported, each request inside says by itself what it lacks.
            http.call_refused(Reason::ProtocolNotAllowed);
        }
        let candidates = Candidates { https, http, tcp, furthest };
        if !candidates.are_none() {
            return Ok(candidates);
        }
        // A deny is to blame if it beat an allow, or if each protocol has one; another only denies
        // what nothing allowed anyway.
        let each = candidates.all().iter().all(|candidate| candidate.is_denied_by_rule());
        Err(match beating.or(first_deny.filter(|_| each)) {
            Some(at) => Denial::by(&self.rule(at).id),
            None => Denial::new(furthest),
        })
    }

    fn candidate(&self, scheme: Scheme, tally: &mut TunnelTally) -> Candidate {
        tally.sort();
        let TunnelTally { tally, others } = &*tally;
        // A deny on methods or paths cannot be judged where nothing is seen; no allow overlaps it
        // (that is a load error), and report mode does not soften it.
        let unseen = match scheme {
            Scheme::Https | Scheme::Tcp => tally.unseen_deny,
            Scheme::Http => None,
        };
        let denied_unseen = |right| match (right, unseen) {
            (Right::Reported(_), Some(at)) => Err(Denial::by(&self.rule(at).id)),
            (right, _) => Ok(right),
        };
        let later = match tally.deny {
            Some(_) => Vec::new(),
            None => others.iter().map(|at| self.rule(*at).clone()).collect(),
        };
        let right = self.outcome(tally).and_then(denied_unseen);
        Candidate::new(right, later, self.without(tally).and_then(denied_unseen))
    }
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
            (Effect::Allow, Some(miss)) if miss.is_absence() => {}
            (Effect::Allow, miss) => self.furthest = self.furthest.max(miss),
        }
    }

    fn reason(&self) -> Reason {
        unmatched(self.furthest)
    }
}

/// Why nothing matched, if the allows came so far.
fn unmatched(furthest: Option<Miss>) -> Reason {
    match furthest {
        None | Some(Miss::Workers | Miss::Expired) => Reason::HostNotAllowed,
        Some(Miss::Scheme) => Reason::SchemeNotAllowed,
        Some(Miss::Port) => Reason::PortNotAllowed,
        Some(Miss::Method) => Reason::MethodNotAllowed,
        Some(Miss::Path) => Reason::PathNotAllowed,
    }
}

/// What the rules of a host say about one protocol of a tunnel.
#[derive(Debug, Default)]
struct TunnelTally {
    tally: Tally,
    /// The allows that match beside the first, in any order; a rule may be in it twice.
    others: Vec<u32>,
}

impl TunnelTally {
    fn allow(&mut self, at: u32) {
        if let Some(known) = self.tally.allow
            && known != at
        {
            self.others.push(known.max(at));
        }
        first(&mut self.tally.allow, at);
    }

    /// Puts the others in the order of the file, each once.
    fn sort(&mut self) {
        self.others.sort_unstable();
        self.others.dedup();
    }
}

/// What the rules of a host say about each protocol.
#[derive(Debug, Default)]
struct Tallies {
    https: TunnelTally,
    http: TunnelTally,
    tcp: TunnelTally,
}

impl Tallies {
    fn count(&mut self, at: u32, rule: &Rule, worker: &Worker, port: u16, now: Timestamp) {
        if rule.absent(worker, now).is_some() {
            return;
        }
        for scheme in [Scheme::Https, Scheme::Http, Scheme::Tcp] {
            let found = self.of(scheme);
            match (rule.effect, rule.misses_tunnel(scheme, port)) {
                (Effect::Deny, None) if rule.judges_requests() => {
                    first(&mut found.tally.unseen_deny, at);
                }
                (Effect::Allow, None) => found.allow(at),
                (effect, miss) => found.tally.count(at, effect, miss),
            }
        }
    }

    fn of(&mut self, scheme: Scheme) -> &mut TunnelTally {
        match scheme {
            Scheme::Https => &mut self.https,
            Scheme::Http => &mut self.http,
            Scheme::Tcp => &mut self.tcp,
        }
    }

    fn all(&self) -> [&Tally; 3] {
        [&self.https.tally, &self.http.tally, &self.tcp.tally]
    }

    /// How far the rules came, with no protocol known: the furthest for any.
    fn reason(&self) -> Reason {
        unmatched(self.all().into_iter().filter_map(|tally| tally.furthest).max())
    }

    fn first_deny(&self) -> Option<u32> {
        self.all().into_iter().filter_map(|tally| tally.deny).min()
    }

    /// The first deny that beat an allow of its protocol.
    fn beating_deny(&self) -> Option<u32> {
        let beaten = |tally: &&Tally| tally.allow.is_some();
        self.all().into_iter().filter(beaten).filter_map(|tally| tally.deny).min()
    }
}

fn first(found: &mut Option<u32>, at: u32) {
    *found = Some(found.map_or(at, |earlier| earlier.min(at)));
}

#[cfg(test)]
mod tests;
