//! The command line: what can be asked for, in which words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) mod compare;
pub(crate) mod list;
pub(crate) mod mutate;
pub(crate) mod run;
mod screen;

/// Attack scenarios for forward egress proxies, played against one of them.
///
/// Every case is played in a network namespace in which all addresses belong to the test: a wrong
/// dial ends at a listener that notes it, and nothing leaves the machine.
#[derive(Debug, Parser)]
#[command(name = "egret-attack", version, arg_required_else_help = true, after_long_help = EXITS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Run),
    Ls(List),
    Compare(Compare),
    Mutate(Mutate),
}

/// Play cases against a proxy and judge what worker, origins, names and records saw.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) target: TargetChoice,
    #[command(flatten)]
    pub(crate) cases: Selection,
    /// How many families are played at once; they mostly wait.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) jobs: u8,
    /// Write everything that was found as one JSON document; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Fail where a refusal has another status than the one asked for.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Which proxy is played against.
#[derive(Debug, Args)]
pub(crate) struct TargetChoice {
    /// `egret`, `egret-intercept`, the name of a description that is built in, or the file of one.
    #[arg(long, default_value = "egret", value_name = "NAME|FILE")]
    pub(crate) target: String,
    /// The binary of egret; else EGRET_BIN, one beside this program, one in PATH.
    #[arg(long, value_name = "FILE")]
    pub(crate) egret: Option<PathBuf>,
    /// Start any proxy by a command line with placeholders, such as `proxy -c {config}`.
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "target")]
    pub(crate) command: Option<String>,
    /// The file, with placeholders, whose filled copy `{config}` names in `--command`.
    #[arg(long, value_name = "FILE", requires = "command")]
    pub(crate) config: Option<PathBuf>,
}

/// Which cases are played.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Cases of this folder, in place of those that are built in.
    #[arg(long, value_name = "DIR")]
    pub(crate) cases: Option<PathBuf>,
    /// Only these families.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub(crate) family: Vec<String>,
    /// Only these cases.
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    pub(crate) only: Vec<String>,
}

/// List the cases.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) cases: Selection,
    /// Print one JSON object for each case.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compare what two runs found, for instance about two proxies.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// What `run --json` wrote.
    pub(crate) before: PathBuf,
    /// What another `run --json` wrote.
    pub(crate) after: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Break egret on purpose, one check at a time, and see whether the cases notice.
///
/// Each mutation is applied to a copy of the sources, which is built and played against. One that
/// no longer applies, does not build, or is not noticed, is a failure.
#[derive(Debug, Args)]
pub(crate) struct Mutate {
    /// The root of the workspace.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub(crate) workspace: PathBuf,
    /// Only these mutations.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    pub(crate) only: Vec<String>,
    /// How many families are played at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) jobs: u8,
}

const EXITS: &str = "\
Exit codes: 0 everything passed, 1 something failed, 2 usage, 3 nothing could be played, for
instance because the system forbids network namespaces.";
