//! `egret completions`: what a shell needs to complete egret's words.

use clap::CommandFactory;

use crate::{
    cli,
    failure::{Exit, Failure},
    output,
};

pub(crate) fn run(args: &cli::Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::Cli::command(), "egret", &mut script);
    output::bytes(&script)?;
    Ok(Exit::Done)
}
