//! A state directory without room: nothing goes upstream unrecorded, everybody is told, and when
//! there is room again requests are served without a start.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use egret_testkit::{
    namespace::SmallVolume,
    workers::{Asked, Outcome, Workers},
};
use rustix::process::Signal;

use crate::{
    Claim,
    ledger::{Ledger, told},
    load::{is_denied, mixed, pace, seen},
    scene::{PATIENCE, POLICY, Scene, Stage, wait_until},
};

pub(crate) const CLAIMS: &[Claim] = &[
    ("a_full_disk_refuses_and_room_serves_again_without_a_start", refuses),
    ("a_start_on_a_full_disk_names_the_place_and_the_way_out", starts),
    ("a_full_disk_that_is_to_be_passed_over_leaves_its_count", continues),
];

fn refuses(stage: &Stage) {
    let mut full = Full::of(stage, "");
    let (mut asked, freed) = full.through(is_unrecorded, (503, "records"));
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
    let seen = seen(&stage.origin);
    let refused =
        asked.iter().filter(|one| one.status() == 503 || matches!(one.outcome, Outcome::Granted));
    let let_through: Vec<_> = refused.filter(|one| seen.contains(&one.number)).collect();
    assert!(let_through.is_empty(), "refused, and seen by an origin: {let_through:?}");

    let ledger = full.end();
    assert!(ledger.is_settled(), "an exchange has no completion");
    ledger.assert_covers(&seen);
    // Whoever is missing was refused, and is counted.
    let kept = ledger.decisions().count() as u64;
    assert_eq!(kept + lost(&ledger), asked.len() as u64);
    // What was denied without a record had no consequence; what was answered otherwise has one.
    asked.retain(|one| one.is_served() || one.began > freed + MOMENT);
    ledger.assert_holds(&asked);
}

fn starts(stage: &Stage) {
    let mut scene = stage.lay(POLICY, "[audit]\npath = \"records\"\n");
    let records = scene.path("state/records");
    fs::create_dir_all(&records).unwrap();
    let volume = stage.entered.small_volume(&records, VOLUME).unwrap();
    for directory in [scene.path("state"), records.clone()] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let filler = records.join("filler");
    fs::write(&filler, vec![0; VOLUME as usize + 1]).unwrap_err();
    let output = scene.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for text in ["state/records", "No space left on device", "make room on that disk"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    fs::remove_file(filler).unwrap();
    assert!(scene.start().is_alive());
    drop((scene, volume));
}

/// Whoever has told egret to go on is served, and how much is not on record is.
fn continues(stage: &Stage) {
    let mut full = Full::of(stage, "[audit]\non_failure = \"continue\"\n");
    let (asked, freed) = full.through(|_| true, (200, "serving"));
    for one in &asked {
        let expected = if is_denied(one.number) { one.status() == 403 } else { one.is_served() };
        assert!(expected, "{one:?}");
    }
    let ledger = full.end();
    let lost = lost(&ledger);
    assert!(lost > 0, "a full disk lost nothing");
    // Each request is an exchange, and each of those is two records.
    let kept = (ledger.decisions().count() + ledger.completions().count()) as u64;
    assert_eq!(kept + lost, 2 * asked.len() as u64, "{kept} kept, {lost} lost");
    let since: Vec<_> = asked.into_iter().filter(|one| one.began > freed + MOMENT).collect();
    ledger.assert_holds(&since);
}

/// An egret whose state is on a small volume.
struct Full {
    scene: Scene,
    state: PathBuf,
    /// Goes after the process that writes to it.
    volume: SmallVolume,
}

impl Full {
    fn of(stage: &Stage, more: &str) -> Self {
        let mut scene = stage.lay(POLICY, &format!("{LIMITS}{more}"));
        let state = scene.path("state");
        fs::create_dir(&state).unwrap();
        let volume = stage.entered.small_volume(&state, VOLUME).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        scene.start();
        Self { scene, state, volume }
    }

    /// Asks while there is room, while there is none (until many are `told`), and when there is room
    /// again. Returns what became of all that, and when there was.
    fn through(&mut self, told: fn(&Asked) -> bool, ready: (u16, &str)) -> (Vec<Asked>, Instant) {
        let pid = self.scene.proxy().pid();
        let workers = Workers::start(&self.scene.client(), pace(RATE), 0, mixed);
        let mut asked = Vec::new();
        let mut until = |what: &str, since: Instant, fits: fn(&Asked) -> bool| {
            wait_until(what, || {
                asked.extend(workers.take());
                let fit = asked.iter().filter(|one| one.began > since && fits(one));
                fit.count() >= ENOUGH
            });
        };
        until("requests are served", Instant::now(), Asked::is_served);
        assert_eq!(self.scene.page("/readyz").0, 200);

        let filler = self.state.join("filler");
        fs::write(&filler, vec![0; VOLUME as usize]).unwrap_err();
        let filled = Instant::now();
        until("requests meet a full disk", filled, told);
        let (status, said) = self.scene.page("/readyz");
        assert!(status == ready.0 && said.contains(ready.1), "{status} {said}");

        fs::remove_file(&filler).unwrap();
        let freed = Instant::now();
        until("requests are served again", freed + MOMENT, Asked::is_served);
        assert_eq!(self.scene.page("/readyz").0, 200);
        asked.extend(workers.finish());
        assert_eq!(self.scene.proxy().pid(), pid);
        assert!(self.scene.proxy().is_alive());
        (asked, freed)
    }

    /// Ends egret in good order, and returns what it has recorded.
    fn end(self) -> Ledger {
        let Self { mut scene, volume, .. } = self;
        scene.proxy().signal(Signal::TERM).unwrap();
        assert!(scene.proxy().wait(PATIENCE).unwrap().success());
        scene.verify();
        let ledger = scene.ledger();
        ledger.assert_whole();
        drop(volume);
        ledger
    }
}

/// How many records could not be written, by the records themselves.
fn lost(ledger: &Ledger) -> u64 {
    ledger.events("audit.lost").iter().map(|one| one.number("count").unwrap()).sum()
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
