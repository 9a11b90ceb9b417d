//! How many files the process may have open: each connection of a worker needs one, and so does
//! the origin's side of it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Origin};

/// Takes as many descriptors as the system gives, and says when they are too few for what the
/// operator has written.
pub(super) fn raise_limit(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Some systems refuse "unlimited"; then the limit stays what it was.
    let _ = setrlimit(Resource::Nofile, raised);
    let needed = (config.settings.limits.connections as u64).saturating_mul(OF_A_CONNECTION);
    let files = getrlimit(Resource::Nofile).current.filter(|files| *files < needed);
    if let (Some(files), Origin::File(_)) = (files, &config.origin) {
        tracing::warn!(
            files,
            needed,
            "fewer open files are allowed than `limits.connections` needs"
        );
    }
}

/// Descriptors of one connection: the worker's side and the origin's.
const OF_A_CONNECTION: u64 = 2;
