//! How many look-ups may be under way.
//!
//! A worker can make up names faster than any server answers them. Above the bounds a look-up is
//! refused at once instead of queueing: a queue would be one that the flood owns. Names below one
//! domain have a share of the whole, so that a flood below a suffix that a rule allows leaves room
//! for all other names. A worker has at most half of what the others leave, so that the next one
//! always finds room. Answers that are kept take no room here.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard},
};

use egret_policy::{HostName, WorkerId};

use crate::sharded::lock;

/// Look-ups at once; each is two questions.
pub(super) const MOST: usize = 256;
/// Look-ups at once below one domain.
pub(super) const MOST_OF_A_DOMAIN: usize = 64;

/// Counts what is under way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    domains: HashMap<Box<str>, usize>,
    workers: HashMap<WorkerId, usize>,
}

/// The right to look one name up, while it is held.
#[derive(Debug)]
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    domain: Box<str>,
    worker: WorkerId,
}

/// Why a name is not looked up now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// There is no room for the name, whoever asks.
    ForAll,
    /// There is none for this worker; another one may ask.
    ForWorker,
}

impl Flights {
    /// Takes the room for a look-up of `name` on behalf of `worker`.
    pub(super) fn enter(&self, name: &HostName, worker: &WorkerId) -> Result<Flight<'_>, Full> {
        let domain = domain(name);
        let mut counts = self.counts();
        let of_domain = counts.domains.get(domain).copied().unwrap_or_default();
        if counts.all == MOST || of_domain == MOST_OF_A_DOMAIN {
            return Err(Full::ForAll);
        }
        let of_worker = counts.workers.get(worker).copied().unwrap_or_default();
        let of_others = counts.all - of_worker;
        if of_worker >= (MOST - of_others) / 2 {
            return Err(Full::ForWorker);
        }
        counts.all += 1;
        *counts.domains.entry(domain.into()).or_default() += 1;
        *counts.workers.entry(worker.clone()).or_default() += 1;
        Ok(Flight { flights: self, domain: domain.into(), worker: worker.clone() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.0)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut counts = self.flights.counts();
        counts.all -= 1;
        give_back(&mut counts.domains, &self.domain);
        give_back(&mut counts.workers, &self.worker);
    }
}

fn give_back<K, Q>(shares: &mut HashMap<K, usize>, of: &Q)
where
    K: Borrow<Q> + Hash + Eq,
    Q: Hash + Eq + ?Sized,
{
    if let Some(share) = shares.get_mut(of) {
        *share -= 1;
        if *share == 0 {
            shares.remove(of);
        }
    }
}

/// The last two labels. A list of public suffixes would be finer; `co.uk` as one domain only means
/// that its names share their share.
fn domain(name: &HostName) -> &str {
    let text = name.as_str();
    text.rmatch_indices('.').nth(1).map_or(text, |(dot, _)| &text[dot + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::from_wire(text).unwrap()
    }

    fn worker(n: usize) -> WorkerId {
        WorkerId::parse(&format!("w{n}")).unwrap()
    }

    #[test]
    fn a_domain_has_a_share_and_gives_it_back() {
        let flights = Flights::default();
        let flood = |n: usize| flights.enter(&name(&format!("x{n}.y.example.org")), &worker(1));
        let mut held: Vec<_> = (0..MOST_OF_A_DOMAIN).map(|n| flood(n).unwrap()).collect();
        assert_eq!(flood(MOST_OF_A_DOMAIN).unwrap_err(), Full::ForAll);
        assert_eq!(flights.enter(&name("example.org"), &worker(2)).unwrap_err(), Full::ForAll);
        assert!(flights.enter(&name("example.com"), &worker(1)).is_ok());
        held.pop();
        assert!(flood(0).is_ok());
        drop(held);
        let counts = flights.counts();
        assert!(counts.domains.is_empty() && counts.workers.is_empty(), "nothing is left");
    }

    #[test]
    fn a_worker_leaves_room_for_the_next() {
        let flights = Flights::default();
        let mut held = Vec::new();
        // Each takes all that it gets; the last of eight still gets something.
        for worker in (0..8).map(worker) {
            let before = held.len();
            let full = loop {
                let name = name(&format!("a.d{}.test", held.len()));
                match flights.enter(&name, &worker) {
                    Ok(flight) => held.push(flight),
                    Err(full) => break full,
                }
            };
            assert_eq!(full, Full::ForWorker);
            assert!(held.len() > before, "{worker}");
        }
        assert!(held.len() < MOST);
    }
}
