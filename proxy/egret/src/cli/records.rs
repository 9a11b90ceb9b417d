//! The words of the verbs that read records.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use egret_policy::WorkerId;

use super::{ConfigFile, worker_id};
use crate::records::{Judged, Since};

/// Say why something was denied, and what would allow it.
///
/// The recorded decision is told first, then what the policy now in force makes of it: the rules
/// that came closest, what in each of them does not match, and the lines that would allow it, each
/// tried out before it is shown. Where no rule can help, that is said, with what can.
#[derive(Debug, Args)]
pub(crate) struct Why {
    /// The id that a refused client was told, also with the words around it
    /// (`egress.host_not_allowed 01J…`); without it, the last denial.
    #[arg(value_name = "ID")]
    pub(crate) words: Vec<String>,
    /// The last N denials, the newest first.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1", conflicts_with = "words")]
    pub(crate) last: Option<usize>,
    /// Only denials of this worker.
    #[arg(long, value_name = "ID", value_parser = worker_id)]
    pub(crate) worker: Option<WorkerId>,
    #[command(flatten)]
    pub(crate) source: RecordSource,
    /// Print one JSON document: {policy, denials}.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RecordSource {
    /// Read this record file, or directory of them, instead of the one that the configuration names.
    #[arg(long, value_name = "PATH")]
    pub(crate) audit: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

/// Show records as they come, a line each.
///
/// Decisions alone, unless `--all` or `--event` asks for more: they say when, what became of it,
/// who, what, and why. With `--follow` it goes on, across new files, until it is interrupted.
#[derive(Debug, Clone, Args)]
pub(crate) struct Tail {
    /// Go on with what is recorded from now on.
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// Begin with the last N lines.
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 10)]
    pub(crate) lines: usize,
    /// Only what was denied, or would be if the policy were enforced.
    #[arg(long)]
    pub(crate) denied: bool,
    /// Only decisions with this verdict; may be repeated.
    #[arg(long, value_name = "VERDICT", value_enum)]
    pub(crate) verdict: Vec<Judged>,
    /// Only what this worker did.
    #[arg(long, value_name = "ID", value_parser = worker_id)]
    pub(crate) worker: Option<WorkerId>,
    /// Only this host and what is below it.
    #[arg(long, value_name = "SUFFIX")]
    pub(crate) host: Option<String>,
    /// Only records of this event, such as `completion` or `audit.denials`; may be repeated.
    #[arg(long, value_name = "EVENT")]
    pub(crate) event: Vec<String>,
    /// Completions and all other records, too.
    #[arg(long, conflicts_with = "event")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) source: RecordSource,
    /// Print the lines as they are recorded.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Compare two policies: what they mean, and what recorded requests would come to.
///
/// Texts that mean the same do not differ. With `--audit` or `-c`, each distinct recorded request is judged
/// by both, and those with another verdict are listed, the most frequent first; a tunnel is judged
/// as `explain` judges it. The exit code is 3 if there is one.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("records").args(["audit", "config"]).multiple(true)))]
pub(crate) struct Diff {
    /// The policy to begin with.
    pub(crate) old: PathBuf,
    /// The policy to come to.
    pub(crate) new: PathBuf,
    /// Judge the requests of this record file, or directory of them, by both.
    #[arg(long, value_name = "PATH")]
    pub(crate) audit: Option<PathBuf>,
    /// Only requests since then: `24h` or `7d` ago, a day, or a time in RFC 3339.
    #[arg(long, value_name = "TIME", requires = "records", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,
    /// Judge the requests that are recorded by this configuration, unless `--audit` names others.
    #[arg(short = 'c', long = "config", value_name = "FILE", id = "config")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document: {old, new, changes, flips, judged, unjudged, left_out}.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Write a policy that allows what was seen, and no more.
///
/// What was allowed, what was denied for want of a rule, and what report mode let through become
/// rules with exact hosts, each with a test; comments say how often, when and for whom. What a
/// policy must not open is left out and counted. It is printed, and nothing is changed.
#[derive(Debug, Args)]
pub(crate) struct Suggest {
    /// Only what this worker did.
    #[arg(long, value_name = "ID", value_parser = worker_id)]
    pub(crate) worker: Option<WorkerId>,
    /// Only requests since then: `24h` or `7d` ago, a day, or a time in RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,
    /// Print this policy, and after it rules for what it does not allow.
    #[arg(long, value_name = "FILE")]
    pub(crate) base: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) source: RecordSource,
}
