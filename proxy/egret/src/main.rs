//! The one binary: reads the command line, the environment and the files, wires the parts
//! together and turns every end into an exit code.
//!
//! Below this crate nothing reads the environment, a configuration file or the clock. No rule of
//! traffic lives here: policy decides, the data path carries out.

mod asked;
mod cli;
mod clock;
mod config;
mod denials;
mod diagnostic;
mod environment;
mod failure;
mod files;
mod inherited;
mod listening;
mod log;
mod metrics;
mod output;
mod policy;
mod progress;
mod proxy_url;
mod ready;
mod reasons;
mod records;
mod reload;
mod remedy;
mod running;
mod starter;
mod state;
mod style;
mod systemd;
mod table;
mod token;
mod toml_text;
mod watch;

mod audit;
mod budgets;
mod check;
mod completions;
mod diff;
mod env;
mod exec;
mod explain;
mod import;
mod init;
mod man;
mod schema;
mod serve;
mod suggest;
mod tail;
mod why;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{Cli, Verb},
    environment::Environment,
    failure::Exit,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A pipe that was closed early is the only way for this to fail.
            let _ = error.print();
            return Exit::of_usage(&error).into();
        }
    };
    let environment = Environment::read();
    let end = match cli.verb {
        Verb::Init(args) => init::run(&args),
        Verb::Serve(args) => serve::run(&args, &environment),
        Verb::Check(args) => check::run(&args, &environment),
        Verb::Explain(args) => explain::run(&args, &environment),
        Verb::Audit(args) => audit::run(&args, &environment),
        Verb::Env(args) => env::run(&args, &environment),
        Verb::Exec(args) => exec::run(&args, &environment),
        Verb::Worker(args) => worker::run(&args, &environment),
        Verb::Import(args) => import::run(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&args),
        Verb::Why(args) => why::run(&args, &environment),
        Verb::Tail(args) => tail::run(&args, &environment),
        Verb::Diff(args) => diff::run(&args, &environment),
        Verb::Suggest(args) => suggest::run(&args, &environment),
        Verb::Schema(args) => schema::run(&args),
    };
    let exit = match end {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print();
            failure.exit().into()
        }
    };
    log::finish();
    exit
}
