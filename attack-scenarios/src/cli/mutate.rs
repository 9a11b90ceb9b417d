//! `egret-attack mutate`.

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

use egret_attack::{
    mutation::{Mutation, Tree},
    report::Report,
    suite::Row,
};

use super::Mutate;
use crate::{Exit, Stopped};

pub(crate) fn run(arguments: &Mutate) -> Result<ExitCode, Stopped> {
    let folder = arguments.workspace.join("attack-scenarios/mutations");
    let all = Mutation::load(&folder)
        .map_err(|error| Stopped::usage(format!("read `{}`: {error}", folder.display())))?;
    if let Some(name) = arguments.only.iter().find(|name| !all.iter().any(|m| m.name == **name)) {
        return Err(Stopped::usage(format!("there is no mutation `{name}`")));
    }
    let chosen =
        all.iter().filter(|m| arguments.only.is_empty() || arguments.only.contains(&m.name));
    let tree = Tree::of(&arguments.workspace).map_err(Stopped::failed)?;
    let mut unnoticed = 0;
    for mutation in chosen {
        let begin = Instant::now();
        let found = tree
            .build(mutation)
            .map_err(|error| error.to_string())
            .and_then(|binary| play(&binary, mutation, arguments.jobs));
        let seconds = begin.elapsed().as_secs();
        match found {
            Ok(caught) if !caught.is_empty() => {
                let shown = caught.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
                let (name, count) = (&mutation.name, caught.len());
                anstream::println!("caught    {name:<24} by {count} runs: {shown} ({seconds} s)");
            }
            Ok(_) => {
                unnoticed += 1;
                let (name, families) = (&mutation.name, mutation.families.join(", "));
                anstream::println!("SURVIVED  {name:<24} {families} ({seconds} s)");
                anstream::println!("          {}", mutation.why);
            }
            Err(why) if why.starts_with(NOTHING) => return Err(Stopped::nothing(why)),
            Err(why) => {
                unnoticed += 1;
                anstream::println!("BROKEN    {:<24} {why}", mutation.name);
            }
        }
    }
    Ok(if unnoticed > 0 { Exit::Failed } else { Exit::Ok }.into())
}

/// Plays the families of a mutation against a binary and returns the cases that failed. This
/// program is started again, for it is the one that can be a cell.
fn play(binary: &Path, mutation: &Mutation, jobs: u8) -> Result<Vec<String>, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(["run", "--target", "egret", "--json", "-", "--jobs", &jobs.to_string()])
        .args(["--family", &mutation.families.join(",")])
        .arg("--egret")
        .arg(binary)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.code() == Some(Exit::NothingPlayed as i32) {
        return Err(format!("{NOTHING}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let report: Report = serde_json::from_slice(&output.stdout)
        .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
    if let [broken, ..] = &report.broken[..] {
        return Err(broken.clone());
    }
    // A proxy that does not start proves nothing: that is an error of the surroundings.
    let failed = report.runs.iter().filter(|run| run.verdict == "fail");
    let mut ids: Vec<String> = failed.map(|Row { id, .. }| id.clone()).collect();
    ids.dedup();
    Ok(ids)
}

const NOTHING: &str = "nothing could be played";
