//! What people see: progress while it runs, what is wrong as it comes, and a table at the end.
//!
//! Progress goes to standard error, and only to a terminal. Colours follow `NO_COLOR`.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write, stderr},
    sync::{Mutex, PoisonError},
};

use anstyle::{AnsiColor, Style};
use egret_attack::{
    case::Case,
    report::Report,
    suite::{Row, VERDICTS},
};

/// Progress of one run.
pub(crate) struct Screen {
    planned: usize,
    terminal: bool,
    so_far: Mutex<SoFar>,
}

#[derive(Default)]
struct SoFar {
    played: usize,
    failed: usize,
}

impl Screen {
    pub(crate) fn new(cases: &[Case]) -> Self {
        let planned = cases.iter().map(|case| case.policies.len() * case.channels.len()).sum();
        Self { planned, terminal: stderr().is_terminal(), so_far: Mutex::default() }
    }

    /// Shows a run that has just ended.
    pub(crate) fn show(&self, row: &Row) {
        let mut so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        so_far.played += 1;
        if row.is_failure() {
            so_far.failed += 1;
            self.clear();
            anstream::eprintln!("{}{row}{:#}", style(&row.verdict), style(&row.verdict));
        }
        if self.terminal {
            let SoFar { played, failed } = *so_far;
            anstream::eprint!("\r{played} of {} runs, {failed} failed", self.planned);
            let _ = stderr().flush();
        }
    }

    pub(crate) fn end(&self) {
        self.clear();
    }

    fn clear(&self) {
        if self.terminal {
            anstream::eprint!("\r\x1b[K");
        }
    }

    /// Prints a line for each family and one for all.
    pub(crate) fn table(report: &Report) {
        let mut families: BTreeMap<&str, [usize; VERDICTS.len()]> = BTreeMap::new();
        for run in &report.runs {
            let counts = families.entry(&run.family).or_default();
            if let Some(at) = VERDICTS.iter().position(|word| *word == run.verdict) {
                counts[at] += 1;
            }
        }
        let headings = VERDICTS.map(|word| format!("{word:>14}")).concat();
        anstream::println!("{:<24}{headings}", report.target);
        let total = VERDICTS.map(|word| report.summary.get(word).copied().unwrap_or_default());
        for (family, counts) in families.into_iter().chain([("total", total)]) {
            let cells: String = VERDICTS
                .iter()
                .zip(counts)
                .map(|(word, count)| match count {
                    0 => format!("{:>14}", "."),
                    _ => format!("{}{count:>14}{:#}", style(word), style(word)),
                })
                .collect();
            anstream::println!("{family:<24}{cells}");
        }
        for broken in &report.broken {
            anstream::println!("{}not played: {broken}{:#}", style("error"), style("error"));
        }
        anstream::println!("{} runs in {} s", report.runs.len(), report.seconds);
    }
}

fn style(verdict: &str) -> Style {
    let colour = match verdict {
        "pass" => AnsiColor::Green,
        "soft" => AnsiColor::Cyan,
        "fail" | "error" => AnsiColor::Red,
        _ => AnsiColor::Yellow,
    };
    colour.on_default()
}
