//! From what was seen to a verdict, by the rules of the corpus.
//!
//! The reply alone never decides: dials, name look-ups, the origins' raw bytes and the proxy's own
//! records are judged too, and conditions that no case has to name hold for every refusal. A
//! condition that cannot be observed makes the verdict unchecked, never a pass.

use std::{fmt, net::IpAddr};

use crate::{
    case::{Case, Expected, Input, Policy},
    observed::{Observed, Outcome},
};

mod address;
mod records;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use self::{records::faults as record_faults, words::split};

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As asked.
    Pass,
    /// Acceptable, but not what was asked for first.
    Soft(String),
    /// Wrong.
    Fail(String),
    /// Nobody looked, or a condition could not be observed.
    Unchecked(String),
    /// The proxy lacks a feature that the case is about.
    NotApplicable(String),
}

impl Verdict {
    /// Returns the word for it, as it stands in lists.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Soft(_) => "soft",
            Self::Fail(_) => "fail",
            Self::Unchecked(_) => "unchecked",
            Self::NotApplicable(_) => "not applicable",
        }
    }

    /// Returns the reason; empty for a pass.
    pub fn why(&self) -> &str {
        match self {
            Self::Pass => "",
            Self::Soft(why) | Self::Fail(why) | Self::Unchecked(why) | Self::NotApplicable(why) => {
                why
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why() {
            "" => f.write_str(self.word()),
            why => write!(f, "{}: {why}", self.word()),
        }
    }
}

/// How strictly a refusal is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// A refusal with another status than the one asked for, nothing forwarded, passes softly.
    #[default]
    Usual,
    /// It fails.
    Strict,
}

/// Judges what was seen.
pub fn judge(seen: &Observed<'_>, strictness: Strictness) -> Verdict {
    let (case, outcome) = (seen.case, seen.outcome());
    let mut broken = Vec::new();
    let mut unseen = Vec::new();
    for word in &case.must {
        match words::holds(word, seen) {
            Some(true) => {}
            Some(false) => broken.push(word.clone()),
            None => unseen.push(word.as_str()),
        }
    }
    if !seen.alive {
        broken.insert(0, "process_alive".to_owned());
    }
    broken.extend(implicit(seen, outcome));
    if let Some(records) = &seen.records {
        broken.extend(records::faults(seen, records));
    }

    let mut soft = None;
    if !is_expected(seen, outcome) {
        soft = alternative(seen, outcome, strictness);
        if soft.is_none() {
            let broken = listed("; broken: ", &broken);
            let note = dialled(seen);
            return Verdict::Fail(format!("{outcome}, {} expected{broken}{note}", case.expected));
        }
    }
    if !broken.is_empty() {
        return Verdict::Fail(format!(
            "{outcome}{}{}",
            listed("; broken: ", &broken),
            dialled(seen)
        ));
    }
    if !unseen.is_empty() {
        return Verdict::Unchecked(format!("not observable here: {}", unseen.join(", ")));
    }
    if let Some(why) = &seen.unplayed {
        return Verdict::Unchecked(why.clone());
    }
    soft.map_or(Verdict::Pass, Verdict::Soft)
}

/// What no refused case may do, whether it says so or not.
fn implicit(seen: &Observed<'_>, outcome: Outcome) -> Vec<String> {
    let mut broken = Vec::new();
    if outcome.is_allow() || seen.case.expected == Expected::Allow {
        return broken;
    }
    if let Some(dial) = seen.dials.iter().find(|dial| !address::is_public(dial.ip())) {
        broken.push(format!("a forbidden address was dialled ({dial})"));
    }
    let strange = seen.queries.iter().find(|query| !may_be_asked(&query.name, seen.case));
    if let Some(query) = strange
        && seen.policy == Policy::Default
    {
        let name: String = query.name.chars().take(60).collect();
        broken.push(format!("a name off the allowlist was looked up ({name})"));
    }
    // An origin may refuse such bytes by itself, which must not pass for the proxy's refusal.
    let relayed = |wire: &[u8]| !wire.is_empty() && seen.payload.starts_with(wire);
    if seen.connections.iter().any(|connection| relayed(&connection.wire)) {
        broken.push("what was sent into the tunnel reached an origin".to_owned());
    }
    broken
}

/// Whether the default policy lets a name be looked up: an allowed host, or where its alias leads.
fn may_be_asked(name: &str, case: &Case) -> bool {
    if let Some(configured) = case.input.configured() {
        return configured.settings.covers(name);
    }
    if name == "api.example.com" || name.ends_with(".example.org") {
        return true;
    }
    let answers = case.input.script().iter().flat_map(|entry| &entry.answers);
    let scripted = answers.map(|record| &record.data);
    let zoned = case.resolver.iter().filter_map(|(_, found)| found.cname.as_ref());
    scripted.chain(zoned.map(|to| &to.0)).any(|alias| alias.eq_ignore_ascii_case(name))
}

fn is_expected(seen: &Observed<'_>, outcome: Outcome) -> bool {
    let deny = matches!(outcome, Outcome::Deny(_));
    match seen.case.expected {
        Expected::Allow => outcome.is_allow(),
        Expected::Either => deny || outcome == Outcome::Refused400,
        Expected::Reject400 => {
            let status = outcome.status();
            outcome == Outcome::Refused400 || status != 0 && seen.case.status_ok.contains(&status)
        }
        // For a hostile answer a broken message is a refusal: the client sees that it is broken.
        Expected::Deny if matches!(seen.case.input, Input::Response(_)) => {
            let broken = seen
                .replies
                .first()
                .is_some_and(|reply| !reply.complete || reply.until_close && !seen.closed);
            deny || outcome == Outcome::Silent || broken
        }
        Expected::Deny => deny,
    }
}

/// Why an outcome that was not asked for passes softly; `None` when it does not.
fn alternative(seen: &Observed<'_>, outcome: Outcome, strictness: Strictness) -> Option<String> {
    let case = seen.case;
    if let Some(word) = case.also_ok.iter().find(|word| words::accepts(word, outcome, seen)) {
        let why = seen.not_started.as_deref().and_then(first_error);
        let why = why.map(|line| format!(" ({line})")).unwrap_or_default();
        return Some(format!("{outcome}{why}, accepted as {word}"));
    }
    if case.expected == Expected::Deny && outcome == Outcome::Refused400 {
        return Some("400 where a refusal was expected".to_owned());
    }
    let forwarded = if seen.earlier > 0 {
        seen.dials.len() > seen.earlier
    } else {
        seen.requests().next().is_some()
    };
    let refused = matches!(outcome, Outcome::Deny(_) | Outcome::Silent);
    let harmless = refused && !forwarded && case.expected != Expected::Allow;
    (harmless && strictness == Strictness::Usual)
        .then(|| format!("{outcome}, {} expected; nothing forwarded", case.expected))
}

/// The line of an output that says what is wrong.
fn first_error(said: &str) -> Option<&str> {
    said.lines().find(|line| line.contains("error")).or_else(|| said.lines().next())
}

fn listed(before: &str, words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!("{before}{}", words.join(", ")) }
}

fn dialled(seen: &Observed<'_>) -> String {
    let mut all: Vec<String> = seen.dials.iter().map(ToString::to_string).collect();
    all.sort();
    all.dedup();
    all.truncate(3);
    if all.is_empty() { String::new() } else { format!(" [dialled {}]", all.join(", ")) }
}

/// An address by its text, brackets or not.
fn parse_address(text: &str) -> Option<IpAddr> {
    text.trim_matches(['[', ']']).parse().ok()
}
