//! The attack scenarios against the real binary: one trial for each family, and one for the list
//! of what they leave unproven.
//!
//! Each family is played in a network namespace of its own by a child of this test. With
//! `EGRET_UPDATE_EXPECTED=1` the list is written anew instead of compared; review the difference.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use egret_attack::{
    case::Case,
    cell::Options,
    corpus,
    suite::{self, Cells, Row, expected::Expected},
    target::{Egret, Interception},
};
use libtest_mimic::{Arguments, Failed, Trial};

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../attack-scenarios/expected.txt");

/// A family is played once, by whichever trial needs it first.
type Played = OnceLock<Result<Vec<Row>, String>>;

struct Corpus {
    cases: Vec<Case>,
    played: BTreeMap<String, Played>,
}

fn main() -> ExitCode {
    let target = Egret::new(env!("CARGO_BIN_EXE_egret"), Interception::Off);
    let cases = corpus::embedded().expect("the corpus parses");
    if let Some(code) = suite::cell(&cases, &target, Options::default()) {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Cells mostly wait, for replies that must not come too.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    if !arguments.list {
        match suite::probe() {
            Ok(Cells::Available) => {}
            Ok(Cells::Forbidden { required, why }) => {
                eprintln!("NOT RUN: {why}");
                return if required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            }
            Err(error) => {
                eprintln!("cannot start a cell: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let played = suite::families(&cases).into_iter().map(|family| (family, Played::new()));
    let corpus = Arc::new(Corpus { played: played.collect(), cases });
    let mut trials: Vec<Trial> = corpus
        .played
        .keys()
        .filter(|family| corpus.is_driven(family))
        .map(|family| {
            let (corpus, family) = (Arc::clone(&corpus), family.clone());
            Trial::test(family.clone(), move || corpus.judge(&family))
        })
        .collect();
    let last = Arc::clone(&corpus);
    trials.push(Trial::test("what_is_unproven_is_listed", move || last.compare()));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn play_family(cases: &[Case], family: &str) -> Result<Vec<Row>, String> {
    suite::play_family(cases, family, |_| {})
}

impl Corpus {
    fn is_driven(&self, family: &str) -> bool {
        self.cases.iter().any(|case| case.family == family && case.is_driven())
    }

    fn rows(&self, family: &str) -> Result<&[Row], Failed> {
        let played = self.played[family].get_or_init(|| play_family(&self.cases, family));
        played.as_deref().map_err(Failed::from)
    }

    fn judge(&self, family: &str) -> Result<(), Failed> {
        let rows = self.rows(family)?;
        let failures: Vec<String> =
            rows.iter().filter(|row| row.is_failure()).map(ToString::to_string).collect();
        if failures.is_empty() {
            return Ok(());
        }
        Err(format!("{}\n{}", suite::tally(rows), failures.join("\n")).into())
    }

    fn compare(&self) -> Result<(), Failed> {
        let mut rows = Vec::new();
        for family in self.played.keys() {
            rows.extend_from_slice(self.rows(family)?);
        }
        if env::var_os("EGRET_UPDATE_EXPECTED").is_some_and(|value| value == "1") {
            let header = "# Runs of the attack scenarios that prove nothing or less than asked for, \
                          and why.\n# Written by EGRET_UPDATE_EXPECTED=1; every line is reviewed.\n";
            fs::write(LIST, format!("{header}{}", Expected::of(&rows)))?;
        }
        let difference = Expected::load(Path::new(LIST))?.compare(&rows);
        if difference.is_empty() {
            return Ok(());
        }
        Err(format!("{}\n{difference}", suite::tally(&rows)).into())
    }
}
