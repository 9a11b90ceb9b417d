//! The words of `worker`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use egret_policy::WorkerId;

use super::{label, worker_id};
use crate::config;

/// Work with single workers.
#[derive(Debug, Args)]
pub(crate) struct Worker {
    #[command(subcommand)]
    pub(crate) verb: WorkerVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerVerb {
    Token(WorkerToken),
}

/// Make a token for a worker, and print it once.
///
/// Prints the token, the lines for egret.toml, which hold only its SHA-256, and how the worker
/// uses it. Nothing is written.
#[derive(Debug, Args)]
pub(crate) struct WorkerToken {
    /// The worker's name, which is the user name of its proxy credentials.
    #[arg(value_parser = holder)]
    pub(crate) id: WorkerId,
    /// A label that rules can ask for; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Look whether this configuration can take the worker, and warn where it cannot.
    #[arg(short = 'c', long = "config", value_name = "FILE", id = "config")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document: {id, labels, token, token_sha256}.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Who can have a token: the same words as in `[[worker]]`.
fn holder(text: &str) -> Result<WorkerId, String> {
    if text == config::ANONYMOUS {
        return Err("this id stands for who comes without a proof".to_owned());
    }
    if text.contains(':') {
        return Err("a colon ends the user name; write a dot or a hyphen instead".to_owned());
    }
    worker_id(text)
}
