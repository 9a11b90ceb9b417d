//! Limits that count over exchanges: each one's denial beside its nearest allow.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use egret_policy::{Worker, WorkerId};
use egret_proxy::{IdentityKind, KnownWorker, Proofs, RunError, Settings};
use egret_testkit::{
    client::{Channel, Patience, Segment, Tunnel},
    http1::Message,
    origin::{Answer, Plan, Service},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    Claim, POLICY,
    origins::{open_websocket, speaking_websocket},
    scene::{Around, Kept, Scene, Stage, compile},
};

pub(crate) const TRIALS: &[Claim] = &[
    ("requests_beyond_the_rate_are_429_and_say_when_to_come_back", requests),
    ("workers_do_not_share_a_rate", two_workers),
    ("requests_inside_a_tunnel_are_counted_one_by_one", inside_a_tunnel),
    ("a_tunnel_beyond_the_number_is_429_before_anything_is_looked_up", tunnels),
    ("of_two_tunnels_that_open_at_once_the_second_hello_is_too_late", late_tunnel),
    ("a_blind_tunnel_counts_as_one_request", tunnel_is_a_request),
    ("an_opaque_tunnel_is_cut_at_the_budget_to_the_byte", opaque_up),
    ("what_comes_back_draws_on_its_own_budget", opaque_down),
    ("a_websocket_draws_on_the_budget_of_its_request", websocket),
    ("a_body_beyond_the_budget_is_429_and_so_is_what_follows", body_up),
    ("an_answer_beyond_the_budget_is_cut", body_down),
    ("a_reload_keeps_the_counts_and_changes_the_figures_of_what_is_live", reload),
    ("a_restart_keeps_the_day", restart),
    ("an_end_does_not_wait_for_a_disk_that_stands_still_and_tells", unsaved),
];

fn policy(limits: &str) -> String {
    format!("{POLICY}limits = {{ {limits} }}\n")
}

fn tcp(limits: &str) -> String {
    format!(
        "version = 1\n[[rule]]\nid = \"raw\"\neffect = \"allow\"\nhosts = [\"api.example.com\"]\n\
         schemes = [\"tcp\"]\nports = [2222]\nlimits = {{ {limits} }}\n"
    )
}

/// A refusal by a limit: its code, its rule and the wait that it names.
fn refused(reply: &Message, code: &str) -> u64 {
    assert_eq!(reply.status(), 429);
    assert!(reply.reason().starts_with(&format!("{code} ")), "{}", reply.reason());
    let body: Value = serde_json::from_str(&reply.text()).unwrap();
    assert_eq!(body["code"], code);
    assert!(body["rule"].is_string(), "{body}");
    reply.value("retry-after").parse().unwrap()
}

/// Workers of these names, whose token is their name, and a listener that takes tokens alone.
pub(crate) fn workers(names: &[&str]) -> (impl FnOnce(&mut Settings) + use<>, Vec<KnownWorker>) {
    let known = names.iter().map(|name| KnownWorker {
        worker: Worker { id: WorkerId::parse(name).unwrap(), labels: Default::default() }.into(),
        proofs: Proofs { token_sha256: Some(Sha256::digest(name).into()), ..Proofs::default() },
    });
    let only_token =
        |settings: &mut Settings| settings.listeners[0].identity = vec![IdentityKind::Token];
    (only_token, known.collect())
}

/// The request of a worker from [`workers`].
pub(crate) fn get_as(name: &str, host: &str) -> Vec<u8> {
    let proof = STANDARD.encode(format!("{name}:{name}"));
    format!(
        "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic {proof}\r\n\r\n"
    )
    .into_bytes()
}

fn requests(stage: &Stage) {
    let scene = stage.play(&policy("requests_per_minute = 2"));
    let get = || scene.client.get("http://api.example.com/").unwrap();
    assert_eq!((get().status(), get().status()), (200, 200));
    let wait = refused(&get(), "egress.rate_limited");
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(stage.origin.requests().len(), 2);
    let (decision, completion) = scene.both_records("egress.rate_limited");
    assert_eq!((&decision["verdict"], &decision["rule"]), (&"deny".into(), &"allowed".into()));
    assert_eq!((&completion["status"], &completion["closed_by"]), (&429.into(), &"limit".into()));
    // Another rule has a count of its own.
    let scene = stage.play(&format!(
        "{}[[rule]]\nid = \"other\"\neffect = \"allow\"\nhosts = [\"www.example.com\"]\n\
         schemes = [\"http\"]\nports = [80]\n",
        policy("requests_per_minute = 1")
    ));
    let get = |host: &str| scene.client.get(&format!("http://{host}/")).unwrap().status();
    assert_eq!((get("api.example.com"), get("api.example.com")), (200, 429));
    assert_ne!(get("www.example.com"), 429);
}

fn two_workers(stage: &Stage) {
    let (settings, known) = workers(&["a", "b"]);
    let scene = stage.play_with(&policy("requests_per_minute = 1"), settings, known);
    let get = |name| scene.client.request(&get_as(name, "api.example.com")).unwrap().status();
    assert_eq!((get("a"), get("a"), get("b"), get("b")), (200, 429, 200, 429));
}

fn inside_a_tunnel(stage: &Stage) {
    let scene = stage.play(&policy("requests_per_minute = 2, tunnels = 1"));
    let mut tunnel = scene.client.tunnel("api.example.com:80").unwrap();
    let get = b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let mut statuses = vec![];
    for _ in 0..3 {
        let played = tunnel.channel.exchange(&[Segment::now(get)], Patience::Brief);
        statuses.push(played.replies[0].status());
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(stage.origin.requests().len(), 2);
    // The tunnel itself has the one seat; the rule's requests are used up as well.
    assert_eq!(scene.client.tunnel("api.example.com:80").unwrap().status(), 429);
}

/// A tunnel in which TLS has been spoken.
fn open(scene: &Scene) -> Channel {
    scene.client.tunnel("api.example.com:443").unwrap().tls(Some("api.example.com")).unwrap()
}

fn connect(scene: &Scene) -> Tunnel {
    scene.client.tunnel("api.example.com:443").unwrap()
}

fn tunnels(stage: &Stage) {
    for port in [443, 80] {
        let scene = stage.play(&policy("tunnels = 1"));
        let mut first = scene.client.tunnel(&format!("api.example.com:{port}")).unwrap();
        assert_eq!(first.status(), 200);
        let channel = if port == 443 {
            first.tls(Some("api.example.com")).unwrap()
        } else {
            let get = b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
            let played = first.channel.exchange(&[Segment::now(get)], Patience::Brief);
            assert_eq!(played.replies[0].status(), 200);
            first.channel
        };
        let looked_up = stage.dns.log().len();
        let reply = connect(&scene).reply.unwrap();
        assert!(refused(&reply, "egress.rate_limited") >= 1);
        assert_eq!(stage.dns.log().len(), looked_up);
        drop(channel);
        scene.wait_until_empty();
        drop(open(&scene));
    }
}

fn late_tunnel(stage: &Stage) {
    let patient =
        |settings: &mut Settings| settings.limits.first_byte_timeout = Duration::from_secs(20);
    let scene = stage.play_with(&policy("tunnels = 1"), patient, vec![]);
    let (first, second) = (connect(&scene), connect(&scene));
    assert_eq!((first.status(), second.status()), (200, 200));
    let _first = first.tls(Some("api.example.com")).unwrap();
    assert!(second.tls(Some("api.example.com")).is_err());
    let (decision, completion) = scene.both_records("egress.rate_limited");
    assert_eq!((&decision["verdict"], &decision["rule"]), (&"deny".into(), &"allowed".into()));
    assert_eq!(completion["closed_by"], "limit");
    let spoken = stage.origin.connections().iter().filter(|one| !one.wire().is_empty()).count();
    assert_eq!(spoken, 1, "nothing of the second one went up");
}

fn tunnel_is_a_request(stage: &Stage) {
    let scene = stage.play(&policy("requests_per_minute = 2"));
    let mut channel = open(&scene);
    let get = b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    for _ in 0..3 {
        let played = channel.exchange(&[Segment::now(get)], Patience::Brief);
        assert_eq!(played.replies[0].status(), 200, "what is inside is not seen");
    }
    assert_eq!(scene.client.get("http://api.example.com/").unwrap().status(), 200);
    refused(&connect(&scene).reply.unwrap(), "egress.rate_limited");
}

/// An opaque tunnel to a port where `service` answers.
fn raw(stage: &Stage, scene: &Scene, service: Service) -> Tunnel {
    stage.origin.open(2222).unwrap();
    let mut plan = Plan::good(&stage.pki).unwrap();
    plan.services.insert(2222, service);
    stage.origin.reset(plan);
    scene.client.tunnel("api.example.com:2222").unwrap()
}

fn arrived(stage: &Stage, bytes: usize) -> bool {
    stage.origin.wait_until(Duration::from_secs(3), |connections| {
        connections.iter().map(|one| one.wire().len()).sum::<usize>() >= bytes
    })
}

fn opaque_up(stage: &Stage) {
    let scene = stage.play(&tcp("bytes_up_per_day = 1000"));
    let mut tunnel = raw(stage, &scene, Service::Sink);
    tunnel.channel.send(&[b'x'; 400]);
    tunnel.channel.send(&[b'y'; 600]);
    assert!(arrived(stage, 1000));
    assert!(!tunnel.channel.is_closed_within(Duration::from_millis(200)), "it is not passed yet");
    tunnel.channel.send(b"z");
    assert!(tunnel.channel.is_closed_within(Duration::from_secs(3)));
    let completion = scene.record("the cut", |record| record["event"] == "completion");
    assert_eq!(completion["closed_by"], "limit");
    assert_eq!(completion["reason"], "egress.budget_exhausted");
    assert_eq!(completion["bytes_up"], 1000);
    let reply = scene.client.tunnel("api.example.com:2222").unwrap().reply.unwrap();
    assert!((1..=86_400).contains(&refused(&reply, "egress.budget_exhausted")));
    let wires: Vec<_> = stage.origin.connections().iter().map(|one| one.wire().len()).collect();
    assert_eq!(wires, [1000]);
    // All at once, the last of it is beyond the budget in the middle of a read.
    let scene = stage.play(&tcp("bytes_up_per_day = 1000"));
    let mut tunnel = raw(stage, &scene, Service::Sink);
    tunnel.channel.send(&[b'x'; 5000]);
    assert!(tunnel.channel.is_closed_within(Duration::from_secs(3)));
    scene.wait_until_empty();
    assert!(arrived(stage, 1000));
    let wire = stage.origin.connections()[0].wire();
    assert_eq!(wire.len(), 1000);
}

fn opaque_down(stage: &Stage) {
    let scene = stage.play(&tcp("bytes_down_per_day = 1000, bytes_up_per_day = 5000"));
    let mut tunnel = raw(stage, &scene, Service::Echo);
    tunnel.channel.send(&[b'x'; 1000]);
    assert_eq!(tunnel.channel.receive_exactly(1000, Duration::from_secs(3)).len(), 1000);
    tunnel.channel.send(b"y");
    assert!(tunnel.channel.is_closed_within(Duration::from_secs(3)));
    let completion = scene.record("the cut", |record| record["event"] == "completion");
    assert_eq!((&completion["bytes_up"], &completion["bytes_down"]), (&1001.into(), &1000.into()));
    assert_eq!(completion["reason"], "egress.budget_exhausted");
    let ended = |connections: &[egret_testkit::origin::Connection]| {
        connections.iter().all(|connection| connection.has_ended())
    };
    assert!(stage.origin.wait_until(Duration::from_secs(3), ended), "both sides are cut");
}

fn websocket(stage: &Stage) {
    let scene = stage.play(&policy("bytes_up_per_day = 10, requests_per_minute = 1"));
    speaking_websocket(stage);
    let mut channel = scene.client.connect().unwrap();
    open_websocket(&mut channel, "http://api.example.com/chat");
    channel.send(b"0123456789");
    let heard = |words: &[u8]| {
        stage.origin.wait_until(Duration::from_secs(3), |connections| {
            connections.iter().any(|connection| connection.wire().ends_with(words))
        })
    };
    assert!(heard(b"0123456789"), "it counts as one request");
    channel.send(b"a");
    assert!(channel.is_closed_within(Duration::from_secs(3)));
    let completion = scene.record("the cut", |record| record["event"] == "completion");
    assert_eq!((&completion["closed_by"], &completion["bytes_up"]), (&"limit".into(), &10.into()));
    assert_eq!(completion["reason"], "egress.budget_exhausted");
    assert!(heard(b"0123456789"), "and nothing more has come");
}

fn post(bytes: usize) -> Vec<u8> {
    let head = format!(
        "POST http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\
         Content-Length: {bytes}\r\n\r\n"
    );
    [head.into_bytes(), vec![b'x'; bytes]].concat()
}

fn body_up(stage: &Stage) {
    let scene = stage.play(&policy("bytes_up_per_day = 10"));
    let post = |bytes| scene.client.request(&post(bytes)).unwrap();
    assert_eq!(post(9).status(), 200);
    let reply = post(2);
    assert_eq!(reply.status(), 429);
    assert!(reply.reason().starts_with("egress.budget_exhausted "));
    assert!(!reply.value("retry-after").is_empty());
    let completion = scene.record("the cut", |record| {
        record["event"] == "completion" && record["reason"] == "egress.budget_exhausted"
    });
    assert_eq!((&completion["closed_by"], &completion["bytes_up"]), (&"limit".into(), &0.into()));
    let complete = stage.origin.requests().iter().filter(|request| request.complete).count();
    assert_eq!(complete, 1);
    refused(&scene.client.get("http://api.example.com/").unwrap(), "egress.budget_exhausted");
}

fn body_down(stage: &Stage) {
    let scene = stage.play(&policy("bytes_down_per_day = 1000"));
    let pieces = ["HTTP/1.1 200 OK\r\n\r\n", &"x".repeat(500), &"x".repeat(501)];
    let answer = Answer::pieces(pieces, Duration::from_millis(100));
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(answer));
    let reply = scene.client.get("http://api.example.com/").unwrap();
    assert_eq!(reply.status(), 200);
    assert!(!reply.complete, "cut in the middle, not passed off as whole");
    let completion = scene.record("the cut", |record| record["closed_by"] == "limit");
    assert_eq!(completion["reason"], "egress.budget_exhausted");
    assert_eq!(completion["bytes_down"], 500);
    refused(&scene.client.get("http://api.example.com/").unwrap(), "egress.budget_exhausted");
}

fn reload(stage: &Stage) {
    let scene = stage.play(&tcp("bytes_up_per_day = 1000, requests_per_minute = 2"));
    let mut tunnel = raw(stage, &scene, Service::Sink);
    tunnel.channel.send(&[b'x'; 600]);
    assert!(arrived(stage, 600));
    let smaller = tcp("bytes_up_per_day = 700, requests_per_minute = 1");
    assert_eq!(scene.handle.replace_policy(compile(&smaller)), 0);
    tunnel.channel.send(&[b'x'; 600]);
    assert!(tunnel.channel.is_closed_within(Duration::from_secs(3)));
    let completion = scene.record("the cut", |record| record["event"] == "completion");
    assert_eq!(completion["bytes_up"], 700);
    let connect = || scene.client.tunnel("api.example.com:2222").unwrap();
    refused(&connect().reply.unwrap(), "egress.budget_exhausted");
    // Half of the burst is gone, and half of one request is none.
    scene.handle.replace_policy(compile(&tcp("bytes_up_per_day = 800, requests_per_minute = 1")));
    refused(&connect().reply.unwrap(), "egress.rate_limited");
    scene.handle.replace_policy(compile(&tcp("bytes_up_per_day = 800")));
    assert_eq!(connect().status(), 200);
}

fn restart(stage: &Stage) {
    let limits = policy("bytes_up_per_day = 10");
    let scene = stage.play(&limits);
    assert_eq!(scene.client.request(&post(7)).unwrap().status(), 200);
    let used = scene.end_and_keep();
    assert_eq!(used.len(), 1);
    assert_eq!((used[0].worker.as_str(), used[0].up), ("anonymous", 7));

    let scene = stage.play_after(&limits, used);
    assert_eq!(scene.client.request(&post(3)).unwrap().status(), 200);
    assert_eq!(scene.client.request(&post(1)).unwrap().status(), 429);
    let used = scene.end_and_keep();
    assert_eq!(used[0].up, 10);
    let yesterday = stage.play_after(&limits, vec![]);
    assert_eq!(yesterday.client.request(&post(3)).unwrap().status(), 200);
}

fn unsaved(stage: &Stage) {
    let (kept, few) = (Arc::<Kept>::default(), |settings: &mut Settings| {
        settings.limits.denials_per_minute = NonZeroU32::MIN;
    });
    let around = Around { kept: kept.clone(), ..stage.surroundings() };
    let mut scene = stage.play_in(&policy("bytes_up_per_day = 10"), few, around);
    assert_eq!(scene.client.request(&post(7)).unwrap().status(), 200);
    let denied = || scene.client.get("http://evil.test/").unwrap().status();
    assert_eq!((denied(), denied()), (403, 429));
    // Whoever saves waits for this.
    let stands_still = kept.0.lock().unwrap();
    scene.stop.cancel();
    let end = scene.ended();
    assert!(matches!(end, Err(RunError::Unsaved(_))), "{end:?}");
    let sums = scene.records().iter().filter(|one| one["event"] == "audit.denials").count();
    assert_eq!(sums, 1, "what is recorded does not hang on what is saved");
    drop(stands_still);
}
