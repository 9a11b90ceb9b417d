use egret_testkit::meter::Latencies;

use super::*;
use crate::load::measured::{Healthy, Memory};

fn case(expected: &str, must: &[&str]) -> Case {
    let must: Vec<String> = must.iter().map(|word| format!("{word:?}")).collect();
    let line = format!(
        r#"{{"id": "X", "family": "load", "kind": "load", "input": {{"steps": ["s"]}},
        "expected": "{expected}", "must": [{}], "severity": "low", "why": "w", "source": "s"}}"#,
        must.join(",")
    );
    Case::parse(&line).expect("a case")
}

fn judged(expected: &str, must: &[&str], change: impl FnOnce(&mut Measured)) -> &'static str {
    let case = case(expected, must);
    let mut seen = Measured::of(&case.must);
    seen.outcome = Some(Work::Bounded);
    change(&mut seen);
    judge(&case, &Tuning::default(), &seen).word()
}

fn times(ms: u64, failures: usize) -> Latencies {
    let failures = vec!["closed".to_owned(); failures];
    Latencies { times: vec![Duration::from_millis(ms); 100], failures }
}

fn healthy(quiet: u64, attacked: u64, failures: usize) -> Option<Healthy> {
    let attacked = times(attacked, failures);
    Some(Healthy { quiet: times(quiet, 0), control: None, attacked })
}

#[test]
fn a_condition_is_judged_on_both_sides_of_its_figure() {
    let ratio = &["healthy_p99_ratio<=2"];
    assert_eq!(judged("deny", ratio, |seen| seen.healthy = healthy(60, 120, 0)), "pass");
    assert_eq!(judged("deny", ratio, |seen| seen.healthy = healthy(60, 121, 0)), "fail");
    // Below the floor the scheduler is what is measured.
    assert_eq!(judged("deny", ratio, |seen| seen.healthy = healthy(1, 100, 0)), "pass");
    assert_eq!(judged("deny", ratio, |seen| seen.healthy = healthy(1, 101, 0)), "fail");

    let closed = &["closed_within:header_timeout"];
    let stood = |ms| move |seen: &mut Measured| seen.closed = Some(Some(Duration::from_millis(ms)));
    assert_eq!(judged("deny", closed, stood(3500)), "pass");
    assert_eq!(judged("deny", closed, stood(3501)), "fail");
    assert_eq!(judged("deny", closed, |seen| seen.closed = Some(None)), "fail");

    let memory = |peak| {
        let memory = Memory { peak, connections: 10, each: 1 << 20, ..Memory::default() };
        move |seen: &mut Measured| seen.memory = Some(memory)
    };
    assert_eq!(judged("deny", &["bounded_memory"], memory(74 << 20)), "pass");
    assert_eq!(judged("deny", &["rss<=budget"], memory((74 << 20) + 1)), "fail");

    let flat = &["fd_flat"];
    assert_eq!(judged("deny", flat, |seen| seen.descriptors = Some((10, 18))), "pass");
    assert_eq!(judged("deny", flat, |seen| seen.descriptors = Some((10, 19))), "fail");
    assert_eq!(judged("deny", &["cpu<=50%"], |seen| seen.cpu = Some(0.5)), "pass");
    assert_eq!(judged("deny", &["cpu<=50%"], |seen| seen.cpu = Some(0.51)), "fail");
    let b = &["worker_b_success>=99.9%"];
    assert_eq!(judged("deny", b, |seen| seen.success = Some(0.999)), "pass");
    assert_eq!(judged("deny", b, |seen| seen.success = Some(0.998)), "fail");
}

#[test]
fn what_nobody_saw_is_unchecked_and_never_a_pass() {
    assert_eq!(judged("deny", &[], |_| {}), "pass");
    for word in ["healthy_p99_ratio<=2", "closed_within:teatime", "fd_flat", "sings"] {
        assert_eq!(judged("deny", &[word], |_| {}), "unchecked", "{word}");
    }
    // A condition that is broken weighs more than one that was not seen.
    let both = &["sings", "fd_flat"];
    assert_eq!(judged("deny", both, |seen| seen.descriptors = Some((1, 99))), "fail");
}

#[test]
fn what_a_driver_claims_must_hold_unasked() {
    let claim = |held| move |seen: &mut Measured| seen.claim("all_ended", held, String::new());
    assert_eq!(judged("deny", &[], claim(true)), "pass");
    assert_eq!(judged("deny", &[], claim(false)), "fail");
    assert_eq!(judged("deny", &[], |seen| seen.healthy = healthy(1, 1, 1)), "fail");
    assert_eq!(judged("deny", &[], |seen| seen.outcome = None), "fail");
    assert_eq!(judged("allow", &[], |_| {}), "fail");
    assert_eq!(judged("allow", &[], |seen| seen.outcome = Some(Work::Served)), "pass");
}

#[test]
fn a_time_is_a_limit_a_figure_or_their_sum() {
    let tuning = Tuning::default();
    let time = |text| tuning.time(text).map(|time| time.as_millis());
    assert_eq!(time("header_timeout"), Some(2000));
    assert_eq!(time("connect_timeout+1s"), Some(5000));
    assert_eq!(time("250ms"), Some(250));
    assert_eq!(time("connect_timeout+teatime"), None);
    assert_eq!(time(""), None);
}
