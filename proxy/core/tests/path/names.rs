//! Names, answers and addresses.

use std::time::{Duration, Instant};

use egret_testkit::{
    client::Tunnel,
    dns::{Kind, Zone},
    origin::Plan,
};
use serde_json::json;

use crate::{
    Claim, POLICY,
    scene::{Scene, Stage},
};

pub(crate) const TRIALS: &[Claim] = &[
    ("one_forbidden_address_refuses_the_whole_answer", mixed),
    ("every_kind_of_inner_address_is_refused_and_none_dialled", inner),
    ("a_range_is_unlocked_for_the_rules_it_names_only", unlocked),
    ("the_proxys_own_listener_is_never_a_target", own),
    ("a_silent_name_server_is_a_timeout_within_its_bound", silent),
    ("a_failing_name_server_is_not_a_timeout", failing),
    ("a_family_that_fails_counts_as_empty", half),
    ("a_static_name_is_never_asked_for", fixed),
    ("one_look_up_serves_all_who_wait", single_flight),
    ("an_answer_is_kept_no_longer_than_its_time_to_live", ttl),
];

fn connect(scene: &Scene, authority: &str) -> Tunnel {
    scene.client.tunnel(authority).unwrap()
}

fn code(tunnel: &Tunnel) -> String {
    let reason = tunnel.reply.as_ref().map(|reply| reply.reason()).unwrap_or_default();
    reason.split(' ').next().unwrap_or_default().to_owned()
}

fn zone(stage: &Stage, records: &[(&str, &str)]) {
    let mut zone = Zone::default();
    for (name, address) in records {
        zone.add(name, address);
    }
    stage.dns.reset(zone, vec![]);
}

fn mixed(stage: &Stage) {
    let scene = stage.play(POLICY);
    zone(stage, &[("api.example.com", "93.184.216.34"), ("api.example.com", "10.0.0.1")]);
    let tunnel = connect(&scene, "api.example.com:443");
    assert_eq!((tunnel.status(), &*code(&tunnel)), (403, "egress.address_forbidden"));
    assert!(stage.origin.connections().is_empty());
    let (decision, _) = scene.both_records("egress.address_forbidden");
    assert_eq!(decision["addresses"], json!(["93.184.216.34", "10.0.0.1"]));
    let body = tunnel.reply.unwrap().text();
    assert!(!body.contains("10.0.0.1"), "no internal address leaves: {body}");
}

fn inner(stage: &Stage) {
    for address in [
        "127.0.0.1",
        "169.254.169.254",
        "10.1.2.3",
        "100.100.100.200",
        "::1",
        "fd00:ec2::254",
        "64:ff9b::7f00:1",
        "2002:a9fe:a9fe::1",
        "2606:2800:220:1:0:5efe:a9fe:a9fe",
    ] {
        let scene = stage.play(POLICY);
        zone(stage, &[("api.example.com", address)]);
        assert_eq!(
            code(&connect(&scene, "api.example.com:443")),
            "egress.address_forbidden",
            "{address}"
        );
        assert!(stage.origin.connections().is_empty(), "{address} was dialled");
    }
}

fn unlocked(stage: &Stage) {
    let policy = format!(
        "{POLICY}\n[[rule]]\nid = \"other\"\neffect = \"allow\"\nhosts = [\"db.internal\"]\n\
         schemes = [\"http\"]\nports = [80]\n\
         [[network.allow]]\ncidr = \"10.20.0.0/16\"\nrules = [\"other\"]\n"
    );
    let scene = stage.play(&policy);
    zone(stage, &[("db.internal", "10.20.0.7"), ("api.example.com", "10.20.0.7")]);
    assert_eq!(scene.client.get("http://db.internal/").unwrap().status(), 200);
    assert_eq!(scene.client.get("http://api.example.com/").unwrap().status(), 403);
    assert_eq!(stage.origin.connections().len(), 1);
}

fn own(stage: &Stage) {
    let scene = stage.play(POLICY);
    let port = scene.address.port();
    let policy = format!(
        "version = 1\n[[rule]]\nid = \"any\"\neffect = \"allow\"\nhosts = [\"*\"]\nports = [{port}, 80]\n\
         schemes = [\"http\"]\n[[network.allow]]\ncidr = \"127.0.0.0/8\"\nrules = [\"any\"]\n"
    );
    scene.handle.replace_policy(crate::scene::compile(&policy));
    zone(stage, &[("self.test", "127.0.0.1"), ("other.test", "127.0.0.9")]);
    let reply = scene.client.get(&format!("http://self.test:{port}/")).unwrap();
    assert!(reply.reason().starts_with("egress.address_forbidden "), "{}", reply.reason());
    assert_eq!(scene.client.get("http://other.test/").unwrap().status(), 200);
}

fn silent(stage: &Stage) {
    let scene = stage.play(POLICY);
    stage.dns.set_silent(true);
    let began = Instant::now();
    let tunnel = connect(&scene, "api.example.com:443");
    assert_eq!((tunnel.status(), &*code(&tunnel)), (504, "egress.dns_timeout"));
    assert!(began.elapsed() < Duration::from_secs(2), "the bound is 400 ms");
    stage.dns.set_silent(false);
    assert_eq!(connect(&scene, "api.example.com:443").status(), 200, "a failure is not kept");
}

fn failing(stage: &Stage) {
    let scene = stage.play(POLICY);
    let script = r#"[{"q": "api.example.com", "rcode": "SERVFAIL", "answers": []},
                     {"q": "api.example.com", "qtype": "AAAA", "rcode": "SERVFAIL", "answers": []}]"#;
    stage.dns.reset(Zone::default(), serde_json::from_str(script).unwrap());
    let tunnel = connect(&scene, "api.example.com:443");
    assert_eq!((tunnel.status(), &*code(&tunnel)), (502, "egress.dns_failed"));
    zone(stage, &[("api.example.com", "93.184.216.34")]);
    assert_eq!(connect(&scene, "api.example.com:443").status(), 200);
}

fn half(stage: &Stage) {
    let scene = stage.play(POLICY);
    let script = r#"[{"q": "api.example.com", "answers": [{"type": "A", "data": "93.184.216.34", "ttl": 0}]},
                     {"q": "api.example.com", "qtype": "AAAA", "answers": [], "drop": true}]"#;
    stage.dns.reset(Zone::default(), serde_json::from_str(script).unwrap());
    assert_eq!(connect(&scene, "api.example.com:443").status(), 200);
}

fn fixed(stage: &Stage) {
    let name = egret_policy::HostName::from_wire("api.example.com").unwrap();
    let hosts = |settings: &mut egret_proxy::Settings| {
        settings.dns.hosts.insert(name, vec!["93.184.216.99".parse().unwrap()]);
    };
    let scene = stage.play_with(POLICY, hosts, vec![]);
    assert_eq!(scene.client.get("http://api.example.com/").unwrap().status(), 200);
    assert!(stage.dns.log().is_empty());
    assert_eq!(stage.origin.dials_to("93.184.216.99".parse().unwrap()).len(), 1);
}

fn single_flight(stage: &Stage) {
    let scene = stage.play(POLICY);
    let script = r#"[{"q": "api.example.com", "delay_ms": 200, "answers": [{"type": "A", "data": "93.184.216.34", "ttl": 0}]}]"#;
    stage.dns.reset(Zone::default(), serde_json::from_str(script).unwrap());
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| assert_eq!(connect(&scene, "api.example.com:443").status(), 200));
        }
    });
    let asked = stage.dns.log().iter().filter(|query| query.kind == Kind::A).count();
    assert_eq!(asked, 1);
}

fn ttl(stage: &Stage) {
    let scene = stage.play(POLICY);
    let script = r#"[{"q": "api.example.com", "nth": 1, "answers": [{"type": "A", "data": "93.184.216.34", "ttl": 1}]},
                     {"q": "api.example.com", "nth": "2+", "answers": [{"type": "A", "data": "127.0.0.1", "ttl": 1}]}]"#;
    stage.dns.reset(Zone::default(), serde_json::from_str(script).unwrap());
    stage.origin.reset(Plan::good(&stage.pki).unwrap());
    assert_eq!(connect(&scene, "api.example.com:443").status(), 200);
    assert_eq!(connect(&scene, "api.example.com:443").status(), 200, "kept for its second");
    let deadline = Instant::now() + Duration::from_secs(5);
    while connect(&scene, "api.example.com:443").status() == 200 {
        assert!(Instant::now() < deadline, "the first answer is kept for ever");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(stage.origin.dials_to("127.0.0.1".parse().unwrap()).is_empty());
}
