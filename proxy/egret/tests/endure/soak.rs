//! The soak: steady work beside every kind of fault, each of them again every second, and what is
//! left of that in memory and descriptors.
//!
//! `EGRET_SOAK_SECONDS` is its length: 60 by default, 600 for the long form (`EGRET_SOAK_SECONDS=600
//! cargo test -p egret --test endure soak -- --nocapture`). However long it is, resident memory may
//! grow by [`SLACK`] over its second half, as a line through the samples has it, and every
//! socket is given back. Meanwhile nothing that is allowed and healthy may fail, not once.

#[path = "soak/faults.rs"]
mod faults;
#[path = "soak/gauge.rs"]
mod gauge;

use std::{
    env, thread,
    time::{Duration, Instant},
};

use egret_testkit::workers::Workers;
use rustix::process::Signal;

use crate::{
    Claim,
    load::{pace, request, tunnel},
    scene::{PATIENCE, Scene, Stage, wait_until},
    standing::Standing,
};

use faults::Saboteurs;
use gauge::Gauge;

pub(crate) const CLAIMS: &[Claim] =
    &[("a_soak_leaves_memory_and_descriptors_where_they_were", soak)];

fn soak(stage: &Stage) {
    let lasts = env::var("EGRET_SOAK_SECONDS").map_or(LASTS, |text| {
        Duration::from_secs(text.parse().expect("EGRET_SOAK_SECONDS is a number of seconds"))
    });
    let mut scene = stage.lay(faults::POLICY, LIMITS);
    faults::prepare(stage);
    scene.start();
    let at_rest = scene.proxy().sockets();
    let turns = usize::try_from(lasts.as_secs()).unwrap();
    let mut steady = Standing::open(scene.proxy().address(), HOST, STEADY, turns);
    let healthy = Workers::start(&scene.client(), pace(RATE), 0, |number| match number % 3 {
        0 => tunnel(number),
        _ => request("www.example.org", number),
    });
    let saboteurs = Saboteurs::start(&mut scene);
    let series = series_of(&scene);
    let (mut gauge, begin) = (Gauge::default(), Instant::now());
    for turn in 0..turns {
        steady.beat();
        saboteurs.reload(turn);
        thread::sleep((begin + EVERY * turn as u32).saturating_duration_since(Instant::now()));
        gauge.look(scene.proxy());
    }
    steady.assert_whole(PATIENCE);
    drop(steady);
    healthy.stop();
    let caused = saboteurs.stop();
    let asked = healthy.finish();
    println!("soak of {lasts:?}: {} requests and tunnels, {caused}", asked.len());
    println!("{gauge}");

    assert!(scene.proxy().is_alive());
    assert_eq!(series_of(&scene), series, "series of metrics came or went");
    let failed: Vec<_> = asked.iter().filter(|one| !one.is_served()).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), asked.len(), failed[0]);
    caused.assert_each_ended_as_it_should();
    wait_until("every socket is given back", || scene.proxy().sockets() <= at_rest);
    let left = scene.proxy().descriptors() - at_rest;
    assert!(left <= OWN, "{left} descriptors that are no sockets");
    let growth = gauge.growth();
    assert!(growth <= SLACK, "{} KiB more in the second half", growth / 1024.0);

    scene.proxy().signal(Signal::TERM).unwrap();
    assert!(scene.proxy().wait(PATIENCE).unwrap().success());
    scene.verify();
    let ledger = scene.ledger();
    ledger.assert_whole();
    assert!(ledger.is_settled(), "an exchange has no completion");
    ledger.assert_holds(&asked);
}

/// The names and labels of all metrics.
fn series_of(scene: &Scene) -> Vec<String> {
    let (_, page) = scene.page("/metrics");
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.contains("policy_info"));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

const HOST: &str = "steady.example.org";
const STEADY: usize = 20;
const RATE: u32 = 60;
const LASTS: Duration = Duration::from_secs(60);
const EVERY: Duration = Duration::from_secs(1);
/// What an allocator may keep of load that comes and goes; a leak of 100 bytes for each of the
/// exchanges would be more in the long form.
const SLACK: f64 = 6.0 * 1024.0 * 1024.0;
/// The pool of 128 pipes with two ends each, and the files of a process.
const OWN: usize = 2 * 128 + 32;
/// Short, so that what is slow ends within the soak, and not so short that whoever waits for a
/// processor seems slow.
const LIMITS: &str = "[limits]\nheader_timeout = \"2s\"\nbody_idle_timeout = \"2s\"\n\
                      first_byte_timeout = \"5s\"\nconnect_timeout = \"3s\"\n\
                      drain_timeout = \"2s\"\n";
