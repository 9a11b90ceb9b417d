//! The end of the process: in good order with work under way, and killed in the middle of it.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    crowd::Crowd,
    hello::HelloShape,
    meter::{self, Connections},
    proxy::Ready,
};
use rustix::process::Signal;

use super::{
    exhaustion::OpenTunnel,
    ground::{HEALTHY, Stage, get, head},
    measured::{Measured, Work},
};

/// A signal to end while requests wait for their answers and tunnels are open. Every other tunnel
/// ends by itself within the time, the others are cut at its end.
pub(super) fn drain(
    stage: &mut Stage<'_>,
    tunnels: usize,
    requests: usize,
    seen: &mut Measured,
) -> io::Result<()> {
    let tunnels = seen.scaled(tunnels, 200, "tunnels");
    let requests = seen.scaled(requests, 200, "requests");
    let lasting = tunnels / 2;
    let mut brief = Vec::new();
    for _ in lasting..tunnels {
        brief.push(OpenTunnel::new(stage)?);
    }
    let connect = head("CONNECT", "api.example.com:443", None, "");
    let hello = HelloShape::named("api.example.com").write();
    let upto = connect.len();
    let script = [connect.as_slice(), &hello].concat();
    let mut held = Crowd::open(stage.address(), lasting, script.clone(), upto)?;
    held.wait_until(PATIENCE, |all| all.iter().all(|one| !one.heard.is_empty()));
    held.advance(script.len());
    // Answered well within the time for the drain, but not before the signal.
    let wait = stage.tuning.drain_timeout / 2;
    let url = format!("http://api.example.com/slow/{}", wait.as_millis());
    let request = get(&url, None);
    let mut asked = Crowd::open(stage.address(), requests, request.clone(), request.len())?;
    let under_way = 2 * tunnels + 2 * requests;
    let ready = super::holds_within(PATIENCE, || stage.usage().descriptors >= under_way);
    seen.claim("was_under_way", ready, format!("{} descriptors", stage.usage().descriptors));

    let signalled = Instant::now();
    stage.proxy.signal(Signal::TERM)?;
    let mut late = 0;
    super::holds_within(Duration::from_secs(1), || {
        late = meter::open(&stage.client())
            .and_then(|mut stream| meter::ask(&mut stream, &get(HEALTHY, None)))
            .map_or(0, |answer| answer.status());
        late != 200
    });
    let shut = matches!(late, 0 | 503);
    seen.claim("accepts_no_more", shut, format!("answered {late}"));
    let mut failed = brief.iter_mut().map(OpenTunnel::carries).filter(|carries| !carries).count();
    drop(brief);
    asked.wait_until(stage.tuning.drain_timeout + PATIENCE, |all| {
        all.iter().all(|one| one.heard.ends_with(b"ok") || one.ended.is_some())
    });
    failed += requests - asked.answered(200);
    let status = stage.proxy.wait(stage.tuning.drain_timeout + Duration::from_secs(10));
    seen.exited = status.map(|_| signalled.elapsed());
    let clean = status.is_some_and(|status| status.success());
    seen.claim("ends_with_success", clean, format!("{status:?}"));
    held.wait_for_the_end(Duration::from_secs(2));
    seen.claim("the_rest_is_cut", held.open_count() == 0, format!("{}", held.open_count()));
    seen.failures = Some(failed);
    seen.outcome = Some(Work::Served);
    seen.ended = true;
    Ok(())
}

/// Killed under load and started again on the same state.
pub(super) fn kill(stage: &mut Stage<'_>, seen: &mut Measured) -> io::Result<()> {
    let policy = |stage: &Stage<'_>| {
        let of = stage.records().into_iter().rev().find(crate::audit::Record::is_decision);
        of.map(|record| record.text("policy").to_owned())
    };
    let meter = stage.healthy(Connections::Mixed);
    thread::sleep(Duration::from_secs(2));
    stage.proxy.signal(Signal::KILL)?;
    let answered = meter.finish().times.len();
    stage.proxy.wait(PATIENCE);
    let before = policy(stage);
    // What was answered had been decided, and its decision written, before.
    let recorded = stage.records().iter().filter(|record| allows(record)).count();
    let begin = Instant::now();
    stage.restart().map_err(io::Error::other)?;
    seen.ready = Some(begin.elapsed());
    if matches!(stage.ground.target.ready(), Ready::Accepts(_)) {
        seen.notes.push("ready when it accepts".to_owned());
    }
    let served = stage.client().get(HEALTHY).is_ok_and(|reply| reply.status() == 200);
    let denied = stage.client().get("http://evil.test/").is_ok_and(|reply| reply.status() == 403);
    let readable = super::holds_within(PATIENCE, || {
        let records = stage.records();
        records.len() > 2 * recorded && policy(stage) == before
    });
    let torn = stage.records().iter().filter(|record| record.0.is_null()).count();
    seen.notes.push(format!("{answered} answered before, {torn} torn lines"));
    seen.claim(
        "durable_state_intact",
        recorded >= answered && answered > 0 && readable && torn <= 1 && served && denied,
        format!(
            "{answered} answered, {recorded} recorded, records go on: {readable}, torn lines: \
             {torn}, allows: {served}, denies: {denied}"
        ),
    );
    seen.outcome = served.then_some(Work::Served);
    // Exchanges that were under way have no completion, which is what killing means.
    seen.claim("process_alive", stage.proxy.is_alive(), stage.proxy.stderr());
    seen.claim("records_whole", true, String::new());
    seen.ended = true;
    Ok(())
}

fn allows(record: &crate::audit::Record) -> bool {
    record.is_decision() && record.text("verdict") == "allow"
}

const PATIENCE: Duration = Duration::from_secs(5);
