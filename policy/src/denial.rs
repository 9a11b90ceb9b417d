//! A denial: the reason, the rule if one is to blame, and the facts it rests on.
//!
//! The facts hold no bytes that a worker chose, so that a denial can be shown and recorded as it
//! is. Its text is for people; programs read the reason.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use crate::address::Forbidden;
use crate::path::PathFault;
use crate::reason::Reason;
use crate::rule::RuleId;

/// A request or tunnel that policy does not let through.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// The rule that denies, or under which it failed.
    pub rule: Option<RuleId>,
    /// What the reason rests on.
    pub detail: DenialDetail,
}

/// The facts behind a denial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenialDetail {
    /// The reason says it all.
    Nothing,
    /// An address of the answer.
    Address {
        /// The address.
        address: IpAddr,
        /// What is wrong with it.
        forbidden: Forbidden,
    },
    /// The name, or an alias of it, is a metadata service's or this machine's.
    MetadataName,
    /// There is no address to connect to.
    NoAddress,
    /// The host is a literal, and the answer is another address.
    OtherAddress,
    /// The connection's peer is not among the pinned addresses.
    UnpinnedPeer,
    /// The path of the request.
    Path(PathFault),
    /// The server name of the ClientHello.
    Sni(SniFault),
}

/// What is wrong with a server name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SniFault {
    /// There is none, and the rule needs one.
    Absent,
    /// It is another name, or not spelled as a name.
    Other,
    /// It cannot be read.
    Malformed,
}

impl Denial {
    /// A denial of which the reason says it all.
    pub fn new(reason: Reason) -> Self {
        Self { reason, rule: None, detail: DenialDetail::Nothing }
    }

    pub(crate) fn by(rule: &RuleId) -> Self {
        Self::new(Reason::RuleDenied).under(Some(rule))
    }

    pub(crate) fn with(reason: Reason, detail: DenialDetail) -> Self {
        Self { reason, rule: None, detail }
    }

    pub(crate) fn under(mut self, rule: Option<&RuleId>) -> Self {
        self.rule = rule.cloned();
        self
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.reason {
            Reason::Allowed => "nothing allows it",
            Reason::HostNotAllowed => "no rule for this worker names the host",
            Reason::SchemeNotAllowed => "no rule names the host with this scheme",
            Reason::PortNotAllowed => "no rule names the host with this port",
            Reason::MethodNotAllowed => "no rule names the host with this method",
            Reason::PathNotAllowed => "no rule names the host with this path",
            Reason::RuleDenied => "a rule denies it",
            Reason::AddressForbidden => "the address is forbidden",
            Reason::HostMismatch => "not the worker, host and port of the tunnel",
            Reason::SniMismatch => "the server name is not the host of the tunnel",
            Reason::EchRefused => {
                "the ClientHello is or looks encrypted; intercept, or allow it with `ech`"
            }
            Reason::ProtocolNotAllowed => "no rule has the scheme of what the tunnel carries",
            Reason::TargetMalformed => "the target has no single meaning",
        })?;
        match &self.detail {
            DenialDetail::Nothing => {}
            DenialDetail::Address { address, forbidden } => write!(f, ": {address}, {forbidden}")?,
            DenialDetail::MetadataName => f.write_str(": a metadata name")?,
            DenialDetail::NoAddress => f.write_str(": there is none")?,
            DenialDetail::OtherAddress => f.write_str(": not the literal of the target")?,
            DenialDetail::UnpinnedPeer => f.write_str(": the peer was not pinned")?,
            DenialDetail::Path(fault) => write!(f, ": {fault}")?,
            DenialDetail::Sni(SniFault::Absent) => f.write_str(": there is none")?,
            DenialDetail::Sni(SniFault::Other) => f.write_str(": another name")?,
            DenialDetail::Sni(SniFault::Malformed) => f.write_str(": it cannot be read")?,
        }
        match &self.rule {
            Some(rule) => write!(f, " (rule `{rule}`)"),
            None => Ok(()),
        }
    }
}
