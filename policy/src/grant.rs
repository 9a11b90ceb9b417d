//! Grants: what may be done over a connection that has been made.
//!
//! A [`Grant`] is for one request. A [`TunnelGrant`] is for one CONNECT, whose first bytes select
//! the rule that it goes on under: TLS by its server name, anything opaque only where a rule says
//! so. A request inside a tunnel has a permit of its own, which `over` binds to the tunnel's
//! connection. Neither can be made or copied elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::address::OwnAddresses;
use crate::denial::{Denial, DenialDetail, SniFault};
use crate::host::Host;
use crate::limits::RuleLimits;
use crate::permit::{Candidates, Ground, Permit, Right, TunnelPermit};
use crate::policy::Revision;
use crate::reason::{Reason, Verdict};
use crate::rule::{CredentialId, Ech, Rule, RuleId, SniDemand};
use crate::worker::WorkerId;

/// The right to use one connection for one request.
#[derive(Debug)]
pub struct Grant {
    permit: Permit,
    peer: SocketAddr,
}

impl Grant {
    pub(crate) fn new(permit: Permit, peer: SocketAddr) -> Self {
        Self { permit, peer }
    }

    pub(crate) fn settle(&mut self, peer: SocketAddr) {
        self.peer = peer;
    }

    /// Returns the rule that allows the request; none where it is only reported.
    pub fn rule(&self) -> Option<&RuleId> {
        self.permit.rule()
    }

    /// Returns how the decision came about.
    pub fn verdict(&self) -> Verdict {
        self.permit.verdict()
    }

    /// Returns what bounds the exchange.
    pub fn limits(&self) -> &RuleLimits {
        self.permit.right.limits(&self.permit.ground)
    }

    /// Returns when the right ends.
    pub fn expires(&self) -> Option<Timestamp> {
        self.permit.right.expires()
    }

    /// Returns the credentials to place: those that the rule names and whose own hosts have this
    /// one; only over TLS, never for what is only reported.
    pub fn credentials(&self) -> &[CredentialId] {
        match (&self.permit.right, &self.permit.host) {
            (Right::Rule(rule), Host::Name(name)) => {
                rule.lends(self.permit.scheme, name, self.permit.port)
            }
            (Right::Rule(_), Host::Address(_)) | (Right::Reported(_), _) => &[],
        }
    }

    /// Whether method-override fields are to be removed: some rule, an allow or a deny, judged
    /// method or path, and they would change what was judged.
    pub fn strips_method_override(&self) -> bool {
        self.permit.judged
    }

    /// Returns the peer of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns the revision of the policy that decided.
    pub fn revision(&self) -> Revision {
        self.permit.revision()
    }
}

impl Permit {
    /// Binds the permit to the connection of the tunnel that the request came through: the same
    /// worker, host and port, and addresses that this permit's own rule may reach: all that the
    /// tunnel was pinned to, as for a request of its own.
    pub fn over(self, tunnel: &TunnelGrant, own: &OwnAddresses) -> Result<Grant, Denial> {
        let same = self.worker == *tunnel.worker()
            && self.host == *tunnel.host()
            && self.port == tunnel.port();
        if !same {
            return Err(Denial::new(Reason::HostMismatch));
        }
        self.ground.judge_all(&self.right, &tunnel.addresses, own)?;
        Ok(Grant::new(self, tunnel.peer))
    }
}

/// The right to one tunnel's connection, before its first bytes.
#[derive(Debug)]
pub struct TunnelGrant {
    permit: TunnelPermit,
    /// Everything that the host resolved to.
    addresses: Box<[SocketAddr]>,
    peer: SocketAddr,
}

/// What a ClientHello claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsClaim<'a> {
    /// The server name.
    pub sni: Sni<'a>,
    /// Whether it has an encrypted ClientHello, or looks as if it had.
    pub ech: bool,
}

/// The server name of a ClientHello, as it stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sni<'a> {
    /// There is none.
    Absent,
    /// This one.
    Name(&'a str),
    /// There is one that cannot be read.
    Malformed,
}

impl TunnelGrant {
    pub(crate) fn new(
        permit: TunnelPermit,
        addresses: Box<[SocketAddr]>,
        peer: SocketAddr,
    ) -> Self {
        Self { permit, addresses, peer }
    }

    pub(crate) fn settle(&mut self, peer: SocketAddr) {
        self.peer = peer;
    }

    #[cfg(test)]
    pub(crate) fn candidates(&self) -> &Candidates {
        &self.permit.candidates
    }

    /// Returns the host of the CONNECT.
    pub fn host(&self) -> &Host {
        self.permit.host()
    }

    /// Returns the port of the CONNECT.
    pub fn port(&self) -> u16 {
        self.permit.port()
    }

    /// Returns the worker that opened the tunnel.
    pub fn worker(&self) -> &WorkerId {
        &self.permit.worker
    }

    /// Returns the peer of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns how the decision came about.
    pub fn verdict(&self) -> Verdict {
        self.permit.verdict()
    }

    /// Returns the revision of the policy that decided.
    pub fn revision(&self) -> Revision {
        self.permit.revision()
    }

    /// Whether the tunnel relays at once, in both directions: a rule with scheme tcp allows it,
    /// and no other protocol can be meant.
    pub fn opaque(&self) -> bool {
        let Candidates { https, http, tcp, .. } = &self.permit.candidates;
        tcp.has_rule() && !https.has_rule() && !http.has_rule()
    }

    /// Selects the rule for TLS, the first that has not expired: the server name must be the host
    /// of the CONNECT.
    pub fn select_tls(&self, hello: TlsClaim<'_>, now: Timestamp) -> Result<Passage, Denial> {
        let candidate = &self.permit.candidates.https;
        let right = candidate.at(now)?;
        let rule = right.rule().map(|rule| &**rule);
        let mismatch = |fault, rule| {
            let denial = Denial::with(Reason::SniMismatch, DenialDetail::Sni(fault));
            Err(denial.under(rule))
        };
        match (hello.sni, self.host()) {
            (Sni::Malformed, _) => return mismatch(SniFault::Malformed, right.id()),
            (Sni::Name(sni), Host::Name(host)) if host.as_str().eq_ignore_ascii_case(sni) => {}
            (Sni::Name(_), _) => return mismatch(SniFault::Other, right.id()),
            (Sni::Absent, Host::Address(_)) => {}
            (Sni::Absent, Host::Name(_)) if rule.is_none() => {
                return mismatch(SniFault::Absent, None);
            }
            (Sni::Absent, Host::Name(_)) => {
                // Any of the rules could be meant, so one that needs the name is enough.
                let needs = |rule: &&Arc<Rule>| match rule.sni {
                    SniDemand::Required => true,
                    SniDemand::Optional => false,
                };
                if let Some(rule) = candidate.live(now).find(needs) {
                    return mismatch(SniFault::Absent, Some(&rule.id));
                }
            }
        }
        let intercept = rule.is_some_and(Rule::intercepts);
        let ech = rule.map_or(Ech::Refuse, |rule| rule.ech);
        if hello.ech && !intercept && ech == Ech::Refuse {
            return Err(Denial::new(Reason::EchRefused).under(right.id()));
        }
        Ok(self.passage(right, intercept))
    }

    /// Says whether plain HTTP may go on in the tunnel at all. Which rule, each request inside
    /// will say for itself; where no rule is for it, the protocol is what is not allowed.
    pub fn select_http(&self) -> Result<Verdict, Denial> {
        match self.permit.candidates.http.right() {
            Ok(right) => Ok(right.verdict()),
            Err(denial) => Err(denial.clone()),
        }
    }

    /// Returns the first rule under which plain HTTP may go on in the tunnel, and what bounds it;
    /// no rule where that is only reported.
    pub fn http_outcome(&self, now: Timestamp) -> Option<(Option<&RuleId>, &RuleLimits)> {
        self.permit.candidates.http.outcome(&self.permit.ground, now)
    }

    /// Selects the rule for what is neither TLS nor HTTP: one with scheme tcp.
    pub fn select_opaque(&self) -> Result<Passage, Denial> {
        match self.permit.candidates.tcp.right() {
            Ok(right) => Ok(self.passage(right.clone(), false)),
            Err(denial) => Err(denial.clone()),
        }
    }

    fn passage(&self, right: Right, intercept: bool) -> Passage {
        Passage { ground: self.permit.ground.clone(), right, intercept }
    }
}

/// How a tunnel goes on.
#[derive(Debug)]
pub struct Passage {
    ground: Arc<Ground>,
    right: Right,
    intercept: bool,
}

impl Passage {
    /// Returns the rule that allows the tunnel; none where it is only reported.
    pub fn rule(&self) -> Option<&RuleId> {
        self.right.id()
    }

    /// Returns how the decision came about.
    pub fn verdict(&self) -> Verdict {
        self.right.verdict()
    }

    /// Returns what bounds the tunnel.
    pub fn limits(&self) -> &RuleLimits {
        self.right.limits(&self.ground)
    }

    /// Returns when the right ends.
    pub fn expires(&self) -> Option<Timestamp> {
        self.right.expires()
    }

    /// Whether the tunnel is to be opened: each request inside needs a permit of its own, and
    /// nothing may be relayed without one.
    pub fn intercept(&self) -> bool {
        self.intercept
    }

    /// Returns the revision of the policy that decided.
    pub fn revision(&self) -> Revision {
        self.ground.revision
    }
}

#[cfg(test)]
mod tests;
