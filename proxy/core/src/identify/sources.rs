//! Finds whom a client address names, by one binary search.
//!
//! Networks either lie within each other or apart, so they cut the address space into stretches
//! on which the same workers are named. A stretch within a network of another worker names both:
//! the longest prefix does not win, because a worker must not be able to become another one by
//! moving to another address.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;

use super::workers::{KnownWorker, Named};

/// The sources of all workers.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Where each stretch begins and whom it names, in order; it ends where the next one begins.
    stretches: Vec<(IpAddr, Named)>,
}

impl Sources {
    pub(super) fn new(workers: &[Arc<KnownWorker>]) -> Self {
        let mut listed: Vec<(IpNet, &Arc<KnownWorker>)> = workers
            .iter()
            .flat_map(|known| known.proofs.source.iter().map(move |network| (*network, known)))
            .collect();
        // Outer networks come before what is within them.
        listed.sort_by_key(|(network, _)| (network.network(), network.prefix_len()));

        let mut stretches = Vec::new();
        // The networks that are still open, each with all whom its addresses name.
        let mut open: Vec<(IpNet, Named)> = Vec::new();
        for (network, known) in listed {
            while let Some((ended, _)) = open.pop_if(|(outer, _)| !outer.contains(&network)) {
                end(&mut stretches, &ended, &open);
            }
            let named = open.last().map_or(Named::Nobody, |(_, named)| named.clone()).and(known);
            stretches.push((network.network(), named.clone()));
            open.push((network, named));
        }
        while let Some((ended, _)) = open.pop() {
            end(&mut stretches, &ended, &open);
        }
        Self { stretches }
    }

    pub(super) fn at(&self, address: IpAddr) -> Named {
        let after = self.stretches.partition_point(|(begins, _)| *begins <= address);
        // Of stretches that begin at the same address the last one counts: it is the innermost.
        after.checked_sub(1).map_or(Named::Nobody, |at| self.stretches[at].1.clone())
    }
}

/// Begins the stretch behind a network: what is left open goes on. Behind the last address of a
/// family nothing goes on.
fn end(stretches: &mut Vec<(IpAddr, Named)>, ended: &IpNet, open: &[(IpNet, Named)]) {
    let next = match ended.broadcast() {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        IpAddr::V4(last) => Some(Ipv4Addr::from_bits(last.to_bits() + 1).into()),
        IpAddr::V6(last) => {
            last.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into())
        }
    };
    if let Some(next) = next {
        let named = open.last().map_or(Named::Nobody, |(_, named)| named.clone());
        stretches.push((next, named));
    }
}

#[cfg(test)]
mod tests {
    use egret_policy::{Worker, WorkerId};
    use proptest::prelude::*;

    use super::*;
    use crate::identify::Proofs;

    fn worker(id: usize, source: Vec<IpNet>) -> Arc<KnownWorker> {
        let id = WorkerId::parse(&format!("w{id}")).unwrap();
        let worker = Arc::new(Worker { id, labels: Default::default() });
        Arc::new(KnownWorker { worker, proofs: Proofs { source, ..Proofs::default() } })
    }

    /// What the index must say, by asking every worker.
    fn scanned(workers: &[Arc<KnownWorker>], address: IpAddr) -> Named {
        workers
            .iter()
            .filter(|known| known.proofs.source.iter().any(|network| network.contains(&address)))
            .fold(Named::Nobody, |named, known| named.and(known))
    }

    /// Addresses crowd around a few places, at both ends of both families among them.
    fn address() -> impl Strategy<Value = IpAddr> {
        let near = |bits: u32| prop_oneof![Just(0), Just(u32::MAX), Just(bits), any::<u32>()];
        let v4 = near(0x0a01_0000).prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
        let wide = prop_oneof![Just(0), Just(u128::MAX), Just(0xfd00 << 112), any::<u128>()];
        let v6 = wide.prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)));
        prop_oneof![v4, v6]
    }

    fn network() -> impl Strategy<Value = IpNet> {
        (address(), 0_u8..=128).prop_map(|(address, length)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new_assert(address, length % (most + 1)).trunc()
        })
    }

    proptest! {
        #[test]
        fn the_index_says_what_a_scan_says(
            sources in prop::collection::vec(prop::collection::vec(network(), 0..4), 0..5),
            asked in prop::collection::vec(address(), 1..8),
        ) {
            let workers: Vec<_> =
                sources.into_iter().enumerate().map(|(id, source)| worker(id, source)).collect();
            let index = Sources::new(&workers);
            let edges = workers.iter().flat_map(|known| &known.proofs.source);
            let edges = edges.flat_map(|network| [network.network(), network.broadcast()]);
            for address in asked.into_iter().chain(edges) {
                prop_assert_eq!(index.at(address), scanned(&workers, address), "{}", address);
            }
        }
    }
}
