//! SIGTERM under a thousand tunnels and two hundred requests a second: who was connected is answered,
//! tunnels go on until `drain_timeout` and are reset then.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    client::get,
    crowd::Crowd,
    origin::{Answer, Step},
    workers::{Outcome, Workers},
};
use rustix::process::Signal;

use crate::{
    Claim,
    ledger::told,
    load::{pace, request, seen},
    scene::{PATIENCE, POLICY, Stage, wait_until},
    standing::Standing,
};

pub(crate) const CLAIMS: &[Claim] = &[
    ("a_drain_loses_nothing_and_cuts_tunnels_at_its_end", drain),
    ("a_second_signal_cuts_at_once", second_signal),
];

fn drain(stage: &Stage) {
    let limits = format!("[limits]\ndrain_timeout = \"{}s\"\n", DRAIN.as_secs());
    let mut scene = stage.lay(POLICY, &limits);
    stage.origin.reset(stage.plan().answering(Answer::with(|request| {
        let ok = Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
        match request.target() {
            b"/slow" => vec![Step::Wait(SLOW), ok],
            _ => vec![ok],
        }
    })));
    scene.start();
    let address = scene.proxy().address();
    let mut tunnels = Standing::open(address, HOST, TUNNELS, TURNS);
    let slow = get("http://www.example.org/slow").into_bytes();
    let workers =
        Workers::start(&scene.client(), pace(RATE), 0, |number| request("www.example.org", number));
    assert!(workers.wait_for(RATE as usize, PATIENCE), "{} requests", workers.count());
    let mut waiting = Crowd::open(address, SLOW_REQUESTS, slow.clone(), slow.len()).unwrap();
    wait_until("slow requests reach their origin", || {
        let all = stage.origin.connections();
        let slow = all.iter().flat_map(|one| one.requests()).filter(|one| one.target() == b"/slow");
        slow.count() == SLOW_REQUESTS
    });

    assert_eq!(scene.page("/readyz").0, 200);
    let (signalled, client) = (Instant::now(), scene.client());
    scene.proxy().signal(Signal::TERM).unwrap();
    wait_until("the listener closes", || client.connect().is_err());
    // Whoever balances load was told before, and is told until the end.
    for _ in 0..TURNS {
        let (status, told) = scene.page("/readyz");
        assert!(status == 503 && told.contains("draining"), "{status} {told}");
        tunnels.beat();
        tunnels.assert_whole(DRAIN.saturating_sub(signalled.elapsed()));
        waiting.sweep();
        thread::sleep(TURN);
    }
    let answered = waiting.wait_until(DRAIN.saturating_sub(signalled.elapsed()), |all| {
        all.iter().all(|one| one.heard.ends_with(b"ok"))
    });
    assert!(answered, "{} of {SLOW_REQUESTS} slow requests", waiting.answered(200));
    let asked = workers.finish();

    let status = scene.proxy().wait(DRAIN + PATIENCE).unwrap();
    let took = signalled.elapsed();
    assert!(status.success(), "{status:?}");
    assert!(took >= DRAIN, "ended after {took:?}, with tunnels open");
    assert!(took < DRAIN + LATE, "ended after {took:?}");
    tunnels.assert_reset(PATIENCE);

    scene.verify();
    let ledger = scene.ledger();
    ledger.assert_whole();
    assert!(ledger.is_settled(), "an exchange has no completion");
    ledger.assert_holds(&asked);
    // Beside the tunnels there is only who was told to come again.
    let (refused, cut): (Vec<_>, Vec<_>) = ledger
        .completions()
        .filter(|one| one.text("closed_by") == "drain")
        .partition(|one| one.reason() == "egress.draining");
    assert_eq!(cut.len(), TUNNELS);
    assert!(cut.iter().all(|one| one.text("method") == "CONNECT"));

    // What was taken in had its answer; what was not has left no trace.
    let (allowed, seen) = (ledger.allowed(), seen(&stage.origin));
    let served: BTreeSet<u64> =
        asked.iter().filter(|one| one.is_served()).map(|one| one.number).collect();
    let lost: Vec<_> = allowed.union(&seen).filter(|number| !served.contains(number)).collect();
    assert!(lost.is_empty(), "taken in and not answered: {lost:?}");
    for one in asked.iter().filter(|one| !one.is_served()) {
        assert!(one.ended >= signalled, "before the signal: {one:?}");
        match &one.outcome {
            Outcome::Answered(_) => {
                let code = told(one).map(|(code, _)| code);
                assert_eq!(code.as_deref(), Some("egress.draining"), "{one:?}");
            }
            // A kept connection that was idle for a second has been closed, which a client that
            // asks just then finds out by asking.
            Outcome::Broken(0) if one.reused => {}
            Outcome::NotConnected => {}
            Outcome::Carried | Outcome::Granted | Outcome::Broken(_) | Outcome::Silent(_) => {
                panic!("{one:?}")
            }
        }
    }
    let broken = asked.iter().filter(|one| matches!(one.outcome, Outcome::Broken(_))).count();
    println!(
        "drain: {} served, {} refused, {broken} not taken in, ended after {took:?}",
        served.len(),
        refused.len()
    );
}

fn second_signal(stage: &Stage) {
    let mut scene = stage.lay(POLICY, "[limits]\ndrain_timeout = \"1h\"\n");
    scene.start();
    let mut tunnels = Standing::open(scene.proxy().address(), HOST, FEW, 0);
    scene.proxy().signal(Signal::TERM).unwrap();
    let client = scene.client();
    wait_until("the listener closes", || client.connect().is_err());
    // The first signal cuts nothing.
    tunnels.assert_whole(PATIENCE);
    scene.proxy().signal(Signal::TERM).unwrap();
    assert!(scene.proxy().wait(PATIENCE).unwrap().success());
    tunnels.assert_reset(PATIENCE);
    scene.verify();
    let ledger = scene.ledger();
    ledger.assert_whole();
    assert_eq!(ledger.completions().filter(|one| one.text("closed_by") == "drain").count(), FEW);
}

const HOST: &str = "tunnel.example.org";
const TUNNELS: usize = 1000;
const FEW: usize = 50;
const RATE: u32 = 200;
const SLOW_REQUESTS: usize = 50;
/// Well within the drain, and not before the signal.
const SLOW: Duration = Duration::from_secs(3);
const DRAIN: Duration = Duration::from_secs(12);
/// What the last cut and the last records may take on a busy machine.
const LATE: Duration = Duration::from_secs(10);
const TURNS: usize = 6;
const TURN: Duration = Duration::from_millis(300);
