//! The words of `env`.

use clap::Args;
use egret_policy::WorkerId;

use super::{ConfigFile, worker_id};
use crate::env::shell::Shell;

/// Print the variables that make a worker's programs use the proxy.
///
/// `eval "$(egret env)"` sets up curl, wget, git, pip, npm, Yarn, cargo, Python, Node, Go and Java
/// for the proxy of the configuration. What NO_PROXY, JAVA_TOOL_OPTIONS and GIT_CONFIG_COUNT say
/// already is kept; doing it twice changes nothing. Who asks is told by a token: EGRET_TOKEN_FILE
/// names a file that holds it, or EGRET_TOKEN is it. The token is then part of what is printed, and
/// of what `git config --list` prints.
///
/// Variables tell programs where the proxy is; they force nobody to use it. No variable overrules a
/// proxy, or none, in ~/.curlrc, ~/.wgetrc or pip.conf, git's `http.URL.proxy` and
/// `remote.NAME.proxy`, or an option of the command itself.
#[derive(Debug, Args)]
pub(crate) struct Env {
    /// Who is to read the variables.
    #[arg(long, value_enum, default_value = "sh")]
    pub(crate) shell: Shell,
    /// Print what takes the variables back; for shells alone.
    #[arg(long)]
    pub(crate) unset: bool,
    #[command(flatten)]
    pub(crate) as_worker: AsWorker,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Print one JSON document: {set, unset}.
    #[arg(long, conflicts_with = "shell")]
    pub(crate) json: bool,
}

/// Who is to use the proxy.
#[derive(Debug, Args)]
pub(crate) struct AsWorker {
    /// The worker that is to use the proxy [default: the one whose token is set, or nobody]
    #[arg(long, value_name = "ID", value_parser = worker_id)]
    pub(crate) worker: Option<WorkerId>,
}
