//! From a head that the gate passed to the one canonical target (stage 2).
//!
//! What the worker asked for is parsed here once, into types that policy made; no later stage sees
//! the text again. Whether the target may be reached is not asked yet.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;

use egret_policy::{Authority, Host, Method, Scheme, Target, TargetError};
use http::HeaderMap;

use crate::{
    gate::{HeadFact, PassedHead},
    hop,
    record::Draft,
    refusal::Refusal,
};

/// What a head asks for.
#[derive(Debug)]
pub(crate) enum Head {
    /// CONNECT.
    Tunnel(Authority),
    /// Any other method.
    Request { method: Box<str>, target: Target },
}

impl Head {
    /// Reads a head that was sent to the proxy itself: CONNECT, or a whole `http` URL. What it asks
    /// for is noted as soon as it is known, so that the record of whatever refusal says so too.
    pub(crate) fn for_proxy(
        fact: &HeadFact,
        headers: &HeaderMap,
        draft: &mut Draft,
    ) -> Result<Self, Refusal> {
        let passed = passed(fact, draft)?;
        if passed.method == "CONNECT" {
            let authority = Authority::connect(&passed.target)?;
            draft.authority(&authority);
            same_authority(passed.host.as_deref(), &authority, authority.port())?;
            return Ok(Self::Tunnel(authority));
        }
        let target = absolute(&passed.target, draft);
        let method = Method::parse(&passed.method)?.as_str().into();
        if is_origin_form(&passed.target) {
            return Err(Refusal::OriginForm);
        }
        let target = target?;
        agreed(passed, headers, &target)?;
        Ok(Self::Request { method, target })
    }

    /// Reads a head that was sent as plain HTTP into a tunnel to `tunnel`; see `for_proxy`.
    pub(crate) fn in_tunnel<'f>(
        fact: &'f HeadFact,
        tunnel: &Authority,
        draft: &mut Draft,
    ) -> Result<Inside<'f>, Refusal> {
        let passed = passed(fact, draft)?;
        if passed.method == "CONNECT" {
            return Err(Refusal::ConnectInTunnel);
        }
        // A server takes the absolute form as well (RFC 9112, section 3.2.2); whether it names
        // this tunnel's host is for the permit to say.
        let target = match is_origin_form(&passed.target) {
            true => Target::origin(Scheme::Http, tunnel, &passed.target)
                .inspect(|target| draft.target(target)),
            false => absolute(&passed.target, draft),
        };
        let method = Method::parse(&passed.method)?.as_str().into();
        Ok(Inside { passed, method, target: target? })
    }
}

/// What a head inside a tunnel asks for, while the rest of it has not been judged.
pub(crate) struct Inside<'f> {
    passed: &'f PassedHead,
    method: Box<str>,
    target: Target,
}

impl Inside<'_> {
    /// Holds everything else in the head against its target.
    pub(crate) fn agreed(self, headers: &HeaderMap) -> Result<(Box<str>, Target), Refusal> {
        agreed(self.passed, headers, &self.target)?;
        Ok((self.method, self.target))
    }
}

fn is_origin_form(target: &str) -> bool {
    target.starts_with('/') || target == "*"
}

/// Reads a whole URL. Of one whose scheme is not spoken here the record has where it leads.
fn absolute(text: &str, draft: &mut Draft) -> Result<Target, TargetError> {
    let target = Target::absolute(text);
    match &target {
        Ok(target) => draft.target(target),
        Err(TargetError::Scheme) => {
            let (_, rest) = text.split_once("://").unwrap_or_default();
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            if let Ok(authority) = Authority::connect(authority) {
                draft.authority(&authority);
            } else if let Ok(host) = Host::from_wire(authority) {
                draft.host(&host);
            }
        }
        Err(TargetError::Malformed(_) | TargetError::MethodRefused) => {}
    }
    target
}

/// Holds everything else in a head against its target.
fn agreed(head: &PassedHead, headers: &HeaderMap, target: &Target) -> Result<(), Refusal> {
    same_authority(head.host.as_deref(), target.authority(), default_port(target))?;
    if hop::has_looped(headers) {
        return Err(Refusal::LoopDetected);
    }
    match target.scheme() {
        Scheme::Http => Ok(()),
        // What came in the clear is never judged, nor sent, as if it had come over TLS.
        Scheme::Https | Scheme::Tcp => Err(Refusal::HttpsInCleartext),
    }
}

fn default_port(target: &Target) -> u16 {
    target.scheme().default_port().unwrap_or(target.authority().port())
}

fn passed<'f>(fact: &'f HeadFact, draft: &mut Draft) -> Result<&'f PassedHead, Refusal> {
    match fact {
        HeadFact::Passed(head) => {
            draft.method(&head.method);
            Ok(head)
        }
        HeadFact::Refused(fault) => Err(Refusal::Head(*fault)),
    }
}

/// Holds `Host` against the target. HTTP/1.0 may omit it; that 1.1 has exactly one is the gate's.
fn same_authority(
    host: Option<&str>,
    target: &Authority,
    default_port: u16,
) -> Result<(), Refusal> {
    let Some(host) = host else { return Ok(()) };
    match Authority::with_default(host, default_port) {
        Ok(host) if host == *target => Ok(()),
        Ok(_) => Err(Refusal::HostMismatch),
        Err(_) => Err(Refusal::Host),
    }
}
