//! A state directory without room: nothing goes upstream unrecorded, everybody is told, and when
//! there is room again requests are served without a start.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use egret_testkit::workers::{Asked, Outcome, Workers};
use rustix::process::Signal;

use crate::{
    Claim,
    ledger::told,
    load::{mixed, pace, seen},
    scene::{PATIENCE, POLICY, Stage, wait_until},
};

pub(crate) const CLAIMS: &[Claim] =
    &[("a_full_disk_refuses_and_room_serves_again_without_a_start", refuses)];

fn refuses(stage: &Stage) {
    let mut scene = stage.lay(POLICY, LIMITS);
    let state = scene.path("state");
    fs::create_dir(&state).unwrap();
    let volume = stage.entered.small_volume(&state, VOLUME).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    scene.start();
    let pid = scene.proxy().pid();
    let workers = Workers::start(&scene.client(), pace(RATE), 0, mixed);
    let mut asked = Vec::new();
    wait_until("requests are served", || {
        asked.extend(workers.take());
        asked.iter().filter(|one| one.is_served()).count() >= ENOUGH
    });

    let filler = state.join("filler");
    fs::write(&filler, vec![0; VOLUME as usize]).unwrap_err();
    wait_until("requests are refused", || {
        asked.extend(workers.take());
        asked.iter().filter(|one| is_unrecorded(one)).count() >= ENOUGH
    });
    let freed = Instant::now();
    fs::remove_file(&filler).unwrap();
    wait_until("requests are served again", || {
        asked.extend(workers.take());
        asked.iter().filter(|one| one.began > freed && one.is_served()).count() >= ENOUGH
    });
    asked.extend(workers.finish());

    assert_eq!(scene.proxy().pid(), pid);
    assert!(scene.proxy().is_alive());
    for one in &asked {
        match &one.outcome {
            Outcome::Answered(answer) => match answer.status() {
                200 | 403 => {}
                503 => assert!(is_unrecorded(one), "{answer:?}"),
                _ => panic!("{answer:?}"),
            },
            Outcome::Carried => {}
            // Its 200 had gone out, so there was no status left to refuse it with.
            Outcome::Granted => assert!(one.began < freed + MOMENT, "{one:?}"),
            Outcome::Broken(_) | Outcome::NotConnected | Outcome::Silent(_) => panic!("{one:?}"),
        }
    }
    let ledger = scene.ledger_when("every exchange has ended", |ledger| ledger.is_settled());
    ledger.assert_whole();
    let seen = seen(&stage.origin);
    ledger.assert_covers(&seen);
    let refused =
        asked.iter().filter(|one| one.status() == 503 || matches!(one.outcome, Outcome::Granted));
    let let_through: Vec<_> = refused.filter(|one| seen.contains(&one.number)).collect();
    assert!(let_through.is_empty(), "refused, and seen by an origin: {let_through:?}");

    // What was denied without a record had no consequence; what was answered otherwise has one.
    let (told, _): (Vec<Asked>, Vec<Asked>) =
        asked.into_iter().partition(|one| one.is_served() || one.began > freed + MOMENT);
    ledger.assert_holds(&told);
    scene.proxy().signal(Signal::TERM).unwrap();
    assert!(scene.proxy().wait(PATIENCE).unwrap().success());
    scene.ledger().assert_whole();
    drop(volume);
}

fn is_unrecorded(asked: &Asked) -> bool {
    asked.status() == 503 && told(asked).is_some_and(|(code, _)| code == "egress.audit_unavailable")
}

const VOLUME: u64 = 8 << 20;
const RATE: u32 = 100;
/// Enough of one kind to go on.
const ENOUGH: usize = 60;
/// What the writer may need to find that there is room.
const MOMENT: Duration = Duration::from_secs(2);
const LIMITS: &str = "[limits]\ndenials_per_minute = 1000000\n";
