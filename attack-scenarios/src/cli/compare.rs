//! `egret-attack compare`.

use std::{path::Path, process::ExitCode};

use egret_attack::report::{Comparison, Report};

use super::Compare;
use crate::{Exit, Stopped};

pub(crate) fn run(arguments: &Compare) -> Result<ExitCode, Stopped> {
    let load = |path: &Path| {
        Report::load(path)
            .map_err(|error| Stopped::usage(format!("read `{}`: {error}", path.display())))
    };
    let compared = Comparison::of(&load(&arguments.before)?, &load(&arguments.after)?);
    if arguments.json {
        let text = serde_json::to_string_pretty(&compared).map_err(Stopped::failed)?;
        anstream::println!("{text}");
    } else {
        anstream::print!("{compared}");
    }
    Ok(Exit::Ok.into())
}
