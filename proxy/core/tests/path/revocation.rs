//! Cuts, and policies that change under what is live.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use egret_policy::{RuleId, Timestamp, WorkerId};
use egret_proxy::{Clock, ClosedBy, Selector};
use egret_testkit::{
    client::Channel,
    origin::{Answer, Plan, Step},
};

use crate::{
    Claim, POLICY,
    scene::{Around, Scene, Stage, compile},
};

pub(crate) const TRIALS: &[Claim] = &[
    ("a_cut_resets_both_ends_of_a_tunnel", cut_tunnel),
    ("a_cut_ends_a_request_that_waits_for_its_answer", cut_waiting),
    ("a_cut_reaches_what_one_rule_allowed", cut_rule),
    ("a_new_policy_cuts_what_it_denies_and_nothing_else", replaced),
    ("a_removed_worker_loses_its_connections", removed),
    ("a_rule_that_expires_ends_its_tunnels", expired),
    ("a_rule_that_expires_while_a_name_is_resolved_lets_nothing_out", expired_on_the_way),
    ("a_proxy_that_can_cut_no_more_what_expires_cuts_all_and_ends", expiring_no_more),
];

/// A tunnel in which TLS has been spoken.
fn tunnel(scene: &Scene, host: &str) -> Channel {
    let tunnel = scene.client.tunnel(&format!("{host}:443")).unwrap();
    assert_eq!(tunnel.status(), 200);
    tunnel.tls(Some(host)).unwrap()
}

fn all_origins_ended(stage: &Stage) -> bool {
    stage.origin.wait_until(Duration::from_secs(3), |connections| {
        connections.iter().all(|connection| connection.has_ended())
    })
}

fn cut_tunnel(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut channel = tunnel(&scene, "api.example.com");
    assert!(scene.handle.cut(&Selector::All, ClosedBy::Quarantine) > 0);
    assert!(channel.is_closed_within(Duration::from_secs(1)));
    assert!(all_origins_ended(stage));
    let completion = scene.record("the cut", |record| record["event"] == "completion");
    assert_eq!(completion["closed_by"], "quarantine");
    scene.wait_until_empty();
}

fn cut_waiting(stage: &Stage) {
    let scene = stage.play(POLICY);
    let answer = Answer::with(|_| vec![Step::Wait(Duration::from_secs(30))]);
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(answer));
    let mut channel = scene.client.connect().unwrap();
    channel.send(egret_testkit::client::get("http://api.example.com/").as_bytes());
    assert!(stage.origin.wait_until(Duration::from_secs(3), |connections| {
        connections.iter().any(|connection| !connection.requests().is_empty())
    }));
    scene.handle.cut(&Selector::Worker(WorkerId::parse("anonymous").unwrap()), ClosedBy::Revoked);
    assert!(channel.is_closed_within(Duration::from_secs(1)));
    let completion = scene.record("the cut", |record| record["event"] == "completion");
    assert_eq!(completion["closed_by"], "revoked");
    assert!(completion.get("status").is_none());
    scene.wait_until_empty();
}

const TWO_RULES: &str = r#"
version = 1
[[rule]]
id = "api"
effect = "allow"
hosts = ["api.example.com"]
[[rule]]
id = "www"
effect = "allow"
hosts = ["www.example.org"]
"#;

fn cut_rule(stage: &Stage) {
    let scene = stage.play(TWO_RULES);
    let (mut api, mut www) = (tunnel(&scene, "api.example.com"), tunnel(&scene, "www.example.org"));
    // The rule is known once the hello has passed; the handshake has shown that it did.
    assert_eq!(
        scene.handle.cut(&Selector::Rule(RuleId::parse("api").unwrap()), ClosedBy::Policy),
        1
    );
    assert!(api.is_closed_within(Duration::from_secs(1)));
    assert!(!www.is_closed_within(Duration::from_millis(200)));
}

fn replaced(stage: &Stage) {
    let scene = stage.play(TWO_RULES);
    let (mut api, mut www) = (tunnel(&scene, "api.example.com"), tunnel(&scene, "www.example.org"));
    let only_www = TWO_RULES.replace("api.example.com", "other.example.com");
    assert_eq!(scene.handle.replace_policy(compile(&only_www)), 1);
    assert!(api.is_closed_within(Duration::from_secs(1)));
    assert!(!www.is_closed_within(Duration::from_millis(200)));
    assert_eq!(scene.client.tunnel("api.example.com:443").unwrap().status(), 403);
    assert_eq!(scene.client.tunnel("www.example.org:443").unwrap().status(), 200);
    let completion = scene.record("the loser", |record| {
        record["event"] == "completion"
            && record["host"] == "api.example.com"
            && record["status"] == 200
    });
    assert_eq!(completion["closed_by"], "policy");
}

fn removed(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut channel = tunnel(&scene, "api.example.com");
    assert!(scene.handle.remove_worker(&WorkerId::parse("somebody-else").unwrap()) == 0);
    assert!(scene.handle.remove_worker(&WorkerId::parse("anonymous").unwrap()) > 0);
    assert!(channel.is_closed_within(Duration::from_secs(1)));
    scene.wait_until_empty();
}

fn expired(stage: &Stage) {
    let at = Timestamp::now() + Duration::from_millis(1500);
    let policy = format!("{POLICY}expires = {at:.3}\n");
    let scene = stage.play(&policy);
    let mut channel = tunnel(&scene, "api.example.com");
    assert!(channel.is_closed_within(Duration::from_secs(4)));
    let completion = scene.record("the end", |record| record["event"] == "completion");
    assert_eq!(completion["closed_by"], "policy");
    assert_eq!(scene.client.tunnel("api.example.com:443").unwrap().status(), 403);
}

fn expired_on_the_way(stage: &Stage) {
    let at = Timestamp::now() + Duration::from_millis(400);
    let policy = format!("{POLICY}expires = {at:.3}\n");
    let patient =
        |settings: &mut egret_proxy::Settings| settings.dns.timeout = Duration::from_secs(5);
    let scene = stage.play_with(&policy, patient, vec![]);
    let script = r#"[{"q": "api.example.com", "delay_ms": 900,
                      "answers": [{"type": "A", "data": "93.184.216.34", "ttl": 0}]}]"#;
    stage.dns.reset(egret_testkit::dns::Zone::default(), serde_json::from_str(script).unwrap());
    let reply = scene.client.get("http://api.example.com/").unwrap();
    assert_eq!(reply.status(), 403);
    assert!(stage.origin.requests().is_empty());
}

/// A clock that fails everybody but the recorder once it is broken.
#[derive(Default)]
struct Fragile(AtomicBool);

impl Clock for Fragile {
    fn now(&self) -> Timestamp {
        let recording = thread::current().name() == Some("recorder");
        assert!(recording || !self.0.load(Ordering::Relaxed), "the clock is broken");
        Timestamp::now()
    }
}

fn expiring_no_more(stage: &Stage) {
    let clock = Arc::<Fragile>::default();
    let around = Around { clock: clock.clone(), ..stage.surroundings() };
    let mut scene = stage.play_in(POLICY, |_| {}, around);
    let mut channel = tunnel(&scene, "api.example.com");
    clock.0.store(true, Ordering::Relaxed);
    let end = scene.ended().unwrap_err();
    assert_eq!(end.to_string(), "what looks after what is open has ended by itself");
    assert!(end.source().unwrap().to_string().contains("the clock is broken"));
    assert!(channel.is_closed_within(Duration::from_secs(1)));
    assert!(all_origins_ended(stage));
}
