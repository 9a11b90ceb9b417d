//! What is counted of each way an exchange can go, and that nothing of the traffic names a series.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use egret_proxy::{ClosedBy, Selector};
use egret_testkit::{
    client::{Patience, Segment},
    hello::HelloShape,
    origin::{Plan, Service},
};
use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::{
    Claim, POLICY,
    counted::{get_as, workers},
    origins::{open_websocket, speaking_websocket},
    scene::{Scene, Stage},
};

pub(crate) const TRIALS: &[Claim] = &[
    ("verdicts_are_counted_by_the_reason_that_is_recorded", verdicts),
    ("look_ups_are_counted_by_how_they_ended_and_not_when_the_answer_was_kept", look_ups),
    ("connects_are_counted_by_how_they_ended_and_not_when_one_was_kept", connects),
    ("an_open_tunnel_is_counted_by_what_it_carries_until_it_ends", tunnels),
    ("bytes_are_counted_as_they_move", bytes),
    ("a_cut_counts_what_it_ended", cut),
    ("a_limit_counts_what_it_refused", limits),
    ("hosts_workers_and_paths_add_no_series", no_new_series),
];

/// Every series with its figure.
type Figures = BTreeMap<String, f64>;

fn figures(scene: &Scene) -> Figures {
    let mut registry = Registry::with_prefix("egret");
    registry.register_collector(Box::new(scene.metrics.clone()));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let figures = samples.map(|line| {
        let (series, figure) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), figure.parse().unwrap())
    });
    figures.collect()
}

/// What has changed since `before`, but for what took which time.
fn changed(before: &Figures, after: &Figures) -> Figures {
    let timed = |series: &str| series.contains("_bucket") || series.contains("_sum");
    let changed = after.iter().filter(|(series, _)| !timed(series));
    let changed = changed.map(|(series, figure)| (series.clone(), figure - before[series]));
    changed.filter(|(_, change)| *change != 0.0).collect()
}

/// Waits until what has changed since `before` is just this, of the series that begin so.
#[track_caller]
fn becomes(scene: &Scene, before: &Figures, prefixes: &[&str], expected: &[(&str, f64)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(series, change)| (format!("egret_{series}"), *change)).collect();
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut seen = changed(before, &figures(scene));
        seen.retain(|series, _| {
            let name = series.strip_prefix("egret_").unwrap();
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        });
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{seen:#?} is not {expected:#?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn status(scene: &Scene, url: &str) -> u16 {
    scene.client.get(url).unwrap().status()
}

fn verdicts(stage: &Stage) {
    let scene = stage.play(POLICY);
    let before = figures(&scene);
    assert_eq!(status(&scene, "http://api.example.com/"), 200);
    assert_eq!(status(&scene, "http://evil.test/"), 403);
    assert_eq!(status(&scene, "http://api.example.com:81/"), 403);
    let expected = [
        ("closed_total{closed_by=\"policy\"}", 2.0),
        ("closed_total{closed_by=\"upstream\"}", 1.0),
        ("decide_seconds_count", 3.0),
        ("request_duration_seconds_count", 3.0),
        ("requests_total{verdict=\"allow\",reason=\"egress.allowed\"}", 1.0),
        ("requests_total{verdict=\"deny\",reason=\"egress.host_not_allowed\"}", 1.0),
        ("requests_total{verdict=\"deny\",reason=\"egress.port_not_allowed\"}", 1.0),
    ];
    becomes(&scene, &before, &["closed", "decide", "request", "failed", "exchanges"], &expected);

    let report = stage.play(&format!("{POLICY}[defaults]\nmode = \"report\"\n"));
    let before = figures(&report);
    assert_eq!(status(&report, "http://evil.test/"), 200);
    let reason = "requests_total{verdict=\"would_deny\",reason=\"egress.host_not_allowed\"}";
    becomes(&report, &before, &["requests", "failed"], &[(reason, 1.0)]);
}

fn look_ups(stage: &Stage) {
    // The name server knows nothing of this domain.
    let scene = stage.play(&POLICY.replace(".example.org", ".example.net"));
    let before = figures(&scene);
    for _ in 0..3 {
        assert_eq!(status(&scene, "http://api.example.com/"), 200);
    }
    assert_eq!(status(&scene, "http://nowhere.example.net/"), 502);
    let expected = [
        ("dns_cached_total", 2.0),
        ("dns_lookup_seconds_count{result=\"found\"}", 1.0),
        ("dns_lookup_seconds_count{result=\"no_such_name\"}", 1.0),
    ];
    becomes(&scene, &before, &["dns"], &expected);
    stage.dns.set_silent(true);
    let before = figures(&scene);
    assert_eq!(status(&scene, "http://silent.example.net/"), 504);
    let expected = [("dns_lookup_seconds_count{result=\"timeout\"}", 1.0)];
    becomes(&scene, &before, &["dns"], &expected);
}

fn connects(stage: &Stage) {
    let scene = stage.play(&POLICY.replace("443]", "443, 4444]"));
    let before = figures(&scene);
    for _ in 0..3 {
        assert_eq!(status(&scene, "http://api.example.com/"), 200);
    }
    // Nobody listens there.
    assert_eq!(status(&scene, "http://api.example.com:4444/"), 502);
    let expected = [
        ("connect_seconds_count{result=\"connected\"}", 1.0),
        ("connect_seconds_count{result=\"refused\"}", 1.0),
        ("failed_total{reason=\"egress.upstream_refused\"}", 1.0),
        ("pool_connections", 1.0),
        ("pool_reused_total", 2.0),
    ];
    becomes(&scene, &before, &["connect_", "pool", "failed"], &expected);
}

fn tunnels(stage: &Stage) {
    let scene = stage.play(POLICY);
    let before = figures(&scene);
    let prefixes = ["tunnel", "connections", "exchanges", "request_duration"];
    let tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    let open = tunnel.tls(Some("api.example.com")).unwrap();
    let expected = [("connections", 1.0), ("exchanges", 1.0), ("tunnels{kind=\"tls\"}", 1.0)];
    becomes(&scene, &before, &prefixes, &expected);
    drop(open);
    let expected = [("tunnel_duration_seconds_count{kind=\"tls\"}", 1.0)];
    becomes(&scene, &before, &prefixes, &expected);

    let before = figures(&scene);
    speaking_websocket(stage);
    let mut open = scene.client.connect().unwrap();
    open_websocket(&mut open, "http://api.example.com/");
    becomes(&scene, &before, &["tunnel"], &[("tunnels{kind=\"websocket\"}", 1.0)]);
    drop(open);
    let expected = [("tunnel_duration_seconds_count{kind=\"websocket\"}", 1.0)];
    becomes(&scene, &before, &["tunnel", "request_duration"], &expected);

    // One that is closed before a byte goes up never was one.
    let before = figures(&scene);
    let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    tunnel.channel.send(&HelloShape::named("evil.test").write());
    assert!(tunnel.channel.is_closed_within(Duration::from_secs(3)));
    let reason = "requests_total{verdict=\"deny\",reason=\"egress.sni_mismatch\"}";
    becomes(&scene, &before, &["tunnel", "requests"], &[(reason, 1.0)]);
}

fn bytes(stage: &Stage) {
    let tcp = "version = 1\n[[rule]]\nid = \"raw\"\neffect = \"allow\"\n\
               hosts = [\"api.example.com\"]\nschemes = [\"tcp\"]\nports = [2222]\n";
    let scene = stage.play(tcp);
    stage.origin.open(2222).unwrap();
    let mut plan = Plan::good(&stage.pki).unwrap();
    plan.services.insert(2222, Service::Echo);
    stage.origin.reset(plan);
    let before = figures(&scene);
    let mut tunnel = scene.client.tunnel("api.example.com:2222").unwrap();
    tunnel.channel.send(&[7; 1000]);
    assert_eq!(tunnel.channel.receive_exactly(1000, Duration::from_secs(3)), [7; 1000]);
    // While it is open: a tunnel of an hour is not to be seen when it is over.
    let expected = [
        ("bytes_total{direction=\"down\"}", 1000.0),
        ("bytes_total{direction=\"up\"}", 1000.0),
        ("tunnels{kind=\"opaque\"}", 1.0),
    ];
    becomes(&scene, &before, &["bytes", "tunnel"], &expected);
}

fn cut(stage: &Stage) {
    let scene = stage.play(POLICY);
    let before = figures(&scene);
    let tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    let _open = tunnel.tls(Some("api.example.com")).unwrap();
    becomes(&scene, &before, &["tunnels"], &[("tunnels{kind=\"tls\"}", 1.0)]);
    let before = figures(&scene);
    let cut = scene.handle.cut(&Selector::All, ClosedBy::Revoked);
    assert_eq!(cut, 1, "the tunnel, which its connection has become");
    let expected = [
        ("closed_total{closed_by=\"revoked\"}", 1.0),
        ("cut_seconds_count", 1.0),
        ("cut_total{closed_by=\"revoked\"}", 1.0),
    ];
    becomes(&scene, &before, &["closed", "cut"], &expected);
    let before = figures(&scene);
    assert_eq!(scene.handle.cut(&Selector::All, ClosedBy::Revoked), 0);
    becomes(&scene, &before, &["cut"], &[]);
}

fn limits(stage: &Stage) {
    let scene = stage.play(&format!("{POLICY}limits = {{ requests_per_minute = 1 }}\n"));
    let before = figures(&scene);
    assert_eq!(status(&scene, "http://api.example.com/"), 200);
    assert_eq!(status(&scene, "http://api.example.com/"), 429);
    becomes(&scene, &before, &["rate_limited"], &[("rate_limited_total{kind=\"requests\"}", 1.0)]);
}

/// Distinct names, paths and queries; each is denied, since most of what attackers send is.
const MANY: usize = 10_000;
const AT_ONCE: usize = 100;

fn no_new_series(stage: &Stage) {
    let names = ["w0rker-a", "w0rker-b"];
    let (settings, known) = workers(&names);
    let scene = stage.play_with(POLICY, settings, known);
    let before = figures(&scene);
    let mut channel = scene.client.connect().unwrap();
    for batch in 0..MANY / AT_ONCE {
        let request = |n: usize| {
            let host = format!("h0st-{n}.test");
            let request = String::from_utf8(get_as(names[n % 2], &host)).unwrap();
            request.replacen("/ HTTP", &format!("/p4th-{n}?qu3ry={n} HTTP"), 1).into_bytes()
        };
        let requests = (0..AT_ONCE).flat_map(|n| request(batch * AT_ONCE + n)).collect::<Vec<_>>();
        let heard = channel.exchange_for(&[Segment::now(&requests)], AT_ONCE, Patience::None);
        assert_eq!(heard.replies.len(), AT_ONCE);
    }
    let after = figures(&scene);
    let denied = |series: &str| series.starts_with("egret_requests_total{verdict=\"deny\"");
    let denied: f64 =
        changed(&before, &after).iter().filter(|(series, _)| denied(series)).map(|(_, n)| n).sum();
    assert_eq!(denied, MANY as f64);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for sent in ["h0st", "w0rker", "p4th", "qu3ry"] {
        assert!(after.keys().all(|series| !series.contains(sent)), "{sent}");
    }
}
