//! Decisions as data: each file is a policy with its own tests, and all of them pass.

// A test harness reads fixtures, which the pure crate itself may not.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::Path;

use egret_policy::{Policy, Timestamp};

#[test]
fn every_fixture_decides_as_it_says() {
    let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decisions");
    let mut ran = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let loaded = Policy::load(&text);
        let Some(policy) = loaded.policy else {
            wrong.push(format!("{name}: {:?}", loaded.problems));
            continue;
        };
        let outcomes = policy.run_tests(now);
        assert_eq!(outcomes.len(), text.matches("[[test]]").count(), "{name}");
        ran += outcomes.len();
        for outcome in outcomes.into_iter().filter(|outcome| !outcome.ok) {
            let test = text.split("[[test]]").nth(outcome.index + 1).unwrap_or_default();
            wrong.push(format!(
                "{name} test {}: expected {}, got {}{test}",
                outcome.index, outcome.expected, outcome.got
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(ran > 150, "{ran} tests");
}
