use super::*;

fn network() -> Network {
    let unlock = |network: &str, rules: &[&str]| Unlock {
        network: network.parse().unwrap(),
        rules: rules.iter().map(|rule| Arc::from(*rule)).collect(),
    };
    Network {
        deny: vec!["198.41.0.0/24".parse().unwrap(), "10.20.99.0/24".parse().unwrap()],
        nat64: vec!["64:ff9b::/96".parse().unwrap(), "2001:67c:2e8::/48".parse().unwrap()],
        allow: vec![
            unlock("10.20.0.0/16", &["internal", "other"]),
            unlock("127.0.0.0/8", &["internal"]),
            unlock("0.0.0.0/8", &["internal"]),
            unlock("169.254.0.0/16", &["internal"]),
            unlock("192.0.0.0/24", &["internal"]),
            unlock("203.0.115.5/32", &["internal"]),
            unlock("::ffff:0:0/96", &["internal"]),
            unlock("fc00::/7", &["internal"]),
            unlock("2606:4700::/32", &["internal"]),
            unlock("4000::/3", &["internal"]),
        ],
    }
}

fn own() -> OwnAddresses {
    OwnAddresses {
        endpoints: [
            "127.0.0.1:3128",
            "0.0.0.0:9181",
            "[::ffff:203.0.115.5]:7443",
            "10.20.0.9:8200",
        ]
        .map(|endpoint| endpoint.parse().unwrap())
        .to_vec(),
        interfaces: ["127.0.0.1", "203.0.115.5", "::1"].map(|own| own.parse().unwrap()).to_vec(),
    }
}

fn judge(to: &str, rule: Option<&str>) -> Result<(), Forbidden> {
    network().judge(to.parse().unwrap(), rule, &own())
}

fn class(address: &str) -> Forbidden {
    Forbidden::Class(classify(address.parse().unwrap()))
}

const INTERNAL: Option<&str> = Some("internal");

#[test]
fn public_addresses_need_no_opening_and_others_do() {
    assert_eq!(judge("93.184.216.34:443", None), Ok(()));
    assert_eq!(judge("[2606:2800::1]:443", None), Ok(()));
    assert_eq!(judge("10.21.0.1:443", INTERNAL), Err(class("10.21.0.1")));
    assert_eq!(judge("[4000::1]:443", None), Err(class("4000::1")));
}

#[test]
fn a_range_is_open_for_the_rules_that_are_named_and_no_others() {
    assert_eq!(judge("10.20.0.1:443", INTERNAL), Ok(()));
    assert_eq!(judge("10.20.0.1:443", Some("other")), Ok(()));
    assert_eq!(judge("10.20.0.1:443", Some("third")), Err(class("10.20.0.1")));
    assert_eq!(judge("10.20.0.1:443", None), Err(class("10.20.0.1")));
    assert_eq!(judge("[fd00::1]:443", INTERNAL), Ok(()));
    assert_eq!(judge("[fd00::1]:443", Some("other")), Err(class("fd00::1")));
    assert_eq!(judge("[4000::1]:443", INTERNAL), Ok(()));
}

#[test]
fn what_the_policy_denies_is_not_opened_again() {
    assert_eq!(judge("198.41.0.4:443", INTERNAL), Err(Forbidden::Denied));
    assert_eq!(judge("198.41.1.4:443", INTERNAL), Ok(()));
    assert_eq!(judge("10.20.99.1:443", INTERNAL), Err(Forbidden::Denied));
    assert_eq!(judge("[::ffff:10.20.99.1]:443", INTERNAL), Err(Forbidden::Denied));
    assert_eq!(judge("[64:ff9b::c629:4]:443", INTERNAL), Err(Forbidden::Denied));
    assert_eq!(judge("[64:ff9b::c629:104]:443", INTERNAL), Ok(()));
}

#[test]
fn metadata_is_never_opened() {
    for to in [
        "169.254.169.254:80",
        "192.0.0.192:80",
        "168.63.129.16:80",
        "[fd00:ec2::254]:80",
        "[::ffff:169.254.169.254]:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "[2001:67c:2e8:a9fe:a9:fe00::]:80",
    ] {
        assert_eq!(judge(to, INTERNAL), Err(Forbidden::Class(AddressClass::Metadata)), "{to}");
    }
    assert_eq!(judge("169.254.1.1:80", INTERNAL), Ok(()));
    assert_eq!(judge("192.0.0.1:80", INTERNAL), Ok(()));
}

#[test]
fn endpoints_of_the_proxy_are_never_opened_by_any_way_round() {
    for to in [
        "127.0.0.1:3128",
        "[::ffff:127.0.0.1]:3128",
        "[64:ff9b::7f00:1]:3128",
        "0.0.0.0:3128",
        "[::]:3128",
        // A wildcard listener is on every address of the machine.
        "127.0.0.1:9181",
        "127.200.0.1:9181",
        "203.0.115.5:9181",
        "[::1]:9181",
        // Listening on a mapped address is listening on the address.
        "203.0.115.5:7443",
        "10.20.0.9:8200",
    ] {
        assert_eq!(judge(to, INTERNAL), Err(Forbidden::OwnEndpoint), "{to}");
    }
    for to in ["127.0.0.1:3129", "127.0.0.2:3128", "10.20.0.9:8201", "10.20.0.8:8200"] {
        assert_eq!(judge(to, INTERNAL), Ok(()), "{to}");
    }
    assert_eq!(judge("93.184.216.34:9181", None), Ok(()));
}

#[test]
fn addresses_of_this_machine_are_opened_by_name_only() {
    assert_eq!(judge("203.0.115.5:443", None), Err(Forbidden::Interface));
    assert_eq!(judge("203.0.115.5:443", Some("other")), Err(Forbidden::Interface));
    assert_eq!(judge("203.0.115.5:443", INTERNAL), Ok(()));
    assert_eq!(judge("203.0.115.6:443", None), Ok(()));
    assert_eq!(judge("[64:ff9b::cb00:7305]:443", None), Err(Forbidden::Interface));
    assert_eq!(judge("[64:ff9b::cb00:7306]:443", None), Ok(()));
}

#[test]
fn an_embedding_form_is_open_only_with_what_it_embeds() {
    assert_eq!(judge("[::ffff:93.184.216.34]:443", INTERNAL), Ok(()));
    assert_eq!(judge("[::ffff:93.184.216.34]:443", None), Err(class("::ffff:93.184.216.34")));
    assert_eq!(judge("[::ffff:10.20.0.1]:443", INTERNAL), Ok(()));
    assert_eq!(judge("[::ffff:10.21.0.1]:443", INTERNAL), Err(class("10.21.0.1")));
    // The range of the embedded address does not open the form.
    assert_eq!(judge("[::ffff:10.20.0.1]:443", Some("other")), Err(class("::ffff:10.20.0.1")));
}

#[test]
fn a_listed_nat64_prefix_is_judged_by_what_is_behind_it() {
    assert_eq!(judge("[64:ff9b::5db8:d822]:443", None), Ok(()));
    assert_eq!(judge("[64:ff9b::a15:1]:443", INTERNAL), Err(class("10.21.0.1")));
    assert_eq!(judge("[64:ff9b::a14:1]:443", INTERNAL), Ok(()));
    // 2001:67c:2e8::/48 is public space, but its translator reaches private addresses.
    assert_eq!(judge("[2001:67c:2e8:5db8:d8:2200::]:443", None), Ok(()));
    assert_eq!(judge("[2001:67c:2e8:a15:0:100::]:443", None), Err(class("10.21.0.1")));
    assert_eq!(judge("[2001:67c:2e9:a15:0:100::]:443", None), Ok(()));
    // Not listed: 64:ff9b:1::/48 stays shut.
    assert_eq!(judge("[64:ff9b:1::5db8:d822]:443", INTERNAL), Err(class("64:ff9b:1::5db8:d822")));
}

#[test]
fn a_translator_of_this_network_is_no_way_round() {
    for (to, forbidden) in [
        ("[2001:67c:2e8:c629:0:400::]:443", Forbidden::Denied),
        ("[2001:67c:2e8:7f00:0:100::]:3128", Forbidden::OwnEndpoint),
        ("[2001:67c:2e8:cb00:73:500::]:443", Forbidden::Interface),
    ] {
        assert_eq!(judge(to, None), Err(forbidden), "{to}");
    }
    for to in ["[2001:67c:2e8:c629:1:400::]:443", "[2001:67c:2e8:cb00:73:600::]:443"] {
        assert_eq!(judge(to, None), Ok(()), "{to}");
    }
}

#[test]
fn isatap_is_never_opened() {
    let to = "2606:4700::5efe:5db8:d822";
    assert_eq!(judge(&format!("[{to}]:443"), INTERNAL), Err(class(to)));
    assert_eq!(judge("[2606:4700::5eff:5db8:d822]:443", INTERNAL), Ok(()));
}
