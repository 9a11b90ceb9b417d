//! The words of `must` in cases of kind `load`, and the verdict.

use std::time::Duration;

use super::{
    measured::{Measured, SLACK, Work},
    tuning::Tuning,
};
use crate::{
    case::{Case, Expected},
    verdict::{Verdict, split},
};

/// Judges what was measured.
pub(super) fn judge(case: &Case, tuning: &Tuning, seen: &Measured) -> Verdict {
    let (mut broken, mut unseen) = (Vec::new(), Vec::new());
    for word in &case.must {
        match holds(word, tuning, seen) {
            Some(Finding { held: true, .. }) => {}
            Some(Finding { evidence, .. }) => broken.push(format!("{word} ({evidence})")),
            None => unseen.push(match seen.unseen.get(split(word).0) {
                Some(why) => format!("{word} ({why})"),
                None => word.clone(),
            }),
        }
    }
    for (word, (held, evidence)) in &seen.claims {
        if !held && !case.must.iter().any(|must| must == word) {
            broken.push(format!("{word} ({evidence})"));
        }
    }
    if let Some(healthy) = &seen.healthy {
        let (success, failures) = (healthy.attacked.success(), &healthy.attacked.failures);
        if success < SERVED {
            let first = failures.first().map_or("", String::as_str);
            broken
                .push(format!("healthy clients were served to {:.1}% ({first})", success * 100.0));
        }
    }
    if !broken.is_empty() {
        return Verdict::Fail(format!("broken: {}", broken.join(", ")));
    }
    let (asked, word) = match case.expected {
        Expected::Allow => (Work::Served, "allow"),
        Expected::Deny | Expected::Either | Expected::Reject400 => (Work::Bounded, "deny"),
    };
    let other = if word == "allow" { "deny" } else { "allow" };
    match seen.outcome {
        None => return Verdict::Fail("the work was neither done nor bounded".to_owned()),
        Some(work) if work == asked => {}
        Some(_) if case.also_ok.iter().any(|also| also == other) && unseen.is_empty() => {
            return Verdict::Soft(format!("{other}, accepted as {other}"));
        }
        Some(_) if case.also_ok.iter().any(|also| also == other) => {}
        Some(_) => return Verdict::Fail(format!("{other}, {word} expected")),
    }
    if !unseen.is_empty() {
        return Verdict::Unchecked(format!("not observable here: {}", unseen.join(", ")));
    }
    Verdict::Pass
}

/// Whether a condition holds, and what that rests on.
struct Finding {
    held: bool,
    evidence: String,
}

/// Whether a condition holds; `None` when it was not observed.
fn holds(word: &str, tuning: &Tuning, seen: &Measured) -> Option<Finding> {
    if let Some((held, evidence)) = seen.claims.get(word) {
        return Some(Finding { held: *held, evidence: evidence.clone() });
    }
    let (name, _, rest) = split(word);
    let found = |held: bool, evidence: String| Some(Finding { held, evidence });
    let within = |took: Duration, limit: Duration| found(took <= limit, format!("{took:.1?}"));
    let percent = || rest.strip_suffix('%')?.parse::<f64>().ok();
    let ms = || rest.parse().ok().map(Duration::from_millis);
    match name {
        "closed_within" => {
            let limit = tuning.time(rest)? + SLACK + seen.lag();
            match seen.closed? {
                Some(longest) => within(longest, limit),
                None => found(false, "some were never closed".to_owned()),
            }
        }
        "answered_within" => within(seen.answered?, tuning.time(rest)? + seen.lag()),
        "exits_within" => within(seen.exited?, tuning.time(rest)?),
        "ready_within_ms" => within(seen.ready?, ms()?.mul_f64(seen.busy)),
        "no_stall_over_ms" => within(seen.stall?, ms()?.mul_f64(seen.busy)),
        "healthy_p99_ratio" => {
            let healthy = seen.healthy.as_ref()?;
            let limit = rest.parse::<f64>().ok()? * seen.busy;
            found(healthy.ratio() <= limit, healthy.to_string())
        }
        "bounded_memory" | "rss" if matches!(rest, "" | "budget") => {
            let memory = seen.memory?;
            let (growth, budget) = (memory.growth(), memory.budget());
            found(growth <= budget, format!("{} KiB of {} KiB", growth >> 10, budget >> 10))
        }
        "per_conn_buffer" => {
            let memory = seen.memory?;
            let each = memory.growth() / memory.connections.max(1);
            found(each <= PER_CONNECTION, format!("{each} bytes each"))
        }
        "rss_delta" => {
            let memory = seen.memory?;
            let grown = memory.after.saturating_sub(memory.before);
            let limit = (memory.before as f64 * percent()? / 100.0).max(RESIDENT_NOISE);
            found(grown as f64 <= limit, format!("{} KiB more", grown >> 10))
        }
        "fd_flat" => {
            let (before, after) = seen.descriptors?;
            found(after <= before + DESCRIPTORS, format!("{before} -> {after}"))
        }
        "cpu" => {
            let part = seen.cpu? * 100.0;
            found(part <= percent()?, format!("{part:.0}%"))
        }
        "cpu_bounded" => {
            let part = seen.cpu? * 100.0;
            found(part <= 50.0, format!("{part:.0}%"))
        }
        "worker_b_success" => {
            let part = seen.success? * 100.0;
            found(part >= percent()?, format!("{part:.1}%"))
        }
        "inflight_failures" => {
            let failures = seen.failures?;
            found(failures <= rest.parse().ok()?, failures.to_string())
        }
        "no_dns_query" => {
            let queries = seen.queries?;
            found(queries == 0, format!("{queries} queries"))
        }
        _ => None,
    }
}

/// Which part of the healthy requests must succeed.
const SERVED: f64 = 0.999;
/// What one connection may hold of an answer that is not read: a buffer for each side, and what an
/// allocator needs for them.
const PER_CONNECTION: u64 = 512 << 10;
/// Below, an allocator's habits are what is measured.
const RESIDENT_NOISE: f64 = 4.0 * 1024.0 * 1024.0;
/// Descriptors that come and go: a look-up under way, a pooled connection.
const DESCRIPTORS: usize = 8;

#[cfg(test)]
mod tests;
