//! Limits that are reached: connections, descriptors, the volume of the records.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    crowd::Crowd,
    hello::HelloShape,
    meter::{self, Connections, Meter, Pattern},
};

use super::{
    ground::{EACH, HEALTHY, Stage, get, head},
    measured::{Measured, Work},
    tuning::Worker,
};

/// Silent connections above the limit: those that stand keep being served.
pub(super) fn over_cap(stage: &Stage<'_>, extra: usize, seen: &mut Measured) -> io::Result<()> {
    let count = stage.tuning.connections + seen.scaled(extra, 2000, "connections");
    let mut watch = stage.watch(count, EACH);
    let mut tunnel = OpenTunnel::new(stage)?;
    let (standing, tunnelled) = stage.beside(Connections::Kept, seen, |stage, _| {
        let mut crowd = Crowd::open(stage.address(), count, Vec::new(), 0)?;
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            crowd.sweep();
            watch.look(stage);
            thread::sleep(Duration::from_millis(100));
        }
        let tunnelled = tunnel.carries();
        Ok((crowd.open_count(), tunnelled))
    })?;
    // A proxy may take a few more in, to tell them why they are refused.
    let limit = stage.tuning.connections * 3 / 2;
    let kept = seen.healthy.as_ref().is_some_and(|healthy| healthy.attacked.failures.is_empty());
    let evidence = format!("kept connections served: {kept}, a tunnel carries: {tunnelled}");
    seen.claim("existing_ok", kept && tunnelled, evidence);
    seen.claim("excess_is_shed", standing <= limit, format!("{standing} stand"));
    seen.outcome = (standing <= limit).then_some(Work::Bounded);
    drop(tunnel);
    watch.settle(stage, seen);
    Ok(())
}

/// A worker that takes all it can get beside one that asks now and then.
pub(super) fn greedy(
    stage: &Stage<'_>,
    percent: usize,
    rate: usize,
    seen: &mut Measured,
) -> io::Result<()> {
    let [greedy, modest] = stage.tuning.workers else {
        return Err(io::Error::other("two workers are needed"));
    };
    let count = stage.tuning.connections * percent / 100;
    let script = head("CONNECT", "api.example.com:443", Some(greedy), "");
    // Tunnels are held open by what is said in them.
    let hello = HelloShape::named("api.example.com").write();
    let upto = script.len();
    let script = [script.as_slice(), &hello].concat();
    let mut crowd = Crowd::open(stage.address(), count, script.clone(), upto)?;
    crowd.wait_until(Duration::from_secs(5), |all| all.iter().all(|one| !one.heard.is_empty()));
    crowd.advance(script.len());
    let (granted, refused) = (crowd.answered(200), crowd.answered(503));
    seen.notes.push(format!("{granted} granted, {refused} refused of {count}"));
    // At a higher rate than asked, so that a thousandth is a request.
    let pattern = Pattern {
        request: get(HEALTHY, Some(modest)),
        statuses: &[200],
        clients: 4,
        rate: u32::try_from(rate).unwrap_or(10).max(10) * 3,
        connections: Connections::Mixed,
    };
    let meter = Meter::start(&stage.client(), &pattern);
    let end = Instant::now() + Duration::from_secs(9);
    while Instant::now() < end {
        // The greedy worker keeps asking for more.
        let mut more = Crowd::open(stage.address(), 10, script.clone(), script.len())?;
        thread::sleep(Duration::from_millis(300));
        more.sweep();
    }
    let seen_by_b = meter.finish();
    let bounded = granted <= stage.tuning.connections_per_worker;
    seen.claim("one_worker_is_bounded", bounded, format!("{granted} granted"));
    let first = seen_by_b.failures.first().cloned().unwrap_or_default();
    seen.notes.push(format!("{} requests of B {first}", seen_by_b.times.len()));
    seen.success = Some(seen_by_b.success());
    seen.outcome = Some(Work::Served);
    Ok(())
}

/// More connections than the process has descriptors: it runs out of them or takes fewer in, what
/// stands goes on, the loop that accepts neither spins nor ends, and when some are free new ones are
/// served.
pub(super) fn descriptors(stage: &Stage<'_>, asked: usize, seen: &mut Measured) -> io::Result<()> {
    let count = seen.scaled(asked, 900, "connections");
    let mut watch = stage.watch(count, EACH);
    let mut tunnel = OpenTunnel::new(stage)?;
    let mut kept = meter::open(&stage.client())?;
    let request = get(HEALTHY, None);
    meter::ask(&mut kept, &request)?;
    let mut crowd = Crowd::open(stage.address(), count, Vec::new(), 0)?;
    let full = stage.tuning.descriptors.map_or(0, |limit| limit as usize);
    let exhausted = super::holds_within(Duration::from_secs(3), || {
        crowd.sweep();
        stage.usage().descriptors + 2 >= full || crowd.open_count() < full
    });
    let begin = (stage.usage().cpu, Instant::now());
    let mut carried = tunnel.carries();
    // A kept connection is answered: with a refusal, where a new connection to the origin would be
    // needed and no descriptor is left.
    let answered = meter::ask(&mut kept, &request).map_or(0, |answer| answer.status());
    thread::sleep(Duration::from_secs(1));
    carried &= tunnel.carries();
    watch.look(stage);
    let spent = stage.usage().cpu.saturating_sub(begin.0);
    seen.cpu = Some(spent.as_secs_f64() / begin.1.elapsed().as_secs_f64());
    crowd.reset();
    let recovered = super::holds_within(Duration::from_secs(3), || {
        stage.client().get(HEALTHY).is_ok_and(|reply| reply.status() == 200)
    });
    seen.notes.push(format!("a kept connection was answered {answered} meanwhile"));
    seen.claim("was_exhausted", exhausted, format!("{} open", stage.usage().descriptors));
    seen.claim("existing_ok", carried, "an open tunnel stopped".to_owned());
    seen.claim("recovers_after_release", recovered, "not served after 3 s".to_owned());
    seen.outcome = Some(Work::Bounded);
    drop((tunnel, kept));
    watch.settle(stage, seen);
    Ok(())
}

/// The volume of the records is full: nothing goes upstream unrecorded, nobody waits for ever,
/// and when there is room again requests are served.
pub(super) fn disk_full(stage: &mut Stage<'_>, seen: &mut Measured) -> io::Result<()> {
    let Some(folder) = stage.records_folder() else {
        seen.unseen.insert("configured_audit_mode_respected", "no records are known");
        return Ok(());
    };
    stage.proxy.signal(rustix::process::Signal::TERM)?;
    stage.proxy.wait(Duration::from_secs(10));
    let volume = stage.ground.entered.small_volume(&folder, VOLUME)?;
    stage.restart().map_err(io::Error::other)?;
    let ok =
        |reply: io::Result<egret_testkit::http1::Message>| reply.map_or(0, |reply| reply.status());
    let before = ok(stage.client().get(HEALTHY));
    let filler = folder.join("filler");
    let filled = fs::write(&filler, vec![0; VOLUME as usize * 2]);
    let began = Instant::now();
    // What fits into the last page of the records is still taken.
    let mut statuses = Vec::new();
    for _ in 0..60 {
        statuses.push(ok(stage.client().get("http://api.example.com/while-full")));
        if statuses.ends_with(&[503; 5]) {
            break;
        }
    }
    let took = began.elapsed();
    let (served, refused) = (
        statuses.iter().filter(|status| **status == 200).count(),
        statuses.iter().filter(|status| **status == 503).count(),
    );
    fs::remove_file(&filler)?;
    let recovered =
        super::holds_within(Duration::from_secs(5), || ok(stage.client().get(HEALTHY)) == 200);
    let mut recorded = 0;
    super::holds_within(Duration::from_secs(5), || {
        recorded = stage.records().iter().filter(|record| allows(record)).count();
        recorded > served
    });
    let respected = statuses.ends_with(&[503; 5]) && served + refused == statuses.len();
    let complete = recorded > served;
    seen.notes.push(format!("{served} served, {refused} refused in {took:.1?}"));
    seen.claim("volume_was_full", before == 200 && filled.is_err(), format!("{before}"));
    seen.claim(
        "configured_audit_mode_respected",
        respected && complete,
        format!("statuses {statuses:?}, {recorded} allowed in the records"),
    );
    seen.claim("recovers_after_release", recovered, "not served after 5 s".to_owned());
    seen.outcome = Some(Work::Bounded);
    // The proxy ends before its volume does.
    let unpaired = stage.settled_records(super::unpaired);
    seen.claim("records_whole", unpaired.is_none(), unpaired.unwrap_or_default());
    stage.proxy.signal(rustix::process::Signal::TERM)?;
    let ended = stage.proxy.wait(Duration::from_secs(10)).is_some();
    seen.claim("process_alive", ended, "did not end in good order".to_owned());
    seen.ended = true;
    drop(volume);
    Ok(())
}

fn allows(record: &crate::audit::Record) -> bool {
    record.is_decision() && record.text("verdict") == "allow"
}

/// A tunnel that was used before the attack and is used again during it.
pub(super) struct OpenTunnel(egret_testkit::client::Tunnel);

impl OpenTunnel {
    /// Opens a tunnel to an origin that echoes.
    pub(super) fn new(stage: &Stage<'_>) -> io::Result<Self> {
        Self::of(stage, stage.tuning.workers.first())
    }

    /// Opens a tunnel for a worker.
    pub(super) fn of(stage: &Stage<'_>, worker: Option<&Worker>) -> io::Result<Self> {
        let proof = worker.map(|one| format!("Proxy-Authorization: Basic {}\r\n", one.basic));
        let proof = proof.unwrap_or_default();
        let wait = Duration::from_secs(6);
        let tunnel = stage.client().tunnel_with("api.example.com:443", &proof, wait)?;
        if tunnel.status() != 200 {
            return Err(io::Error::other(format!("no tunnel: {}", tunnel.status())));
        }
        let mut open = Self(tunnel);
        if open.carries() { Ok(open) } else { Err(io::Error::other("a tunnel carries nothing")) }
    }

    /// Whether bytes still travel both ways.
    pub(super) fn carries(&mut self) -> bool {
        let hello = HelloShape::named("api.example.com").write();
        self.0.channel.send(&hello);
        self.0.channel.receive_exactly(hello.len(), Duration::from_secs(3)) == hello
    }
}

const VOLUME: u64 = 1 << 20;
