//! Words about what the proxy itself shows: its process, its log and its records.

use crate::{
    audit::Record,
    case::input::FORGED_LINE,
    observed::{Observed, contains},
};

/// What the proxy itself shows: process, log, records. The outer `None` is an unknown word, the
/// inner one a condition at which nobody looked.
pub(super) fn holds(name: &str, rest: &str, seen: &Observed<'_>) -> Option<Option<bool>> {
    Some(match name {
        "fd_released_within" if rest == "idle_timeout" => seen.released,
        "proxy_verdict_header_not_forgeable" if seen.forgeries.is_empty() => None,
        "proxy_verdict_header_not_forgeable" => {
            Some(seen.forgeries.iter().all(|line| !contains(&seen.raw, line.as_bytes())))
        }
        "not_listening_on_public" => seen.reached_elsewhere.map(|reached| !reached),
        "log_lines_well_formed" => {
            let control = |line: &str| line.chars().any(|c| c.is_control() && c != '\t');
            let forged = |line: &str| line.trim_start().starts_with(FORGED_LINE);
            let printed = seen.printed.lines().all(|line| !control(line) && !forged(line));
            // A record that is no JSON is a fault by itself, whether a case asks for it or not.
            let recorded = seen.records.iter().flatten();
            Some(printed && !recorded.into_iter().any(|r| r.text("verdict") == "forged"))
        }
        "audit_event" => {
            let records = seen.records.as_ref()?;
            let has = |record: &&Record| {
                let fields = ["event", "verdict", "reason", "closed_by"];
                rest.is_empty() && record.is_decision()
                    || fields.iter().any(|field| {
                        let value = record.text(field);
                        value == rest || value.strip_prefix("egress.") == Some(rest)
                    })
            };
            Some(records.iter().any(|record| has(&record)))
        }
        _ => return None,
    })
}
