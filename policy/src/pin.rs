//! Turns a permit and DNS answers into addresses that may be dialled.
//!
//! All answers are classified and one forbidden answer refuses the name: a resolver that mixes
//! public and private addresses is how rebinding starts. What comes out can be connected to, and
//! the grant inside it exists only for a connection whose peer is one of the pinned addresses.
//! Nothing here looks names up again.

use std::net::{IpAddr, SocketAddr};

use crate::address::{OwnAddresses, metadata_name};
use crate::denial::{Denial, DenialDetail};
use crate::grant::{Grant, TunnelGrant};
use crate::host::{Host, HostName};
use crate::permit::{Ground, Permit, Right, TunnelPermit};
use crate::reason::Reason;
use crate::rule::RuleId;

/// What a host resolved to: every address, and every name on the way to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The addresses of all families.
    pub addresses: Vec<IpAddr>,
    /// The names that the host is an alias of.
    pub aliases: Vec<HostName>,
}

impl Answers {
    /// Returns what a host is to be judged by where nothing is looked up: the addresses that are
    /// stated, or a literal's own. Nothing for a name of which none is stated.
    pub fn stated(host: &Host, addresses: &[IpAddr]) -> Option<Self> {
        let addresses = match (host, addresses) {
            (Host::Name(_), []) => return None,
            (Host::Address(literal), []) => vec![*literal],
            (Host::Name(_) | Host::Address(_), stated) => stated.to_vec(),
        };
        Some(Self { addresses, aliases: Vec::new() })
    }
}

/// Addresses that may be dialled, with what may be done over the connection.
#[derive(Debug)]
pub struct Pinned<G> {
    host: Host,
    addresses: Box<[SocketAddr]>,
    grant: G,
    /// Tells the grant which of the addresses was reached.
    settle: fn(&mut G, SocketAddr),
}

impl<G> Pinned<G> {
    /// Returns the addresses, in the order of the answer; there is at least one.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the host that they belong to.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Exchanges a connection to `peer` for the grant, if `peer` is one of the pinned addresses.
    pub fn reached(mut self, peer: SocketAddr) -> Result<G, Denial> {
        // An IPv6 peer comes with flow and scope, which no answer has.
        let pinned = |own: &&SocketAddr| own.ip() == peer.ip() && own.port() == peer.port();
        let Some(pinned) = self.addresses.iter().find(pinned).copied() else {
            let detail = DenialDetail::UnpinnedPeer;
            return Err(Denial::with(Reason::AddressForbidden, detail));
        };
        (self.settle)(&mut self.grant, pinned);
        Ok(self.grant)
    }
}

impl Permit {
    /// Spends the permit on the answers for its host.
    pub fn pin(self, answers: &Answers, own: &OwnAddresses) -> Result<Pinned<Grant>, Denial> {
        let (addresses, first) = judge_answers(&self.host, self.port, answers)
            .map_err(|denial| denial.under(self.right.id()))?;
        self.ground.judge_all(&self.right, &addresses, own)?;
        let host = self.host.clone();
        Ok(Pinned { host, addresses, grant: Grant::new(self, first), settle: Grant::settle })
    }
}

impl TunnelPermit {
    /// Spends the permit on the answers for its host. A rule that may not reach every address is
    /// dropped, and a protocol that has none left; if all are, so is the tunnel.
    pub fn pin(
        mut self,
        answers: &Answers,
        own: &OwnAddresses,
    ) -> Result<Pinned<TunnelGrant>, Denial> {
        let (addresses, first) = judge_answers(&self.host, self.port, answers)?;
        let mut forbidden = None;
        let TunnelPermit { ground, candidates, .. } = &mut self;
        for candidate in candidates.all_mut() {
            let denial = candidate.keep(|right| ground.judge_all(right, &addresses, own));
            forbidden = forbidden.or(denial);
        }
        if self.candidates.are_none() {
            let forbidden = forbidden.unwrap_or_else(|| Denial::new(Reason::AddressForbidden));
            return Err(forbidden);
        }
        let host = self.host.clone();
        let grant = TunnelGrant::new(self, addresses.clone(), first);
        Ok(Pinned { host, addresses, grant, settle: TunnelGrant::settle })
    }
}

/// Judges what is the same for every rule, and returns what to connect to with its first entry.
fn judge_answers(
    host: &Host,
    port: u16,
    answers: &Answers,
) -> Result<(Box<[SocketAddr]>, SocketAddr), Denial> {
    let forbidden = |detail| Err(Denial::with(Reason::AddressForbidden, detail));
    if answers.aliases.iter().any(metadata_name) {
        return forbidden(DenialDetail::MetadataName);
    }
    if let Host::Address(literal) = host
        && answers.addresses.iter().any(|address| address != literal)
    {
        return forbidden(DenialDetail::OtherAddress);
    }
    let to = |address: &IpAddr| SocketAddr::new(*address, port);
    match answers.addresses.first().map(to) {
        Some(first) => Ok((answers.addresses.iter().map(to).collect(), first)),
        None => forbidden(DenialDetail::NoAddress),
    }
}

impl Ground {
    /// Judges whether a right extends to every address.
    pub(crate) fn judge_all(
        &self,
        right: &Right,
        addresses: &[SocketAddr],
        own: &OwnAddresses,
    ) -> Result<(), Denial> {
        addresses.iter().try_for_each(|address| self.judge(right, *address, own))
    }

    fn judge(&self, right: &Right, to: SocketAddr, own: &OwnAddresses) -> Result<(), Denial> {
        self.network.judge(to, right.id().map(RuleId::as_str), own).map_err(|forbidden| {
            let detail = DenialDetail::Address { address: to.ip(), forbidden };
            Denial::with(Reason::AddressForbidden, detail).under(right.id())
        })
    }
}

#[cfg(test)]
mod tests;
