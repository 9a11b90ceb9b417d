//! Which addresses are egret's own: never a target, whatever a policy says.
//!
//! Listeners and name servers are known when the proxy starts; a wildcard listener is one on every
//! address of the machine. The addresses of the machine's interfaces change while it runs, so they
//! are read again at an interval. A stale list errs on the side of an address that came up within
//! that interval; loopback and private ranges are forbidden by class in any case.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use egret_policy::OwnAddresses;

const REFRESH: Duration = Duration::from_secs(10);

/// The current list, shared by every exchange.
pub(crate) struct Own {
    endpoints: Vec<SocketAddr>,
    current: ArcSwap<OwnAddresses>,
}

impl Own {
    /// Reads the interfaces for the first time; `endpoints` are where egret listens or asks.
    pub(crate) fn new(endpoints: Vec<SocketAddr>) -> io::Result<Arc<Self>> {
        let own = Self { endpoints, current: ArcSwap::default() };
        own.refresh()?;
        Ok(Arc::new(own))
    }

    pub(crate) fn current(&self) -> Arc<OwnAddresses> {
        self.current.load_full()
    }

    /// Reads the interfaces again and again; keeps the last list when that fails.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        let mut interval = tokio::time::interval(REFRESH);
        loop {
            interval.tick().await;
            if let Err(error) = self.refresh() {
                tracing::warn!(%error, "read the addresses of the interfaces");
            }
        }
    }

    fn refresh(&self) -> io::Result<()> {
        let interfaces: BTreeSet<IpAddr> =
            if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect();
        let endpoints = expand(&self.endpoints, &interfaces);
        self.current.store(Arc::new(OwnAddresses {
            endpoints: endpoints.into_iter().collect(),
            interfaces: interfaces.into_iter().collect(),
        }));
        Ok(())
    }
}

/// A wildcard stands for every address of the machine, and an IPv6 one takes IPv4 as well.
fn expand(endpoints: &[SocketAddr], interfaces: &BTreeSet<IpAddr>) -> BTreeSet<SocketAddr> {
    let mut expanded = BTreeSet::new();
    for endpoint in endpoints {
        expanded.insert(*endpoint);
        if endpoint.ip().is_unspecified() {
            expanded.extend(interfaces.iter().map(|ip| SocketAddr::new(*ip, endpoint.port())));
        }
    }
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_listener_is_one_on_every_interface() {
        let interfaces = BTreeSet::from(["192.0.2.7".parse().unwrap(), "::1".parse().unwrap()]);
        let expanded = expand(&["0.0.0.0:3128".parse().unwrap()], &interfaces);
        let expected = ["0.0.0.0:3128", "192.0.2.7:3128", "[::1]:3128"];
        assert_eq!(expanded, expected.map(|text| text.parse().unwrap()).into());
    }

    #[test]
    fn the_interfaces_of_this_machine_are_read() {
        let own = Own::new(vec!["127.0.0.1:3128".parse().unwrap()]).unwrap();
        assert!(own.current().interfaces.contains(&"127.0.0.1".parse().unwrap()));
    }
}
