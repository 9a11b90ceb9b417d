//! The command line: what can be asked for, in which words.
//!
//! Only verbs that work are here. Nothing is looked up or decided; each verb has its own file.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use egret_policy::WorkerId;

pub(crate) use self::{
    audit::{Audit, AuditVerb, AuditVerify},
    env::{AsWorker, Env},
    exec::Exec,
    import::{Import, ImportFrom},
    records::{Diff, RecordSource, Suggest, Tail, Why},
    worker::{Worker, WorkerToken, WorkerVerb},
};

mod audit;
mod env;
mod exec;
mod import;
mod records;
mod worker;

/// A forward egress proxy with a policy engine.
///
/// The one way out for workers that are not trusted with the open network: what no rule of the
/// policy allows is denied, names are resolved once and pinned, and every exchange is recorded.
#[derive(Debug, Parser)]
#[command(name = "egret", version, arg_required_else_help = true, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Init(Init),
    Serve(Serve),
    Check(Check),
    Explain(Explain),
    Audit(Audit),
    Env(Env),
    Exec(Exec),
    Worker(Worker),
    Why(Why),
    Tail(Tail),
    Diff(Diff),
    Suggest(Suggest),
    Import(Import),
    Schema(Schema),
    Completions(Completions),
    Man(Manual),
}

/// Write egret.toml, policy.toml and a state directory; never overwrites.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where to write; made if it is not there.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
}

/// Run the proxy.
///
/// Without a configuration it starts on embedded defaults: the loopback address 127.0.0.1:3128, a
/// state directory and a starter policy of your own.
///
/// When the policy or the configuration has become another file, and on SIGHUP, both are judged
/// again: a policy and workers that are good are in force at once, else what was in force stays.
///
/// SIGTERM or SIGINT lets open exchanges end within `limits.drain_timeout`; a second one ends them
/// at once. The exit code is 0 either way.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// Validate a policy and run its tests.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Judge this policy alone; without it, the configuration and the policy that it names.
    #[arg(conflicts_with = "config")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Print one JSON document: {ok, problems, tests}.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Say whether a request would be allowed, and why.
///
/// Nothing is looked up and nothing is sent. Without addresses, the addresses that the name has
/// are not judged.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The method; CONNECT takes HOST:PORT and asks for a tunnel with TLS inside.
    pub(crate) method: String,
    /// http://…, https://…, or tcp://HOST:PORT for an opaque tunnel.
    pub(crate) url: String,
    /// The worker that asks; the labels of a worker of the configuration apply.
    #[arg(long, value_name = "ID", default_value = "anonymous", value_parser = worker_id)]
    pub(crate) worker: WorkerId,
    /// A label of the worker, besides those it has; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// An address that the name is taken to resolve to; may be repeated.
    #[arg(long = "address", value_name = "IP")]
    pub(crate) addresses: Vec<IpAddr>,
    /// Judge by this policy instead of the one that the configuration names.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Print one JSON document: {verdict, reason, rule, policy, tree}.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the JSON Schema of a file, for editors.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Which file.
    #[arg(value_enum)]
    pub(crate) of: SchemaOf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SchemaOf {
    /// policy.toml
    Policy,
    /// egret.toml
    Config,
}

/// Print what a shell needs to complete egret's words.
///
/// For bash: `source <(egret completions bash)` in ~/.bashrc. For zsh and fish, write it into a
/// file where they look for completions: `_egret` on zsh's $fpath, or
/// ~/.config/fish/completions/egret.fish.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page, or write one for each verb.
///
/// Without a directory the page of egret itself is printed: `egret man | man -l -`.
#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// Write egret.1 and a page for each verb there; made if it is not there.
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigFile {
    /// The configuration [default: ./egret.toml, then $XDG_CONFIG_HOME/egret/egret.toml, then
    /// embedded defaults]
    #[arg(short = 'c', long = "config", value_name = "FILE", id = "config")]
    pub(crate) path: Option<PathBuf>,
}

const EXIT_CODES: &str = "\
Exit codes:
   0  done, or allowed; `serve`: after SIGTERM or SIGINT
   1  failure; `serve`: records are missing, day budgets could not be saved, or a part of it ended
      by itself; `why`: no such record
   2  wrong usage
   3  a negative answer: `explain` denied, a test of `check` failed, `diff` found flips,
      `audit verify` a finding, `env` no proxy whose port it could print
  69  unavailable: the port or the socket's path is taken, or another process (which is named) owns
      the state directory
  77  not permitted
  78  the configuration or the policy is not valid, or may be written by others; a socket was handed
      over that no listener names; nobody vouches for the address of the proxy
`exec` ends with the exit code of its command.

NO_COLOR is honoured. EGRET_LOG filters the log of `serve` (info, debug, egret_proxy=trace, …).";

fn worker_id(text: &str) -> Result<WorkerId, String> {
    WorkerId::parse(text).map_err(|error| error.to_string())
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write KEY=VALUE".to_owned()),
    }
}
