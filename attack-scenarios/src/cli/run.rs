//! `egret-attack run`.

use std::{
    env, fs, io,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use egret_attack::{
    case::{self, Case},
    cell::Options,
    corpus,
    report::Report,
    suite::{self, Cells},
    target::{self, Egret, Interception, Target, Template},
    verdict::Strictness,
};

use super::{Run, Selection, TargetChoice, screen::Screen};
use crate::{Exit, Stopped};

pub(crate) fn run(arguments: &Run) -> Result<ExitCode, Stopped> {
    let target = arguments.target.choose()?;
    let cases = arguments.cases.select()?;
    let strictness = if arguments.strict { Strictness::Strict } else { Strictness::Usual };
    let options = Options { strictness, ..Options::default() };
    if let Some(code) = suite::cell(&cases, &*target, options) {
        return Ok(code);
    }
    possible()?;
    let name = arguments.target.name();
    let begin = Instant::now();
    let screen = Screen::new(&cases);
    let played = suite::play_all(&cases, usize::from(arguments.jobs), |row| screen.show(row));
    screen.end();
    let report = Report::new(&name, played.rows, played.broken, begin.elapsed().as_secs());
    match &arguments.json {
        Some(path) => write(path, &report).map_err(Stopped::failed)?,
        None => Screen::table(&report),
    }
    if !report.has_played() && !report.is_failure() {
        return Err(Stopped::nothing("no case could be played against this proxy"));
    }
    Ok(if report.is_failure() { Exit::Failed } else { Exit::Ok }.into())
}

/// Fails where there can be no cell.
fn possible() -> Result<(), Stopped> {
    match suite::probe() {
        Ok(Cells::Available) => Ok(()),
        Ok(Cells::Forbidden { required: _, why }) => {
            Err(Stopped::nothing(format!("nothing was played: {}", why.trim())))
        }
        Err(error) => Err(Stopped::nothing(format!("cannot start a cell: {error}"))),
    }
}

fn write(path: &Path, report: &Report) -> io::Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    if path == Path::new("-") {
        return io::stdout().write_all(text.as_bytes());
    }
    fs::write(path, text)
}

impl Selection {
    /// Reads the cases and leaves out those that were not asked for.
    pub(super) fn select(&self) -> Result<Vec<Case>, Stopped> {
        let mut cases = match &self.cases {
            Some(folder) => case::load(folder).map_err(|error| {
                Stopped::usage(format!("read the cases of `{}`: {error}", folder.display()))
            })?,
            None => corpus::embedded().map_err(Stopped::failed)?,
        };
        let unknown = |asked: &[String], is: fn(&Case, &str) -> bool| {
            asked.iter().find(|one| !cases.iter().any(|case| is(case, one))).cloned()
        };
        if let Some(family) = unknown(&self.family, |case, family| case.family == family) {
            return Err(Stopped::usage(format!("no case is of the family `{family}`")));
        }
        if let Some(id) = unknown(&self.only, |case, id| case.id == id) {
            return Err(Stopped::usage(format!("there is no case `{id}`")));
        }
        cases.retain(|case| {
            (self.family.is_empty() || self.family.contains(&case.family))
                && (self.only.is_empty() || self.only.contains(&case.id))
        });
        if cases.is_empty() {
            return Err(Stopped::usage("no case is left to play"));
        }
        Ok(cases)
    }
}

impl TargetChoice {
    fn name(&self) -> String {
        let command = self.command.as_deref().and_then(|line| line.split_whitespace().next());
        command.unwrap_or(&self.target).to_owned()
    }

    fn choose(&self) -> Result<Box<dyn Target>, Stopped> {
        let here = env::current_dir().map_err(Stopped::failed)?;
        if let Some(line) = &self.command {
            let read = |path: &PathBuf| {
                fs::read_to_string(path)
                    .map_err(|error| Stopped::usage(format!("read `{}`: {error}", path.display())))
            };
            let config = self.config.as_ref().map(read).transpose()?;
            let template = Template::of_command(line, config.as_deref(), &here);
            return Ok(Box::new(template.map_err(Stopped::usage)?));
        }
        let interception = match self.target.as_str() {
            "egret" => Some(Interception::Off),
            "egret-intercept" => Some(Interception::On),
            _ => None,
        };
        if let Some(interception) = interception {
            return Ok(Box::new(Egret::new(self.egret()?, interception)));
        }
        if let Some(template) = Template::known(&self.target) {
            return Ok(Box::new(template.map_err(Stopped::failed)?));
        }
        let path = Path::new(&self.target);
        let text = fs::read_to_string(path).map_err(|error| {
            let known = target::known().collect::<Vec<_>>().join("`, `");
            Stopped::usage(format!(
                "`{}` is neither `egret`, `egret-intercept`, `{known}` nor a readable file: {error}",
                self.target
            ))
        })?;
        let folder = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
        let template = Template::parse(&text, &folder.unwrap_or(here));
        let named = |error| Stopped::usage(format!("`{}`: {error}", self.target));
        Ok(Box::new(template.map_err(named)?))
    }

    fn egret(&self) -> Result<PathBuf, Stopped> {
        let beside = env::current_exe().ok().map(|program| program.with_file_name("egret"));
        let search = env::var_os("PATH").unwrap_or_default();
        let in_path = env::split_paths(&search).map(|folder| folder.join("egret"));
        let named = self.egret.clone().or_else(|| env::var_os("EGRET_BIN").map(PathBuf::from));
        if let Some(named) = named {
            // Started from another folder later.
            return named
                .canonicalize()
                .map_err(|error| Stopped::usage(format!("`{}`: {error}", named.display())));
        }
        beside.into_iter().chain(in_path).find(|path| path.is_file()).ok_or_else(|| {
            Stopped::nothing("there is no egret: not in EGRET_BIN, beside this program or in PATH")
        })
    }
}
