//! Shows that the stages cannot be skipped or swapped: each attempt fails to compile with the
//! error committed beside it, and its twin, which differs in that one line, compiles.

use std::{fs, path::Path};

#[test]
fn skipping_a_stage_does_not_compile() {
    let proofs = trybuild::TestCases::new();
    for attempt in attempts() {
        proofs.compile_fail(format!("tests/proofs/{attempt}.rs"));
        proofs.pass(format!("tests/proofs/{attempt}.twin.rs"));
    }
}

#[test]
fn each_attempt_differs_from_its_twin_in_one_line() {
    for attempt in attempts() {
        let read = |name: String| fs::read_to_string(folder().join(name)).unwrap();
        let (attempted, twin) = (read(format!("{attempt}.rs")), read(format!("{attempt}.twin.rs")));
        let differing =
            attempted.lines().zip(twin.lines()).filter(|(attempted, twin)| attempted != twin);
        assert_eq!(attempted.lines().count(), twin.lines().count(), "{attempt}");
        assert_eq!(differing.count(), 1, "{attempt}");
    }
}

fn attempts() -> Vec<String> {
    let names = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut attempts: Vec<String> = names
        .filter_map(|name| Some(name.to_str()?.strip_suffix(".rs")?.to_owned()))
        .filter(|name| !name.ends_with(".twin"))
        .collect();
    attempts.sort();
    assert!(attempts.len() >= 7, "the attempts are gone");
    attempts
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proofs"))
}
