//! The words of `exec`.

use std::ffi::OsString;

use clap::Args;

use super::{AsWorker, ConfigFile};

/// Run a command with the proxy in its environment.
///
/// The proxy is the one that runs on the state directory of the configuration. Where none runs,
/// one is started, and ended with the last command that uses it. The variables are those of `env`,
/// and a token comes from EGRET_TOKEN_FILE or EGRET_TOKEN, which the command itself does not get.
/// What was denied meanwhile is told on stderr afterwards.
///
/// The exit code is that of the command, 128 and the number of the signal that ended it, 127 when
/// there is no such command, and 126 when it cannot be run.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    #[command(flatten)]
    pub(crate) as_worker: AsWorker,
    /// Refuse to run a command that could read the state directory, instead of warning; and one
    /// where it cannot be told whether a proxy runs.
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// The command and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub(crate) command: Vec<OsString>,
}
