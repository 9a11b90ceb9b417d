//! Name servers that are verified, that change, and that are flooded.

use std::{
    net::{IpAddr, SocketAddr},
    sync::mpsc,
    time::{Duration, Instant},
};

use egret_proxy::{ClosedBy, NameServer, Roots, Selector, Settings, Transport};
use egret_testkit::{
    dns::{Dns, Protocol, Zone, secure::SecureDns},
    namespace::NAME_SERVER,
    pki::Flaw,
};

use crate::{
    Claim, POLICY,
    scene::{Scene, Stage},
};

pub(crate) const TRIALS: &[Claim] = &[
    ("a_verified_name_server_is_asked_and_nobody_else", verified),
    ("a_name_server_that_is_not_verified_leaves_no_question_behind", unverified),
    ("an_encrypted_name_server_is_never_a_target", target),
    ("the_systems_name_servers_are_followed_and_never_a_target", followed),
    ("a_system_that_names_nobody_keeps_its_name_servers", kept),
    ("a_flood_of_names_does_not_keep_other_names_waiting", flooded),
];

/// Where the encrypted servers of these trials are.
const SECURE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 56));
/// Where the system's other name server is.
const OTHER: &str = "127.0.0.57";

fn secure(stage: &Stage, names: &[&str], flaw: Flaw) -> SecureDns {
    let certificate = stage.pki.origin(names, flaw).unwrap();
    SecureDns::start(&stage.dns, SECURE, certificate).unwrap()
}

/// Both ways of asking it, each with settings that trust the root of the stage.
fn both(stage: &Stage, server: &SecureDns) -> [(Protocol, impl FnOnce(&mut Settings)); 2] {
    let verified = || rustls_pki_types::ServerName::try_from("dns.test").unwrap();
    let tls = Transport::Tls { verified: verified() };
    let https = Transport::Https { verified: verified(), path: "/dns-query".to_owned() };
    let asked = [(Protocol::Tls, server.tls(), tls), (Protocol::Https, server.https(), https)];
    asked.map(|(protocol, address, transport)| {
        let roots = Roots::exactly([stage.pki.root()]).unwrap();
        let change = move |settings: &mut Settings| {
            settings.dns.servers = Some(vec![NameServer { address, transport }]);
            settings.dns.roots = roots;
            // A handshake in a debug build, on a machine that does other things too.
            settings.dns.timeout = Duration::from_secs(5);
        };
        (protocol, change)
    })
}

fn answer(scene: &Scene, authority: &str) -> (u16, String) {
    let tunnel = scene.client.tunnel(authority).unwrap();
    let reason = tunnel.reply.as_ref().map(|reply| reply.reason()).unwrap_or_default();
    (tunnel.status(), reason.split(' ').next().unwrap_or_default().to_owned())
}

fn verified(stage: &Stage) {
    let server = secure(stage, &["dns.test"], Flaw::None);
    for (protocol, change) in both(stage, &server) {
        let scene = stage.play_with(POLICY, change, vec![]);
        assert_eq!(answer(&scene, "api.example.com:443").0, 200);
        let asked: Vec<_> = stage.dns.log().iter().map(|query| query.protocol).collect();
        assert_eq!(asked, [protocol; 2]);
    }
}

fn unverified(stage: &Stage) {
    for (names, flaw) in [
        (["other.test"], Flaw::None),
        (["dns.test"], Flaw::Expired),
        (["dns.test"], Flaw::UnknownIssuer),
    ] {
        let server = secure(stage, &names, flaw);
        for (_, change) in both(stage, &server) {
            let scene = stage.play_with(POLICY, change, vec![]);
            let refused = (502, "egress.dns_failed".to_owned());
            assert_eq!(answer(&scene, "api.example.com:443"), refused, "{names:?} {flaw:?}");
            assert!(stage.dns.log().is_empty(), "{:?}", stage.dns.log());
        }
    }
}

fn target(stage: &Stage) {
    let server = secure(stage, &["dns.test"], Flaw::None);
    let port = server.tls().port();
    let policy = format!(
        "version = 1\n[[rule]]\nid = \"any\"\neffect = \"allow\"\nhosts = [\"*\"]\nports = [{port}, 80]\n\
         schemes = [\"http\"]\n[[network.allow]]\ncidr = \"127.0.0.0/8\"\nrules = [\"any\"]\n"
    );
    let [(_, over_tls), _] = both(stage, &server);
    let scene = stage.play_with(&policy, over_tls, vec![]);
    stage.dns.serve(&[("self.test", &SECURE.to_string())]);
    let reply = scene.client.get(&format!("http://self.test:{port}/")).unwrap();
    assert!(reply.reason().starts_with("egress.address_forbidden "), "{}", reply.reason());
    assert_eq!(
        scene.client.get("http://self.test/").unwrap().status(),
        200,
        "another port is free"
    );
}

/// Writes the system's `resolv.conf`, and puts it back.
struct ResolvConf<'a>(&'a Stage);

impl ResolvConf<'_> {
    fn write(&self, text: &str) {
        // In place: a new file would not be the one that is bound in `/etc`.
        std::fs::write(self.0.entered.directory().join("resolv.conf"), text).unwrap();
    }
}

impl Drop for ResolvConf<'_> {
    fn drop(&mut self) {
        self.write(&format!("nameserver {NAME_SERVER}\n"));
    }
}

fn until(what: &str, came: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !came() {
        assert!(Instant::now() < deadline, "{what}: never");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn followed(stage: &Stage) {
    let other = SocketAddr::new(OTHER.parse().unwrap(), 53);
    let other = Dns::start_on(other, SocketAddr::new(other.ip(), 0)).unwrap();
    other.reset(Zone::corpus(), vec![]);
    let policy = format!(
        "{POLICY}\n[[rule]]\nid = \"dns\"\neffect = \"allow\"\nhosts = [\"ns.test\"]\n\
         schemes = [\"tcp\"]\nports = [53]\n\
         [[network.allow]]\ncidr = \"127.0.0.0/8\"\nrules = [\"dns\"]\n"
    );
    let scene = stage.play(&policy);
    let conf = ResolvConf(stage);
    other.serve(&[("ns.test", OTHER)]);
    stage.dns.serve(&[("ns.test", OTHER)]);
    assert_eq!(answer(&scene, "ns.test:53").0, 200, "nobody egret asks is there yet");

    conf.write(&format!("search example.org\nnameserver {OTHER}\noptions ndots:9\n"));
    stage.dns.set_silent(true);
    // The failure of a look-up is what makes it look.
    until("the other server is asked", || answer(&scene, "api.example.com:443").0 == 200);
    let refused = (403, "egress.address_forbidden".to_owned());
    assert_eq!(answer(&scene, "ns.test:53"), refused);
    assert!(other.names().iter().all(|name| name != "api.example.com.example.org"));
}

fn kept(stage: &Stage) {
    let scene = stage.play(POLICY);
    let conf = ResolvConf(stage);
    conf.write("# nameserver 127.0.0.57\nnameserver fe80::1%lo\n");
    stage.dns.set_silent(true);
    assert_eq!(answer(&scene, "api.example.com:443"), (504, "egress.dns_timeout".to_owned()));
    stage.dns.set_silent(false);
    until("the server of before answers", || answer(&scene, "api.example.com:443").0 == 200);
}

fn flooded(stage: &Stage) {
    // So long that no look-up ends by itself, however slow the machine is.
    let long = |settings: &mut Settings| settings.dns.timeout = Duration::from_secs(300);
    let scene = stage.play_with(POLICY, long, vec![]);
    let script = r#"[{"q": "*.example.org", "refuse": true}]"#;
    stage.dns.reset(Zone::default(), serde_json::from_str(script).unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::scope(|threads| {
        for n in 0..100 {
            let (scene, tell) = (&scene, tell.clone());
            threads.spawn(move || {
                let tunnel = scene.client.tunnel(&format!("x{n}.y.example.org:443"));
                let reply = tunnel.ok().and_then(|tunnel| tunnel.reply);
                tell.send(reply.map(|reply| reply.reason().to_owned())).unwrap();
            });
        }
        let refused: Vec<_> = told.iter().take(36).collect();
        assert!(refused.iter().flatten().all(|reason| reason.starts_with("egress.dns_failed ")));
        assert_eq!(answer(&scene, "api.example.com:443").0, 200);
        until("the others are asked for", || stage.dns.names().len() == 65);
        scene.handle.cut(&Selector::All, ClosedBy::Drain);
        assert_eq!(told.iter().take(64).flatten().count(), 0, "they were all under way");
    });
    stage.dns.reset(Zone::default(), vec![]);
    until("there is room again", || answer(&scene, "x0.y.example.org:443").0 == 200);
}
