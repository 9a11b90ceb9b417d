//! `egret check`: is the policy valid, and do its tests pass?
//!
//! Judges stages 3 and 4 (and 6 where a test gives addresses) and looks nothing up. Without a file
//! it judges the configuration too, since that is what `serve` would do. What `serve` would refuse
//! for where it runs, and not for what it says, is a warning.

use std::{error::Error, path::Path};

use egret_policy::{Policy, TestOutcome, Timestamp, source::Problem};
use serde::Serialize;

use crate::{
    cli, config,
    diagnostic::{Severity, print_problems, print_warning},
    environment::Environment,
    failure::{Exit, Failure, count},
    files::{self, FileError, SourceText},
    output, policy,
    style::{ALLOWED as GOOD, DENIED as BAD},
};

/// What `--json` prints; the names are public interface.
#[derive(Debug, Default, Serialize)]
struct Report {
    ok: bool,
    problems: Vec<Located>,
    /// What stderr says too.
    warnings: Vec<Located>,
    tests: Vec<TestOutcome>,
}

#[derive(Debug, Serialize)]
struct Located {
    file: String,
    line: usize,
    column: usize,
    message: String,
    fix: String,
}

pub(crate) fn run(args: &cli::Check, environment: &Environment) -> Result<Exit, Failure> {
    let mut judge = Judge { json: args.json, report: Report::default() };
    let source = match judge.all(args, environment) {
        Err(Failure::File(error)) if args.json => {
            judge.report.problems.push(Located::unread(&error));
            output::json(&judge.report)?;
            return Err(error.into());
        }
        result => result?,
    };
    let Judge { mut report, .. } = judge;
    let failed = report.tests.iter().filter(|test| !test.ok).count();
    report.ok = report.problems.is_empty() && failed == 0;
    if args.json {
        output::json(&report)?;
    } else {
        let name = source.map_or_else(|| "the configuration".to_owned(), |source| source.name());
        output::text(&summary(&name, &report))?;
    }
    Ok(match (report.problems.is_empty(), failed) {
        (false, _) => Exit::Configuration,
        (true, 0) => Exit::Done,
        (true, _) => Exit::Negative,
    })
}

impl Located {
    fn of(source: &SourceText, problem: &Problem) -> Self {
        let Problem { span: _, line, column, message, fix } = problem;
        let (message, fix) = (message.clone(), fix.clone());
        Self { file: source.name(), line: *line, column: *column, message, fix }
    }

    /// What is told of a file that cannot be read at all.
    fn unread(error: &FileError) -> Self {
        let message = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self::whole(error, message)
    }

    /// What is told of a file, and of no place in it.
    fn whole(error: &FileError, message: String) -> Self {
        let file = error.path().display().to_string();
        Self { file, line: 1, column: 1, message, fix: error.fix().unwrap_or_default() }
    }
}

struct Judge {
    json: bool,
    report: Report,
}

impl Judge {
    /// Judges what is asked for, and returns the policy if there is one to be named.
    fn all(
        &mut self,
        args: &cli::Check,
        environment: &Environment,
    ) -> Result<Option<SourceText>, Failure> {
        let source = match &args.file {
            Some(path) => Some(files::read(path)?),
            None => self.configuration(args.config.path.as_deref(), environment)?,
        };
        if let Some(source) = &source {
            self.policy(source, Timestamp::now());
        }
        Ok(source)
    }

    /// Judges the configuration and returns the policy that it names, if it says so much.
    fn configuration(
        &mut self,
        path: Option<&Path>,
        environment: &Environment,
    ) -> Result<Option<SourceText>, Failure> {
        let Some(path) = config::find(path, environment) else {
            return Ok(Some(policy::users(environment)?));
        };
        let source = files::read(&path)?;
        self.warn_of_guard(&path);
        let loaded = config::load(&source, environment);
        self.warnings(&source, &loaded.warnings);
        self.problems(&source, &loaded.problems);
        let roots = loaded.config.iter().filter_map(|config| config.roots.as_deref());
        roots.for_each(|path| self.warn_of_guard(path));
        loaded.config.map(|config| files::read(&config.policy)).transpose().map_err(Failure::from)
    }

    fn policy(&mut self, source: &SourceText, now: Timestamp) {
        self.warn_of_guard(&source.path);
        let loaded = Policy::load(&source.text);
        self.warnings(source, &loaded.warnings);
        self.problems(source, &loaded.problems);
        let Some(policy) = loaded.policy else { return };
        self.warnings(source, &policy::unavailable(&policy));
        self.report.tests = policy.run_tests(now);
    }

    fn problems(&mut self, source: &SourceText, problems: &[Problem]) {
        // In JSON they are the answer; for people they are shown with their lines.
        if !self.json {
            print_problems(Severity::Error, source, problems);
        }
        self.report.problems.extend(problems.iter().map(|problem| Located::of(source, problem)));
    }

    fn warnings(&mut self, source: &SourceText, warnings: &[Problem]) {
        print_problems(Severity::Warning, source, warnings);
        self.report.warnings.extend(warnings.iter().map(|warning| Located::of(source, warning)));
    }

    /// `serve` would refuse the file; `check` only says so, since the text is what it judges.
    fn warn_of_guard(&mut self, path: &Path) {
        match files::check_guard(path) {
            // What cannot be read is said elsewhere, and nobody serves from a pipe.
            Ok(())
            | Err(
                FileError::Read { .. }
                | FileError::Encoding { .. }
                | FileError::Kind { .. }
                | FileError::Long { .. },
            ) => {}
            Err(
                error @ (FileError::WritableByOthers { .. }
                | FileError::OwnedByOther { .. }
                | FileError::FolderOpenToOthers { .. }
                | FileError::FolderOfOther { .. }),
            ) => {
                let message = format!("{error}: `serve` refuses it");
                print_warning(&message, error.fix().as_deref());
                self.report.warnings.push(Located::whole(&error, message));
            }
        }
    }
}

fn summary(name: &str, report: &Report) -> String {
    let mut text = String::new();
    let passed = report.tests.iter().filter(|test| test.ok).count();
    for test in report.tests.iter().filter(|test| !test.ok) {
        text += &format!("{BAD}✗{BAD:#} {test}\n");
    }
    text += &match (report.problems.len(), report.tests.len()) {
        (0, 0) => format!("{GOOD}✓{GOOD:#} {name} is valid; it has no tests\n"),
        (0, all) if passed == all => {
            format!("{GOOD}✓{GOOD:#} {name} is valid; {} passed\n", count(all, "test"))
        }
        (0, all) => format!(
            "{BAD}✗{BAD:#} {name} is valid, but {} of {} failed\n",
            all - passed,
            count(all, "test")
        ),
        (problems, _) => {
            format!("{BAD}✗{BAD:#} {name} is not valid: {}\n", count(problems, "problem"))
        }
    };
    text
}
