//! What the proxy wrote down must be what the client saw.
//!
//! Every refusal carries a code and an id in its reason phrase, and a decision and a completion
//! with that id must name the code. Everything let through has a decision that allows it and its
//! completion. A tunnel that was cut after its 200 has a record that says why. This is more than a
//! judge of the wire can see, and what an operator has to rely on.

use std::collections::BTreeSet;

use egret_testkit::http1::Message;

use crate::{
    audit::Record,
    case::{Input, config::Mode},
    observed::{Observed, Outcome},
};

/// The code of a success.
const ALLOWED: &str = "egress.allowed";

/// What is missing or contradicts, in words.
pub(crate) fn faults(seen: &Observed<'_>, records: &[Record]) -> Vec<String> {
    let mut faults = Vec::new();
    if records.iter().any(|record| record.0.is_null()) {
        faults.push("records: a line that is not JSON".to_owned());
    }
    for reply in &seen.replies {
        match refusal(reply) {
            Some((code, id)) => faults.extend(refusal_fault(&code, &id, records)),
            None if reply.status() >= 400 && !is_origins(reply, seen) => {
                let reason = reply.reason();
                faults.push(format!("a {} without code and id (`{reason}`)", reply.status()));
            }
            None => {}
        }
    }
    let decided: BTreeSet<&str> =
        records.iter().filter(|record| record.is_decision()).map(Record::id).collect();
    let completed: BTreeSet<&str> =
        records.iter().filter(|record| record.is_completion()).map(Record::id).collect();
    if let Some(id) = decided.difference(&completed).next() {
        faults.push(format!("records: a decision without its completion ({id})"));
    }
    if let Some(id) = completed.difference(&decided).next() {
        faults.push(format!("records: a completion without its decision ({id})"));
    }
    match seen.outcome() {
        Outcome::Allow(_) => {
            let let_through: &[&str] = match &seen.case.input {
                Input::Config(configured) if configured.settings.mode == Mode::Report => {
                    &["allow", "would_deny"]
                }
                Input::Connect { .. }
                | Input::Absolute { .. }
                | Input::Raw { .. }
                | Input::Tls(_)
                | Input::Dns { .. }
                | Input::Response(_)
                | Input::Load(_)
                | Input::Config(_)
                | Input::Undriven(_) => &["allow"],
            };
            let allows = |record: &Record| {
                record.is_decision() && let_through.contains(&record.text("verdict"))
            };
            if !records.iter().any(allows) {
                faults.push("records: let through without a decision that allows it".to_owned());
            }
        }
        Outcome::Deny(0) => {
            let explained = records.iter().any(|record| {
                !matches!(record.reason(), "" | ALLOWED) || !record.text("closed_by").is_empty()
            });
            if !explained {
                faults.push("records: cut without a record that says why".to_owned());
            }
        }
        // A status has been matched with its record above; nothing at all is judged elsewhere.
        Outcome::Deny(_) | Outcome::Refused400 | Outcome::Silent | Outcome::NotStarted => {}
    }
    faults
}

/// The code and the id in the reason phrase of a refusal.
pub(crate) fn refusal(reply: &Message) -> Option<(String, String)> {
    let reason = reply.reason();
    let (code, id) = reason.split_once(' ')?;
    let ulid = id.len() == 26 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (code.starts_with("egress.") && ulid).then(|| (code.to_owned(), id.to_owned()))
}

fn refusal_fault(code: &str, id: &str, records: &[Record]) -> Option<String> {
    let of_it: Vec<&Record> = records.iter().filter(|record| record.id() == id).collect();
    if !of_it.iter().any(|record| record.is_decision()) {
        return Some(format!("records: no decision of {id} ({code})"));
    }
    if !of_it.iter().any(|record| record.reason() == code) {
        let reasons: Vec<&str> = of_it.iter().map(|record| record.reason()).collect();
        return Some(format!("records: {code} was answered, {} recorded", reasons.join(", ")));
    }
    None
}

/// Whether a reply is the scripted one of the origin, which may have any status.
fn is_origins(reply: &Message, seen: &Observed<'_>) -> bool {
    match &seen.case.input {
        Input::Response(response) => {
            String::from_utf8_lossy(&response.first_line).contains(&reply.status().to_string())
        }
        Input::Connect { .. }
        | Input::Absolute { .. }
        | Input::Raw { .. }
        | Input::Tls(_)
        | Input::Dns { .. }
        | Input::Load(_)
        | Input::Config(_)
        | Input::Undriven(_) => false,
    }
}
