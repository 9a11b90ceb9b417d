//! What a recorded exchange asked for, so that a policy can be asked again.
//!
//! A CONNECT whose bytes were seen is judged as `explain` judges it; one that was not let so far is
//! judged as the proxy judged it, for host and port alone. Records that name no worker or no target
//! cannot be judged: what was malformed stays malformed, whatever the rules.

use std::net::IpAddr;

use egret_policy::{
    Answers, Authority, Denial, OwnAddresses, Policy, Question, Reason, Timestamp, TunnelAsk,
    Verdict, Worker,
};

use crate::records::{Judged, Record};

/// A recorded request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) worker: Worker,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) authority: Authority,
    pub(crate) protocol: Protocol,
    pub(crate) addresses: Vec<IpAddr>,
}

/// What is known of how the target was to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Protocol {
    /// A request in cleartext, of which method and path were seen.
    Request,
    /// A tunnel with TLS inside.
    Tls,
    /// A tunnel with plain HTTP inside, whose requests have records of their own.
    PlainTunnel,
    /// A tunnel with something else inside.
    Opaque,
    /// A tunnel that ended before anything was said in it.
    Unseen,
}

/// What a policy makes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Outcome {
    pub(crate) verdict: Judged,
    pub(crate) reason: Reason,
    pub(crate) rule: Option<String>,
}

impl Asked {
    /// Reads what a decision was about; nothing where that cannot be judged again.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let worker = record.worker()?;
        let method = record.method.clone()?;
        let authority = format!("{}:{}", record.host.as_deref()?, record.port?);
        let scheme = record.scheme.as_deref();
        let protocol = match (method.as_str(), scheme) {
            ("CONNECT", Some("https")) => Protocol::Tls,
            ("CONNECT", Some("http")) => Protocol::PlainTunnel,
            ("CONNECT", Some("tcp")) => Protocol::Opaque,
            ("CONNECT", None) => Protocol::Unseen,
            (_, Some("http" | "https")) => Protocol::Request,
            (_, _) => return None,
        };
        let path = record.path.as_deref().filter(|path| path.starts_with('/')).unwrap_or("/");
        let url = match protocol {
            Protocol::Request => format!("{}://{authority}{path}", scheme.unwrap_or("http")),
            Protocol::Opaque => format!("tcp://{authority}"),
            Protocol::PlainTunnel => format!("http://{authority}/"),
            Protocol::Tls | Protocol::Unseen => format!("https://{authority}/"),
        };
        Some(Self {
            worker,
            method,
            url,
            authority: Authority::connect(&authority).ok()?,
            protocol,
            addresses: record.addresses.clone(),
        })
    }

    pub(crate) fn question(&self) -> Question<'_> {
        Question {
            worker: &self.worker,
            method: &self.method,
            url: &self.url,
            addresses: &self.addresses,
        }
    }

    /// Judges the request by a policy.
    pub(crate) fn judged(&self, policy: &Policy, now: Timestamp) -> Outcome {
        let by_bytes = match self.protocol {
            Protocol::Request | Protocol::Tls | Protocol::Opaque => true,
            Protocol::PlainTunnel | Protocol::Unseen => false,
        };
        if by_bytes {
            let explained = policy.explain(&self.question(), now);
            let verdict = match explained.verdict {
                "allow" => Judged::Allow,
                "would_deny" => Judged::WouldDeny,
                _ => Judged::Deny,
            };
            return Outcome { verdict, reason: explained.reason, rule: explained.rule };
        }
        self.opened(policy, now).unwrap_or_else(|denial| Outcome {
            verdict: Judged::Deny,
            reason: denial.reason,
            rule: denial.rule.as_ref().map(ToString::to_string),
        })
    }

    /// Judges a tunnel before its first bytes.
    fn opened(&self, policy: &Policy, now: Timestamp) -> Result<Outcome, Denial> {
        let ask = TunnelAsk { worker: &self.worker, authority: &self.authority };
        let permit = policy.decide_tunnel(&ask, now)?;
        let (verdict, reason) = match permit.verdict() {
            Verdict::Allow => (Judged::Allow, Reason::Allowed),
            Verdict::WouldDeny(reason) => (Judged::WouldDeny, reason),
        };
        let rule = permit.outcomes(now).find_map(|(rule, _)| rule).map(ToString::to_string);
        if !self.addresses.is_empty() {
            let answers = Answers { addresses: self.addresses.clone(), aliases: Vec::new() };
            permit.pin(&answers, &OwnAddresses::default())?;
        }
        Ok(Outcome { verdict, reason, rule })
    }
}
