//! Who the workers are, and which proofs each of them must give.
//!
//! [`Workers`] is the port; [`StaticWorkers`] keeps those of the configuration file. Every proof
//! has an index of its own, so naming a worker costs the same whether there are ten or ten
//! thousand. Nothing here judges: what a set of proofs amounts to is said in `identify`.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use egret_policy::{Worker, WorkerId};
use ipnet::IpNet;

use super::sources::Sources;

/// Knows the workers and the proofs they are to give.
///
/// A worker that is missing here is refused until it appears, which is safe; one that is still
/// here after its rights ended is a hole, so an implementation answers from what is true now. The
/// four look-ups only find: a worker that is found has proved nothing yet.
pub trait Workers: Send + Sync {
    /// Returns the worker of that id.
    fn with_id(&self, id: &str) -> Option<Arc<KnownWorker>>;

    /// Returns the worker whose token has that SHA-256.
    fn with_token(&self, token_sha256: &[u8; 32]) -> Option<Arc<KnownWorker>>;

    /// Returns whom a client address names.
    fn at_source(&self, address: IpAddr) -> Named;

    /// Returns whom the user at the other end of a Unix socket names.
    fn of_uid(&self, uid: u32) -> Named;

    /// Whether `worker`, which was found here, still has its rights; asked again before the first
    /// byte upstream. One of the same id with other labels or proofs is not the one that was found.
    fn is_admitted(&self, worker: &Arc<Worker>) -> bool;
}

/// Whom an address or a user names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// No worker: it is no proof.
    Nobody,
    /// One worker.
    One(Arc<KnownWorker>),
    /// Several, who can be told apart only by another proof.
    Several,
}

impl Named {
    /// Names `worker` as well.
    pub(super) fn and(&self, worker: &Arc<KnownWorker>) -> Self {
        match self {
            Self::Nobody => Self::One(worker.clone()),
            Self::One(named) if named.worker.id == worker.worker.id => self.clone(),
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

/// A worker and what it must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownWorker {
    /// Its id and labels.
    pub worker: Arc<Worker>,
    /// The proofs that it must give, all of them.
    pub proofs: Proofs,
}

/// What a worker must prove; what is not listed need not be proved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proofs {
    /// SHA-256 of the bytes of its token.
    pub token_sha256: Option<[u8; 32]>,
    /// The networks that it connects from; empty when it may come from anywhere.
    pub source: Vec<IpNet>,
    /// The user that it runs as, where it connects by a Unix socket.
    pub uid: Option<u32>,
}

/// The workers of one configuration file; [`StaticWorkers::succeeded_by`] takes those of the next.
#[derive(Debug, Default)]
pub struct StaticWorkers {
    by_id: HashMap<Box<str>, Arc<KnownWorker>>,
    by_token: HashMap<[u8; 32], Arc<KnownWorker>>,
    by_source: Sources,
    by_uid: HashMap<u32, Named>,
}

impl StaticWorkers {
    /// Takes the workers; that ids and tokens are unique, and that whoever shares an address or a
    /// user with another has a token, is the configuration reader's to check. Where it has not,
    /// those who cannot be told apart are refused.
    pub fn new(workers: Vec<KnownWorker>) -> Self {
        Self::indexed(workers.into_iter().map(Arc::new).collect())
    }

    /// Returns the workers that come after these, and which of these lose their rights by it: those
    /// that are missing, and those whose labels or proofs are others, so that what began under the
    /// old ones has to begin again. One that is the same in both keeps what it has.
    pub fn succeeded_by(&self, workers: Vec<KnownWorker>) -> (Self, HashSet<WorkerId>) {
        let mut gone: HashSet<_> =
            self.by_id.values().map(|known| known.worker.id.clone()).collect();
        let workers = workers.into_iter().map(|known| {
            match self.by_id.get(known.worker.id.as_str()).filter(|before| ***before == known) {
                Some(same) => {
                    gone.remove(&known.worker.id);
                    same.clone()
                }
                None => Arc::new(known),
            }
        });
        let successor = Self::indexed(workers.collect());
        (successor, gone)
    }

    fn indexed(workers: Vec<Arc<KnownWorker>>) -> Self {
        let mut indexed = Self { by_source: Sources::new(&workers), ..Self::default() };
        for known in workers {
            let Proofs { token_sha256, source: _, uid } = &known.proofs;
            if let Some(token) = token_sha256 {
                indexed.by_token.insert(*token, known.clone());
            }
            if let Some(uid) = uid {
                let named = indexed.by_uid.entry(*uid).or_insert(Named::Nobody);
                *named = named.and(&known);
            }
            indexed.by_id.insert(known.worker.id.as_str().into(), known);
        }
        indexed
    }
}

impl Workers for StaticWorkers {
    fn with_id(&self, id: &str) -> Option<Arc<KnownWorker>> {
        self.by_id.get(id).cloned()
    }

    fn with_token(&self, token_sha256: &[u8; 32]) -> Option<Arc<KnownWorker>> {
        self.by_token.get(token_sha256).cloned()
    }

    fn at_source(&self, address: IpAddr) -> Named {
        self.by_source.at(address)
    }

    fn of_uid(&self, uid: u32) -> Named {
        self.by_uid.get(&uid).cloned().unwrap_or(Named::Nobody)
    }

    fn is_admitted(&self, worker: &Arc<Worker>) -> bool {
        // The very one, not one that looks like it: its proofs may be others now.
        let known = self.by_id.get(worker.id.as_str());
        known.is_some_and(|known| Arc::ptr_eq(&known.worker, worker))
    }
}
