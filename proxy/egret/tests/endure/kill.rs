//! SIGKILL in the middle of everything: what was answered is on record, and so is what an origin
//! saw; the next start goes on where the records end.

use std::{fs::OpenOptions, io::Write};

use egret_testkit::workers::Workers;
use rustix::process::Signal;

use crate::{
    Claim,
    ledger::files,
    load::{mixed, pace, seen},
    scene::{PATIENCE, POLICY, Stage},
};

pub(crate) const CLAIMS: &[Claim] =
    &[("what_was_answered_before_a_kill_is_on_record_after_it", killed_again_and_again)];

fn killed_again_and_again(stage: &Stage) {
    let mut scene = stage.lay(POLICY, LIMITS);
    let mut asked = Vec::new();
    for (round, first) in ENOUGH.into_iter().zip((0..).step_by(1 << 20)) {
        stage.origin.reset(stage.plan());
        scene.start();
        let workers = Workers::start(&scene.client(), pace(RATE), first, mixed);
        assert!(workers.wait_for(round, PATIENCE), "{} of {round}", workers.count());
        scene.proxy().signal(Signal::KILL).unwrap();
        scene.proxy().wait(PATIENCE).unwrap();
        let ended = workers.finish();
        assert!(
            ended.iter().any(|one| one.is_served()) && ended.iter().any(|one| one.status() == 403)
        );
        asked.extend(ended);

        let ledger = scene.ledger();
        ledger.assert_whole();
        ledger.assert_holds(&asked);
        ledger.assert_covers(&seen(&stage.origin));
    }

    // What a machine leaves that stopped in the middle of a line.
    let last = files(&scene.path("state/audit")).pop().unwrap();
    OpenOptions::new().append(true).open(last).unwrap().write_all(TORN).unwrap();
    scene.start();
    assert_eq!(scene.client().get("http://www.example.org/n1").unwrap().status(), 200);
    assert_eq!(scene.client().get("http://evil.test/").unwrap().status(), 403);
    scene.proxy().signal(Signal::TERM).unwrap();
    assert!(scene.proxy().wait(PATIENCE).unwrap().success());
    scene.verify();
    let ledger = scene.ledger();
    ledger.assert_whole();
    ledger.assert_holds(&asked);
    // A kill may leave a torn line as well.
    let torn: Vec<_> =
        ledger.events("audit.restart").iter().map(|one| one.number("count")).collect();
    assert_eq!(torn.last(), Some(&Some(TORN.len() as u64)), "{torn:?}");
    let starts = ledger.events("audit.start").len() + torn.len();
    assert_eq!(starts, ENOUGH.len() + 1);
}

/// How many requests have been answered at the kill of each round.
const ENOUGH: [usize; 4] = [23, 311, 150, 407];
const RATE: u32 = 200;
/// Every denial has a record of its own.
const LIMITS: &str = "[limits]\ndenials_per_minute = 1000000\n";
const TORN: &[u8] = b"{\"seq\":1,\"id\":\"01M";
