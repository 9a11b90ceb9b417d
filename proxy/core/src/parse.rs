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
    /// Reads a head that was sent to the proxy itself: CONNECT, or a whole `http` URL.
    pub(crate) fn for_proxy(fact: &HeadFact, headers: &HeaderMap) -> Result<Self, Refusal> {
        let head = passed(fact)?;
        if head.method == "CONNECT" {
            let authority = Authority::connect(&head.target)?;
            same_authority(head.host.as_deref(), &authority, authority.port())?;
            return Ok(Self::Tunnel(authority));
        }
        let method = Method::parse(&head.method)?.as_str().into();
        if head.target.starts_with('/') || head.target == "*" {
            return Err(Refusal::OriginForm);
        }
        let target = Target::absolute(&head.target)?;
        same_authority(head.host.as_deref(), target.authority(), default_port(&target))?;
        if hop::has_looped(headers) {
            return Err(Refusal::LoopDetected);
        }
        match target.scheme() {
            Scheme::Http => Ok(Self::Request { method, target }),
            Scheme::Https | Scheme::Tcp => Err(Refusal::HttpsInCleartext),
        }
    }

    /// Reads a head that was sent as plain HTTP into a tunnel to `tunnel`.
    pub(crate) fn in_tunnel(
        fact: &HeadFact,
        headers: &HeaderMap,
        tunnel: &Authority,
    ) -> Result<(Box<str>, Target), Refusal> {
        let head = passed(fact)?;
        if head.method == "CONNECT" {
            return Err(Refusal::ConnectInTunnel);
        }
        let method = Method::parse(&head.method)?.as_str().into();
        // A server takes the absolute form as well (RFC 9112, section 3.2.2); whether it names
        // this tunnel's host is for the permit to say.
        let target = match head.target.starts_with('/') || head.target == "*" {
            true => Target::origin(Scheme::Http, tunnel, &head.target)?,
            false => Target::absolute(&head.target)?,
        };
        same_authority(head.host.as_deref(), target.authority(), default_port(&target))?;
        if hop::has_looped(headers) {
            return Err(Refusal::LoopDetected);
        }
        match target.scheme() {
            Scheme::Http => Ok((method, target)),
            // What came in the clear is never judged, nor sent, as if it had come over TLS.
            Scheme::Https | Scheme::Tcp => Err(Refusal::HttpsInCleartext),
        }
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
