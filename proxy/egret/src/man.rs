//! `egret man`: the pages of the manual, one for egret and one for each verb, from the same words
//! as `--help`.

use std::{fs::DirBuilder, io, path::Path};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::{
    cli,
    failure::{Exit, Failure},
    output,
};

pub(crate) fn run(args: &cli::Manual) -> Result<Exit, Failure> {
    match &args.dir {
        Some(dir) => write(dir).map_err(|source| Failure::Write { path: dir.clone(), source })?,
        None => {
            let mut page = Vec::new();
            Man::new(words()).render(&mut page).map_err(Failure::Output)?;
            output::bytes(&page)?;
        }
    }
    Ok(Exit::Done)
}

/// Writes `egret.1`, `egret-VERB.1` and so on, over what is there of these names.
fn write(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(dir)?;
    clap_mangen::generate_to(words(), dir)
}

/// All words but `help`, which has nothing to say that its own page could.
fn words() -> Command {
    cli::Cli::command().disable_help_subcommand(true)
}
