//! Denials by the thousand: what is answered, what is recorded, and who is not touched by it.

use std::num::NonZeroU32;

use egret_proxy::Settings;
use egret_testkit::{
    client::{Patience, Segment, Wait},
    http1::Message,
};
use serde_json::Value;

use crate::{
    Claim, POLICY,
    counted::{get_as, workers},
    scene::{Scene, Stage},
};

pub(crate) const TRIALS: &[Claim] = &[
    ("a_flood_of_denials_is_summed_and_touches_nobody_else", flood),
    ("strangers_are_told_what_they_lack_and_summed_by_listener", strangers),
    ("tunnels_that_are_denied_after_their_200_are_summed_too", tunnels),
    ("what_is_malformed_is_no_denial", malformed),
];

/// Denials that are recorded one by one.
const FIGURE: usize = 3;
const FLOOD: usize = 60;

/// Sends one request so many times over one connection.
fn repeat(scene: &Scene, request: &[u8]) -> Vec<Message> {
    let segment = Segment { bytes: request.to_vec(), wait: Wait::Response };
    let mut channel = scene.client.connect().unwrap();
    channel.exchange(&vec![segment; FLOOD], Patience::Brief).replies
}

/// Another setting of the figure on top of `change`.
fn few(change: impl FnOnce(&mut Settings)) -> impl FnOnce(&mut Settings) {
    move |settings| {
        change(settings);
        settings.limits.denials_per_minute = NonZeroU32::new(FIGURE as u32).unwrap();
    }
}

/// The sum records, and how many denials they stand for.
fn sums(records: &[Value]) -> (Vec<&Value>, u64) {
    let sums: Vec<_> = records.iter().filter(|one| one["event"] == "audit.denials").collect();
    let count = sums.iter().map(|sum| sum["count"].as_u64().unwrap()).sum();
    (sums, count)
}

/// The decisions that were recorded by themselves for a reason.
fn decisions(records: &[Value], reason: &str) -> usize {
    let fits = |one: &&Value| one["event"] == "decision" && one["reason"] == reason;
    records.iter().filter(fits).count()
}

fn flood(stage: &Stage) {
    let (settings, known) = workers(&["noisy", "quiet"]);
    let scene = stage.play_with(POLICY, few(settings), known);
    let replies = repeat(&scene, &get_as("noisy", "evil.test"));
    assert_eq!(replies.len(), FLOOD, "a denial ends no connection");
    assert!(replies[..FIGURE].iter().all(|reply| reply.status() == 403));
    let limited: Vec<_> = replies.iter().filter(|reply| reply.status() == 429).collect();
    // A slow machine takes long enough for one or two more of its own.
    assert!(limited.len() > FLOOD / 2, "{}", limited.len());
    assert!(limited.iter().all(|reply| reply.reason().starts_with("egress.rate_limited ")));
    assert!((1..=20).contains(&limited[0].value("retry-after").parse::<u64>().unwrap()));

    let get = |name, host| scene.client.request(&get_as(name, host)).unwrap().status();
    assert_eq!(get("quiet", "api.example.com"), 200);
    assert_eq!(get("quiet", "evil.test"), 403);
    assert_eq!(get("noisy", "api.example.com"), 200, "what is allowed is allowed");
    assert!(stage.dns.log().iter().all(|asked| !format!("{asked:?}").contains("evil")));

    let records = scene.end();
    let (sums, count) = sums(&records);
    assert_eq!(count, limited.len() as u64, "{sums:#?}");
    assert_eq!(decisions(&records, "egress.host_not_allowed"), FLOOD - limited.len() + 1);
    for sum in &sums {
        assert_eq!(
            (&sum["worker"], &sum["reason"]),
            (&"noisy".into(), &"egress.rate_limited".into())
        );
        assert!(sum["time"].is_string() && sum.get("listener").is_none());
    }
    let told = limited[0].reason();
    assert!(sums.iter().any(|sum| told.ends_with(sum["id"].as_str().unwrap())), "{told}");
}

fn strangers(stage: &Stage) {
    let (settings, known) = workers(&["somebody"]);
    let scene = stage.play_with(POLICY, few(settings), known);
    let wrong = get_as("somebody-else", "api.example.com");
    let replies = repeat(&scene, &wrong);
    assert_eq!(replies.len(), FLOOD);
    for reply in &replies {
        assert_eq!(reply.status(), 407);
        assert!(reply.reason().starts_with("egress.identity_invalid "));
        assert!(!reply.value("proxy-authenticate").is_empty());
    }
    let get = scene.client.request(&get_as("somebody", "api.example.com")).unwrap();
    assert_eq!(get.status(), 200);
    let denied = scene.client.request(&get_as("somebody", "evil.test")).unwrap();
    assert_eq!(denied.status(), 403, "a worker does not pay for strangers");
    let listener = scene.address.to_string();
    let records = scene.end();
    let (sums, count) = sums(&records);
    let apart = decisions(&records, "egress.identity_invalid");
    assert_eq!(count as usize + apart, FLOOD);
    assert!((FIGURE..FLOOD / 2).contains(&apart), "{apart}");
    for sum in sums {
        assert_eq!(sum["listener"], *listener);
        assert_eq!(sum["reason"], "egress.identity_invalid");
        assert!(sum.get("worker").is_none());
    }
}

fn tunnels(stage: &Stage) {
    let scene = stage.play_with(POLICY, few(|_| {}), vec![]);
    for _ in 0..10 {
        let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
        assert_eq!(tunnel.status(), 200);
        tunnel.channel.send(b"\x00 neither TLS nor HTTP");
        assert!(tunnel.channel.is_closed_within(std::time::Duration::from_secs(3)));
    }
    let records = scene.end();
    let apart = decisions(&records, "egress.protocol_not_allowed");
    assert!((FIGURE..10).contains(&apart), "{apart}");
    assert_eq!(sums(&records).1 as usize + apart, 10);
    assert_eq!(records.iter().filter(|one| one["event"] == "completion").count(), apart);
}

fn malformed(stage: &Stage) {
    let scene = stage.play_with(POLICY, few(|_| {}), vec![]);
    repeat(&scene, &get_as("", "evil.test"));
    let bad = || scene.client.request(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n").unwrap();
    for _ in 0..FIGURE + 2 {
        let reply = bad();
        assert_eq!(reply.status(), 400);
        assert!(reply.reason().starts_with("egress.request_malformed "));
    }
    let records = scene.end();
    assert_eq!(decisions(&records, "egress.request_malformed"), FIGURE + 2);
}
