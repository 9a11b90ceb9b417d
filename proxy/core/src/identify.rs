//! Tells which worker is asking (stage 3).
//!
//! A listener says which kinds of proof it takes, and whatever is of another kind is not read.
//! The proofs of the kinds that it takes are judged together, so their order plays no part:
//!
//! 1. A *token* is shown or it is not. One that is shown and wrong refuses, whatever else is
//!    there. A right one names the one worker that has it.
//! 2. The *source* address of a TCP peer and the *uid* of a Unix *peer* are always there. They
//!    name every worker that lists them; when that is none, they are no proof.
//! 3. A worker is identified when all proofs that it lists hold, and no proof that is there names
//!    others without it. Proofs that name two workers refuse.
//! 4. Whoever's address or uid names a worker, but who does not show the token that goes with it,
//!    is asked for the token. It is never `anonymous` and never another worker.
//! 5. `anonymous` is who gives no proof at all, on a listener that takes that.
//!
//! A token that is right but comes from the wrong place is refused in the same words as a wrong
//! one: whoever has stolen it does not learn that it was worth stealing.

use std::{net::IpAddr, sync::Arc};

use egret_policy::{Worker, WorkerId};
use http::HeaderMap;

pub use self::workers::{KnownWorker, Named, Proofs, StaticWorkers, Workers};
use crate::{listen::Peer, refusal::Challenge, settings::IdentityKind};

mod sources;
mod token;
mod workers;

/// The id of whoever a listener admits without a proof.
const ANONYMOUS: &str = "anonymous";

/// Why nobody was identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("this listener needs a proof of identity")]
    Required,
    #[error("the proof of identity is not valid")]
    Invalid,
}

/// Which kinds of proof a listener takes.
pub(crate) struct Identification {
    kinds: Vec<IdentityKind>,
    anonymous: Arc<Worker>,
}

impl Identification {
    pub(crate) fn new(kinds: Vec<IdentityKind>) -> Self {
        let id = WorkerId::parse(ANONYMOUS).expect("a plain word is an id");
        Self { kinds, anonymous: Arc::new(Worker { id, labels: Default::default() }) }
    }

    /// Returns what a worker that was not identified should be asked for.
    pub(crate) fn challenge(&self) -> Challenge {
        if self.takes(IdentityKind::Token) { Challenge::Token } else { Challenge::None }
    }

    fn takes(&self, kind: IdentityKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Identifies by all proofs that are there and that the listener takes.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
        workers: &dyn Workers,
    ) -> Result<Arc<Worker>, IdentityError> {
        let place = self.place(peer, workers);
        let shown = match self.takes(IdentityKind::Token) {
            true => token::shown(headers, workers)?,
            false => None,
        };
        match (shown, place) {
            (Some(known), place) => {
                // Whoever lists no place of its own must not stand in somebody else's.
                let elsewhere = !known.proofs.lists_a_place() && place != Named::Nobody;
                if elsewhere || !self.stands_in_place(&known.proofs, peer) {
                    return Err(IdentityError::Invalid);
                }
                Ok(known.worker.clone())
            }
            (None, Named::One(known)) => {
                if known.proofs.token_sha256.is_some() || !self.stands_in_place(&known.proofs, peer)
                {
                    return Err(IdentityError::Required);
                }
                Ok(known.worker.clone())
            }
            (None, Named::Several) => Err(IdentityError::Required),
            (None, Named::Nobody) if self.takes(IdentityKind::Anonymous) => {
                Ok(self.anonymous.clone())
            }
            (None, Named::Nobody) => Err(IdentityError::Required),
        }
    }

    /// Whether `worker` may still act; the anonymous one may as long as its listener is there.
    pub(crate) fn is_admitted(&self, worker: &Arc<Worker>, workers: &dyn Workers) -> bool {
        worker.id == self.anonymous.id || workers.is_admitted(worker)
    }

    /// Returns whom the other end of the connection names by where or who it is.
    fn place(&self, peer: &Peer, workers: &dyn Workers) -> Named {
        match peer {
            Peer::Tcp(client) if self.takes(IdentityKind::Source) => workers.at_source(client.ip()),
            Peer::Unix { uid } if self.takes(IdentityKind::Peer) => workers.of_uid(*uid),
            Peer::Tcp(_) | Peer::Unix { .. } => Named::Nobody,
        }
    }

    /// Whether the source and the uid that are listed hold; a proof that this listener does not
    /// take cannot.
    fn stands_in_place(&self, proofs: &Proofs, peer: &Peer) -> bool {
        let Proofs { token_sha256: _, source, uid } = proofs;
        let at_source = |client: IpAddr| source.iter().any(|network| network.contains(&client));
        let source_holds = source.is_empty()
            || self.takes(IdentityKind::Source)
                && matches!(peer, Peer::Tcp(client) if at_source(client.ip()));
        let uid_holds = uid.is_none_or(|listed| {
            self.takes(IdentityKind::Peer) && matches!(peer, Peer::Unix { uid } if *uid == listed)
        });
        source_holds && uid_holds
    }
}

impl Proofs {
    /// Whether it matters where the worker comes from, or as whom.
    fn lists_a_place(&self) -> bool {
        !self.source.is_empty() || self.uid.is_some()
    }
}

#[cfg(test)]
mod tests;
