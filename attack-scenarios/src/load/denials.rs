//! Requests that are denied, many of them.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use egret_testkit::meter::{self, Connections, Meter, Pattern};

use crate::audit::Record;

use super::{
    ground::{Stage, get, head},
    measured::{Measured, Work},
};

/// Denied names, each another one: nothing is kept of them, and nothing is counted for each.
pub(super) fn distinct_hosts(
    stage: &Stage<'_>,
    asked: usize,
    seen: &mut Measured,
) -> io::Result<()> {
    let count = seen.scaled(asked, 12_000, "names");
    // Whatever is made once is made by then.
    let warm = count / 4;
    let mut others = rush(stage, 0..warm)?;
    let (mut watch, series) = (stage.watch(0, 0), stage.series()?);
    others += rush(stage, warm..count)?;
    watch.look(stage);
    let grown = watch.growth();
    let evidence = format!("{} KiB more after {} names", grown >> 10, count - warm);
    seen.claim("nothing_is_kept", grown <= KEPT, evidence);
    seen.claim("all_denied", others == 0, format!("{others} were answered otherwise"));
    match (series, stage.series()?) {
        (Some(before), Some(after)) if !before.is_empty() => {
            let more = after.difference(&before).next().cloned().unwrap_or_default();
            let evidence = format!("{} series, then {} {more}", before.len(), after.len());
            seen.claim("metric_series_bounded", before == after, evidence);
        }
        (Some(_) | None, _) => {
            seen.unseen.insert("metric_series_bounded", "no metrics");
        }
    }
    seen.queries = Some(asked_for_denied(stage));
    seen.outcome = (others == 0).then_some(Work::Bounded);
    watch.settle(stage, seen);
    Ok(())
}

/// Asks for many denied names over a few connections; returns how many were not denied.
fn rush(stage: &Stage<'_>, names: std::ops::Range<usize>) -> io::Result<usize> {
    let threads = (0..4).map(|lane| {
        let (client, names) = (stage.client(), names.clone());
        thread::spawn(move || -> io::Result<usize> {
            let (mut stream, mut others) = (meter::open(&client)?, 0);
            for number in names.skip(lane).step_by(4) {
                let request = get(&format!("http://h{number}.evil.test/"), None);
                let answer = match meter::ask(&mut stream, &request) {
                    Ok(answer) => answer,
                    Err(_) => {
                        stream = meter::open(&client)?;
                        meter::ask(&mut stream, &request)?
                    }
                };
                others += usize::from(!DENIED.contains(&answer.status()));
            }
            Ok(others)
        })
    });
    let threads: Vec<_> = threads.collect();
    let ended = threads.into_iter().map(|thread| {
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a client of the test panicked")))
    });
    ended.sum()
}

/// CONNECTs to a denied name at a rate.
pub(super) fn flood(stage: &Stage<'_>, asked: usize, seen: &mut Measured) -> io::Result<()> {
    let rate = seen.scaled(asked, 600, "rps");
    let pattern = Pattern {
        request: head("CONNECT", "evil.test:443", None, ""),
        statuses: DENIED,
        clients: 6,
        rate: u32::try_from(rate / 6).unwrap_or(1),
        connections: Connections::Fresh,
    };
    let (before, began) = (stage.records().len(), Instant::now());
    let logged = stage.proxy.stderr().len();
    let mut watch = stage.watch(0, 0);
    let denied = stage.beside(Connections::Mixed, seen, |stage, _| {
        let (begin, meter) = (Instant::now(), Meter::start(&stage.client(), &pattern));
        thread::sleep(Duration::from_secs(3));
        watch.look(stage);
        let denied = meter.finish();
        Ok((denied.times.len(), denied.failures, begin.elapsed()))
    })?;
    let (count, failures, took) = denied;
    let first = failures.first().cloned().unwrap_or_default();
    seen.notes.push(format!("{count} denied in {took:.1?}"));
    seen.claim("all_denied", failures.is_empty(), first);
    seen.queries = Some(asked_for_denied(stage));
    let lines = stage.proxy.stderr().len().saturating_sub(logged);
    seen.claim("log_is_quiet", lines < 100_000, format!("{lines} bytes on standard error"));
    log_rate(stage, before, began.elapsed(), seen);
    seen.outcome = failures.is_empty().then_some(Work::Bounded);
    watch.settle(stage, seen);
    Ok(())
}

/// How many denials were recorded one by one, against the default limit on that: a minute's worth
/// at once, and what has come free since.
fn log_rate(stage: &Stage<'_>, before: usize, took: Duration, seen: &mut Measured) {
    if stage.records_folder().is_none() {
        seen.unseen.insert("log_rate_bounded", "no records are known");
        return;
    }
    let records = stage.records().split_off(before);
    let denied = |record: &&Record| record.is_decision() && record.text("verdict") == "deny";
    let denials = records.iter().filter(denied).count();
    let limit = PER_MINUTE + PER_MINUTE * took.as_secs() as usize / 60 + 60;
    let evidence = format!("{denials} recorded in {took:.1?}, {limit} allowed");
    seen.claim("log_rate_bounded", denials <= limit, evidence);
}

/// Queries of names that the policy denies.
fn asked_for_denied(stage: &Stage<'_>) -> usize {
    stage.ground.dns.log().iter().filter(|query| query.name.ends_with("evil.test")).count()
}

/// A denial, or one of a worker that has had too many.
const DENIED: &[u16] = &[403, 429];
/// The default of `denials_per_minute`.
const PER_MINUTE: usize = 600;
/// What ten thousand denials may leave behind.
const KEPT: u64 = 8 << 20;
