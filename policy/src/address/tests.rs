use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

fn class(text: &str) -> AddressClass {
    classify(text.parse().unwrap())
}

fn v4(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

#[test]
fn ordinary_addresses_beside_the_blocks_are_public() {
    for text in [
        "1.0.0.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.254",
        "100.128.0.0",
        "126.255.255.254",
        "128.0.0.1",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "191.255.255.255",
        "192.0.1.1",
        "192.0.3.0",
        "192.31.195.255",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.254",
        "192.169.0.0",
        "198.17.255.254",
        "198.20.0.1",
        "198.51.101.1",
        "203.0.112.255",
        "203.0.114.1",
        "223.255.254.254",
        "2000::1",
        "2001:200::1",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2003::1",
        "2606:4700::6810:1",
        "2620:4f:7fff::1",
        "2620:4f:8001::",
        "3ffe:ffff::1",
        "3fff:1000::1",
    ] {
        assert_eq!(class(text), AddressClass::Public, "{text}");
    }
}

#[test]
fn the_narrowest_block_names_an_address() {
    for (text, prefix) in [
        ("0.0.0.0", "0.0.0.0/32"),
        ("0.0.0.1", "0.0.0.0/8"),
        ("10.255.255.255", "10.0.0.0/8"),
        ("100.64.0.1", "100.64.0.0/10"),
        ("127.8.8.8", "127.0.0.0/8"),
        ("169.254.0.1", "169.254.0.0/16"),
        ("192.0.0.1", "192.0.0.0/29"),
        ("192.0.0.9", "192.0.0.9/32"),
        ("192.0.0.11", "192.0.0.0/24"),
        ("192.88.99.2", "192.88.99.2/32"),
        ("224.0.0.251", "224.0.0.0/4"),
        ("255.255.255.254", "240.0.0.0/4"),
        ("255.255.255.255", "255.255.255.255/32"),
        ("::", "::/128"),
        ("::1", "::1/128"),
        ("100::1", "100::/64"),
        ("100:0:0:1::1", "100:0:0:1::/64"),
        ("200::1", "200::/7"),
        ("2001:1::1", "2001:1::1/128"),
        ("2001:1ff::1", "2001::/23"),
        ("2001:db8::1", "2001:db8::/32"),
        ("3fff::1", "3fff::/20"),
        ("5f00::1", "5f00::/16"),
        ("fdff::1", "fc00::/7"),
        ("febf::1", "fe80::/10"),
        ("fec0::1", "fec0::/10"),
        ("ff0e::1", "ff00::/8"),
    ] {
        let AddressClass::Special(block) = class(text) else { panic!("{text}: {}", class(text)) };
        assert_eq!(block.prefix, prefix, "{text}");
    }
}

#[test]
fn nothing_outside_the_global_unicast_space_is_public() {
    for text in ["::1:0:0:0", "64:ff9b:2::1", "100:0:0:2::1", "1fff:ffff::1", "4000::1", "8000::"] {
        assert_eq!(class(text), AddressClass::Unallocated, "{text}");
    }
    assert_eq!(class("2000::"), AddressClass::Public);
    assert_eq!(class("3fff:ffff::"), AddressClass::Public);
}

#[test]
fn metadata_services_are_a_class_above_their_blocks() {
    for text in [
        "169.254.169.254",
        "169.254.169.253",
        "169.254.169.123",
        "169.254.169.250",
        "169.254.170.2",
        "169.254.170.23",
        "169.254.42.42",
        "169.254.0.23",
        "169.254.129.7",
        "169.254.20.10",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::253",
        "fd00:ec2::23",
        "fd00:ec2::123",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        "fd00:a9fe:a9fe::1",
        "fe80::a9fe:a9fe",
    ] {
        assert_eq!(class(text), AddressClass::Metadata, "{text}");
        assert!(is_metadata(text.parse().unwrap()), "{text}");
    }
    // Metadata by habit only: these an operator may open.
    for text in ["127.0.0.1", "127.0.0.11", "172.17.0.1", "192.168.5.2", "10.96.0.1"] {
        assert!(matches!(class(text), AddressClass::Special(_)), "{text}");
        assert!(!is_metadata(text.parse().unwrap()), "{text}");
    }
    for text in ["169.254.169.252", "169.254.128.255", "100.100.100.201", "fd00:ec2::255"] {
        assert!(matches!(class(text), AddressClass::Special(_)), "{text}");
    }
}

#[test]
fn metadata_is_seen_through_every_form() {
    for text in [
        "::ffff:169.254.169.254",
        "::ffff:168.63.129.16",
        "::a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "64:ff9b:1:a9:fe:a9fe::",
        "64:ff9b:1:5:a9:fea9:fe00:0",
        "2002:a9fe:a9fe::1",
        "2002:6464:64c8::",
        "2001:0:a9fe:a9fe:8000:63bf:f7f7:f7f7",
        "2001:0:4136:e378:8000:63bf:5601:5601",
        "2606:2800:220:1:0:5efe:a9fe:a9fe",
        "2606:2800:220:1:200:5efe:a9fe:a9fe",
        "fe80::5efe:a9fe:a9fe",
    ] {
        assert_eq!(class(text), AddressClass::Metadata, "{text}");
    }
}

#[test]
fn each_form_is_told_with_what_it_embeds() {
    use EmbeddedForm::{Compatible, Mapped, Nat64, Nat64Local, SixToFour, Teredo, Translated};
    for (text, form, inside) in [
        ("::ffff:93.184.216.34", Mapped, "93.184.216.34"),
        ("::2", Compatible, "0.0.0.2"),
        ("::10.0.0.1", Compatible, "10.0.0.1"),
        ("::ffff:0:7f00:1", Translated, "127.0.0.1"),
        ("64:ff9b::5db8:d822", Nat64, "93.184.216.34"),
        ("64:ff9b:1::7f00:1", Nat64Local, "127.0.0.1"),
        ("64:ff9b:1:7f00:0:100::", Nat64Local, "127.0.0.1"),
        ("2002:a00:1::1", SixToFour, "10.0.0.1"),
        ("2001:0:4136:e378:8000:63bf:3f57:fef8", Teredo, "192.168.1.7"),
    ] {
        assert_eq!(class(text), AddressClass::Embedded { v4: v4(inside), form }, "{text}");
    }
    for text in ["2606:2800:220:1:0:5efe:a00:1", "fd00:1::200:5efe:a00:1", "fe80::5efe:a00:1"] {
        assert_eq!(class(text), AddressClass::Isatap { v4: v4("10.0.0.1") }, "{text}");
    }
    for text in ["2606:2800:220:1:1:5efe:a00:1", "2606:2800:220:1::5eff:a00:1", "2003:a00:1::1"] {
        assert_eq!(class(text), AddressClass::Public, "{text}");
        let IpAddr::V6(address) = text.parse().unwrap() else { panic!("{text} is not IPv6") };
        assert_eq!(embedded_addresses(address).count(), 0, "{text}");
    }
}

#[test]
fn teredo_names_its_server_and_its_client() {
    let address = "2001:0:4136:e378:8000:63bf:3f57:fef8".parse().unwrap();
    let inside: Vec<_> = embedded_addresses(address).collect();
    assert_eq!(inside, [v4("192.168.1.7"), v4("65.54.227.120")]);
}

#[test]
fn names_of_metadata_services_and_localhost_are_known() {
    let known = |text| metadata_name(&HostName::from_wire(text).unwrap());
    for text in [
        "localhost",
        "LOCALHOST.",
        "foo.localhost",
        "metadata",
        "metadata.google.internal",
        "metadata.google.internal.",
        "x.metadata.google.internal",
        "metadata.goog",
        "metadata.tencentyun.com",
        "metadata.platformequinix.com",
        "api.metadata.cloud.ibm.com",
        "rancher-metadata",
    ] {
        assert!(known(text), "{text}");
    }
    for text in [
        "localhost.example",
        "notlocalhost",
        "metadata.example.com",
        "google.internal",
        "xmetadata.google.internal",
        "kubernetes.default.svc",
        "host.docker.internal",
        "metadata.cloud.ibm.com",
    ] {
        assert!(!known(text), "{text}");
    }
}

/// The examples of RFC 6052, 2.4.
#[test]
fn nat64_prefixes_of_every_length_are_decoded() {
    for (prefix, address) in [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::c000:221"),
    ] {
        let (prefix, address): (ipnet::Ipv6Net, Ipv6Addr) =
            (prefix.parse().unwrap(), address.parse().unwrap());
        assert_eq!(embedded_in(prefix, address), Some(v4("192.0.2.33")), "{prefix}");
        assert_eq!(embedded_in(prefix, "2001:db9::".parse().unwrap()), None, "{prefix}");
    }
    let odd = "2001:db8:122:344::/72".parse().unwrap();
    assert_eq!(embedded_in(odd, "2001:db8:122:344::1".parse().unwrap()), None);
}

#[test]
fn an_isatap_identifier_is_refused_below_a_prefix_of_the_operator_too() {
    let network = Network {
        nat64: vec!["2606:1:2:300::/56".parse().unwrap(), "2606:2::5efe:0:0/96".parse().unwrap()],
        allow: vec![Unlock { network: "2606::/16".parse().unwrap(), rules: vec!["a".into()] }],
        ..Network::default()
    };
    let judge = |text: &str| {
        let to = std::net::SocketAddr::new(text.parse().unwrap(), 443);
        network.judge(to, Some("a"), &OwnAddresses::default())
    };
    // The translator reads 8.0.94.254 and 8.0.94.255, a tunnel would read 10.0.0.1.
    let isatap = Err(Forbidden::Class(AddressClass::Isatap { v4: v4("10.0.0.1") }));
    assert_eq!(judge("2606:1:2:308:0:5efe:a00:1"), isatap);
    assert_eq!(judge("2606:2::5efe:a00:1"), isatap);
    assert_eq!(judge("2606:1:2:308:0:5eff:a00:1"), Ok(()));
}

#[test]
fn a_class_says_what_it_is() {
    for (text, shown) in [
        ("8.8.8.8", "a public address"),
        ("10.0.0.1", "10.0.0.0/8, Private-Use (RFC 1918)"),
        ("4000::", "outside 2000::/3, the global unicast space"),
        ("169.254.169.254", "a cloud metadata address"),
        ("::ffff:10.0.0.1", "IPv4-mapped form of 10.0.0.1"),
        ("fe80::5efe:a00:1", "ISATAP form of 10.0.0.1"),
    ] {
        assert_eq!(class(text).to_string(), shown);
    }
}

/// What the table must say, by looking at every block.
fn slow_block(address: IpAddr) -> Option<&'static str> {
    let holding = table::BLOCKS.iter().filter_map(|block| {
        let network: IpNet = block.prefix.parse().unwrap();
        network.contains(&address).then_some((network.prefix_len(), block.prefix))
    });
    holding.max().map(|(_, prefix)| prefix)
}

fn agrees_with_the_blocks(address: IpAddr) -> Result<(), TestCaseError> {
    let block = slow_block(address);
    match classify(address) {
        AddressClass::Special(found) => prop_assert_eq!(Some(found.prefix), block),
        AddressClass::Public | AddressClass::Unallocated => prop_assert_eq!(block, None),
        AddressClass::Metadata | AddressClass::Embedded { .. } | AddressClass::Isatap { .. } => {}
    }
    Ok(())
}

#[test]
fn both_ends_of_every_block_and_their_neighbours_are_told_apart() {
    for block in &table::BLOCKS {
        let network: IpNet = block.prefix.parse().unwrap();
        for end in [network.network(), network.broadcast()] {
            assert_ne!(classify(end), AddressClass::Public, "{end}");
            for step in [-1, 0, 1] {
                agrees_with_the_blocks(step_from(end, step)).unwrap();
            }
        }
    }
}

fn step_from(address: IpAddr, step: i8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            Ipv4Addr::from_bits(address.to_bits().wrapping_add_signed(step.into())).into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits().wrapping_add_signed(step.into())).into()
        }
    }
}

proptest! {
    #[test]
    fn the_table_agrees_with_its_blocks(
        block in 0..table::BLOCKS.len(),
        v4 in any::<u32>(),
        v6 in any::<u128>(),
        keep in 0..128_u32,
    ) {
        agrees_with_the_blocks(Ipv4Addr::from_bits(v4).into())?;
        agrees_with_the_blocks(Ipv6Addr::from_bits(v6).into())?;
        // And near the blocks: some leading bits of one, the rest by chance.
        match table::BLOCKS[block].prefix.parse::<IpNet>().unwrap() {
            IpNet::V4(network) => {
                let low = u32::MAX.checked_shr(keep).unwrap_or(0);
                let near = network.network().to_bits() & !low | v4 & low;
                agrees_with_the_blocks(Ipv4Addr::from_bits(near).into())?;
            }
            IpNet::V6(network) => {
                let low = u128::MAX >> keep;
                let near = network.network().to_bits() & !low | v6 & low;
                agrees_with_the_blocks(Ipv6Addr::from_bits(near).into())?;
            }
        }
    }

    #[test]
    fn no_form_makes_an_address_public(inside in any::<u32>(), rest in any::<u64>()) {
        let (v4, rest) = (u128::from(inside), u128::from(rest));
        let forms = [
            v4,
            0xffff << 32 | v4,
            0xffff << 48 | v4,
            0x0064_ff9b << 96 | v4,
            0x0064_ff9b_0001 << 80 | v4,
            0x2002 << 112 | v4 << 80 | rest,
            0x2001_0000 << 96 | v4 << 64 | rest,
            0x2001_0000 << 96 | rest << 32 | u128::from(!inside),
            (0x2606 << 112) | rest << 64 | 0x5efe << 32 | v4,
            (0x2606 << 112) | rest << 64 | 0x0200_5efe << 32 | v4,
        ];
        for bits in forms {
            let address = Ipv6Addr::from_bits(bits);
            prop_assert_ne!(classify(address.into()), AddressClass::Public, "{}", address);
            let whole = address.is_unspecified() || address.is_loopback();
            let found = embedded_addresses(address).any(|v4| v4.to_bits() == inside);
            prop_assert!(found || whole, "{}", address);
        }
    }

    #[test]
    fn what_is_embedded_below_a_prefix_is_found_there(
        upper in any::<u128>(),
        inside in any::<u32>(),
        octet in any::<u8>(),
        at in 0..NAT64_LENGTHS.len(),
    ) {
        let length = NAT64_LENGTHS[at];
        let prefix = ipnet::Ipv6Net::new(Ipv6Addr::from_bits(upper), length).unwrap().trunc();
        // Written out byte by byte, unlike the decoder: the octet at bits 64 to 71 is stepped over.
        let mut octets = prefix.network().octets();
        let mut place = usize::from(length / 8);
        for byte in inside.to_be_bytes() {
            if length < 96 && place == 8 {
                octets[place] = octet;
                place += 1;
            }
            octets[place] = byte;
            place += 1;
        }
        let address = Ipv6Addr::from(octets);
        prop_assert_eq!(embedded_in(prefix, address), Some(Ipv4Addr::from_bits(inside)));
    }

    #[test]
    fn metadata_is_one_question_asked_in_two_ways(address in any::<IpAddr>()) {
        prop_assert_eq!(is_metadata(address), classify(address) == AddressClass::Metadata);
    }
}
