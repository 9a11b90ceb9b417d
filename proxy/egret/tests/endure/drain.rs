//! SIGTERM under a thousand tunnels and two hundred requests a second: what was taken in is carried
//! out, what comes later is told, tunnels go on until `drain_timeout` and are reset then.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    client::get,
    crowd::Crowd,
    hello::HelloShape,
    origin::{Answer, Step},
    workers::{Outcome, Workers},
};
use rustix::process::Signal;

use crate::{
    Claim,
    ledger::told,
    load::{connect, pace, request, seen},
    scene::{PATIENCE, POLICY, Scene, Stage, wait_until},
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
    let mut tunnels = open_tunnels(&scene, TUNNELS, TURNS);
    let slow = get("http://www.example.org/slow").into_bytes();
    let workers =
        Workers::start(&scene.client(), pace(RATE), 0, |number| request("www.example.org", number));
    assert!(workers.wait_for(RATE as usize, PATIENCE), "{} requests", workers.count());
    let address = scene.proxy().address();
    let mut waiting = Crowd::open(address, SLOW_REQUESTS, slow.clone(), slow.len()).unwrap();
    wait_until("slow requests reach their origin", || {
        let all = stage.origin.connections();
        let slow = all.iter().flat_map(|one| one.requests()).filter(|one| one.target() == b"/slow");
        slow.count() == SLOW_REQUESTS
    });

    let signalled = Instant::now();
    scene.proxy().signal(Signal::TERM).unwrap();
    for turn in 0..TURNS {
        let echoed = tunnels.script_of(turn);
        tunnels.crowd.advance(tunnels.upto(turn));
        let all_back = tunnels.crowd.wait_until(DRAIN.saturating_sub(signalled.elapsed()), |all| {
            all.iter().all(|one| one.received >= echoed)
        });
        assert!(all_back, "turn {turn}, {:?} after the signal", signalled.elapsed());
        waiting.sweep();
        thread::sleep(TURN);
    }
    assert_eq!(tunnels.crowd.open_count(), TUNNELS);
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
    assert!(tunnels.crowd.wait_for_the_end(PATIENCE));
    let in_order = tunnels.crowd.members().iter().filter(|one| !one.ended.unwrap().reset).count();
    assert_eq!(in_order, 0, "tunnels were closed in good order, as if whole");

    let ledger = scene.ledger();
    ledger.assert_whole();
    assert!(ledger.is_settled(), "an exchange has no completion");
    ledger.assert_holds(&asked);
    let cut: Vec<_> = ledger.completions().filter(|one| one.text("closed_by") == "drain").collect();
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
            Outcome::NotConnected | Outcome::Broken(0) => {}
            Outcome::Carried | Outcome::Granted | Outcome::Broken(_) | Outcome::Silent(_) => {
                panic!("{one:?}")
            }
        }
    }
    let broken = asked.iter().filter(|one| matches!(one.outcome, Outcome::Broken(_))).count();
    println!(
        "drain: {} served, {broken} not taken in on an open connection, ended after {took:?}",
        served.len()
    );
}

fn second_signal(stage: &Stage) {
    let mut scene = stage.lay(POLICY, "[limits]\ndrain_timeout = \"1h\"\n");
    scene.start();
    let mut tunnels = open_tunnels(&scene, FEW, 0);
    scene.proxy().signal(Signal::TERM).unwrap();
    let client = scene.client();
    wait_until("the listener closes", || client.connect().is_err());
    tunnels.crowd.sweep();
    assert_eq!(tunnels.crowd.open_count(), FEW, "the first signal cuts nothing");
    scene.proxy().signal(Signal::TERM).unwrap();
    assert!(scene.proxy().wait(PATIENCE).unwrap().success());
    assert!(tunnels.crowd.wait_for_the_end(PATIENCE));
    assert!(tunnels.crowd.members().iter().all(|one| one.ended.unwrap().reset));
    let ledger = scene.ledger();
    ledger.assert_whole();
    assert_eq!(ledger.completions().filter(|one| one.text("closed_by") == "drain").count(), FEW);
}

/// Tunnels to an origin that echoes, each in step with the others.
struct Tunnels {
    crowd: Crowd,
    /// How many bytes open one, and how many of them come back.
    opening: (usize, usize),
}

impl Tunnels {
    /// Where the script of a turn ends.
    fn upto(&self, turn: usize) -> usize {
        self.opening.0 + (turn + 1) * BEAT.len()
    }

    /// How much has come back at the end of a turn.
    fn script_of(&self, turn: usize) -> usize {
        self.opening.1 + (turn + 1) * BEAT.len()
    }
}

/// Opens tunnels in which a hello has come back, to say so many things more.
fn open_tunnels(scene: &Scene, count: usize, turns: usize) -> Tunnels {
    let (connect, hello) = (connect(HOST), HelloShape::named(HOST).write());
    let script = [&connect[..], &hello, &BEAT.repeat(turns)].concat();
    let mut crowd = Crowd::open(scene.client().address(), count, script, connect.len()).unwrap();
    let granted = |all: &[egret_testkit::crowd::Member]| {
        all.iter().all(|one| one.heard.ends_with(b"\r\n\r\n"))
    };
    assert!(crowd.wait_until(PATIENCE, granted), "{} granted", crowd.answered(200));
    let head = crowd.members()[0].received;
    crowd.advance(connect.len() + hello.len());
    let back = head + hello.len();
    assert!(crowd.wait_until(PATIENCE, |all| all.iter().all(|one| one.received >= back)));
    Tunnels { crowd, opening: (connect.len() + hello.len(), back) }
}

const HOST: &str = "tunnel.example.org";
const TUNNELS: usize = 1000;
const FEW: usize = 50;
const RATE: u32 = 200;
const SLOW_REQUESTS: usize = 50;
/// Well within the drain, and not before the signal.
const SLOW: Duration = Duration::from_secs(3);
const DRAIN: Duration = Duration::from_secs(8);
/// What the last cut and the last records may take on a busy machine.
const LATE: Duration = Duration::from_secs(10);
const TURNS: usize = 8;
const TURN: Duration = Duration::from_millis(300);
/// What is said in each tunnel at each turn.
const BEAT: &[u8] = b"still here, thanks";
