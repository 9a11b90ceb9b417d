//! The `[network]` section: which forbidden addresses a rule may reach after all.
//!
//! An address stands for everything that it may turn out to be: itself, and each IPv4 address it
//! may embed. egret's own endpoints and metadata are never unlocked, by nothing, and an ISATAP
//! identifier is not either. Any meaning that is forbidden forbids the address; nothing here makes
//! an address allowed that no rule has permitted by its host.

use std::fmt;
use std::iter::once;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};

use super::{AddressClass, classify, embedded_addresses, embedded_in, is_metadata};

/// What the policy says about networks.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Refused for every rule.
    pub deny: Vec<IpNet>,
    /// NAT64 prefixes of this network; an address below one is judged by what it embeds. Only
    /// those with a length of `NAT64_LENGTHS` count.
    pub nat64: Vec<Ipv6Net>,
    /// What is opened for single rules.
    pub allow: Vec<Unlock>,
}

/// One `[[network.allow]]`: a range that is opened for some rules.
#[derive(Clone, Debug)]
pub struct Unlock {
    /// The range.
    pub network: IpNet,
    /// The ids of the rules.
    pub rules: Vec<Arc<str>>,
}

/// The addresses of the proxy itself, handed in by it; wildcard binds stay in the list beside the
/// addresses that they expand to.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses {
    /// Where egret listens, and the servers that it alone may talk to. Never unlocked.
    pub endpoints: Vec<SocketAddr>,
    /// The addresses of this machine's interfaces, forbidden on every port unless unlocked.
    pub interfaces: Vec<IpAddr>,
}

/// Why an address may not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// An endpoint of egret.
    OwnEndpoint,
    /// In `[network] deny`.
    Denied,
    /// An address of this machine.
    Interface,
    /// Forbidden by what it is.
    Class(AddressClass),
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnEndpoint => f.write_str("an endpoint of this proxy"),
            Self::Denied => f.write_str("denied by [network]"),
            Self::Interface => f.write_str("an address of this machine"),
            Self::Class(class) => class.fmt(f),
        }
    }
}

impl Network {
    /// Judges whether `rule` (none where no rule matched) may reach `to`.
    pub fn judge(
        &self,
        to: SocketAddr,
        rule: Option<&str>,
        own: &OwnAddresses,
    ) -> Result<(), Forbidden> {
        let address = to.ip();
        if self.meanings(address).any(|meaning| own.is_endpoint(meaning, to.port())) {
            return Err(Forbidden::OwnEndpoint);
        }
        if self.meanings(address).any(is_metadata) {
            return Err(Forbidden::Class(AddressClass::Metadata));
        }
        if self.meanings(address).any(|meaning| any_contains(&self.deny, meaning)) {
            return Err(Forbidden::Denied);
        }
        let foreign_or_open = |meaning| !own.is_interface(meaning) || self.unlocks(meaning, rule);
        if !self.meanings(address).all(foreign_or_open) {
            return Err(Forbidden::Interface);
        }
        // Whatever its prefix, the operator's own included: a tunnel reads it before a translator.
        if let class @ AddressClass::Isatap { .. } = classify(address) {
            return Err(Forbidden::Class(class));
        }
        if self.translated(address).next().is_some() {
            // The prefix is the operator's own, so its class says nothing: what is behind counts.
            return self.translated(address).try_for_each(|inner| self.judge_class(inner, rule));
        }
        self.judge_class(address, rule)?;
        embedded(address).try_for_each(|inner| self.judge_class(inner, rule))
    }

    fn judge_class(&self, address: IpAddr, rule: Option<&str>) -> Result<(), Forbidden> {
        let class = classify(address);
        let open = match class {
            AddressClass::Public => true,
            AddressClass::Special(_)
            | AddressClass::Unallocated
            | AddressClass::Embedded { .. } => self.unlocks(address, rule),
            AddressClass::Metadata | AddressClass::Isatap { .. } => false,
        };
        if open { Ok(()) } else { Err(Forbidden::Class(class)) }
    }

    fn unlocks(&self, address: IpAddr, rule: Option<&str>) -> bool {
        rule.is_some_and(|rule| {
            self.allow.iter().any(|unlock| {
                unlock.network.contains(&address) && unlock.rules.iter().any(|id| **id == *rule)
            })
        })
    }

    /// The address itself and all IPv4 addresses that it may stand for.
    fn meanings(&self, address: IpAddr) -> impl Iterator<Item = IpAddr> {
        once(address).chain(embedded(address)).chain(self.translated(address))
    }

    /// What the network's own translators reach for the address.
    fn translated(&self, address: IpAddr) -> impl Iterator<Item = IpAddr> {
        let v6 = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        };
        let decode = move |prefix: &Ipv6Net| embedded_in(*prefix, v6?).map(IpAddr::from);
        self.nat64.iter().filter_map(decode)
    }
}

impl OwnAddresses {
    fn is_endpoint(&self, address: IpAddr, port: u16) -> bool {
        // A connection to the unspecified address reaches whatever listens on this machine, and a
        // wildcard listener is reached by every address of it, all of 127.0.0.0/8 included.
        self.endpoints.iter().filter(|own| own.port() == port).any(|own| {
            let listens = own.ip().to_canonical();
            listens == address
                || address.is_unspecified()
                || listens.is_unspecified() && (address.is_loopback() || self.is_interface(address))
        })
    }

    fn is_interface(&self, address: IpAddr) -> bool {
        self.interfaces.iter().any(|own| own.to_canonical() == address)
    }
}

fn embedded(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let v6 = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    };
    v6.into_iter().flat_map(embedded_addresses).map(IpAddr::from)
}

fn any_contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests;
