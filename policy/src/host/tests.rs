use proptest::prelude::*;

use super::*;

fn wire(text: &str) -> Result<String, HostError> {
    HostName::from_wire(text).map(|name| name.to_string())
}

#[test]
fn the_canonical_form_is_lower_case_without_a_root_dot() {
    for spelling in ["api.example.com", "API.Example.COM", "api.example.com.", "API.EXAMPLE.COM."] {
        assert_eq!(wire(spelling).unwrap(), "api.example.com");
    }
    assert_eq!(HostName::from_wire("A.b"), HostName::from_wire("a.B."));
}

#[test]
fn each_fault_of_syntax_is_named_and_its_nearest_neighbour_is_taken() {
    let long = |length| "a".repeat(length);
    let name = |length| {
        let mut name = format!("{}.", long(63)).repeat(4);
        name.truncate(length);
        name
    };
    for good in ["a", "a-b", "_a", "a--b", "9a", &long(63), &name(253), &format!("{}.", name(253))]
    {
        assert!(wire(good).is_ok(), "{good}");
    }
    for (bad, error) in [
        ("", HostError::Empty),
        (".", HostError::Empty),
        ("a..", HostError::EmptyLabel { at: 2 }),
        (".a", HostError::EmptyLabel { at: 0 }),
        ("a..b", HostError::EmptyLabel { at: 2 }),
        ("-a", HostError::HyphenAtEdge { at: 0 }),
        ("b.a-", HostError::HyphenAtEdge { at: 2 }),
        ("a*b", HostError::Byte { byte: b'*', at: 1 }),
        ("a.b c", HostError::Byte { byte: b' ', at: 3 }),
        ("a\0", HostError::Byte { byte: 0, at: 1 }),
        ("a\u{212a}", HostError::NonAscii { at: 1 }),
        (&long(64), HostError::LabelTooLong { length: 64 }),
        (&name(254), HostError::NameTooLong { length: 254 }),
    ] {
        assert_eq!(wire(bad), Err(error), "{bad}");
    }
}

#[test]
fn what_ends_in_a_number_is_no_name() {
    for number in ["1", "127.1", "0x7f.1", "a.0x", "a.0X7f", "example.com.0", "1.2.3.4", "08"] {
        assert_eq!(wire(number), Err(HostError::NumericForm), "{number}");
        assert_eq!(wire(&format!("{number}.")), Err(HostError::NumericForm), "{number}.");
    }
    for name in ["1.a", "127.0.0.1.a", "a1", "1a", "0xg", "x7f", "0x7f.a", "_1"] {
        assert!(wire(name).is_ok(), "{name}");
    }
}

#[test]
fn an_a_label_is_what_its_decoded_form_encodes_to() {
    for good in ["xn--mnchen-3ya.de", "xn--n3h", "a.xn--p1ai", "xn--strae-oqa.de"] {
        assert_eq!(wire(good).unwrap(), good);
    }
    for bad in ["xn--a", "xn--mnchen-3y.de", "xn--zzzzzz", "xn--xn--a--gua.b", "a.xn--a-ecp"] {
        assert_eq!(wire(bad), Err(HostError::ALabel), "{bad}");
    }
}

#[test]
fn a_policy_may_write_unicode_and_gets_the_name_the_wire_would_carry() {
    let name = HostName::from_policy("M\u{fc}nchen.de").unwrap();
    assert_eq!(name.as_str(), "xn--mnchen-3ya.de");
    assert_eq!(Ok(name), HostName::from_wire("xn--mnchen-3ya.de"));
    // The wire never maps: what a worker sends is the name, or nothing.
    assert_eq!(wire("M\u{fc}nchen.de"), Err(HostError::NonAscii { at: 1 }));
    // What IDNA maps to digits is a number all the same.
    assert_eq!(HostName::from_policy("\u{2460}\u{2461}\u{2466}.1"), Err(HostError::NumericForm));
}

#[test]
fn a_literal_has_one_spelling_and_brackets_belong_to_version_6() {
    for (text, shown) in [
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8:0:0:0:0:0:1]", "[2001:db8::1]"),
        ("[0:0:0:0:0:ffff:a9fe:a9fe]", "[::ffff:169.254.169.254]"),
    ] {
        let host = Host::from_wire(text).unwrap();
        assert!(matches!(host, Host::Address(_)), "{text}");
        assert_eq!(host.to_string(), shown);
    }
    for (text, error) in [
        ("10.0.0.1.", HostError::NumericForm),
        ("10.0.0.01", HostError::NumericForm),
        ("10.0.0.256", HostError::NumericForm),
        ("::1", HostError::Byte { byte: b':', at: 0 }),
        ("[::1", HostError::Brackets),
        ("[10.0.0.1]", HostError::Brackets),
        ("[a.example]", HostError::Brackets),
        ("[fe80::1%25eth0]", HostError::Zone),
        ("[::1%.example.org]", HostError::Zone),
    ] {
        assert_eq!(Host::from_wire(text), Err(error), "{text}");
    }
}

#[test]
fn a_policy_may_leave_the_brackets_out() {
    assert_eq!(Host::from_policy("2001:db8::1").unwrap().to_string(), "[2001:db8::1]");
    assert_eq!(Host::from_policy("[2001:db8::1]"), Host::from_policy("2001:DB8::1"));
    assert_eq!(Host::from_policy("b\u{fc}.de").unwrap().to_string(), "xn--b-eha.de");
    assert!(Host::from_wire("2001:db8::1").is_err());
}

#[test]
fn parents_are_cut_at_label_boundaries() {
    let name = HostName::from_wire("a.b-c.example").unwrap();
    assert!(name.parent_names().eq(["a.b-c.example", "b-c.example", "example"]));
    for zone in ["a.b-c.example", "b-c.example", "example"] {
        assert!(name.is_at_or_below(zone), "{zone}");
    }
    for other in ["c.example", "ample", ".example", "x.a.b-c.example", "", "a"] {
        assert!(!name.is_at_or_below(other), "{other}");
    }
}

#[test]
fn an_error_never_repeats_what_was_sent() {
    for text in ["evil\u{1b}[2J", "[\u{7}]", "a\nb", "xn--\u{9b}", "\u{202e}.de"] {
        for error in [Host::from_wire(text).unwrap_err(), Host::from_policy(text).unwrap_err()] {
            let shown = format!("{error} {error:?}");
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
            assert!(!shown.contains("evil"), "{shown:?}");
        }
    }
}

/// Text that is often nearly a host.
fn near_host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9_.-]{0,20}",
        "(xn--)?[a-zA-Z0-9-]{1,10}(\\.(xn--)?[a-z0-9-]{1,6}){0,3}\\.?",
        "(0x)?[0-9a-f]{0,4}(\\.(0[xX])?[0-9a-f]{0,4}){0,5}",
        "\\[[0-9a-fA-F:.%]{0,20}\\]",
        "[a-z\u{fc}\u{df}\u{3002}\u{ff0e}\u{5d0}\u{ad}\u{2460}.-]{0,12}",
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(text in near_host()) {
        if let Ok(host) = Host::from_wire(&text) {
            prop_assert_eq!(Host::from_wire(&host.to_string()), Ok(host.clone()));
            prop_assert_eq!(Host::from_policy(&host.to_string()), Ok(host));
        }
        if let Ok(name) = HostName::from_policy(&text) {
            prop_assert_eq!(HostName::from_policy(name.as_str()), Ok(name.clone()));
            prop_assert_eq!(HostName::from_wire(name.as_str()), Ok(name));
        }
    }

    #[test]
    fn a_name_keeps_its_shape(text in near_host()) {
        if let Ok(name) = HostName::from_policy(&text) {
            let name = name.as_str();
            prop_assert!((1..=253).contains(&name.len()));
            prop_assert!(name.parse::<IpAddr>().is_err());
            for label in name.split('.') {
                prop_assert!((1..=63).contains(&label.len()));
                prop_assert!(!label.starts_with('-') && !label.ends_with('-'));
                let known = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
                prop_assert!(label.bytes().all(known));
            }
        }
    }

    #[test]
    fn case_and_root_dot_play_no_part(text in "[a-z0-9_]{1,5}(\\.[a-z][a-z0-9]{0,5}){1,3}") {
        let name = HostName::from_wire(&text).unwrap();
        prop_assert_eq!(HostName::from_wire(&text.to_uppercase()), Ok(name.clone()));
        prop_assert_eq!(HostName::from_wire(&format!("{text}.")), Ok(name));
        let two_dots = HostName::from_wire(&format!("{text}.."));
        prop_assert!(two_dots.is_err());
    }

    #[test]
    fn every_address_is_taken_as_it_is_shown(address in any::<IpAddr>()) {
        let host = Host::Address(address);
        prop_assert_eq!(Host::from_wire(&host.to_string()), Ok(host));
    }
}
