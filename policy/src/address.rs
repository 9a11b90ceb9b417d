//! What an address is, and whether a rule may reach it.
//!
//! The classes come from tables generated from `data/*.csv` (`tests/tables.rs`), not from the
//! standard library, whose notion of "global" misses metadata, multicast and most ways of hiding
//! an IPv4 address in an IPv6 one. Every special-purpose block is forbidden, also those that the
//! registry calls globally reachable: none of them is a host that a worker has business with.
//! [`classify`] allocates nothing. Nothing here knows rules; [`Network`] does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::host::HostName;

pub use embedded::{EmbeddedForm, NAT64_LENGTHS, embedded_addresses, embedded_in};
pub use network::{Forbidden, Network, OwnAddresses, Unlock};

mod embedded;
mod network;
mod table;

/// What an address is, as far as anyone can tell from its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// Ordinary global unicast.
    Public,
    /// In a special-purpose block.
    Special(&'static SpecialBlock),
    /// IPv6 outside 2000::/3 and in no block: nobody has been given it.
    Unallocated,
    /// A cloud or platform metadata service, also one hidden in an IPv6 form; never unlocked.
    Metadata,
    /// An IPv6 form that carries an IPv4 address, which some translator or kernel goes to.
    Embedded {
        /// The address inside; a form with several readings gives the first.
        v4: Ipv4Addr,
        /// The form.
        form: EmbeddedForm,
    },
    /// An ISATAP interface identifier, refused whatever it embeds and whatever its prefix.
    Isatap {
        /// The address inside.
        v4: Ipv4Addr,
    },
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("a public address"),
            Self::Special(block) => block.fmt(f),
            Self::Unallocated => f.write_str("outside 2000::/3, the global unicast space"),
            Self::Metadata => f.write_str("a cloud metadata address"),
            Self::Embedded { v4, form } => write!(f, "{form} form of {v4}"),
            Self::Isatap { v4 } => write!(f, "ISATAP form of {v4}"),
        }
    }
}

/// A block that a registry, or our own table, sets apart.
#[derive(Debug, PartialEq, Eq)]
pub struct SpecialBlock {
    /// The block, as `address/length`.
    pub prefix: &'static str,
    /// Its registered name.
    pub name: &'static str,
    /// The document that sets it apart.
    pub source: &'static str,
}

impl fmt::Display for SpecialBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} ({})", self.prefix, self.name, self.source)
    }
}

/// Says what an address is.
pub fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

/// Whether the address is a metadata service, by itself or through what it embeds.
pub fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_metadata_v4(address),
        IpAddr::V6(address) => {
            holds(&table::METADATA_V6, address.to_bits())
                || embedded_addresses(address).any(is_metadata_v4)
        }
    }
}

/// Whether the name is, or is below, `localhost` or the name of a metadata service. Aliases of the
/// host and the name of the Kubernetes API are not: their addresses are private and judged so.
pub fn metadata_name(name: &HostName) -> bool {
    name.is_at_or_below("localhost")
        || table::METADATA_NAMES.iter().any(|metadata| name.is_at_or_below(metadata))
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    if is_metadata_v4(address) {
        return AddressClass::Metadata;
    }
    match block_of(&table::SPECIAL_V4, address.to_bits()) {
        Some(block) => AddressClass::Special(block),
        None => AddressClass::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    if is_metadata(address.into()) {
        return AddressClass::Metadata;
    }
    if let Some(v4) = embedded::isatap(address) {
        return AddressClass::Isatap { v4 };
    }
    if let Some((form, v4)) = embedded::form_of(address) {
        return AddressClass::Embedded { v4, form };
    }
    if let Some(block) = block_of(&table::SPECIAL_V6, address.to_bits()) {
        return AddressClass::Special(block);
    }
    if address.to_bits() >> 125 == 1 { AddressClass::Public } else { AddressClass::Unallocated }
}

fn is_metadata_v4(address: Ipv4Addr) -> bool {
    holds(&table::METADATA_V4, address.to_bits())
}

fn holds<N: Ord + Copy>(spans: &[(N, N)], number: N) -> bool {
    let above = spans.partition_point(|(first, _)| *first <= number);
    above.checked_sub(1).is_some_and(|at| number <= spans[at].1)
}

fn block_of<N: Ord + Copy>(ranges: &[(N, N, u8)], number: N) -> Option<&'static SpecialBlock> {
    let above = ranges.partition_point(|(first, _, _)| *first <= number);
    let (_, last, block) = ranges[above.checked_sub(1)?];
    (number <= last).then(|| &table::BLOCKS[usize::from(block)])
}

#[cfg(test)]
mod tests;
