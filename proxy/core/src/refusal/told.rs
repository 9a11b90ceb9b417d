//! The table of refusals: status, code, `Proxy-Status` error and the one fixed sentence for each.

use egret_policy::{Reason, TargetError};
use http::StatusCode;

use super::{Code, Refusal};
use crate::{
    gate::FaultKind,
    identify::IdentityError,
    limit::{LimitError, Reached},
    relay::UploadError,
    resolve::ResolveError,
};

/// How a refusal is told: one row of the table in the documentation.
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) code: Code,
    pub(super) proxy_error: &'static str,
    pub(super) detail: &'static str,
}

impl Refusal {
    pub(super) fn told(&self) -> Told {
        let (status, code, proxy_error, detail) = match self {
            Self::Head(fault) => match fault.kind() {
                FaultKind::Malformed => MALFORMED,
                FaultKind::TargetMalformed => TARGET_MALFORMED,
                FaultKind::TooLarge => (
                    431,
                    Code::HeadTooLarge,
                    "http_request_error",
                    "The request head is larger than this proxy takes.",
                ),
                FaultKind::Timeout => TIMEOUT,
            },
            Self::OriginForm => (
                400,
                Code::RequestMalformed,
                "http_request_error",
                "This is a forward proxy: send the whole URL, or CONNECT host:port.",
            ),
            Self::ConnectInTunnel => (
                400,
                Code::RequestMalformed,
                "http_request_error",
                "This is a tunnel already: CONNECT has no place in it.",
            ),
            Self::Host | Self::MaxForwards => MALFORMED,
            Self::Target(error) => match error {
                TargetError::Scheme => SCHEME,
                TargetError::MethodRefused => (
                    403,
                    Code::MethodNotAllowed,
                    "http_request_denied",
                    "This method echoes requests and is never forwarded.",
                ),
                TargetError::Malformed(_) => TARGET_MALFORMED,
            },
            Self::Upload(error) => match error {
                UploadError::Malformed => MALFORMED,
                UploadError::TooLarge => (
                    413,
                    Code::RequestTooLarge,
                    "http_request_error",
                    "The request body is larger than the rule allows.",
                ),
                UploadError::Budget(_) => BUDGET,
                UploadError::Idle => TIMEOUT,
            },
            Self::HostMismatch => HOST_MISMATCH,
            Self::Identity(IdentityError::Required) => (
                407,
                Code::IdentityRequired,
                "http_request_denied",
                "Say who is asking; with a token, the user is the worker's id, the password its token.",
            ),
            Self::Identity(IdentityError::Invalid) => (
                407,
                Code::IdentityInvalid,
                "http_request_denied",
                "The proofs that were shown are not those of one worker.",
            ),
            Self::Revoked => (
                403,
                Code::WorkerRevoked,
                "http_request_denied",
                "This worker's rights have ended.",
            ),
            Self::FirstBytesTimeout => TIMEOUT,
            Self::Denied(denial) => denied(denial.reason),
            Self::HttpsInCleartext => SCHEME,
            Self::Limited(LimitError::Reached { limit, .. }) => match limit {
                Reached::Requests(_) => (
                    429,
                    Code::RateLimited,
                    "http_request_denied",
                    "The rule allows no more requests for now.",
                ),
                Reached::Tunnels => (
                    429,
                    Code::RateLimited,
                    "http_request_denied",
                    "The rule allows no more tunnels at once.",
                ),
                Reached::Budget(_) => BUDGET,
            },
            Self::DenialsSummed(_) => (
                429,
                Code::RateLimited,
                "http_request_denied",
                "Denied, and so often lately that the reason is no longer told.",
            ),
            Self::Limited(LimitError::NoAccount) => (
                503,
                Code::Overloaded,
                "connection_limit_reached",
                "The proxy counts for as many workers and rules as it may.",
            ),
            Self::Resolve(ResolveError::Timeout) => {
                (504, Code::DnsTimeout, "dns_timeout", "The name servers did not answer in time.")
            }
            Self::Resolve(
                ResolveError::NoSuchName
                | ResolveError::NoAddress
                | ResolveError::Failed(_)
                | ResolveError::Crowded
                | ResolveError::CrowdedBy(_)
                | ResolveError::Answer(_),
            ) => (502, Code::DnsFailed, "dns_error", "The name could not be resolved."),
            Self::UpstreamRefused => (
                502,
                Code::UpstreamRefused,
                "connection_refused",
                "The origin refused the connection or cannot be reached.",
            ),
            Self::UpstreamTimeout => (
                504,
                Code::UpstreamTimeout,
                "connection_timeout",
                "The origin did not answer in time.",
            ),
            Self::UpstreamReset => (
                502,
                Code::UpstreamReset,
                "connection_terminated",
                "The origin closed the connection before it had answered.",
            ),
            Self::UpstreamProtocol => (
                502,
                Code::UpstreamProtocolError,
                "http_protocol_error",
                "The origin's answer is not sound HTTP and was not passed on.",
            ),
            Self::ResponseTooLarge => (
                502,
                Code::ResponseTooLarge,
                "http_response_body_size",
                "The answer is larger than the rule allows.",
            ),
            Self::LoopDetected => (
                502,
                Code::LoopDetected,
                "proxy_loop_detected",
                "This request has come through egret before.",
            ),
            Self::Credential(_) => (
                503,
                Code::CredentialUnavailable,
                "proxy_internal_error",
                "A credential that the rule requires cannot be had.",
            ),
            Self::Overloaded => (
                503,
                Code::Overloaded,
                "connection_limit_reached",
                "The proxy has as many connections as it may.",
            ),
            Self::Draining => {
                (503, Code::Draining, "connection_limit_reached", "The proxy is shutting down.")
            }
            Self::Audit(_) => (
                503,
                Code::AuditUnavailable,
                "proxy_internal_error",
                "The exchange cannot be recorded, so it does not take place.",
            ),
            Self::Internal => (
                500,
                Code::Internal,
                "proxy_internal_error",
                "The proxy failed; the record has the id.",
            ),
        };
        let status = StatusCode::from_u16(status).expect("the table holds valid statuses");
        Told { status, code, proxy_error, detail }
    }
}

type Row = (u16, Code, &'static str, &'static str);

const MALFORMED: Row = (
    400,
    Code::RequestMalformed,
    "http_request_error",
    "The request is not sound HTTP/1.1 (RFC 9112).",
);
const TARGET_MALFORMED: Row = (
    400,
    Code::TargetMalformed,
    "http_request_error",
    "The target is not in a form that can be read in only one way.",
);
const SCHEME: Row = (
    403,
    Code::SchemeNotAllowed,
    "http_request_denied",
    "No rule allows this scheme here; https goes through CONNECT.",
);
const HOST_MISMATCH: Row = (
    421,
    Code::HostMismatch,
    "http_request_denied",
    "The Host field names another authority than the target.",
);
const BUDGET: Row = (
    429,
    Code::BudgetExhausted,
    "http_request_denied",
    "The bytes that the rule allows in a day are used up.",
);
const TIMEOUT: Row = (
    408,
    Code::RequestTimeout,
    "http_request_error",
    "The rest of the request did not arrive in time.",
);

fn denied(reason: Reason) -> Row {
    let (status, error, detail) = match reason {
        Reason::TargetMalformed => return TARGET_MALFORMED,
        Reason::HostMismatch => return HOST_MISMATCH,
        Reason::SchemeNotAllowed => return SCHEME,
        Reason::HostNotAllowed => (403, "http_request_denied", "No rule allows this host."),
        Reason::PortNotAllowed => {
            (403, "http_request_denied", "A rule knows this host, but not this port.")
        }
        Reason::MethodNotAllowed => {
            (403, "http_request_denied", "A rule knows this host, but not this method.")
        }
        Reason::PathNotAllowed => {
            (403, "http_request_denied", "A rule knows this host, but not this path.")
        }
        Reason::RuleDenied => (403, "http_request_denied", "A rule denies this."),
        Reason::AddressForbidden => (
            403,
            "destination_ip_prohibited",
            "The target is, or resolves to, an address that is not allowed.",
        ),
        Reason::SniMismatch => (
            421,
            "http_request_denied",
            "The server name in the TLS hello is not the host of the tunnel.",
        ),
        Reason::EchRefused => (
            421,
            "http_request_denied",
            "The TLS hello hides a server name; the rule needs interception or ech = \"allow\".",
        ),
        Reason::ProtocolNotAllowed => (
            421,
            "http_request_denied",
            "No rule allows what this tunnel carries: TLS, plain HTTP or anything else.",
        ),
        // A denial never carries it; refusing is the safe reading of one that does.
        Reason::Allowed => (403, "http_request_denied", "No rule allows this."),
    };
    (status, reason.into(), error, detail)
}
