//! From a head that the gate passed to the one canonical target (stage 2).
//!
//! What the worker asked for is parsed here once, into types that policy made; no later stage sees
//! the text again. Whether the target may be reached is not asked yet.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;

use egret_policy::{Authority, Method, Scheme, Target};
use http::HeaderMap;

use crate::{
    gate::{HeadFact, PassedHead},
    hop,
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
    /// Reads a head that was sent to the proxy itself: CONNECT, or a whole `http` URL. `note` is told
    /// what it asks for as soon as that is known, so that a refusal for another reason says so too.
    pub(crate) fn for_proxy(
        fact: &HeadFact,
        headers: &HeaderMap,
        note: impl FnOnce(&Self),
    ) -> Result<Self, Refusal> {
        let passed = passed(fact)?;
        let head = if passed.method == "CONNECT" {
            Self::Tunnel(Authority::connect(&passed.target)?)
        } else {
            let method = Method::parse(&passed.method)?.as_str().into();
            if passed.target.starts_with('/') || passed.target == "*" {
                return Err(Refusal::OriginForm);
            }
            Self::Request { method, target: Target::absolute(&passed.target)? }
        };
        note(&head);
        match &head {
            Self::Tunnel(authority) => {
                same_authority(passed.host.as_deref(), authority, authority.port())?;
            }
            Self::Request { target, .. } => agreed(passed, headers, target)?,
        }
        Ok(head)
    }

    /// Reads a head that was sent as plain HTTP into a tunnel to `tunnel`; see `for_proxy`.
    pub(crate) fn in_tunnel(
        fact: &HeadFact,
        headers: &HeaderMap,
        tunnel: &Authority,
        note: impl FnOnce(&str, &Target),
    ) -> Result<(Box<str>, Target), Refusal> {
        let passed = passed(fact)?;
        if passed.method == "CONNECT" {
            return Err(Refusal::ConnectInTunnel);
        }
        let method: Box<str> = Method::parse(&passed.method)?.as_str().into();
        // A server takes the absolute form as well (RFC 9112, section 3.2.2); whether it names
        // this tunnel's host is for the permit to say.
        let target = match passed.target.starts_with('/') || passed.target == "*" {
            true => Target::origin(Scheme::Http, tunnel, &passed.target)?,
            false => Target::absolute(&passed.target)?,
        };
        note(&method, &target);
        agreed(passed, headers, &target)?;
        Ok((method, target))
    }
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

fn passed(fact: &HeadFact) -> Result<&PassedHead, Refusal> {
    match fact {
        HeadFact::Passed(head) => Ok(head),
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
