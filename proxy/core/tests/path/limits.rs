//! Limits on sizes, times and numbers, and origins that misbehave.

use std::time::Duration;

use egret_proxy::Settings;
use egret_testkit::{
    client::{Patience, Segment},
    origin::{Answer, Plan, Step},
};

use crate::{Claim, POLICY, scene::Stage};

pub(crate) const TRIALS: &[Claim] = &[
    ("a_request_body_above_the_limit_is_413", request_too_large),
    ("an_answer_above_the_limit_is_refused_or_cut", response_too_large),
    ("a_body_that_stops_arriving_is_408", body_idle),
    ("a_head_that_stops_arriving_is_408", head_idle),
    ("an_origin_that_refuses_is_502", refused),
    ("an_origin_that_never_answers_is_504", hanging),
    ("an_origin_that_resets_is_502", resetting),
    ("an_answer_with_two_framings_is_502", ambiguous),
    ("connections_above_the_limit_are_told_so", overloaded),
    ("connections_of_one_worker_are_limited", worker_limit),
    ("a_worker_that_does_not_read_is_timed_all_the_same", stalled_reader),
    ("an_answer_that_comes_early_ends_the_upload", early_answer),
    ("a_tunnel_that_idles_too_long_is_reset", idle_tunnel),
    ("a_client_that_vanishes_leaves_nothing_behind", vanished),
    ("stopping_ends_open_tunnels_and_keeps_every_record", stopping),
];

fn post(body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "POST http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}

fn request_too_large(stage: &Stage) {
    let policy = format!("{POLICY}\n[defaults]\nmax_request_bytes = 10\n");
    let scene = stage.play(&policy);
    assert_eq!(scene.client.request(&post(b"0123456789")).unwrap().status(), 200);
    let reply = scene.client.request(&post(b"0123456789a")).unwrap();
    assert_eq!(reply.status(), 413);
    assert!(reply.reason().starts_with("egress.request_too_large "));
    let chunked = b"POST http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\
        Transfer-Encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
    assert_eq!(scene.client.request(chunked).unwrap().status(), 413);
    assert_eq!(stage.origin.requests().iter().filter(|request| request.complete).count(), 1);
}

fn response_too_large(stage: &Stage) {
    let policy = format!("{POLICY}limits = {{ max_response_bytes = 1000 }}\n");
    let scene = stage.play(&policy);
    let answer = |head: &str, bytes: usize| {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n{}", "x".repeat(bytes));
        stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(Answer::bytes(answer)));
        scene.client.get("http://api.example.com/").unwrap()
    };
    assert_eq!(answer("Content-Length: 1000\r\n", 1000).text().len(), 1000);
    let announced = answer("Content-Length: 1001\r\n", 1001);
    assert_eq!(announced.status(), 502);
    assert!(announced.reason().starts_with("egress.response_too_large "));
    let head = "HEAD http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let bodiless = scene.client.request(head.as_bytes()).unwrap();
    assert_eq!(bodiless.status(), 200, "a length without a body is within every limit");
    let pieces = ["HTTP/1.1 200 OK\r\n\r\n", &"x".repeat(500), &"x".repeat(501)];
    let answer = Answer::pieces(pieces, Duration::from_millis(100));
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(answer));
    let streamed = scene.client.get("http://api.example.com/").unwrap();
    assert_eq!(streamed.status(), 200);
    assert!(!streamed.complete, "cut in the middle, not passed off as whole");
    let record =
        scene.record("the cut", |record| record["closed_by"] == "limit" && record["status"] == 200);
    assert_eq!(record["reason"], "egress.response_too_large");
}

fn body_idle(stage: &Stage) {
    let short =
        |settings: &mut Settings| settings.limits.body_idle_timeout = Duration::from_millis(200);
    let scene = stage.play_with(POLICY, short, vec![]);
    let mut bytes = post(b"0123456789");
    bytes.truncate(bytes.len() - 5);
    let reply = scene.client.request(&bytes).unwrap();
    assert_eq!(reply.status(), 408);
    assert!(reply.reason().starts_with("egress.request_timeout "));
    scene.wait_until_empty();
}

fn head_idle(stage: &Stage) {
    let short =
        |settings: &mut Settings| settings.limits.header_timeout = Duration::from_millis(200);
    let scene = stage.play_with(POLICY, short, vec![]);
    let mut channel = scene.client.connect().unwrap();
    let head = b"GET http://api.example.com/ HTTP/1.1\r\nHost: api.ex";
    let played = channel.exchange(&[Segment::now(head)], Patience::Brief);
    assert_eq!(played.replies[0].status(), 408);
    scene.both_records("egress.request_timeout");
    let mut silent = scene.client.connect().unwrap();
    assert!(silent.is_closed_within(Duration::from_secs(3)));
    drop(channel);
    scene.wait_until_empty();
}

fn refused(stage: &Stage) {
    let policy = POLICY.replace("[80, 443]", "[80, 443, 81]");
    let scene = stage.play(&policy);
    let reply = scene.client.get("http://api.example.com:81/").unwrap();
    assert_eq!(reply.status(), 502);
    assert!(reply.reason().starts_with("egress.upstream_refused "));
    scene.record("the decision that policy took", |record| {
        record["event"] == "decision" && record["verdict"] == "allow"
    });
    scene.record("how it ended", |record| {
        record["event"] == "completion" && record["reason"] == "egress.upstream_refused"
    });
}

fn hanging(stage: &Stage) {
    let policy = format!("{POLICY}\n[defaults]\nidle_timeout = \"300ms\"\n");
    let scene = stage.play(&policy);
    let mut plan = Plan::good(&stage.pki).unwrap();
    plan.hang.push("93.184.216.34".parse().unwrap());
    stage.origin.reset(plan);
    let reply = scene.client.get("http://api.example.com/").unwrap();
    assert_eq!(reply.status(), 504);
    assert!(reply.reason().starts_with("egress.upstream_timeout "));
    scene.wait_until_empty();
}

fn resetting(stage: &Stage) {
    let scene = stage.play(POLICY);
    let answer = Answer::with(|_| vec![Step::Reset]);
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(answer));
    let reply = scene.client.get("http://api.example.com/").unwrap();
    assert_eq!(reply.status(), 502);
    assert!(reply.reason().starts_with("egress.upstream_reset "));
}

fn ambiguous(stage: &Stage) {
    let scene = stage.play(POLICY);
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n0\r\n\r\n");
        stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(Answer::bytes(answer)));
        let reply = scene.client.get("http://api.example.com/").unwrap();
        assert_eq!(reply.status(), 502, "{fields}");
        assert!(reply.reason().starts_with("egress.upstream_protocol_error "));
    }
}

fn overloaded(stage: &Stage) {
    let two = |settings: &mut Settings| settings.limits.connections = 2;
    let scene = stage.play_with(POLICY, two, vec![]);
    let first = scene.client.tunnel("api.example.com:443").unwrap();
    let second = scene.client.tunnel("api.example.com:443").unwrap();
    assert_eq!((first.status(), second.status()), (200, 200));
    let reply = scene.client.get("http://api.example.com/").unwrap();
    assert_eq!(reply.status(), 503);
    assert!(reply.reason().starts_with("egress.overloaded "));
    assert!(!reply.value("retry-after").is_empty());
    drop((first, second));
    scene.wait_until_empty();
    assert_eq!(scene.client.get("http://api.example.com/").unwrap().status(), 200);
}

fn worker_limit(stage: &Stage) {
    let one = |settings: &mut Settings| settings.limits.connections_per_worker = 1;
    let scene = stage.play_with(POLICY, one, vec![]);
    let tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    assert_eq!(tunnel.status(), 200);
    assert_eq!(scene.client.get("http://api.example.com/").unwrap().status(), 503);
    drop(tunnel);
    scene.wait_until_empty();
    assert_eq!(scene.client.get("http://api.example.com/").unwrap().status(), 200);
}

fn stalled_reader(stage: &Stage) {
    let policy = format!("{POLICY}\n[defaults]\nidle_timeout = \"500ms\"\n");
    let scene = stage.play(&policy);
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
    let steps = vec![Step::Send(head.into()), Step::Repeat(vec![b'x'; 100_000], 1000)];
    let answer = Answer::with(move |_| steps.clone());
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(answer));
    let mut channel = scene.client.connect().unwrap();
    channel.send(egret_testkit::client::get("http://api.example.com/").as_bytes());
    let completion = scene.record("the cut", |record| record["event"] == "completion");
    assert_eq!(completion["closed_by"], "idle");
    scene.wait_until_empty();
    drop(channel);
}

fn early_answer(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut plan = Plan::good(&stage.pki).unwrap();
    plan.early = true;
    stage.origin.reset(plan);
    let mut channel = scene.client.connect().unwrap();
    let mut bytes = post(&[b'x'; 1000]);
    bytes.truncate(bytes.len() - 900);
    let played = channel.exchange(&[Segment::now(&bytes)], Patience::Brief);
    assert_eq!(played.replies[0].status(), 200);
    let ended = |connections: &[egret_testkit::origin::Connection]| {
        !connections.is_empty() && connections.iter().all(|connection| connection.has_ended())
    };
    assert!(stage.origin.wait_until(Duration::from_secs(3), ended), "the upload outlived it");
}

fn idle_tunnel(stage: &Stage) {
    let policy = format!("{POLICY}\n[defaults]\nidle_timeout = \"300ms\"\n");
    let scene = stage.play(&policy);
    let tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    let mut channel = tunnel.tls(Some("api.example.com")).unwrap();
    let error = channel.receive(Duration::from_secs(3)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let completion = scene.record("the end", |record| record["event"] == "completion");
    assert_eq!(completion["closed_by"], "idle");
    scene.wait_until_empty();
}

fn vanished(stage: &Stage) {
    let policy = format!("{POLICY}\n[defaults]\nidle_timeout = \"500ms\"\n");
    let scene = stage.play(&policy);
    let mut plan = Plan::good(&stage.pki).unwrap();
    plan.hang.push("93.184.216.34".parse().unwrap());
    stage.origin.reset(plan);
    for _ in 0..20 {
        let mut channel = scene.client.connect().unwrap();
        channel.send(egret_testkit::client::get("http://api.example.com/").as_bytes());
        drop(channel);
        let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
        tunnel.channel.send(b"\x16\x03");
    }
    scene.wait_until_empty();
}

fn stopping(stage: &Stage) {
    let scene = stage.play(POLICY);
    let tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    let mut channel = tunnel.tls(Some("api.example.com")).unwrap();
    let records = scene.end();
    assert!(channel.is_closed_within(Duration::from_secs(3)));
    let completion = records.iter().find(|record| record["event"] == "completion").unwrap();
    assert_eq!(completion["closed_by"], "drain");
}
