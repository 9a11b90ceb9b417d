//! Records on a volume that is full: what is let through, what is counted, and that all goes on
//! when there is room again.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use egret_proxy::{Extent, OnFailure, Verifier};
use serde_json::Value;

use crate::{
    Claim, POLICY,
    scene::{Around, Scene, Stage},
};

pub(crate) const TRIALS: &[Claim] = &[
    ("a_full_volume_refuses_and_recovers_by_itself", refusing),
    ("where_exchanges_go_on_a_full_volume_is_counted", going_on),
];

const VOLUME: u64 = 256 << 10;
const ALLOWED: &str = "http://api.example.com/";

fn refusing(stage: &Stage) {
    on_a_full_volume(stage, OnFailure::Refuse, |scene| {
        // What fits into the last page is still taken.
        let mut statuses = vec![];
        while !statuses.ends_with(&[503; 5]) {
            assert!(statuses.len() < 100, "{statuses:?}");
            let reply = scene.client.get(ALLOWED).unwrap();
            let reason = reply.reason();
            let id = reason.strip_prefix("egress.audit_unavailable ");
            let refused = id.is_some();
            assert!(id.is_none_or(|id| id.parse::<ulid::Ulid>().is_ok()), "{reason}");
            assert_eq!(reply.status(), if refused { 503 } else { 200 });
            statuses.push(reply.status());
        }
        assert!(!scene.recorder.is_writing());
        statuses
    });
}

fn going_on(stage: &Stage) {
    on_a_full_volume(stage, OnFailure::Continue, |scene| {
        let statuses: Vec<_> = (0..8).map(|_| status(scene)).collect();
        assert_eq!(statuses, [200; 8]);
        wait_until("that nothing can be written is noticed", || !scene.recorder.is_writing());
        statuses
    });
}

/// Fills the volume of the records, has requests sent, and makes room again.
fn on_a_full_volume(stage: &Stage, on_failure: OnFailure, ask: impl FnOnce(&Scene) -> Vec<u16>) {
    let audit = stage.folder();
    let folder = audit.path().to_owned();
    let volume = stage.entered.small_volume(&folder, VOLUME).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let around = Around { audit, on_failure, ..stage.surroundings() };
    let mut scene = stage.play_in(POLICY, |_| {}, around);
    assert_eq!(status(&scene), 200);

    let filler = folder.join("filler");
    fs::write(&filler, vec![0; VOLUME as usize * 2]).unwrap_err();
    let mut statuses = ask(&scene);
    fs::remove_file(filler).unwrap();
    wait_until("what was kept is written", || scene.recorder.is_writing());
    statuses.extend([200, status(&scene)]);

    scene.stop();
    let records = verified(&folder);
    let of = |event: &'static str| records.iter().filter(move |one| one["event"] == event);
    let lost: u64 = of("audit.lost").map(|one| one["count"].as_u64().unwrap()).sum();
    let served = statuses.iter().filter(|status| **status == 200).count() as u64;
    let refused = statuses.len() as u64 - served;
    assert_eq!(stage.origin.requests().len() as u64, served);
    let written = (of("decision").count() + of("completion").count()) as u64;
    assert!(lost > 0);
    match on_failure {
        // All that was let through is on record, and nothing else was.
        OnFailure::Refuse => assert_eq!((written, lost), (2 * served, refused)),
        OnFailure::Continue => assert_eq!(written + lost, 2 * served),
    }
    drop(volume);
}

fn status(scene: &Scene) -> u16 {
    scene.client.get(ALLOWED).unwrap().status()
}

/// The records of a chain in which nothing is wrong.
fn verified(folder: &Path) -> Vec<Value> {
    let text = fs::read(folder.join("00000001.jsonl")).unwrap();
    let mut verifier = Verifier::default();
    verifier.file(&text[..], |line, fault| panic!("line {line}: {fault}")).unwrap();
    let (verified, faults) = verifier.finish(Extent::Whole);
    assert_eq!((faults, verified.since_head), (vec![], 0));
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
