//! A cut while bytes are moving: nothing waits then, so nothing is woken by the cut. Whoever moves
//! bytes at that moment goes on until it next gives way, and that is bounded.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use egret_policy::WorkerId;
use egret_proxy::{ClosedBy, Selector};

use super::{pairs, play::WORKER, side::PATIENCE, tunnels};
use crate::scene::Stage;

/// What must have arrived before the cut: more than the kernel holds, so it is moving.
const FLOWING: usize = 32 << 20;
/// What may still be moved: a task gives way after 128 moves of what a pipe holds.
const UNDER_WAY: usize = 128 * (256 << 10);

/// The worker sends as fast as it can, and marks what it sends once the call has returned.
pub(super) fn cut_at_full_speed(stage: &Stage) {
    let mut play = tunnels::idle(stage);
    let (returned, arrived) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut worker = play.worker.stream().try_clone().unwrap();
    let after = returned.clone();
    let sending = thread::spawn(move || {
        let (early, late) = ([b'x'; 1 << 16], [b'L'; 1 << 16]);
        while worker.write_all(if after.load(Ordering::SeqCst) { &late } else { &early }).is_ok() {}
    });
    let mut origin = play.origin().stream().try_clone().unwrap();
    let count = arrived.clone();
    let reading = thread::spawn(move || {
        let (mut buffer, mut late) = (vec![0; 1 << 16], 0);
        while let Ok(length @ 1..) = origin.read(&mut buffer) {
            late += buffer[..length].iter().filter(|byte| **byte == b'L').count();
            count.fetch_add(length, Ordering::Relaxed);
        }
        late
    });
    let deadline = Instant::now() + PATIENCE;
    while arrived.load(Ordering::Relaxed) < FLOWING {
        assert!(Instant::now() < deadline, "the tunnel does not flow");
        thread::sleep(Duration::from_millis(1));
    }

    let worker = WorkerId::parse(WORKER).unwrap();
    assert!(play.scene.handle.cut(&Selector::Worker(worker), ClosedBy::Revoked) > 0);
    returned.store(true, Ordering::SeqCst);

    let deadline = Instant::now() + PATIENCE;
    while !(sending.is_finished() && reading.is_finished()) {
        assert!(Instant::now() < deadline, "the tunnel flows on");
        thread::sleep(Duration::from_millis(1));
    }
    sending.join().unwrap();
    let late = reading.join().unwrap();
    assert!(late <= UNDER_WAY, "the origin got {late} bytes that were sent after the cut");
    play.scene.wait_until_empty();
    play.wait_until_the_origin_is_left_alone();
    let records = play.end();
    assert_eq!(pairs(&records)[0].1["closed_by"], "revoked");
}
