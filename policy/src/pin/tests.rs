use super::*;
use crate::address::{AddressClass, Forbidden};
use crate::decide::{Ask, TunnelAsk};
use crate::policy::Policy;
use crate::target::{Authority, Method, Target};
use crate::worker::{Labels, Worker, WorkerId};
use jiff::Timestamp;

const POLICY: &str = "
    version = 1
    [network]
    [[network.allow]]
    cidr = '10.20.0.0/16'
    rules = ['internal']
    [[rule]]
    id = 'public'
    effect = 'allow'
    hosts = ['a.test', '93.184.216.34']
    schemes = ['http']
    ports = [80, 443]
    [[rule]]
    id = 'internal'
    effect = 'allow'
    hosts = ['a.test', 'b.test']
    ";

fn worker() -> Worker {
    Worker { id: WorkerId::parse("w").unwrap(), labels: Labels::default() }
}

fn permit(url: &str) -> Permit {
    let policy = Policy::load(POLICY).policy.unwrap();
    let target = Target::absolute(url).unwrap();
    let method = Method::parse("GET").unwrap();
    let ask = Ask { worker: &worker(), method, target: &target };
    policy.decide(&ask, Timestamp::UNIX_EPOCH).unwrap()
}

fn tunnel(authority: &str) -> TunnelPermit {
    let policy = Policy::load(POLICY).policy.unwrap();
    let authority = Authority::connect(authority).unwrap();
    let ask = TunnelAsk { worker: &worker(), authority: &authority };
    policy.decide_tunnel(&ask, Timestamp::UNIX_EPOCH).unwrap()
}

fn answers(addresses: &[&str]) -> Answers {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Answers { addresses, aliases: Vec::new() }
}

fn detail<T>(outcome: Result<T, Denial>) -> DenialDetail {
    let denial = outcome.err().unwrap();
    assert_eq!(denial.reason, Reason::AddressForbidden);
    denial.detail
}

#[test]
fn mixed_public_and_private_answers_are_refused() {
    let own = OwnAddresses::default();
    let pinned = permit("http://a.test/").pin(&answers(&["140.82.112.6"]), &own).unwrap();
    assert_eq!(pinned.addresses(), ["140.82.112.6:80".parse().unwrap()]);
    let mixed = answers(&["140.82.112.6", "192.168.0.1"]);
    let DenialDetail::Address { address, forbidden } =
        detail(permit("http://a.test/").pin(&mixed, &own))
    else {
        panic!("not an address");
    };
    assert_eq!(address.to_string(), "192.168.0.1");
    assert!(matches!(forbidden, Forbidden::Class(AddressClass::Special(_))));
}

#[test]
fn the_rule_and_the_addresses_of_the_proxy_decide_beside_the_class() {
    let own = OwnAddresses {
        endpoints: vec!["140.82.112.6:443".parse().unwrap()],
        interfaces: vec!["140.82.112.7".parse().unwrap()],
    };
    let to = |address: &str| permit("https://b.test/").pin(&answers(&[address]), &own);
    assert!(to("10.20.0.1").is_ok());
    assert!(to("140.82.112.8").is_ok());
    assert!(matches!(detail(to("10.21.0.1")), DenialDetail::Address { .. }));
    for (address, forbidden) in
        [("140.82.112.6", Forbidden::OwnEndpoint), ("140.82.112.7", Forbidden::Interface)]
    {
        let detail = detail(to(address));
        assert!(matches!(detail, DenialDetail::Address { forbidden: f, .. } if f == forbidden));
    }
}

#[test]
fn aliases_of_metadata_no_answer_and_other_literals_are_refused() {
    let own = OwnAddresses::default();
    let alias = |name: &str| Answers {
        addresses: vec!["140.82.112.6".parse().unwrap()],
        aliases: vec![HostName::from_wire(name).unwrap()],
    };
    assert!(permit("http://a.test/").pin(&alias("cdn.test"), &own).is_ok());
    let denied = permit("http://a.test/").pin(&alias("metadata.google.internal"), &own);
    assert_eq!(detail(denied), DenialDetail::MetadataName);
    let denied = tunnel("a.test:443").pin(&alias("x.localhost"), &own);
    assert_eq!(detail(denied), DenialDetail::MetadataName);
    let denied = permit("http://a.test/").pin(&Answers::default(), &own);
    assert_eq!(detail(denied), DenialDetail::NoAddress);
    let literal = || permit("http://93.184.216.34/");
    assert!(literal().pin(&answers(&["93.184.216.34"]), &own).is_ok());
    let denied = literal().pin(&answers(&["93.184.216.35"]), &own);
    assert_eq!(detail(denied), DenialDetail::OtherAddress);
}

#[test]
fn the_grant_exists_only_for_a_pinned_peer() {
    let pin = || {
        let answers = answers(&["140.82.112.6", "2606:50c0:8000::153"]);
        permit("http://a.test/").pin(&answers, &OwnAddresses::default()).unwrap()
    };
    for peer in ["140.82.112.6:80", "[2606:50c0:8000::153]:80"] {
        let peer = peer.parse().unwrap();
        assert_eq!(pin().reached(peer).unwrap().peer(), peer);
    }
    for peer in ["140.82.112.7:80", "140.82.112.6:81", "[::ffff:140.82.112.6]:80"] {
        let denied = pin().reached(peer.parse().unwrap());
        assert_eq!(detail(denied), DenialDetail::UnpinnedPeer, "{peer}");
    }
}

#[test]
fn a_tunnel_keeps_the_rules_that_may_reach_every_address() {
    let text = POLICY.replace("['a.test', 'b.test']", "['a.test', 'b.test', 'c.test']")
        + "[[rule]]\nid = 'outer'\neffect = 'allow'\nhosts = ['b.test', 'd.test']\n";
    let text = text.replacen(
        "[[rule]]",
        "[[rule]]\nid = 'before'\neffect = 'allow'\nhosts = ['b.test']\n[[rule]]",
        1,
    );
    let policy = Policy::load(&text).policy.unwrap();
    let held = |host: &str, addresses: &[&str]| {
        let authority = Authority::connect(&format!("{host}:443")).unwrap();
        let ask = TunnelAsk { worker: &worker(), authority: &authority };
        let permit = policy.decide_tunnel(&ask, Timestamp::UNIX_EPOCH).unwrap();
        let pinned = permit.pin(&answers(addresses), &OwnAddresses::default())?;
        let first = pinned.addresses()[0];
        let grant = pinned.reached(first)?;
        let live = grant.candidates().https.live(Timestamp::UNIX_EPOCH);
        Ok(live.map(|rule| rule.id.to_string()).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(held("b.test", &["140.82.112.6"]), Ok("before internal outer".to_owned()));
    assert_eq!(held("b.test", &["10.20.0.1"]), Ok("internal".to_owned()));
    assert_eq!(held("b.test", &["140.82.112.6", "10.20.0.1"]), Ok("internal".to_owned()));
    assert!(matches!(detail(held("b.test", &["10.21.0.1"])), DenialDetail::Address { .. }));
    assert!(matches!(detail(held("d.test", &["10.20.0.1"])), DenialDetail::Address { .. }));
}

#[test]
fn a_tunnel_keeps_the_protocols_whose_rule_may_reach_every_address() {
    let own = OwnAddresses::default();
    let granted = |addresses: &[&str]| {
        let pinned = tunnel("a.test:443").pin(&answers(addresses), &own)?;
        let first = pinned.addresses()[0];
        pinned.reached(first)
    };
    let rights = |grant: &TunnelGrant| grant.candidates().all().map(|c| c.right().is_ok());
    assert_eq!(rights(&granted(&["140.82.112.6"]).unwrap()), [true, true, false]);
    assert_eq!(rights(&granted(&["10.20.0.1"]).unwrap()), [true, false, false]);
    assert!(matches!(detail(granted(&["10.21.0.1"])), DenialDetail::Address { .. }));
    assert!(matches!(detail(granted(&["10.20.0.1", "10.21.0.1"])), DenialDetail::Address { .. }));
}
