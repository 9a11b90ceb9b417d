//! Answers what would become of a request, and why, without looking anything up.
//!
//! A question takes the very path that the proxy takes: decide, pin where addresses are given or
//! the host is one, and for a tunnel the selection by a ClientHello that names the host. What the
//! proxy refuses before it decides (identity, framing) and what it finds out later (the network)
//! is not judged.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::Serialize;

use crate::address::OwnAddresses;
use crate::decide::{Ask, TunnelAsk};
use crate::denial::Denial;
use crate::grant::{Passage, Sni, TlsClaim, TunnelGrant};
use crate::host::Host;
use crate::permit::TunnelPermit;
use crate::pin::Answers;
use crate::policy::Policy;
use crate::reason::{Reason, Verdict};
use crate::rule::RuleId;
use crate::target::{Authority, Method, Scheme, Target, TargetError};
use crate::worker::Worker;

pub use self::near::{Field, NearRule};

mod near;
mod tree;

/// What would become of this?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who would ask.
    pub worker: &'a Worker,
    /// With which method; a tunnel that is not intercepted hides it.
    pub method: &'a str,
    /// For what: `http://…`, `https://…`, or `tcp://HOST:PORT` for an opaque tunnel.
    pub url: &'a str,
    /// What the host is taken to resolve to; with none, the address of a literal is judged, and of
    /// a name none.
    pub addresses: &'a [IpAddr],
}

/// The answer: what, by which rule, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `allow`, `deny` or `would_deny`.
    pub verdict: &'static str,
    /// The reason.
    pub reason: Reason,
    /// The rule that decides, if one does.
    pub rule: Option<String>,
    /// The revision of the policy.
    pub policy: String,
    /// The steps on the way, each with what it rests on.
    pub tree: Vec<Branch>,
}

/// One step of an explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Branch {
    /// What was found.
    pub text: String,
    /// What it rests on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<Branch>,
}

impl Policy {
    /// Explains what would become of a request.
    pub fn explain(&self, question: &Question<'_>, now: Timestamp) -> Explanation {
        let answer = self.answer(question, now);
        Explanation {
            verdict: match answer.verdict() {
                Some(Verdict::Allow) => "allow",
                Some(Verdict::WouldDeny(_)) => "would_deny",
                None => "deny",
            },
            reason: answer.reason(),
            rule: answer.rule().map(RuleId::to_string),
            policy: self.revision().to_string(),
            tree: self.tree(question, &answer, now),
        }
    }

    pub(crate) fn answer(&self, question: &Question<'_>, now: Timestamp) -> Answer {
        let asked = match Subject::parse(question.url) {
            Ok(asked) => asked,
            Err(error) => return Answer::unasked(&error),
        };
        match &asked {
            Subject::Opaque(authority) => {
                let outcome = self.tunnel(question, authority, Scheme::Tcp, now);
                Answer { asked: Some(asked), seen: Seen::Tunnel, outcome }
            }
            Subject::Url(target) if target.scheme() == Scheme::Http => {
                let outcome = self.request(question, target, now);
                Answer { asked: Some(asked), seen: Seen::Request, outcome }
            }
            Subject::Url(target) => {
                let outcome = self.tunnel(question, target.authority(), Scheme::Https, now);
                match outcome {
                    Ok(Let { intercepted: true, .. }) => {
                        let outcome = self.request(question, target, now);
                        Answer { asked: Some(asked), seen: Seen::Inside, outcome }
                    }
                    outcome => Answer { asked: Some(asked), seen: Seen::Tunnel, outcome },
                }
            }
        }
    }

    fn request(
        &self,
        question: &Question<'_>,
        target: &Target,
        now: Timestamp,
    ) -> Result<Let, Denial> {
        let method = Method::parse(question.method).map_err(|error| refusal(&error))?;
        let permit = self.decide(&Ask { worker: question.worker, method, target }, now)?;
        let decided =
            Let { verdict: permit.verdict(), rule: permit.rule().cloned(), intercepted: false };
        if let Some(answers) = Answers::stated(target.authority().host(), question.addresses) {
            permit.pin(&answers, &OwnAddresses::default())?;
        }
        Ok(decided)
    }

    fn tunnel(
        &self,
        question: &Question<'_>,
        authority: &Authority,
        scheme: Scheme,
        now: Timestamp,
    ) -> Result<Let, Denial> {
        let ask = TunnelAsk { worker: question.worker, authority };
        // At CONNECT the protocol is not known; here it is, and what becomes of the others is no
        // part of the answer.
        let permit = self.decide_tunnel(&ask, now).map_err(|denial| match denial.reason {
            Reason::AddressForbidden => denial,
            Reason::Allowed
            | Reason::HostNotAllowed
            | Reason::SchemeNotAllowed
            | Reason::PortNotAllowed
            | Reason::MethodNotAllowed
            | Reason::PathNotAllowed
            | Reason::RuleDenied
            | Reason::HostMismatch
            | Reason::SniMismatch
            | Reason::EchRefused
            | Reason::ProtocolNotAllowed
            | Reason::TargetMalformed => self.refusal_of(&ask, scheme, now).unwrap_or(denial),
        })?;
        permit.candidates.of(scheme).right().map_err(Denial::clone)?;
        let answers = Answers::stated(authority.host(), question.addresses);
        let grant = grant(permit, answers, authority)?;
        let passage = select(&grant, scheme, now)?;
        Ok(Let {
            verdict: passage.verdict(),
            rule: passage.rule().cloned(),
            intercepted: passage.intercept(),
        })
    }
}

/// Goes the whole way to a grant. Where no address is known, a public one stands for it.
fn grant(
    permit: TunnelPermit,
    answers: Option<Answers>,
    authority: &Authority,
) -> Result<TunnelGrant, Denial> {
    match answers {
        Some(answers) => {
            let pinned = permit.pin(&answers, &OwnAddresses::default())?;
            let first = pinned.addresses()[0];
            pinned.reached(first)
        }
        None => {
            let stand_in = SocketAddr::new([0; 4].into(), authority.port());
            Ok(TunnelGrant::new(permit, [stand_in].into(), stand_in))
        }
    }
}

/// Selects as an honest client would: TLS with the server name of the CONNECT, if it has one.
fn select(grant: &TunnelGrant, scheme: Scheme, now: Timestamp) -> Result<Passage, Denial> {
    match scheme {
        Scheme::Tcp => grant.select_opaque(),
        Scheme::Https | Scheme::Http => {
            let sni = match grant.host() {
                Host::Name(name) => Sni::Name(name.as_str()),
                Host::Address(_) => Sni::Absent,
            };
            grant.select_tls(TlsClaim { sni, ech: false }, now)
        }
    }
}

/// What a question is about.
#[derive(Debug)]
pub(crate) enum Subject {
    Url(Target),
    /// A tunnel whose bytes are neither TLS nor HTTP; no request has such a URL.
    Opaque(Authority),
}

impl Subject {
    fn parse(url: &str) -> Result<Self, TargetError> {
        match url.strip_prefix("tcp://") {
            Some(authority) => Authority::connect(authority).map(Self::Opaque),
            None => Target::absolute(url).map(Self::Url),
        }
    }

    pub(crate) fn scheme(&self) -> Scheme {
        match self {
            Self::Url(target) => target.scheme(),
            Self::Opaque(_) => Scheme::Tcp,
        }
    }

    pub(crate) fn authority(&self) -> &Authority {
        match self {
            Self::Url(target) => target.authority(),
            Self::Opaque(authority) => authority,
        }
    }
}

/// As what it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A request with method and path.
    Request,
    /// A request with method and path, inside a tunnel that is intercepted.
    Inside,
    /// A tunnel, of which only host and port are seen.
    Tunnel,
    /// Nothing: there is no such target.
    Nothing,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Answer {
    asked: Option<Subject>,
    seen: Seen,
    outcome: Result<Let, Denial>,
}

/// Something that is let through.
#[derive(Debug)]
struct Let {
    verdict: Verdict,
    rule: Option<RuleId>,
    intercepted: bool,
}

impl Answer {
    fn unasked(error: &TargetError) -> Self {
        Self { asked: None, seen: Seen::Nothing, outcome: Err(refusal(error)) }
    }

    pub(crate) fn asked(&self) -> Option<&Subject> {
        self.asked.as_ref()
    }

    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.outcome.as_ref().ok().map(|decided| decided.verdict)
    }

    pub(crate) fn reason(&self) -> Reason {
        match &self.outcome {
            Ok(Let { verdict: Verdict::Allow, .. }) => Reason::Allowed,
            Ok(Let { verdict: Verdict::WouldDeny(reason), .. }) => *reason,
            Err(denial) => denial.reason,
        }
    }

    pub(crate) fn rule(&self) -> Option<&RuleId> {
        match &self.outcome {
            Ok(decided) => decided.rule.as_ref(),
            Err(denial) => denial.rule.as_ref(),
        }
    }
}

/// What the proxy answers to a target or method that is refused before any rule is asked.
fn refusal(error: &TargetError) -> Denial {
    Denial::new(match error {
        TargetError::Malformed(_) => Reason::TargetMalformed,
        TargetError::Scheme => Reason::SchemeNotAllowed,
        TargetError::MethodRefused => Reason::MethodNotAllowed,
    })
}

#[cfg(test)]
mod tests;
