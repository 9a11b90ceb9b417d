//! Why a request is let through or not: a closed set of stable codes.
//!
//! The codes are public interface: they stand in reason phrases, records, metrics and tests, and
//! are never renamed. Which of them a decision gives is for `decide`, `pin` and `select` to say.

use std::fmt;

use serde::{Serialize, Serializer};

/// Why something was decided as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A rule allows it.
    Allowed,
    /// No rule for this worker names the host.
    HostNotAllowed,
    /// Rules name the host, but not with this scheme.
    SchemeNotAllowed,
    /// Rules name host and scheme, but not with this port.
    PortNotAllowed,
    /// Rules name host, scheme and port, but not with this method.
    MethodNotAllowed,
    /// Rules name all but the path.
    PathNotAllowed,
    /// A rule denies it.
    RuleDenied,
    /// The name or an address of it must not be reached.
    AddressForbidden,
    /// A request inside a tunnel names another host, port or worker than the tunnel's.
    HostMismatch,
    /// The server name of a ClientHello is not the host of the CONNECT.
    SniMismatch,
    /// The ClientHello is, or looks, encrypted.
    EchRefused,
    /// What a tunnel carries is nothing that it was opened for: plain HTTP without a rule of that
    /// scheme, or what is neither that nor TLS without one of scheme tcp.
    ProtocolNotAllowed,
    /// The target has no single meaning.
    TargetMalformed,
}

impl Reason {
    /// Every reason, in the order of the declaration.
    pub const ALL: [Self; 13] = [
        Self::Allowed,
        Self::HostNotAllowed,
        Self::SchemeNotAllowed,
        Self::PortNotAllowed,
        Self::MethodNotAllowed,
        Self::PathNotAllowed,
        Self::RuleDenied,
        Self::AddressForbidden,
        Self::HostMismatch,
        Self::SniMismatch,
        Self::EchRefused,
        Self::ProtocolNotAllowed,
        Self::TargetMalformed,
    ];

    /// Returns the public code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Allowed => "egress.allowed",
            Self::HostNotAllowed => "egress.host_not_allowed",
            Self::SchemeNotAllowed => "egress.scheme_not_allowed",
            Self::PortNotAllowed => "egress.port_not_allowed",
            Self::MethodNotAllowed => "egress.method_not_allowed",
            Self::PathNotAllowed => "egress.path_not_allowed",
            Self::RuleDenied => "egress.rule_denied",
            Self::AddressForbidden => "egress.address_forbidden",
            Self::HostMismatch => "egress.host_mismatch",
            Self::SniMismatch => "egress.sni_mismatch",
            Self::EchRefused => "egress.ech_refused",
            Self::ProtocolNotAllowed => "egress.protocol_not_allowed",
            Self::TargetMalformed => "egress.target_malformed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// How a decision that lets something through came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A rule allows it.
    Allow,
    /// No rule matched, and the policy only reports that; in force it would be denied for this.
    WouldDeny(Reason),
}
