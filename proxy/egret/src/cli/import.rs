//! The words of `import`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Turn the rules of another proxy into a policy.
///
/// Smokescreen's ACL (YAML, version v1), or the `acl` and `http_access` lines of a squid.conf. The
/// policy allows nothing that the other proxy did not: what has no equivalent stands in a comment
/// with its line, and is counted on stderr. Read it, give workers the labels that it names, and
/// try it with `egret check` and `egret explain`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Whose rules they are.
    #[arg(value_enum)]
    pub(crate) from: ImportFrom,
    /// The file with the rules.
    pub(crate) file: PathBuf,
    /// Write the policy into a new file instead of printing it; never overwrites.
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ImportFrom {
    /// The file of --egress-acl-file
    Smokescreen,
    /// squid.conf; what it includes is not followed
    Squid,
}
