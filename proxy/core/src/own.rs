//! Which addresses are egret's own: never a target, whatever a policy says.
//!
//! Listeners are known when the proxy starts; a wildcard listener is one on every address of the
//! machine. Name servers may be exchanged for others. The addresses of the machine's interfaces
//! change while it runs, so they are read again at an interval. A stale list errs on the side of an address that came up within
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

use crate::caused::caused;

const REFRESH: Duration = Duration::from_secs(10);

/// The current list, shared by every exchange.
pub(crate) struct Own {
    listeners: Vec<SocketAddr>,
    servers: ArcSwap<Vec<SocketAddr>>,
    current: ArcSwap<OwnAddresses>,
}

impl Own {
    /// Reads the interfaces for the first time; egret listens and asks at these addresses.
    pub(crate) fn new(
        listeners: Vec<SocketAddr>,
        servers: Vec<SocketAddr>,
    ) -> io::Result<Arc<Self>> {
        let servers = ArcSwap::from_pointee(servers);
        let own = Self { listeners, servers, current: ArcSwap::default() };
        own.refresh()?;
        Ok(Arc::new(own))
    }

    /// Takes other name servers from now on.
    pub(crate) fn asked_at(&self, servers: Vec<SocketAddr>) -> io::Result<()> {
        self.servers.store(Arc::new(servers));
        self.refresh()
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
                tracing::warn!(error = %caused(&error), "read the addresses of the interfaces");
            }
        }
    }

    fn refresh(&self) -> io::Result<()> {
        let interfaces = interfaces()?;
        let mut endpoints = expand(&self.listeners, &interfaces);
        endpoints.extend(self.servers.load().iter());
        self.current.store(Arc::new(OwnAddresses {
            endpoints: endpoints.into_iter().collect(),
            interfaces: interfaces.into_iter().collect(),
        }));
        Ok(())
    }
}

/// Whether an address is one of this machine, by which nobody else is reached.
pub fn is_of_this_machine(ip: IpAddr) -> io::Result<bool> {
    let ip = ip.to_canonical();
    Ok(ip.is_loopback() || interfaces()?.contains(&ip))
}

fn interfaces() -> io::Result<BTreeSet<IpAddr>> {
    Ok(if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect())
}

/// A wildcard stands for every address of the machine, and an IPv6 one takes IPv4 as well.
fn expand(listeners: &[SocketAddr], interfaces: &BTreeSet<IpAddr>) -> BTreeSet<SocketAddr> {
    let mut expanded = BTreeSet::new();
    for listener in listeners {
        expanded.insert(*listener);
        if listener.ip().is_unspecified() {
            expanded.extend(interfaces.iter().map(|ip| SocketAddr::new(*ip, listener.port())));
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
        let own = Own::new(vec!["127.0.0.1:3128".parse().unwrap()], vec![]).unwrap();
        assert!(own.current().interfaces.contains(&"127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_address_of_another_machine_is_none_of_this_one() {
        let is_ours = |ip: &str| is_of_this_machine(ip.parse().unwrap()).unwrap();
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(is_ours(ip), "{ip}");
        }
        for ip in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"] {
            assert!(!is_ours(ip), "{ip}");
        }
    }

    #[test]
    fn other_name_servers_take_the_place_of_those_before() {
        let servers = |text: &str| vec![text.parse::<SocketAddr>().unwrap()];
        let own = Own::new(vec![], servers("192.0.2.1:53")).unwrap();
        own.asked_at(servers("192.0.2.2:53")).unwrap();
        assert_eq!(own.current().endpoints, servers("192.0.2.2:53"));
    }
}
