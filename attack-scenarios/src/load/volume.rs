//! A great deal of ordinary work.

use std::{
    io,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use egret_testkit::meter;

use super::{
    exhaustion::OpenTunnel,
    ground::{HEALTHY, Stage, get},
    measured::{Measured, Work},
};

/// Tunnels opened, used and closed. Whatever is made once is made in the first quarter.
pub(super) fn churn(stage: &Stage<'_>, asked: usize, seen: &mut Measured) -> io::Result<()> {
    let count = seen.scaled(asked, 6000, "tunnels");
    let mut failed = tunnels(stage, count / 4)?;
    // The last of them are still being closed.
    thread::sleep(Duration::from_millis(500));
    let mut watch = stage.watch(0, 0);
    failed += tunnels(stage, count - count / 4)?;
    thread::sleep(Duration::from_millis(500));
    watch.look(stage);
    seen.claim("all_carried", failed == 0, format!("{failed} of {count} failed"));
    seen.outcome = (failed == 0).then_some(Work::Served);
    watch.settle(stage, seen);
    Ok(())
}

/// Uses so many tunnels from eight threads; returns how many failed.
fn tunnels(stage: &Stage<'_>, count: usize) -> io::Result<usize> {
    let failed: io::Result<Vec<usize>> = thread::scope(|scope| {
        let lane =
            |_| scope.spawn(|| (0..count / 8).filter(|_| OpenTunnel::new(stage).is_err()).count());
        let lanes: Vec<_> = (0..8).map(lane).collect();
        let panicked = |_| io::Error::other("a client of the test panicked");
        lanes.into_iter().map(|lane| lane.join().map_err(panicked)).collect()
    });
    Ok(failed?.into_iter().sum())
}

/// Many clients of one host at once: somebody is always answered.
pub(super) fn hot_host(stage: &Stage<'_>, asked: usize, seen: &mut Measured) -> io::Result<()> {
    let clients = seen.scaled(asked, 128, "clients");
    let (end, answers) = (Instant::now() + HOT, Mutex::new(Vec::new()));
    let begin = Instant::now();
    let failed: usize = thread::scope(|scope| {
        let lanes: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let Ok(mut stream) = meter::open(&stage.client()) else { return 1 };
                    let mut failed = 0;
                    while Instant::now() < end {
                        match meter::ask(&mut stream, &get(HEALTHY, None)) {
                            Ok(answer) if answer.status() == 200 => answers
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(begin.elapsed()),
                            Ok(_) | Err(_) => failed += 1,
                        }
                    }
                    failed
                })
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap_or(1)).sum()
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_unstable();
    let gaps = answers.windows(2).map(|pair| pair[1] - pair[0]);
    let ends = [answers.first().copied(), answers.last().map(|last| HOT.saturating_sub(*last))];
    seen.stall = gaps.chain(ends.into_iter().flatten()).max();
    seen.notes.push(format!("{} answers to {clients} clients in {HOT:?}", answers.len()));
    seen.notes.push(format!("scaled 10 min -> {HOT:?}"));
    seen.claim("all_served", failed == 0, format!("{failed} failed"));
    seen.outcome = (failed == 0).then_some(Work::Served);
    Ok(())
}

const HOT: Duration = Duration::from_secs(5);
