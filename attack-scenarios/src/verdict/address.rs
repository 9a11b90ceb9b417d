//! Which addresses a proxy may ever dial, written apart from the proxy's own tables.
//!
//! The judge must not share the code it judges. The blocks are those of the IANA special-purpose
//! registries and the others that the corpus forbids; everything outside `2000::/3` is forbidden.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is public, and not the canary that nobody may dial.
pub(super) fn is_public(address: IpAddr) -> bool {
    if Some(address) == egret_testkit::EVIL.parse().ok() {
        return false;
    }
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !FORBIDDEN_V4.iter().any(|(block, bits)| {
        let block: Ipv4Addr = (*block).into();
        address.to_bits() >> (32 - bits) == block.to_bits() >> (32 - bits)
    })
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    let inside = |high: u128, length: u32| bits >> (128 - length) == high >> (128 - length);
    let at = |first: u128, second: u128, third: u128| first << 112 | second << 96 | third << 80;
    let global = inside(at(0x2000, 0, 0), 3);
    global
        && !inside(at(0x2001, 0, 0), 23)
        && !inside(at(0x2001, 0xdb8, 0), 32)
        && !inside(at(0x2002, 0, 0), 16)
        && !inside(at(0x2620, 0x4f, 0x8000), 48)
        && !inside(at(0x3fff, 0, 0), 20)
        // ISATAP interface identifiers, whatever the prefix.
        && !matches!((bits >> 32) as u32, 0x0000_5efe | 0x0200_5efe)
}

const FORBIDDEN_V4: [([u8; 4], u32); 19] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([168, 63, 129, 16], 32),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 31, 196, 0], 24),
    ([192, 52, 193, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([192, 175, 48, 0], 24),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_block_stands_next_to_its_nearest_public_address() {
        let check = |text: &str, expected: bool| {
            let address = text.parse().expect("an address");
            assert_eq!(is_public(address), expected, "{text}");
        };
        for public in [
            "1.0.0.1",
            "100.63.255.254",
            "126.255.255.254",
            "169.255.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "203.0.114.1",
            "223.255.255.254",
            "2003::1",
            "2001:200::1",
            "2001:db9::1",
            "2620:4f:7fff::1",
            "2606:4700::6810:1",
        ] {
            check(public, true);
        }
        for forbidden in [
            "0.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "198.19.0.1",
            "203.0.113.1",
            "203.0.114.66",
            "224.0.0.251",
            "255.255.255.255",
            "::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:808:808::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "4000::1",
            "2606:4700::5efe:808:808",
        ] {
            check(forbidden, false);
        }
    }
}
