//! Every code that an exchange can be given: the reasons of the policy, and those of the data path.
//!
//! The codes are public interface: they stand in reason phrases, records, metrics and tests, and
//! are never renamed. The set is closed, so that each can be counted without being looked up.

use egret_policy::Reason;

/// Why an exchange goes on, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Allowed,
    HostNotAllowed,
    SchemeNotAllowed,
    PortNotAllowed,
    MethodNotAllowed,
    PathNotAllowed,
    RuleDenied,
    AddressForbidden,
    HostMismatch,
    SniMismatch,
    EchRefused,
    ProtocolNotAllowed,
    TargetMalformed,
    RequestMalformed,
    RequestTooLarge,
    RequestTimeout,
    HeadTooLarge,
    IdentityRequired,
    IdentityInvalid,
    WorkerRevoked,
    RateLimited,
    BudgetExhausted,
    DnsFailed,
    DnsTimeout,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamReset,
    UpstreamProtocolError,
    ResponseTooLarge,
    LoopDetected,
    CredentialUnavailable,
    Overloaded,
    Draining,
    AuditUnavailable,
    Internal,
}

impl Code {
    /// Returns the public code.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => Reason::Allowed.code(),
            Self::HostNotAllowed => Reason::HostNotAllowed.code(),
            Self::SchemeNotAllowed => Reason::SchemeNotAllowed.code(),
            Self::PortNotAllowed => Reason::PortNotAllowed.code(),
            Self::MethodNotAllowed => Reason::MethodNotAllowed.code(),
            Self::PathNotAllowed => Reason::PathNotAllowed.code(),
            Self::RuleDenied => Reason::RuleDenied.code(),
            Self::AddressForbidden => Reason::AddressForbidden.code(),
            Self::HostMismatch => Reason::HostMismatch.code(),
            Self::SniMismatch => Reason::SniMismatch.code(),
            Self::EchRefused => Reason::EchRefused.code(),
            Self::ProtocolNotAllowed => Reason::ProtocolNotAllowed.code(),
            Self::TargetMalformed => Reason::TargetMalformed.code(),
            Self::RequestMalformed => "egress.request_malformed",
            Self::RequestTooLarge => "egress.request_too_large",
            Self::RequestTimeout => "egress.request_timeout",
            Self::HeadTooLarge => "egress.head_too_large",
            Self::IdentityRequired => "egress.identity_required",
            Self::IdentityInvalid => "egress.identity_invalid",
            Self::WorkerRevoked => "egress.worker_revoked",
            Self::RateLimited => "egress.rate_limited",
            Self::BudgetExhausted => "egress.budget_exhausted",
            Self::DnsFailed => "egress.dns_failed",
            Self::DnsTimeout => "egress.dns_timeout",
            Self::UpstreamRefused => "egress.upstream_refused",
            Self::UpstreamTimeout => "egress.upstream_timeout",
            Self::UpstreamReset => "egress.upstream_reset",
            Self::UpstreamProtocolError => "egress.upstream_protocol_error",
            Self::ResponseTooLarge => "egress.response_too_large",
            Self::LoopDetected => "egress.loop_detected",
            Self::CredentialUnavailable => "egress.credential_unavailable",
            Self::Overloaded => "egress.overloaded",
            Self::Draining => "egress.draining",
            Self::AuditUnavailable => "egress.audit_unavailable",
            Self::Internal => "egress.internal",
        }
    }
}

impl From<Reason> for Code {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Allowed => Self::Allowed,
            Reason::HostNotAllowed => Self::HostNotAllowed,
            Reason::SchemeNotAllowed => Self::SchemeNotAllowed,
            Reason::PortNotAllowed => Self::PortNotAllowed,
            Reason::MethodNotAllowed => Self::MethodNotAllowed,
            Reason::PathNotAllowed => Self::PathNotAllowed,
            Reason::RuleDenied => Self::RuleDenied,
            Reason::AddressForbidden => Self::AddressForbidden,
            Reason::HostMismatch => Self::HostMismatch,
            Reason::SniMismatch => Self::SniMismatch,
            Reason::EchRefused => Self::EchRefused,
            Reason::ProtocolNotAllowed => Self::ProtocolNotAllowed,
            Reason::TargetMalformed => Self::TargetMalformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_the_policy_keeps_its_code() {
        for reason in Reason::ALL {
            assert_eq!(Code::from(reason).as_str(), reason.code());
        }
    }
}
