//! The words of `audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigFile;

/// Work with the record as a whole.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(subcommand)]
    pub(crate) verb: AuditVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    Verify(AuditVerify),
}

/// Say whether a record was changed, cut or added to.
///
/// Judges the chain of hashes and the signed heads, in constant memory. Lines after the last head
/// are only as good as the file, and who has the key can write all of it anew: copy head.json to
/// where egret's user cannot write, and name the copy with --head. Several files are judged as one
/// chain, in the order given; of a directory the beginning is judged, too. The exit code is 3 if
/// anything is wrong.
#[derive(Debug, Args)]
pub(crate) struct AuditVerify {
    /// Segments, or one directory; without any, the directory of the configuration.
    #[arg(value_name = "FILE|DIRECTORY", conflicts_with = "config")]
    pub(crate) paths: Vec<PathBuf>,
    /// A head that was kept elsewhere; the chain must hold it.
    #[arg(long, value_name = "FILE")]
    pub(crate) head: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Print one JSON document: {ok, segments, lines, heads, first, last, key, since_head, held_against,
    /// findings, unlisted}.
    #[arg(long)]
    pub(crate) json: bool,
}
