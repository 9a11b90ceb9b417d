//! Every way an exchange can be refused, and the one place that says how the worker is told.
//!
//! The table of codes is public interface: the same code stands in the body, the reason phrase,
//! `Proxy-Status` (RFC 9209) and the record. What is told is fixed text: no address, no secret
//! and no byte that a worker or an origin chose.

use std::time::Duration;

use bytes::Bytes;
use egret_policy::{Denial, Reason, RuleId, TargetError};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, PROXY_AUTHENTICATE, RETRY_AFTER},
};
use http_body_util::Full;
use hyper::ext::ReasonPhrase;
use serde::Serialize;

use crate::{
    caused::caused,
    dial::DialError,
    gate::Fault,
    identify::IdentityError,
    inject::InjectError,
    limit::{LimitError, Reached},
    metrics::label::Limit,
    record::{ClosedBy, RecordError},
    relay::UploadError,
    resolve::ResolveError,
    seldom::Seldom,
};

pub use self::code::reason_codes;

pub(crate) use self::code::Code;

mod code;
mod told;

/// Seconds after which to come back where nobody knows better.
const LATER: u64 = 5;
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// What a token may be shown as; a field each, since some clients read one challenge to a field.
const CHALLENGES: [HeaderValue; 2] = [
    HeaderValue::from_static("Basic realm=\"egret\", charset=\"UTF-8\""),
    HeaderValue::from_static("Bearer realm=\"egret\""),
];

/// Why an exchange does not go on.
#[derive(Debug)]
pub(crate) enum Refusal {
    // What the worker sent cannot be served, whatever the policy says.
    Head(Fault),
    OriginForm,
    ConnectInTunnel,
    Host,
    MaxForwards,
    Target(TargetError),
    Upload(UploadError),
    HostMismatch,
    Identity(IdentityError),
    Revoked,
    FirstBytesTimeout,

    // What the policy does not allow.
    Denied(Denial),
    HttpsInCleartext,
    Limited(LimitError),
    /// Beyond `denials_per_minute`: denied for whatever reason, and not recorded by itself.
    DenialsSummed(Duration),

    // What the origin or the way there did wrong.
    Resolve(ResolveError),
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamReset,
    UpstreamProtocol,
    ResponseTooLarge,
    LoopDetected,

    // What we cannot do.
    Credential(InjectError),
    Overloaded,
    Draining,
    Audit(RecordError),
    Internal,
}

/// What a worker that was not identified is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Nothing: its listener takes no credentials.
    None,
    /// Its token, in Basic (RFC 7617) or Bearer (RFC 6750) credentials.
    Token,
}

impl Refusal {
    /// Returns the code that all outputs carry.
    pub(crate) fn code(&self) -> Code {
        self.told().code
    }

    /// Returns the rule that refused, where one did.
    pub(crate) fn rule(&self) -> Option<&RuleId> {
        if let Self::Denied(denial) = self {
            denial.rule.as_ref()
        } else if let Self::Limited(LimitError::Reached { rule, .. }) = self {
            Some(rule)
        } else {
            None
        }
    }

    /// Returns what ended the exchange, for its completion.
    pub(crate) fn closed_by(&self) -> ClosedBy {
        match self {
            Self::Denied(denial) if denial.reason == Reason::TargetMalformed => ClosedBy::Error,
            Self::Denied(_)
            | Self::Target(TargetError::MethodRefused | TargetError::Scheme)
            | Self::HttpsInCleartext
            | Self::HostMismatch
            | Self::LoopDetected
            | Self::Identity(_) => ClosedBy::Policy,
            Self::Revoked => ClosedBy::Revoked,
            Self::Resolve(_)
            | Self::UpstreamRefused
            | Self::UpstreamTimeout
            | Self::UpstreamReset
            | Self::UpstreamProtocol => ClosedBy::Upstream,
            Self::ResponseTooLarge
            | Self::Upload(UploadError::TooLarge | UploadError::Budget(_))
            | Self::Limited(_)
            | Self::DenialsSummed(_)
            | Self::Overloaded => ClosedBy::Limit,
            Self::FirstBytesTimeout | Self::Upload(UploadError::Idle) => ClosedBy::Idle,
            Self::Draining => ClosedBy::Drain,
            Self::Head(_)
            | Self::OriginForm
            | Self::ConnectInTunnel
            | Self::Host
            | Self::MaxForwards
            | Self::Target(TargetError::Malformed(_))
            | Self::Upload(UploadError::Malformed)
            | Self::Credential(_)
            | Self::Audit(_)
            | Self::Internal => ClosedBy::Error,
        }
    }

    /// Whether the policy, a limit, the lack of an identity or of room refuses: of these anybody
    /// can have as many as they like. What is malformed is none; the rest was allowed.
    pub(crate) fn is_denial(&self) -> bool {
        match self {
            Self::Denied(denial) => denial.reason != Reason::TargetMalformed,
            Self::Target(error) => match error {
                TargetError::MethodRefused | TargetError::Scheme => true,
                TargetError::Malformed(_) => false,
            },
            Self::Limited(_)
            | Self::Overloaded
            | Self::HttpsInCleartext
            | Self::HostMismatch
            | Self::Identity(_)
            | Self::Revoked
            | Self::LoopDetected => true,
            Self::DenialsSummed(_)
            | Self::Head(_)
            | Self::OriginForm
            | Self::ConnectInTunnel
            | Self::Host
            | Self::MaxForwards
            | Self::Upload(_)
            | Self::FirstBytesTimeout
            | Self::Resolve(_)
            | Self::UpstreamRefused
            | Self::UpstreamTimeout
            | Self::UpstreamReset
            | Self::UpstreamProtocol
            | Self::ResponseTooLarge
            | Self::Credential(_)
            | Self::Draining
            | Self::Audit(_)
            | Self::Internal => false,
        }
    }

    /// Returns the limit that refused, where one did.
    pub(crate) fn limit(&self) -> Option<Limit> {
        if let Self::Limited(error) = self {
            return Some(match error {
                LimitError::Reached { limit, .. } => match limit {
                    Reached::Requests(_) => Limit::Requests,
                    Reached::Tunnels => Limit::Tunnels,
                    Reached::Budget(_) => Limit::Bytes,
                },
                LimitError::NoAccount => Limit::Accounts,
            });
        }
        matches!(self, Self::Upload(UploadError::Budget(_))).then_some(Limit::Bytes)
    }

    /// Returns the seconds after which to come back, where that is known.
    fn retry_after(&self) -> Option<u64> {
        let whole = |wait: Duration| wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        if let Self::Limited(LimitError::Reached { limit, .. }) = self {
            return Some(match limit {
                Reached::Requests(wait) | Reached::Budget(wait) => whole(*wait).max(1),
                Reached::Tunnels => LATER,
            });
        }
        if let Self::DenialsSummed(wait) | Self::Upload(UploadError::Budget(wait)) = self {
            return Some(whole(*wait).max(1));
        }
        let no_room = matches!(
            self,
            Self::Overloaded | Self::Draining | Self::Limited(LimitError::NoAccount)
        );
        no_room.then_some(LATER)
    }

    /// Tells the operator where the fault is ours: what the worker is told does not say enough.
    pub(crate) fn log(&self, id: &str) {
        static NO_CREDENTIAL: Seldom = Seldom::new();
        static NO_RECORD: Seldom = Seldom::new();
        static INTERNAL: Seldom = Seldom::new();
        if let Self::Credential(error) = self {
            let Some(unsaid) = NO_CREDENTIAL.due() else { return };
            tracing::warn!(error = %caused(error), id, unsaid, "no credential");
        } else if let Self::Audit(error) = self {
            let Some(unsaid) = NO_RECORD.due() else { return };
            tracing::error!(error = %caused(error), id, unsaid, "no record");
        } else if let Self::Internal = self {
            let Some(unsaid) = INTERNAL.due() else { return };
            tracing::error!(id, unsaid, "a target that was passed cannot be sent");
        } else if let Self::Overloaded = self {
            tracing::debug!(id, "no slot or descriptor is left");
        }
    }

    /// Builds the answer. `challenge` asks for credentials where identity was the fault.
    pub(crate) fn response(&self, id: &str, challenge: Challenge) -> Response<Full<Bytes>> {
        let told = self.told();
        let unidentified = matches!(self, Self::Identity(_));
        let status = match challenge {
            Challenge::None if unidentified => StatusCode::FORBIDDEN,
            Challenge::None | Challenge::Token => told.status,
        };
        let code = told.code.as_str();
        let body = Problem {
            r#type: format!("urn:egret:{code}"),
            title: status.canonical_reason().unwrap_or("Refused"),
            status: status.as_u16(),
            code,
            rule: self.rule().map(ToString::to_string),
            id,
            detail: told.detail,
        };
        let body = serde_json::to_vec(&body).expect("a problem holds only strings and numbers");
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;

        let phrase = format!("{code} {id}");
        let phrase = ReasonPhrase::try_from(phrase).expect("codes and ids are visible ASCII");
        response.extensions_mut().insert(phrase);
        let proxy_status = format!("egret; error={}; details=\"{code}; {id}\"", told.proxy_error);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, PROBLEM);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(
            PROXY_STATUS,
            HeaderValue::from_str(&proxy_status).expect("codes and ids are visible ASCII"),
        );
        if unidentified && challenge == Challenge::Token {
            for challenge in CHALLENGES {
                headers.append(PROXY_AUTHENTICATE, challenge);
            }
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Whether the connection cannot be trusted to stand at the start of a next request.
    fn ends_connection(&self) -> bool {
        match self {
            Self::Head(_)
            | Self::OriginForm
            | Self::ConnectInTunnel
            | Self::Host
            | Self::MaxForwards
            | Self::Target(_)
            | Self::Upload(_)
            | Self::Revoked
            | Self::FirstBytesTimeout
            | Self::Overloaded
            | Self::Draining
            | Self::Audit(_)
            | Self::Internal => true,
            // In the second case, the end of a tunnel that was not opened for it.
            Self::Denied(denial) => {
                [Reason::TargetMalformed, Reason::ProtocolNotAllowed].contains(&denial.reason)
            }
            Self::HostMismatch
            | Self::Identity(_)
            | Self::HttpsInCleartext
            | Self::Limited(_)
            | Self::DenialsSummed(_)
            | Self::Resolve(_)
            | Self::UpstreamRefused
            | Self::UpstreamTimeout
            | Self::UpstreamReset
            | Self::UpstreamProtocol
            | Self::ResponseTooLarge
            | Self::LoopDetected
            | Self::Credential(_) => false,
        }
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    id: &'a str,
    detail: &'static str,
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<LimitError> for Refusal {
    fn from(error: LimitError) -> Self {
        Self::Limited(error)
    }
}

impl From<IdentityError> for Refusal {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Self {
        Self::Target(error)
    }
}

impl From<ResolveError> for Refusal {
    fn from(error: ResolveError) -> Self {
        Self::Resolve(error)
    }
}

impl From<RecordError> for Refusal {
    fn from(error: RecordError) -> Self {
        Self::Audit(error)
    }
}

impl From<InjectError> for Refusal {
    fn from(error: InjectError) -> Self {
        Self::Credential(error)
    }
}

impl From<DialError> for Refusal {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused(_) => Self::UpstreamRefused,
            DialError::Timeout => Self::UpstreamTimeout,
            DialError::Exhausted(_) => Self::Overloaded,
            DialError::Peer(denial) => Self::Denied(denial),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn the_code_and_the_id_stand_in_body_phrase_and_proxy_status() {
        let response = Refusal::Identity(IdentityError::Required).response("01J", Challenge::Token);
        assert_eq!(response.status(), 407);
        let challenges: Vec<_> = response.headers().get_all(PROXY_AUTHENTICATE).iter().collect();
        assert_eq!(
            challenges,
            ["Basic realm=\"egret\", charset=\"UTF-8\"", "Bearer realm=\"egret\""]
        );
        assert_eq!(
            response.headers()[PROXY_STATUS],
            "egret; error=http_request_denied; details=\"egress.identity_required; 01J\""
        );
        let phrase = response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(phrase.as_bytes(), b"egress.identity_required 01J");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["type"], "urn:egret:egress.identity_required");
        assert_eq!(body["code"], "egress.identity_required");
        assert_eq!(body["id"], "01J");
        assert_eq!(body["status"], 407);
        assert!(body.get("rule").is_none());
    }

    #[test]
    fn without_a_challenge_missing_identity_is_forbidden() {
        let response = Refusal::Identity(IdentityError::Invalid).response("01J", Challenge::None);
        assert_eq!(response.status(), 403);
        assert!(!response.headers().contains_key(PROXY_AUTHENTICATE));
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let response = Refusal::Overloaded.response("01J", Challenge::Token);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "5");
        assert_eq!(response.headers()[CONNECTION], "close");
    }

    #[test]
    fn a_limit_says_in_whole_seconds_when_to_come_back() {
        let rule = RuleId::parse("api").unwrap();
        let told = |limit| {
            let refusal = Refusal::from(LimitError::Reached { rule: rule.clone(), limit });
            let response = refusal.response("01J", Challenge::None);
            assert_eq!(response.status(), 429);
            assert!(!response.headers().contains_key(CONNECTION));
            response.headers()[RETRY_AFTER].to_str().unwrap().to_owned()
        };
        for (milliseconds, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            let wait = Duration::from_millis(milliseconds);
            assert_eq!(told(Reached::Requests(wait)), seconds);
            assert_eq!(told(Reached::Budget(wait)), seconds);
        }
        assert_eq!(told(Reached::Tunnels), "5");
    }
}
