//! IPv4 addresses inside IPv6 ones.
//!
//! A kernel, a tunnel or a translator takes some IPv6 addresses for a way to an IPv4 address, so
//! each of these is judged by what is inside too. Where a form has several readings (NAT64 of
//! local use may be laid out in four ways, Teredo names a server and a client) all of them count:
//! which one the network uses cannot be told from here.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use super::table;

/// The ways of writing an IPv4 address as an IPv6 one that are known by their prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EmbeddedForm {
    /// `::ffff:0:0/96`, which sockets unmap.
    Mapped,
    /// `::/96`, deprecated.
    Compatible,
    /// `::ffff:0:0:0/96`, the stateless translation of RFC 2765.
    Translated,
    /// `64:ff9b::/96`, the well-known prefix of NAT64.
    Nat64,
    /// `64:ff9b:1::/48`, NAT64 within one network.
    Nat64Local,
    /// `2002::/16`.
    SixToFour,
    /// `2001::/32`.
    Teredo,
}

impl fmt::Display for EmbeddedForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mapped => "IPv4-mapped",
            Self::Compatible => "IPv4-compatible",
            Self::Translated => "IPv4-translated",
            Self::Nat64 => "NAT64",
            Self::Nat64Local => "local NAT64",
            Self::SixToFour => "6to4",
            Self::Teredo => "Teredo",
        })
    }
}

/// The lengths that a NAT64 prefix may have (RFC 6052, 2.2).
pub const NAT64_LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// Returns every IPv4 address that some reader may find in `address`; empty for an ordinary one.
pub fn embedded_addresses(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = address.to_bits();
    let known = match find(address) {
        Some(form) => readings(form, bits),
        None => [None; 4],
    };
    known.into_iter().chain([isatap(address)]).flatten()
}

/// Returns the IPv4 address that a NAT64 translator with this prefix reaches for `address`, or
/// none if the address is not below it or the prefix has none of the lengths of RFC 6052.
///
/// The octet at bits 64 to 71 is left out as the RFC says, and not demanded to be zero: a
/// translator that does not look at it still goes to what is returned here.
pub fn embedded_in(prefix: Ipv6Net, address: Ipv6Addr) -> Option<Ipv4Addr> {
    let known = NAT64_LENGTHS.contains(&prefix.prefix_len()) && prefix.contains(&address);
    known.then(|| below_prefix(prefix.prefix_len(), address.to_bits()))
}

/// Returns the form of an address by its prefix, with the first reading of what it embeds.
pub(super) fn form_of(address: Ipv6Addr) -> Option<(EmbeddedForm, Ipv4Addr)> {
    let form = find(address)?;
    let first = readings(form, address.to_bits()).into_iter().flatten().next()?;
    Some((form, first))
}

/// Returns what an ISATAP interface identifier (RFC 5214, 6.1) embeds, below any prefix.
pub(super) fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let bits = address.to_bits();
    let universal = 0x0200_0000;
    ((bits >> 32) as u32 | universal == 0x0200_5efe).then(|| low(bits))
}

fn find(address: Ipv6Addr) -> Option<EmbeddedForm> {
    // These two are what they are: the unspecified address and the loopback, not forms of IPv4.
    if address.is_unspecified() || address.is_loopback() {
        return None;
    }
    let differ = |prefix: u128| (address.to_bits() ^ prefix).leading_zeros();
    let (_, _, form) =
        table::FORMS.iter().find(|(prefix, length, _)| differ(*prefix) >= u32::from(*length))?;
    Some(*form)
}

fn readings(form: EmbeddedForm, bits: u128) -> [Option<Ipv4Addr>; 4] {
    match form {
        EmbeddedForm::Mapped
        | EmbeddedForm::Compatible
        | EmbeddedForm::Translated
        | EmbeddedForm::Nat64 => [Some(low(bits)), None, None, None],
        EmbeddedForm::Nat64Local => {
            let mut readings = [96, 64, 56, 48].map(|length| Some(below_prefix(length, bits)));
            // What a person would read first: the low 32 bits only where all above them is zero.
            if (bits >> 32) as u64 & 0xffff_ffff_ffff != 0 {
                readings.reverse();
            }
            readings
        }
        EmbeddedForm::SixToFour => {
            [Some(Ipv4Addr::from_bits((bits >> 80) as u32)), None, None, None]
        }
        EmbeddedForm::Teredo => {
            let server = Ipv4Addr::from_bits((bits >> 64) as u32);
            // The client's address is sent with every bit inverted (RFC 4380, 4).
            [Some(Ipv4Addr::from_bits(!(bits as u32))), Some(server), None, None]
        }
    }
}

/// Takes the octet at bits 64 to 71 out, then the 32 bits behind the prefix (RFC 6052, 2.3).
fn below_prefix(length: u8, bits: u128) -> Ipv4Addr {
    if length == 96 {
        return low(bits);
    }
    let upper = bits >> 64 << 64;
    let lower = bits << 72 >> 64;
    Ipv4Addr::from_bits(((upper | lower) << length >> 96) as u32)
}

fn low(bits: u128) -> Ipv4Addr {
    Ipv4Addr::from_bits(bits as u32)
}
