//! Cases of kind `load`: steps in words, driven with real connections against a proxy of its own.
//!
//! `steps` reads the words, `ground` starts the proxy under limits that suit a case, the
//! drivers play an attack beside healthy clients, `measured` is what was seen and `words` the
//! judge. What one machine cannot do is scaled down, and the run says so. A step or a condition
//! that is not understood makes the case unchecked.

use std::{thread, time::Duration};

use crate::{audit::Record, case::Case, cell::Fault, verdict::Verdict};

use self::{measured::Measured, steps::Attack};

mod clients;
mod denials;
mod ends;
mod exhaustion;
mod ground;
mod measured;
mod origins;
mod reload;
mod steps;
mod tuning;
mod volume;
mod words;

pub(crate) use self::ground::Ground;
pub use self::tuning::{Tuning, WORKERS, Worker};

/// Plays one case; returns the verdict, and what was scaled down.
pub(crate) fn run(
    ground: &Ground<'_>,
    case: &Case,
    steps: &[String],
) -> Result<(Verdict, String), Fault> {
    let attack = match Attack::read(&case.name, steps) {
        Ok(attack) => attack,
        Err(why) => return Ok((Verdict::Unchecked(why), String::new())),
    };
    let tuning = tuned_for(attack);
    let Some(mut stage) = ground.stage(&tuning)? else {
        let why = "the limits of this proxy cannot be set by the suite".to_owned();
        return Ok((Verdict::Unchecked(why), String::new()));
    };
    let mut measured = Measured::of(&case.must);
    measured.look_around();
    let (stage, seen) = (&mut stage, &mut measured);
    match attack {
        Attack::SlowHeads { connections } => clients::slow_heads(stage, connections, seen),
        Attack::SlowBodies { connections } => clients::slow_bodies(stage, connections, seen),
        Attack::SlowHellos { connections } => clients::slow_hellos(stage, connections, seen),
        Attack::Silent { connections } => clients::silent(stage, connections, seen),
        Attack::SlowRead { body, rate, connections } => {
            clients::slow_read(stage, body, rate, connections, seen)
        }
        Attack::BigHeads { connections, bytes } => {
            clients::big_heads(stage, connections, bytes, seen)
        }
        Attack::Vanish { clients } => clients::vanish(stage, clients, seen),
        Attack::OverCap { extra } => exhaustion::over_cap(stage, extra, seen),
        Attack::Greedy { percent, rate } => exhaustion::greedy(stage, percent, rate, seen),
        Attack::Descriptors { connections, .. } => {
            exhaustion::descriptors(stage, connections, seen)
        }
        Attack::DiskFull => exhaustion::disk_full(stage, seen),
        Attack::DistinctHosts { count } => denials::distinct_hosts(stage, count, seen),
        Attack::DeniedFlood { rate } => denials::flood(stage, rate, seen),
        Attack::BlackHole => origins::black_hole(stage, seen),
        Attack::NeverAnswers { requests } => origins::never_answers(stage, requests, seen),
        Attack::ResetInside { after, of } => origins::reset_inside(stage, after, of, seen),
        Attack::Toxic(toxic) => origins::toxic(stage, toxic, seen),
        Attack::EarlyEnd => origins::early_end(stage, seen),
        Attack::Drain { tunnels, requests } => ends::drain(stage, tunnels, requests, seen),
        Attack::Kill => ends::kill(stage, seen),
        Attack::Churn { count } => volume::churn(stage, count, seen),
        Attack::HotHost { clients } => volume::hot_host(stage, clients, seen),
        Attack::Reload { times, rate } => reload::many(stage, times, rate, seen),
        Attack::BrokenReload => reload::broken(stage, seen),
    }?;
    if !measured.ended {
        let alive = stage.proxy.is_alive();
        measured.claim("process_alive", alive, stage.proxy.stderr().chars().take(300).collect());
        if alive {
            let request = ground::get(ground::HEALTHY, tuning.workers.first());
            let served = stage.client().request(&request).is_ok_and(|reply| reply.status() == 200);
            measured.claim("served_afterwards", served, "a healthy request".to_owned());
        }
    }
    if !measured.claims.contains_key("records_whole") {
        let fault = stage.settled_records(unpaired);
        measured.claim("records_whole", fault.is_none(), fault.unwrap_or_default());
    }
    measured.look_around();
    if measured.busy > 1.0 {
        measured.notes.push(format!("times are taken {:.1} times as long: busy", measured.busy));
    }
    Ok((words::judge(case, &tuning, &measured), measured.notes.join("; ")))
}

/// The limits that suit an attack.
fn tuned_for(attack: Attack) -> Tuning {
    let mut tuning = Tuning::default();
    match attack {
        Attack::Descriptors { limit, .. } => tuning.descriptors = u64::try_from(limit).ok(),
        Attack::OverCap { .. } | Attack::Greedy { .. } => {
            tuning.connections = CAP;
            tuning.connections_per_worker = CAP / 2;
            if let Attack::Greedy { .. } = attack {
                tuning.workers = WORKERS;
            }
        }
        // Long enough for all of them to stand at once.
        Attack::Silent { .. } => tuning.header_timeout = Duration::from_secs(6),
        Attack::SlowHeads { .. } => tuning.header_timeout = Duration::from_secs(3),
        Attack::NeverAnswers { .. } | Attack::Vanish { .. } => {
            tuning.idle_timeout = Duration::from_secs(3);
        }
        Attack::BlackHole => tuning.connect_timeout = Duration::from_secs(1),
        Attack::EarlyEnd => tuning.connect_timeout = Duration::from_secs(6),
        Attack::SlowBodies { .. }
        | Attack::SlowHellos { .. }
        | Attack::SlowRead { .. }
        | Attack::BigHeads { .. }
        | Attack::DistinctHosts { .. }
        | Attack::DeniedFlood { .. }
        | Attack::DiskFull
        | Attack::ResetInside { .. }
        | Attack::Toxic(_)
        | Attack::Drain { .. }
        | Attack::Kill
        | Attack::Churn { .. }
        | Attack::HotHost { .. }
        | Attack::Reload { .. }
        | Attack::BrokenReload => {}
    }
    tuning
}

/// What contradicts in the records: a line that is none, or half an exchange.
fn unpaired(records: &[Record]) -> Option<String> {
    if records.iter().any(|record| record.0.is_null()) {
        return Some("a line that is not JSON".to_owned());
    }
    let ids = |pick: fn(&Record) -> bool| -> std::collections::BTreeSet<&str> {
        records.iter().filter(|record| pick(record)).map(Record::id).collect()
    };
    let (decided, completed) = (ids(Record::is_decision), ids(Record::is_completion));
    let open = decided.difference(&completed).count();
    (open > 0).then(|| format!("{open} decisions without a completion"))
}

/// Waits until a condition holds; false when it does not within the time.
fn holds_within(within: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = std::time::Instant::now() + within;
    loop {
        if holds() {
            return true;
        }
        if std::time::Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The limit on connections in cases about it.
const CAP: usize = 200;
