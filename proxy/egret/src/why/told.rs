//! What `why` says, as a document and in words. Bytes that a worker chose are escaped.

use egret_policy::{
    AddressClass, Host, NearRule, Reason, classify, is_metadata, metadata_name, source::shown,
};
use serde::Serialize;

use crate::{
    asked::{Asked, Outcome},
    reasons::{Meaning, meaning},
    records::{Judged, Record, when},
    remedy::{Law, Remedy},
    style::{ALLOWED, DENIED, FAINT, REPORTED, STRONG},
};

#[derive(Serialize)]
pub(super) struct Document<'a> {
    /// Absent where there is no policy to judge by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<&'a str>,
    pub(super) denials: &'a [Told],
}

/// All that is said about one denial.
#[derive(Serialize)]
pub(super) struct Told {
    decision: Record,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion: Option<Record>,
    because: &'static str,
    /// What the policy now in force makes of it; absent where it cannot be judged again.
    #[serde(skip_serializing_if = "Option::is_none")]
    now: Option<Outcome>,
    nearest: Vec<Nearest>,
    remedies: Vec<Remedy>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    advice: Vec<String>,
    /// How much of the advice has to be known before the remedies.
    #[serde(skip)]
    foremost: usize,
}

#[derive(Serialize)]
struct Nearest {
    rule: String,
    line: usize,
    misses: Vec<Miss>,
}

#[derive(Serialize)]
struct Miss {
    key: &'static str,
    says: String,
}

impl Told {
    pub(super) fn new(
        decision: &Record,
        completion: Option<&Record>,
        now: Option<Outcome>,
        nearest: &[NearRule],
        remedies: Vec<Remedy>,
    ) -> Self {
        let Meaning { because, .. } = meaning(decision.reason.as_deref().unwrap_or_default());
        let mut advice = advice(decision, now.as_ref(), &remedies);
        // What was allowed may have failed later.
        let later = completion.and_then(|end| end.reason.as_deref());
        let later = later.filter(|later| Some(*later) != decision.reason.as_deref());
        advice.extend(later.map(|later| meaning(later).advice.to_owned()));
        let nearest = nearest.iter().map(|near| Nearest {
            rule: near.id.to_string(),
            line: near.line,
            misses: near
                .misses
                .iter()
                .map(|(field, says)| Miss { key: field.key(), says: says.clone() })
                .collect(),
        });
        Self {
            decision: decision.clone(),
            completion: completion.cloned(),
            because,
            now,
            nearest: nearest.collect(),
            remedies,
            advice,
            foremost: 0,
        }
    }

    pub(super) fn and_advice(mut self, more: &str) -> Self {
        self.advice.push(more.to_owned());
        self
    }

    /// Advises this and nothing else.
    pub(super) fn with_advice(mut self, advice: &str) -> Self {
        self.advice = vec![advice.to_owned()];
        self
    }

    /// Advises this before any remedy: they help only who follows it.
    pub(super) fn led_by(mut self, advice: String) -> Self {
        self.advice.insert(0, advice);
        self.foremost = 1;
        self
    }

    /// Draws it beside the policy in force, if there is one, and its revision.
    pub(super) fn drawn(&self, in_force: Option<(&Law, &str)>) -> String {
        let mut text = self.head();
        if let Some((law, revision)) = in_force {
            text += &self.drawn_now(law, revision);
        }
        if !self.nearest.is_empty() {
            text += &format!("\n{STRONG}nearest rules{STRONG:#}\n");
        }
        for Nearest { rule, line, misses } in &self.nearest {
            let says: Vec<_> = misses.iter().map(|miss| miss.says.as_str()).collect();
            text += &format!("  `{rule}` (line {line}): {}\n", says.join("; "));
        }
        let (foremost, advice) = self.advice.split_at(self.foremost);
        for advice in foremost {
            text += &format!("\n{advice}\n");
        }
        if !self.remedies.is_empty() {
            text += &format!("\n{STRONG}to allow it{STRONG:#}\n");
        }
        for (at, remedy) in self.remedies.iter().enumerate() {
            text += &drawn_remedy(remedy, at > 0);
        }
        if !advice.is_empty() {
            text.push('\n');
        }
        for advice in advice {
            text += &format!("{advice}\n");
        }
        text
    }

    fn head(&self) -> String {
        let Record { id, time, listener, client, method, reason, rule, count, .. } = &self.decision;
        let (mark, style) = match self.decision.verdict {
            Some(Judged::Allow) => ("✓ allowed", ALLOWED),
            Some(Judged::WouldDeny) => ("! let through, would be denied", REPORTED),
            Some(Judged::Deny) | None => ("✗ denied", DENIED),
        };
        let reason = reason.as_deref().unwrap_or_default();
        let mut text = format!("{style}{mark}{style:#}  {}\n", shown(reason));
        let mut line = |name: &str, value: String| {
            text += &format!("  {FAINT}{name:<8}{FAINT:#}{value}\n");
        };
        line("when", format!("{}  {}", when(time), shown(id.as_deref().unwrap_or_default())));
        line("who", self.who());
        if method.is_some() {
            let method = method.as_deref().unwrap_or_default();
            let scheme =
                self.decision.scheme.as_deref().map(|scheme| format!("  ({})", shown(scheme)));
            let target = shown(&self.decision.target());
            line("what", format!("{} {target}{}", shown(method), scheme.unwrap_or_default()));
        }
        if let Some(client) = client {
            let listener = listener.as_deref().unwrap_or_default();
            line("from", format!("{} on {}", shown(client), shown(listener)));
        }
        if !self.decision.addresses.is_empty() {
            let all: Vec<_> = self.decision.addresses.iter().map(ToString::to_string).collect();
            line("is", all.join(", "));
        }
        let by = rule.as_ref().map(|rule| format!(" (rule `{}`)", shown(rule)));
        line("because", format!("{}{}", self.because, by.unwrap_or_default()));
        if let Some(count) = count {
            line("counts", format!("{count} denials, summed in this one record"));
        }
        if let Some(Record { status, closed_by, reason: last, .. }) = &self.completion {
            let status = status.map(|status| format!("status {status}"));
            let by = closed_by.as_ref().map(|by| format!("closed by {}", shown(by)));
            let later = last.as_deref().filter(|last| *last != reason).map(shown);
            let parts: Vec<_> = [status, by, later].into_iter().flatten().collect();
            line("ended", parts.join(", "));
        }
        text
    }

    fn who(&self) -> String {
        let Some(worker) = &self.decision.worker else {
            return "nobody that could be identified".to_owned();
        };
        let labels: Vec<_> = self
            .decision
            .labels
            .iter()
            .map(|(key, value)| format!("{}={}", shown(key), shown(value)))
            .collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!(" ({})", labels.join(", ")) };
        format!("{}{labels}", shown(worker))
    }

    fn drawn_now(&self, law: &Law, revision: &str) -> String {
        let Some(Outcome { verdict, reason, rule }) = &self.now else { return String::new() };
        let name = law.source.name();
        let another = self.decision.policy.as_deref().is_some_and(|policy| policy != revision);
        let by = rule.as_ref().map(|rule| format!(" by rule `{rule}`")).unwrap_or_default();
        let says = match verdict {
            Judged::Allow => format!("{ALLOWED}✓ now allowed{ALLOWED:#}{by}"),
            Judged::WouldDeny => {
                format!("{REPORTED}! still let through{REPORTED:#}, for it only reports: {reason}")
            }
            Judged::Deny => format!("{DENIED}✗ still denied{DENIED:#}{by}: {reason}"),
        };
        match another {
            true => format!(
                "\n{says}\n  {FAINT}by {name}, which has changed since: {} then, {} now{FAINT:#}\n",
                short(self.decision.policy.as_deref().unwrap_or_default()),
                short(revision)
            ),
            false if *verdict == Judged::Allow => format!("\n{says}\n"),
            false => String::new(),
        }
    }
}

/// The beginning of a revision is enough to tell two apart.
fn short(revision: &str) -> String {
    shown(revision.get(..12).unwrap_or(revision))
}

fn drawn_remedy(remedy: &Remedy, another: bool) -> String {
    let Remedy { place, lines, opens, against } = remedy;
    let or = if another { "or " } else { "" };
    let mut text = format!("  {or}{place}:\n");
    for line in lines.lines() {
        text += &format!("      {STRONG}{line}{STRONG:#}\n");
    }
    text += &format!("    {FAINT}{opens}{FAINT:#}\n");
    if !against.is_empty() {
        let tests: Vec<_> = against.iter().map(ToString::to_string).collect();
        text += &format!("    but test {} of the policy expects otherwise\n", tests.join(", "));
    }
    text
}

/// What can be done other than by the lines that are shown.
fn advice(record: &Record, now: Option<&Outcome>, remedies: &[Remedy]) -> Vec<String> {
    if now.is_some_and(|now| now.verdict == Judged::Allow) {
        let forbidden = record.reason.as_deref() == Some(Reason::AddressForbidden.code());
        return if forbidden { vec![OWN.to_owned()] } else { Vec::new() };
    }
    let code = now.map_or(record.reason.as_deref().unwrap_or_default(), |now| now.reason.code());
    let mut advice = vec![special(code, record).unwrap_or(meaning(code).advice).to_owned()];
    if let (Some(rule), "egress.ech_refused") = (&record.rule, code) {
        advice.push(format!("In rule `{}`:\n      ech = \"allow\"", shown(rule)));
    }
    let hopeless = remedies.is_empty() && now.is_some() && advice.iter().all(String::is_empty);
    if hopeless && is_forbidden_literal(record) {
        advice.push(
            "The address is not for workers: besides a rule that names it, it takes a \
             `[[network.allow]]` that opens it to that rule."
                .to_owned(),
        );
    } else if hopeless {
        advice.push(
            "No single line allows it beside the other rules of the policy: `egret explain` shows \
             them all."
                .to_owned(),
        );
    }
    advice.retain(|advice| !advice.is_empty());
    advice
}

/// That the method has to be in capitals, as it is here.
pub(super) fn in_capitals(method: &str) -> String {
    format!(
        "Methods are told apart by case, and rules can name them in capitals only: the client has \
         to write `{}`.",
        shown(method)
    )
}

const OWN: &str = "If nothing else has changed, the address is this machine's or egret's own, \
    which only the running proxy knows. Addresses of the machine can be opened by a \
    `[[network.allow]]`; the sockets of egret never are.";

/// What a code means in a case that no rule can help.
fn special(code: &str, record: &Record) -> Option<&'static str> {
    let method = record.method.as_deref().unwrap_or_default();
    let connects = method == "CONNECT";
    match code {
        "egress.protocol_not_allowed" if record.scheme.as_deref() == Some("http") => Some(
            "What was sent into the tunnel is HTTP in cleartext. A client that means TLS has to \
             begin with it: look for an http:// URL with the port of https.",
        ),
        "egress.address_forbidden" | "egress.host_not_allowed" if is_for_metadata(record) => Some(
            "Metadata services give away the identity of the machine. They are never unlocked, by \
             no rule and no `[[network.allow]]`; there is no fix but to do without.",
        ),
        "egress.scheme_not_allowed" if !connects && record.scheme.as_deref() == Some("https") => {
            Some(
                "The client asked the proxy to speak TLS for it, which would hand over cleartext. \
                 It has to send CONNECT: set HTTPS_PROXY to an http:// URL.",
            )
        }
        "egress.method_not_allowed" if ["TRACE", "TRACK", "DEBUG"].contains(&method) => Some(
            "This method makes the origin send the request back, secrets and all. No rule allows it.",
        ),
        _ => None,
    }
}

fn is_forbidden_literal(record: &Record) -> bool {
    let host = Asked::of(record).map(|asked| asked.authority.host().clone());
    match host {
        Some(Host::Address(address)) => classify(address) != AddressClass::Public,
        Some(Host::Name(_)) | None => false,
    }
}

fn is_for_metadata(record: &Record) -> bool {
    let host = Asked::of(record).map(|asked| asked.authority.host().clone());
    let named = match &host {
        Some(Host::Name(name)) => metadata_name(name),
        Some(Host::Address(address)) => is_metadata(*address),
        None => false,
    };
    named || record.addresses.iter().any(|address| is_metadata(*address))
}
