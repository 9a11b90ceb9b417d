//! The table of refusals: status, code, `Proxy-Status` error and the one fixed sentence for each.

use egret_policy::{Reason, TargetError};
use http::StatusCode;

use super::Refusal;
use crate::{
    gate::FaultKind,
    identify::IdentityError,
    limit::{BUDGET_EXHAUSTED, LimitError, RATE_LIMITED, Reached},
    relay::UploadError,
    resolve::ResolveError,
};

/// How a refusal is told: one row of the table in the documentation.
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
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
                    "egress.head_too_large",
                    "http_request_error",
                    "The request head is larger than this proxy takes.",
                ),
                FaultKind::Timeout => TIMEOUT,
            },
            Self::OriginForm => (
                400,
                "egress.request_malformed",
                "http_request_error",
                "This is a forward proxy: send the whole URL, or CONNECT host:port.",
            ),
            Self::ConnectInTunnel => (
                400,
                "egress.request_malformed",
                "http_request_error",
                "This is a tunnel already: CONNECT has no place in it.",
            ),
            Self::Host | Self::MaxForwards => MALFORMED,
            Self::Target(error) => match error {
                TargetError::Scheme => SCHEME,
                TargetError::MethodRefused => (
                    403,
                    Reason::MethodNotAllowed.code(),
                    "http_request_denied",
                    "This method echoes requests and is never forwarded.",
                ),
                TargetError::Malformed(_) => TARGET_MALFORMED,
            },
            Self::Upload(error) => match error {
                UploadError::Malformed => MALFORMED,
                UploadError::TooLarge => (
                    413,
                    "egress.request_too_large",
                    "http_request_error",
                    "The request body is larger than the rule allows.",
                ),
                UploadError::Budget(_) => BUDGET,
                UploadError::Idle => TIMEOUT,
            },
            Self::HostMismatch => HOST_MISMATCH,
            Self::Identity(IdentityError::Required) => (
                407,
                "egress.identity_required",
                "http_request_denied",
                "Say who is asking; with a token, the user is the worker's id, the password its token.",
            ),
            Self::Identity(IdentityError::Invalid) => (
                407,
                "egress.identity_invalid",
                "http_request_denied",
                "The proofs that were shown are not those of one worker.",
            ),
            Self::Revoked => (
                403,
                "egress.worker_revoked",
                "http_request_denied",
                "This worker's rights have ended.",
            ),
            Self::FirstBytesTimeout => TIMEOUT,
            Self::Denied(denial) => denied(denial.reason),
            Self::HttpsInCleartext => SCHEME,
            Self::Limited(LimitError::Reached { limit, .. }) => match limit {
                Reached::Requests(_) => (
                    429,
                    RATE_LIMITED,
                    "http_request_denied",
                    "The rule allows no more requests for now.",
                ),
                Reached::Tunnels => (
                    429,
                    RATE_LIMITED,
                    "http_request_denied",
                    "The rule allows no more tunnels at once.",
                ),
                Reached::Budget(_) => BUDGET,
            },
            Self::DenialsSummed(_) => (
                429,
                RATE_LIMITED,
                "http_request_denied",
                "Denied, and so often lately that the reason is no longer told.",
            ),
            Self::Limited(LimitError::NoAccount) => (
                503,
                "egress.overloaded",
                "connection_limit_reached",
                "The proxy counts for as many workers and rules as it may.",
            ),
            Self::Resolve(ResolveError::Timeout) => (
                504,
                "egress.dns_timeout",
                "dns_timeout",
                "The name servers did not answer in time.",
            ),
            Self::Resolve(
                ResolveError::NoSuchName
                | ResolveError::NoAddress
                | ResolveError::Failed(_)
                | ResolveError::Crowded
                | ResolveError::CrowdedBy(_)
                | ResolveError::Answer(_),
            ) => (502, "egress.dns_failed", "dns_error", "The name could not be resolved."),
            Self::UpstreamRefused => (
                502,
                "egress.upstream_refused",
                "connection_refused",
                "The origin refused the connection or cannot be reached.",
            ),
            Self::UpstreamTimeout => (
                504,
                "egress.upstream_timeout",
                "connection_timeout",
                "The origin did not answer in time.",
            ),
            Self::UpstreamReset => (
                502,
                "egress.upstream_reset",
                "connection_terminated",
                "The origin closed the connection before it had answered.",
            ),
            Self::UpstreamProtocol => (
                502,
                "egress.upstream_protocol_error",
                "http_protocol_error",
                "The origin's answer is not sound HTTP and was not passed on.",
            ),
            Self::ResponseTooLarge => (
                502,
                "egress.response_too_large",
                "http_response_body_size",
                "The answer is larger than the rule allows.",
            ),
            Self::LoopDetected => (
                502,
                "egress.loop_detected",
                "proxy_loop_detected",
                "This request has come through egret before.",
            ),
            Self::Credential(_) => (
                503,
                "egress.credential_unavailable",
                "proxy_internal_error",
                "A credential that the rule requires cannot be had.",
            ),
            Self::Overloaded => (
                503,
                "egress.overloaded",
                "connection_limit_reached",
                "The proxy has as many connections as it may.",
            ),
            Self::Draining => {
                (503, "egress.draining", "connection_limit_reached", "The proxy is shutting down.")
            }
            Self::Audit(_) => (
                503,
                "egress.audit_unavailable",
                "proxy_internal_error",
                "The exchange cannot be recorded, so it does not take place.",
            ),
            Self::Internal => (
                500,
                "egress.internal",
                "proxy_internal_error",
                "The proxy failed; the record has the id.",
            ),
        };
        let status = StatusCode::from_u16(status).expect("the table holds valid statuses");
        Told { status, code, proxy_error, detail }
    }
}

type Row = (u16, &'static str, &'static str, &'static str);

const MALFORMED: Row = (
    400,
    "egress.request_malformed",
    "http_request_error",
    "The request is not sound HTTP/1.1 (RFC 9112).",
);
const TARGET_MALFORMED: Row = (
    400,
    Reason::TargetMalformed.code(),
    "http_request_error",
    "The target is not in a form that can be read in only one way.",
);
const SCHEME: Row = (
    403,
    Reason::SchemeNotAllowed.code(),
    "http_request_denied",
    "No rule allows this scheme here; https goes through CONNECT.",
);
const HOST_MISMATCH: Row = (
    421,
    Reason::HostMismatch.code(),
    "http_request_denied",
    "The Host field names another authority than the target.",
);
const BUDGET: Row = (
    429,
    BUDGET_EXHAUSTED,
    "http_request_denied",
    "The bytes that the rule allows in a day are used up.",
);
const TIMEOUT: Row = (
    408,
    "egress.request_timeout",
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
            "The tunnel carries neither TLS nor HTTP, and no rule allows scheme tcp.",
        ),
        // A denial never carries it; refusing is the safe reading of one that does.
        Reason::Allowed => (403, "http_request_denied", "No rule allows this."),
    };
    (status, reason.code(), error, detail)
}
