//! Every code that an exchange can be given: the reasons of the policy, and those of the data path.
//!
//! The codes are public interface: they stand in reason phrases, records, metrics and tests, and
//! are never renamed. The set is closed, so that each can be counted without being looked up.

use egret_policy::Reason;

use crate::metrics::label::{Label, label};

label! {
    /// Why an exchange goes on, or does not.
    pub(crate) enum Code as "reason" {
        Allowed = Reason::Allowed.code(),
        HostNotAllowed = Reason::HostNotAllowed.code(),
        SchemeNotAllowed = Reason::SchemeNotAllowed.code(),
        PortNotAllowed = Reason::PortNotAllowed.code(),
        MethodNotAllowed = Reason::MethodNotAllowed.code(),
        PathNotAllowed = Reason::PathNotAllowed.code(),
        RuleDenied = Reason::RuleDenied.code(),
        AddressForbidden = Reason::AddressForbidden.code(),
        HostMismatch = Reason::HostMismatch.code(),
        SniMismatch = Reason::SniMismatch.code(),
        EchRefused = Reason::EchRefused.code(),
        ProtocolNotAllowed = Reason::ProtocolNotAllowed.code(),
        TargetMalformed = Reason::TargetMalformed.code(),
        RequestMalformed = "egress.request_malformed",
        RequestTooLarge = "egress.request_too_large",
        RequestTimeout = "egress.request_timeout",
        HeadTooLarge = "egress.head_too_large",
        IdentityRequired = "egress.identity_required",
        IdentityInvalid = "egress.identity_invalid",
        WorkerRevoked = "egress.worker_revoked",
        RateLimited = "egress.rate_limited",
        BudgetExhausted = "egress.budget_exhausted",
        DnsFailed = "egress.dns_failed",
        DnsTimeout = "egress.dns_timeout",
        UpstreamRefused = "egress.upstream_refused",
        UpstreamTimeout = "egress.upstream_timeout",
        UpstreamReset = "egress.upstream_reset",
        UpstreamProtocolError = "egress.upstream_protocol_error",
        ResponseTooLarge = "egress.response_too_large",
        LoopDetected = "egress.loop_detected",
        CredentialUnavailable = "egress.credential_unavailable",
        Overloaded = "egress.overloaded",
        Draining = "egress.draining",
        AuditUnavailable = "egress.audit_unavailable",
        Internal = "egress.internal",
    }
}

/// Returns every code that a record can hold.
pub fn reason_codes() -> impl Iterator<Item = &'static str> {
    Code::ALL.iter().map(|code| code.as_str())
}

impl Code {
    /// Returns the public code.
    pub(crate) fn as_str(self) -> &'static str {
        self.word()
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
