//! What a recorded exchange asked for, so that a policy can be asked again.
//!
//! A CONNECT whose bytes were seen is judged as `explain` judges it, or by whether plain HTTP may go
//! on in it; one that was not let so far is judged as the proxy judged it, for host and port alone.
//! Records that name no worker or no target cannot be judged, nor can requests that ask the proxy to
//! speak TLS for them: what was malformed stays malformed, whatever the rules.

use std::net::{IpAddr, SocketAddr};

use egret_policy::{
    Answers, Ask, Authority, Denial, Forbidden, Method, Network, OwnAddresses, Policy, Question,
    Reason, RuleId, Scheme, Target, Timestamp, TunnelAsk, Verdict, Worker,
};
use serde::Serialize;

use crate::records::{Judged, Record};

/// A recorded request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) worker: Worker,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) authority: Authority,
    pub(crate) protocol: Protocol,
    /// Whether it is for the whole server: the `*` of OPTIONS, for which a URL has but `/`.
    pub(crate) for_server: bool,
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) struct Outcome {
    pub(crate) verdict: Judged,
    pub(crate) reason: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
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
            (_, Some("http")) => Protocol::Request,
            (_, _) => return None,
        };
        let path = record.path.as_deref().filter(|path| path.starts_with('/')).unwrap_or("/");
        let url = match protocol {
            Protocol::Request => format!("http://{authority}{path}"),
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
            for_server: protocol == Protocol::Request && record.path.as_deref() == Some("*"),
            addresses: record.addresses.clone(),
        })
    }

    /// The same with the method in capitals, if that is another request that rules can name.
    pub(crate) fn in_capitals(&self) -> Option<Self> {
        let method = self.method.to_ascii_uppercase();
        let is_another = method != self.method && method != "CONNECT";
        (self.protocol == Protocol::Request && is_another).then(|| Self { method, ..self.clone() })
    }

    pub(crate) fn question(&self) -> Question<'_> {
        Question {
            worker: &self.worker,
            method: &self.method,
            url: &self.url,
            addresses: &self.addresses,
        }
    }

    /// Judges the request by a policy; what is known of egret's own addresses is never reached.
    pub(crate) fn judged(&self, policy: &Policy, own: &OwnAddresses, now: Timestamp) -> Outcome {
        let outcome = match self.protocol {
            Protocol::Tls | Protocol::Opaque => self.explained(policy, now),
            Protocol::Request if self.for_server => refused_or(self.server(policy, now)),
            Protocol::Request => self.explained(policy, now),
            Protocol::PlainTunnel => refused_or(self.plain(policy, now)),
            Protocol::Unseen => refused_or(self.opened(policy, now)),
        };
        if outcome.verdict != Judged::Deny && self.is_own(own) {
            return Outcome { verdict: Judged::Deny, reason: Reason::AddressForbidden, ..outcome };
        }
        outcome
    }

    /// Whether it is an opaque tunnel to where the policy opens others: no rule can allow both.
    pub(crate) fn is_beside(&self, policy: &Policy, now: Timestamp) -> bool {
        let opens = || self.opened(policy, now).is_ok_and(|open| open.verdict == Judged::Allow);
        self.protocol == Protocol::Opaque && opens()
    }

    /// Whether it goes to where egret itself listens or asks.
    pub(crate) fn is_own(&self, own: &OwnAddresses) -> bool {
        let answers = self.answers().map(|answers| answers.addresses).unwrap_or_default();
        let port = self.authority.port();
        answers.into_iter().any(|address| {
            let to = SocketAddr::new(address, port);
            Network::default().judge(to, None, own) == Err(Forbidden::OwnEndpoint)
        })
    }

    fn answers(&self) -> Option<Answers> {
        Answers::stated(self.authority.host(), &self.addresses)
    }

    fn explained(&self, policy: &Policy, now: Timestamp) -> Outcome {
        let explained = policy.explain(&self.question(), now);
        let verdict = match explained.verdict {
            "allow" => Judged::Allow,
            "would_deny" => Judged::WouldDeny,
            _ => Judged::Deny,
        };
        Outcome { verdict, reason: explained.reason, rule: explained.rule }
    }

    /// Judges a request for the whole server, which comes inside tunnels alone.
    fn server(&self, policy: &Policy, now: Timestamp) -> Result<Outcome, Denial> {
        let malformed = |_| Denial::new(Reason::TargetMalformed);
        let target = Target::origin(Scheme::Http, &self.authority, "*").map_err(malformed)?;
        let method = Method::parse(&self.method).map_err(malformed)?;
        let permit = policy.decide(&Ask { worker: &self.worker, method, target: &target }, now)?;
        let outcome = Outcome::of(permit.verdict(), permit.rule());
        if let Some(answers) = self.answers() {
            permit.pin(&answers, &OwnAddresses::default())?;
        }
        Ok(outcome)
    }

    /// Judges a tunnel before its first bytes.
    fn opened(&self, policy: &Policy, now: Timestamp) -> Result<Outcome, Denial> {
        let ask = TunnelAsk { worker: &self.worker, authority: &self.authority };
        let permit = policy.decide_tunnel(&ask, now)?;
        let outcome =
            Outcome::of(permit.verdict(), permit.outcomes(now).find_map(|(rule, _)| rule));
        if let Some(answers) = self.answers() {
            permit.pin(&answers, &OwnAddresses::default())?;
        }
        Ok(outcome)
    }

    /// Judges a tunnel that carries plain HTTP.
    fn plain(&self, policy: &Policy, now: Timestamp) -> Result<Outcome, Denial> {
        let ask = TunnelAsk { worker: &self.worker, authority: &self.authority };
        let permit = policy.decide_tunnel(&ask, now)?;
        let Some(answers) = self.answers() else {
            return Ok(Outcome::of(permit.select_http()?, permit.http_rule(now)));
        };
        let pinned = permit.pin(&answers, &OwnAddresses::default())?;
        let first = pinned.addresses()[0];
        let grant = pinned.reached(first)?;
        Ok(Outcome::of(grant.select_http()?, grant.http_outcome(now).and_then(|(rule, _)| rule)))
    }
}

impl Outcome {
    fn of(verdict: Verdict, rule: Option<&RuleId>) -> Self {
        let (verdict, reason) = match verdict {
            Verdict::Allow => (Judged::Allow, Reason::Allowed),
            Verdict::WouldDeny(reason) => (Judged::WouldDeny, reason),
        };
        Self { verdict, reason, rule: rule.map(ToString::to_string) }
    }
}

fn refused_or(outcome: Result<Outcome, Denial>) -> Outcome {
    outcome.unwrap_or_else(|Denial { reason, rule, .. }| {
        let rule = rule.as_ref().map(ToString::to_string);
        Outcome { verdict: Judged::Deny, reason, rule }
    })
}

#[cfg(test)]
mod tests {
    use egret_policy::Loaded;
    use serde_json::{Value, json};

    use super::*;

    /// What rules make of a decision on record; `own` is where egret listens.
    #[track_caller]
    fn check(rules: &str, own: &str, record: Value, verdict: Judged, reasons: &[Reason]) {
        let mut line = json!({ "event": "decision", "worker": "w", "method": "CONNECT" });
        for (key, value) in record.as_object().unwrap() {
            line[key] = value.clone();
        }
        let asked = Asked::of(&Record::read(line.to_string().as_bytes()).unwrap()).unwrap();
        let Loaded { policy, problems, .. } = Policy::load(&format!("version = 1\n{rules}"));
        let policy = policy.unwrap_or_else(|| panic!("{problems:?}"));
        let own = OwnAddresses { endpoints: vec![own.parse().unwrap()], ..OwnAddresses::default() };
        let outcome = asked.judged(&policy, &own, Timestamp::UNIX_EPOCH);
        assert_eq!(outcome.verdict, verdict, "{line}: {outcome:?}");
        assert!(reasons.contains(&outcome.reason), "{line}: {outcome:?}");
    }

    fn rule(more: &str) -> String {
        format!("[[rule]]\nid = 'r'\neffect = 'allow'\n{more}\n")
    }

    const ELSEWHERE: &str = "127.0.0.1:3128";

    #[test]
    fn a_literal_is_judged_as_the_address_that_it_is() {
        let (rule, record) =
            (rule("hosts = ['10.0.0.9']"), json!({ "host": "10.0.0.9", "port": 443 }));
        let open = "[[network.allow]]\ncidr = '10.0.0.9/32'\nrules = ['r']\n";
        let open = format!("{rule}{open}");
        check(&rule, ELSEWHERE, record.clone(), Judged::Deny, &[Reason::AddressForbidden]);
        check(&open, ELSEWHERE, record, Judged::Allow, &[Reason::Allowed]);
    }

    #[test]
    fn plain_http_in_a_tunnel_needs_a_rule_for_it() {
        for addresses in [json!([]), json!(["93.184.216.34"])] {
            let record =
                json!({ "host": "a.test", "port": 443, "scheme": "http", "addresses": addresses });
            let denied = [Reason::SchemeNotAllowed, Reason::ProtocolNotAllowed];
            let https = rule("hosts = ['a.test']");
            let http = rule("hosts = ['a.test']\nschemes = ['http']\nports = [443]");
            check(&https, ELSEWHERE, record.clone(), Judged::Deny, &denied);
            check(&http, ELSEWHERE, record, Judged::Allow, &[Reason::Allowed]);
        }
    }

    #[test]
    fn a_request_for_the_whole_server_is_none_for_its_root() {
        let http = "hosts = ['a.test']\nschemes = ['http']\nports = [80]\nmethods = ['OPTIONS']\n";
        let asked = |path| json!({ "method": "OPTIONS", "scheme": "http", "host": "a.test", "port": 80, "path": path });
        let denied = [Reason::PathNotAllowed];
        let root = rule(&format!("{http}paths = ['/']"));
        check(&root, ELSEWHERE, asked("*"), Judged::Deny, &denied);
        check(&root, ELSEWHERE, asked("/"), Judged::Allow, &[Reason::Allowed]);
        check(&rule(http), ELSEWHERE, asked("*"), Judged::Allow, &[Reason::Allowed]);
    }

    #[test]
    fn what_egret_listens_at_is_not_opened() {
        let rules = rule("hosts = ['127.0.0.1']\nports = [3128]\nschemes = ['http', 'https']");
        let rules = rules + "[[network.allow]]\ncidr = '127.0.0.0/8'\nrules = ['r']\n";
        for record in [
            json!({ "host": "127.0.0.1", "port": 3128 }),
            json!({ "host": "127.0.0.1", "port": 3128, "scheme": "https" }),
            json!({ "host": "127.0.0.1", "port": 3128, "scheme": "http" }),
            json!({ "host": "127.0.0.1", "port": 3128, "scheme": "http", "method": "GET", "path": "/" }),
        ] {
            let denied = [Reason::AddressForbidden];
            check(&rules, ELSEWHERE, record.clone(), Judged::Deny, &denied);
            check(&rules, "127.0.0.1:3129", record, Judged::Allow, &[Reason::Allowed]);
        }
    }
}
