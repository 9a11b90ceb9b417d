//! The steps of an explanation, in words.
//!
//! Every rule that names the host is listed with the first thing about which it does not match,
//! by the judgement that decides. What the other rules name is no reason, so they are counted.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::host::Host;
use crate::limits::RuleLimits;
use crate::policy::{Mode, Policy};
use crate::rule::{Asked, Ech, Effect, Methods, Miss, Paths, Ports, Rule, Schemes, SniDemand, Tls};
use crate::source::shown;
use crate::target::Scheme;
use crate::worker::Labels;

use super::{Answer, Branch, Question, Seen, Subject};

impl Policy {
    pub(super) fn tree(
        &self,
        question: &Question<'_>,
        answer: &Answer,
        now: Timestamp,
    ) -> Vec<Branch> {
        let mut tree = vec![self.outcome_branch(answer), asked_branch(question, answer)];
        if let Some(subject) = &answer.asked {
            tree.push(self.rules_branch(question, subject, answer, now));
        }
        let decided = answer.rule().and_then(|id| self.rules.iter().find(|rule| rule.id == *id));
        if let Some(rule) = decided.filter(|rule| rule.effect == Effect::Allow) {
            tree.push(settings_branch(rule, answer.asked.as_ref()));
        }
        if let Some(subject) = &answer.asked {
            tree.push(addresses_branch(question, subject.authority().host()));
        }
        tree.push(self.defaults_branch());
        tree
    }

    fn outcome_branch(&self, answer: &Answer) -> Branch {
        let text = match (&answer.outcome, answer.rule()) {
            (Err(denial), _) => format!("denied: {denial}"),
            (Ok(_), Some(rule)) => format!("allowed by rule `{rule}`"),
            (Ok(_), None) => {
                format!("let through by `mode = \"report\"`; in force: {}", answer.reason())
            }
        };
        leaf(text)
    }

    fn rules_branch(
        &self,
        question: &Question<'_>,
        subject: &Subject,
        answer: &Answer,
        now: Timestamp,
    ) -> Branch {
        let authority = subject.authority();
        let mut naming: BTreeSet<u32> = BTreeSet::new();
        self.index.visit(authority.host(), |list| naming.extend(list));
        let (scheme, path) = match subject {
            Subject::Url(target) => (target.scheme(), target.path()),
            Subject::Opaque(_) => (Scheme::Tcp, ""),
        };
        let request = match answer.seen {
            Seen::Request | Seen::Inside => Some((question.method, path)),
            Seen::Tunnel | Seen::Nothing => None,
        };
        let asked = Asked { worker: question.worker, scheme, port: authority.port(), request, now };
        let others = self.rules.len() - naming.len();
        let mut branches: Vec<_> = naming
            .into_iter()
            .map(|at| {
                let rule = self.rule(at);
                let decides = answer.rule() == Some(&rule.id);
                leaf(format!("{}: {}", title(rule), finding(rule, &asked, decides)))
            })
            .collect();
        if others > 0 {
            branches.push(leaf(format!("rules for other hosts: {others}")));
        }
        Branch { text: format!("rules for `{}`", authority.host()), branches }
    }

    fn defaults_branch(&self) -> Branch {
        let mode = match self.mode {
            Mode::Enforce => "enforce: what no rule allows is denied",
            Mode::Report => "report: what no rule matches is let through and recorded",
        };
        let mut branches = vec![
            leaf(format!("mode = {mode}")),
            leaf(format!("schemes = {}", schemes(self.defaults.schemes))),
            leaf(format!("ports = {}", ports(&self.defaults.ports))),
            leaf(format!("tls = {}", tls(self.defaults.tls))),
            leaf("sni = required".to_owned()),
            leaf("ech = refuse".to_owned()),
        ];
        branches.extend(limits(&self.defaults.limits));
        Branch { text: "defaults".to_owned(), branches }
    }
}

fn asked_branch(question: &Question<'_>, answer: &Answer) -> Branch {
    let text = match answer.seen {
        Seen::Request => "judged as a request",
        Seen::Inside => "judged as the request inside the tunnel, which is intercepted",
        Seen::Tunnel => "judged as a tunnel: method and path play no part",
        Seen::Nothing => "not judged: no request can ask for this",
    };
    let labels: Vec<_> = pairs(&question.worker.labels);
    let labels = if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") };
    Branch {
        text: text.to_owned(),
        branches: vec![
            leaf(format!("{} {}", shown(question.method), shown(question.url))),
            leaf(format!("worker `{}` with {labels}", question.worker.id)),
        ],
    }
}

fn addresses_branch(question: &Question<'_>, host: &Host) -> Branch {
    let text = match (question.addresses, host) {
        ([], Host::Name(_)) => "addresses: none given, none judged".to_owned(),
        ([], Host::Address(literal)) => format!("addresses: {literal}, the host itself"),
        (addresses, Host::Name(_) | Host::Address(_)) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            format!("addresses: {}", addresses.join(", "))
        }
    };
    leaf(text)
}

/// What holds under the rule that allows, defaults filled in.
fn settings_branch(rule: &Rule, subject: Option<&Subject>) -> Branch {
    let mut branches = Vec::new();
    if rule.schemes.contain(Scheme::Https) {
        branches.push(leaf(format!("tls = {}", tls(rule.tls))));
        branches.push(leaf(format!(
            "sni = {}",
            match rule.sni {
                SniDemand::Required => "required",
                SniDemand::Optional => "optional",
            }
        )));
        branches.push(leaf(format!(
            "ech = {}",
            match rule.ech {
                Ech::Refuse => "refuse",
                Ech::Allow => "allow",
            }
        )));
    }
    if let Some(expires) = rule.expires {
        branches.push(leaf(format!("expires = {expires}")));
    }
    branches.extend(limits(&rule.limits));
    if let Some(Subject::Url(target)) = subject
        && let Some(name) = target.authority().host().name()
    {
        let lent = rule.lends(target.scheme(), name, target.authority().port());
        branches.extend(lent.iter().map(|id| leaf(format!("places credential `{id}`"))));
    }
    Branch { text: format!("under {}", title(rule)), branches }
}

fn finding(rule: &Rule, asked: &Asked<'_>, decides: bool) -> String {
    match rule.miss(asked) {
        None if rule.effect == Effect::Deny
            && asked.request.is_none()
            && rule.judges_requests() =>
        {
            "judges only requests that are seen".to_owned()
        }
        None if decides => "matches, and decides".to_owned(),
        None => "matches, but another rule decides".to_owned(),
        Some(miss) => said(rule, miss),
    }
}

/// What the rule says about that in which it does not match.
pub(super) fn said(rule: &Rule, miss: Miss) -> String {
    match miss {
        Miss::Workers => format!("is for other workers: {}", workers(rule)),
        Miss::Expired => match rule.expires {
            Some(expires) => format!("expired at {expires}"),
            None => "expired".to_owned(),
        },
        Miss::Scheme => format!("its schemes are {}", schemes(rule.schemes)),
        Miss::Port => format!("its ports are {}", ports(&rule.ports)),
        Miss::Method => format!(
            "its methods are {}",
            match &rule.methods {
                Methods::Every => "every one".to_owned(),
                Methods::Listed(methods) => list(methods),
            }
        ),
        Miss::Path => format!(
            "its paths are {}",
            match &rule.paths {
                Paths::Every => "every one".to_owned(),
                Paths::Listed(paths) => list(paths),
            }
        ),
    }
}

fn title(rule: &Rule) -> String {
    let effect = match rule.effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    };
    format!("{effect} `{}` (line {}, column {})", rule.id, rule.line, rule.column)
}

fn workers(rule: &Rule) -> String {
    let mut wanted = Vec::new();
    if let Some(ids) = &rule.workers.ids {
        wanted.push(format!("ids {}", list(ids)));
    }
    if !rule.workers.labels.is_empty() {
        wanted.push(format!("labels {}", pairs(&rule.workers.labels).join(", ")));
    }
    wanted.join(" and ")
}

fn pairs(labels: &Labels) -> Vec<String> {
    labels.iter().map(|(name, value)| format!("{}={}", shown(name), shown(value))).collect()
}

fn schemes(schemes: Schemes) -> String {
    list(schemes.iter())
}

fn ports(ports: &Ports) -> String {
    if ports.are_every() { "every one".to_owned() } else { list(ports.iter()) }
}

fn tls(tls: Tls) -> &'static str {
    match tls {
        Tls::Tunnel => "tunnel",
        Tls::Intercept => "intercept",
    }
}

fn limits(limits: &RuleLimits) -> Vec<Branch> {
    let RuleLimits {
        idle_timeout,
        max_duration,
        max_request_bytes,
        max_response_bytes,
        requests_per_minute,
        tunnels,
        bytes_up_per_day,
        bytes_down_per_day,
    } = limits;
    let mut branches = vec![
        leaf(format!("idle_timeout = {}", duration(*idle_timeout))),
        leaf(format!("max_duration = {}", duration(*max_duration))),
        leaf(format!("max_request_bytes = {}", bytes(*max_request_bytes))),
        leaf(format!("max_response_bytes = {}", bytes(*max_response_bytes))),
    ];
    let counted = [
        ("requests_per_minute", requests_per_minute.map(|limit| limit.to_string())),
        ("tunnels", tunnels.map(|limit| limit.to_string())),
        ("bytes_up_per_day", bytes_up_per_day.map(bytes)),
        ("bytes_down_per_day", bytes_down_per_day.map(bytes)),
    ];
    let stated = counted.into_iter().filter_map(|(name, limit)| Some((name, limit?)));
    branches.extend(stated.map(|(name, limit)| leaf(format!("{name} = {limit}"))));
    branches
}

/// As the policy would write it.
fn duration(duration: Duration) -> String {
    in_units(
        duration.as_millis(),
        &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)],
        "ms",
    )
}

/// As the policy would write it.
fn bytes(bytes: u64) -> String {
    in_units(
        bytes.into(),
        &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)],
        "B",
    )
}

fn in_units(number: u128, units: &[(&str, u128)], smallest: &str) -> String {
    let fitting = units.iter().find(|(_, size)| number >= *size && number.is_multiple_of(*size));
    let (unit, size) = fitting.copied().unwrap_or((smallest, 1));
    format!("{}{unit}", number / size)
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn leaf(text: String) -> Branch {
    Branch { text, branches: Vec::new() }
}
