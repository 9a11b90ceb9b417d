//! How many look-ups may be under way.
//!
//! A worker can make up names faster than any server answers them. Above the bounds a look-up is
//! refused at once instead of queueing: a queue would be one that the flood owns. Names below one
//! domain have a share of the whole, so that a flood below a suffix that a rule allows leaves room
//! for all other names. Answers that are kept take no room here.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use egret_policy::HostName;

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
}

/// The right to look one name up, while it is held.
#[derive(Debug)]
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    domain: Box<str>,
}

impl Flights {
    /// Returns `None` when there is no room for another look-up of this name.
    pub(super) fn enter(&self, name: &HostName) -> Option<Flight<'_>> {
        let domain = domain(name);
        let mut counts = self.counts();
        if counts.all == MOST {
            return None;
        }
        let of_domain = counts.domains.entry(domain.into()).or_default();
        if *of_domain == MOST_OF_A_DOMAIN {
            return None;
        }
        *of_domain += 1;
        counts.all += 1;
        Some(Flight { flights: self, domain: domain.into() })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.0)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut counts = self.flights.counts();
        counts.all -= 1;
        if let Some(of_domain) = counts.domains.get_mut(&self.domain) {
            *of_domain -= 1;
            if *of_domain == 0 {
                counts.domains.remove(&self.domain);
            }
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

    #[test]
    fn a_domain_has_a_share_and_gives_it_back() {
        let flights = Flights::default();
        let flood = |n: usize| flights.enter(&name(&format!("x{n}.y.example.org")));
        let mut held: Vec<_> = (0..MOST_OF_A_DOMAIN).map(|n| flood(n).unwrap()).collect();
        assert!(flood(MOST_OF_A_DOMAIN).is_none());
        assert!(flights.enter(&name("example.org")).is_none());
        assert!(flights.enter(&name("example.com")).is_some());
        held.pop();
        assert!(flood(0).is_some());
        drop(held);
        assert!(flights.counts().domains.is_empty(), "nothing is left of a domain");
    }

    #[test]
    fn all_together_are_bounded() {
        let flights = Flights::default();
        let held: Vec<_> =
            (0..MOST).map(|n| flights.enter(&name(&format!("a.d{n}.test"))).unwrap()).collect();
        assert!(flights.enter(&name("other.test")).is_none());
        assert_eq!(flights.counts().domains.len(), MOST);
        drop(held);
        assert!(flights.enter(&name("other.test")).is_some());
    }
}
