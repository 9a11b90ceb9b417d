//! How many files the process may have open: each connection of a worker needs one, and so does
//! the origin's side of it.
//!
//! No more connections are taken than there are descriptors for. What egret itself has to open, the
//! policy that ends the rights of a worker first of all, is not for workers to use up.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// Takes as many descriptors as the system gives, and where they are too few for `connections`,
/// lowers that and says so.
pub(super) fn raise_limit(config: &mut Config) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Some systems refuse "unlimited"; then the limit stays what it was.
    let _ = setrlimit(Resource::Nofile, raised);
    let Some(files) = getrlimit(Resource::Nofile).current else { return };
    let wanted = &mut config.settings.limits.connections;
    let connections = usize::try_from(connections(files)).unwrap_or(usize::MAX);
    if connections < *wanted {
        let needed = (*wanted as u64).saturating_mul(OF_A_CONNECTION).saturating_add(RESERVE);
        *wanted = connections;
        tracing::warn!(
            files,
            needed,
            connections,
            "fewer open files are allowed than `limits.connections` needs, so fewer connections \
             are taken"
        );
    }
}

/// How many connections so many descriptors are enough for, and some left over.
fn connections(files: u64) -> u64 {
    let reserve = (files / 4).clamp(LEAST_RESERVE, RESERVE).min(files / 2);
    ((files - reserve) / OF_A_CONNECTION).max(1)
}

/// Descriptors of one connection: the worker's side and the origin's.
const OF_A_CONNECTION: u64 = 2;
/// Descriptors that are no connection's: the record, the sockets, the watches, name servers, files
/// that are read, and connections that are told why they are refused.
const RESERVE: u64 = 512;
/// What of them egret can hardly do without.
const LEAST_RESERVE: u64 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_some_descriptors() {
        let of = [(2, 1), (128, 32), (256, 80), (1024, 384), (4096, 1792), (40_512, 20_000)];
        for (files, expected) in of {
            assert_eq!(connections(files), expected, "{files}");
        }
        assert_eq!(connections(u64::MAX), (u64::MAX - RESERVE) / 2);
    }
}
