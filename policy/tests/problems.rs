//! Every way in which a policy can be wrong, each with what is said about it.
//!
//! `problems/NAME.toml` holds one defect, `problems/NAME.txt` the problems and warnings that it
//! gives. `EGRET_BLESS=1` writes the latter; review the difference.

// A test harness reads fixtures, which the pure crate itself may not.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use egret_policy::Policy;
use egret_policy::source::Problem;

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/problems");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "toml")).collect();
    files.sort();
    files
}

fn told(kind: &str, problems: &[Problem]) -> String {
    let line = |problem: &Problem| {
        let Problem { line, column, message, fix, .. } = problem;
        format!("{kind} {line}:{column}: {message}\n    fix: {fix}\n")
    };
    problems.iter().map(line).collect()
}

#[test]
fn each_defect_is_told_with_its_place_and_its_fix() {
    let files = fixtures();
    assert!(files.len() > 100, "{} fixtures", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let loaded = Policy::load(&std::fs::read_to_string(&file).unwrap());
        let found = told("problem", &loaded.problems) + &told("warning", &loaded.warnings);
        assert!(!found.is_empty(), "{name}: nothing is wrong with it");
        assert_eq!(loaded.policy.is_some(), loaded.problems.is_empty(), "{name}");
        for problem in loaded.problems.iter().chain(&loaded.warnings) {
            assert!(!problem.message.is_empty() && !problem.fix.is_empty(), "{name}: {problem:?}");
        }
        let expected = file.with_extension("txt");
        if std::env::var_os("EGRET_BLESS").is_some() {
            std::fs::write(&expected, &found).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{name}:\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "not as expected (EGRET_BLESS=1 rewrites):\n{}", wrong.join("\n"));
}
