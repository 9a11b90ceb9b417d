//! `egret-attack`: plays attack scenarios against a forward proxy.
//!
//! The program is also its own cells: started again with the same arguments and a variable that
//! names a family, it enters a namespace before it has a second thread. So the command line is read
//! and the target chosen before anything else happens.

mod cli;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Verb};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A pipe that was closed early is the only way for this to fail.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let end = match cli.verb {
        Verb::Run(arguments) => cli::run::run(&arguments),
        Verb::Ls(arguments) => cli::list::run(&arguments),
        Verb::Compare(arguments) => cli::compare::run(&arguments),
        Verb::Mutate(arguments) => cli::mutate::run(&arguments),
    };
    end.unwrap_or_else(|Stopped { exit, why }| {
        eprintln!("error: {why}");
        exit.into()
    })
}

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    NothingPlayed = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the program could not do what it was asked to.
#[derive(Debug)]
struct Stopped {
    exit: Exit,
    why: String,
}

impl Stopped {
    fn usage(why: impl std::fmt::Display) -> Self {
        Self { exit: Exit::Usage, why: why.to_string() }
    }

    fn nothing(why: impl std::fmt::Display) -> Self {
        Self { exit: Exit::NothingPlayed, why: why.to_string() }
    }

    fn failed(why: impl std::fmt::Display) -> Self {
        Self { exit: Exit::Failed, why: why.to_string() }
    }
}
