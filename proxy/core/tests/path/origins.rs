//! Connections to origins: when one serves again, and what may pass over one besides a plain
//! request and its answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use egret_proxy::{ClosedBy, Selector};
use egret_testkit::{
    client::{Channel, Patience, Segment, get},
    http1::Message,
    origin::{Answer, Plan, Step},
};

use crate::{
    Claim, POLICY,
    scene::{Scene, Stage},
};

pub(crate) const TRIALS: &[Claim] = &[
    ("a_connection_to_an_origin_serves_the_next_request_for_it", kept),
    ("a_connection_is_not_kept_for_another_host", kept_for_one_host),
    ("a_connection_is_not_kept_after_an_odd_framing", odd_framings),
    ("a_connection_is_not_kept_when_the_answer_overtook_the_upload", overtaken),
    ("an_origin_that_takes_no_more_of_an_upload_is_not_waited_for", stuck_upload),
    ("what_waits_for_a_removed_worker_is_reset", waiting_is_cut),
    ("a_safe_request_on_a_kept_connection_that_ends_is_sent_again", sent_again),
    ("an_unsafe_request_that_may_have_been_served_is_not_sent_again", not_sent_again),
    ("a_websocket_is_relayed_both_ways_and_recorded", websocket),
    ("a_websocket_inside_a_cleartext_tunnel_is_relayed", websocket_in_tunnel),
    ("a_tunnel_is_open_as_long_as_a_websocket_in_it", websocket_seat),
    ("a_cut_resets_a_websocket_on_both_sides", websocket_cut),
    ("an_upgrade_that_the_origin_declines_leaves_http_in_force", websocket_declined),
    ("another_protocol_than_websocket_is_never_switched_to", other_upgrades),
    ("trailers_that_are_announced_reach_a_worker_that_takes_them", trailers),
    ("an_origin_may_refuse_before_the_body_is_sent", expectation_refused),
    ("an_origin_that_wants_the_body_gets_it", expectation_met),
    ("options_goes_as_far_as_it_may_and_no_further", max_forwards),
    ("an_endless_row_of_interim_answers_is_refused", interim_flood),
];

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn answering(stage: &Stage, answer: impl Fn(&Message) -> Vec<Step> + Send + Sync + 'static) {
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(Answer::with(answer)));
}

fn status(scene: &Scene, url: &str) -> u16 {
    scene.client.get(url).unwrap().status()
}

fn kept(stage: &Stage) {
    let scene = stage.play(POLICY);
    for path in ["a", "b", "c"] {
        assert_eq!(status(&scene, &format!("http://api.example.com/{path}")), 200);
    }
    assert_eq!(stage.origin.connections().len(), 1, "one connection served all three");
    assert_eq!(stage.origin.requests().len(), 3);
    let pinned = scene.records().into_iter().filter(|record| record["event"] == "completion");
    assert!(pinned.clone().all(|record| record["pinned"] == "93.184.216.34:80"));
    let dialled = pinned.filter(|record| record.get("connect_us").is_some()).count();
    assert_eq!(dialled, 1, "the time to connect stands where a connection was made");
}

fn kept_for_one_host(stage: &Stage) {
    let scene = stage.play(POLICY);
    // Both names lead to the same address.
    for host in ["a.example.org", "b.example.org", "a.example.org"] {
        assert_eq!(status(&scene, &format!("http://{host}/")), 200);
    }
    let connections = stage.origin.connections();
    assert_eq!(connections.len(), 2);
    for connection in connections {
        let hosts: Vec<_> =
            connection.requests().iter().map(|request| request.value("host")).collect();
        assert!(hosts.windows(2).all(|pair| pair[0] == pair[1]), "{hosts:?}");
    }
}

fn odd_framings(stage: &Stage) {
    for (method, answer) in [
        ("GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ] {
        let scene = stage.play(POLICY);
        answering(stage, move |_| vec![Step::Send(answer.into())]);
        let head = get("http://api.example.com/").replacen("GET", method, 1);
        for _ in 0..2 {
            let reply = scene.client.request(head.as_bytes()).unwrap();
            assert!((200..400).contains(&reply.status()), "{answer:?}: {}", reply.status());
        }
        assert_eq!(stage.origin.connections().len(), 2, "{method} {answer:?}");
        assert_eq!(scene.end().len(), 4);
    }
}

fn overtaken(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut plan = Plan::good(&stage.pki).unwrap();
    plan.early = true;
    stage.origin.reset(plan);
    let mut channel = scene.client.connect().unwrap();
    channel.send(
        b"POST http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\
          Content-Length: 10\r\n\r\nhello",
    );
    assert!(!channel.receive_exactly(1, Duration::from_secs(3)).is_empty(), "an early answer");
    assert!(stage.origin.wait_until(Duration::from_secs(3), |connections| {
        connections.iter().all(|connection| connection.has_ended())
    }));
    assert_eq!(status(&scene, "http://api.example.com/next"), 200);
    assert_eq!(stage.origin.connections().len(), 2);
}

fn stuck_upload(stage: &Stage) {
    let scene = stage.play(POLICY);
    // It answers when it has the head, and reads nothing more.
    let mut plan = Plan::good(&stage.pki).unwrap().answering(Answer::with(|_| {
        vec![Step::Send(OK.into()), Step::Wait(Duration::from_secs(20))]
    }));
    plan.early = true;
    stage.origin.reset(plan);
    let mut channel = scene.client.connect().unwrap();
    let head = "POST http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\
                Content-Length: 3000000\r\n\r\n";
    channel.send(head.as_bytes());
    assert!(!channel.receive_exactly(1, Duration::from_secs(3)).is_empty(), "an early answer");
    channel.send(&vec![b'x'; 3_000_000]);
    drop(channel);
    scene.wait_until_empty();
    let port = |connection: &egret_testkit::origin::Connection| connection.from.port();
    let from: Vec<_> = stage.origin.connections().iter().map(port).collect();
    let deadline = std::time::Instant::now() + Duration::from_secs(6);
    while from.iter().any(|port| is_held(*port)) {
        assert!(std::time::Instant::now() < deadline, "the proxy's side is still open");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a socket of this process has that port as its own, by what the kernel lists.
fn is_held(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let own = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    let established = |line: &&str| line.split_whitespace().nth(3) == Some("01");
    let wanted = format!(":{port:04X}");
    sockets.lines().skip(1).filter(established).filter_map(own).any(|at| at.ends_with(&wanted))
}

fn waiting_is_cut(stage: &Stage) {
    let scene = stage.play(POLICY);
    assert_eq!(status(&scene, "http://api.example.com/"), 200);
    let anonymous = egret_policy::WorkerId::parse("anonymous").unwrap();
    let other = egret_policy::WorkerId::parse("other").unwrap();
    scene.handle.cut(&Selector::Worker(other), ClosedBy::Revoked);
    assert_eq!(status(&scene, "http://api.example.com/"), 200);
    assert_eq!(stage.origin.connections().len(), 1);
    scene.handle.cut(&Selector::Worker(anonymous), ClosedBy::Revoked);
    assert!(stage.origin.wait_until(Duration::from_secs(3), |connections| {
        connections.iter().all(|connection| connection.has_ended())
    }));
}

/// An origin that ends the connection on the first request for `/again` and answers all others.
fn ending_once(stage: &Stage) {
    let asked = AtomicUsize::new(0);
    answering(stage, move |request| {
        let ends = request.target() == b"/again" && asked.fetch_add(1, Ordering::Relaxed) == 0;
        vec![if ends { Step::Reset } else { Step::Send(OK.into()) }]
    });
}

fn sent_again(stage: &Stage) {
    let scene = stage.play(POLICY);
    ending_once(stage);
    assert_eq!(status(&scene, "http://api.example.com/first"), 200);
    assert_eq!(status(&scene, "http://api.example.com/again"), 200);
    let targets: Vec<_> =
        stage.origin.requests().iter().map(|request| request.target().to_vec()).collect();
    assert_eq!(targets, [&b"/first"[..], b"/again", b"/again"]);
    assert_eq!(stage.origin.connections().len(), 2);
    let records = scene.end();
    assert_eq!(records.len(), 4, "one decision and one completion for each exchange");

    // On a connection that was made for it, the same end is told.
    let scene = stage.play(POLICY);
    ending_once(stage);
    assert_eq!(status(&scene, "http://api.example.com/again"), 502);
}

fn not_sent_again(stage: &Stage) {
    let scene = stage.play(POLICY);
    ending_once(stage);
    assert_eq!(status(&scene, "http://api.example.com/first"), 200);
    let head = "POST http://api.example.com/again HTTP/1.1\r\nHost: api.example.com\r\n\
                Content-Length: 5\r\n\r\nhello";
    let reply = scene.client.request(head.as_bytes()).unwrap();
    assert_eq!(reply.status(), 502);
    assert!(reply.reason().starts_with("egress.upstream_reset "));
    assert_eq!(stage.origin.requests().len(), 2);
}

const HANDSHAKE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                         Sec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An origin that goes on as WebSocket, and says something at once.
pub(crate) fn speaking_websocket(stage: &Stage) {
    answering(stage, |_| {
        let head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                     \r\nfrom the origin";
        vec![Step::Send(head.to_vec())]
    });
}

/// Asks for WebSocket and reads until the origin's first words.
pub(crate) fn open_websocket(channel: &mut Channel, target: &str) -> String {
    let host = "Host: api.example.com\r\n";
    channel.send(format!("GET {target} HTTP/1.1\r\n{host}{HANDSHAKE}").as_bytes());
    let mut heard = String::new();
    while !heard.ends_with("from the origin") {
        let part = channel.receive(Duration::from_secs(3)).unwrap();
        assert!(!part.is_empty(), "the connection ended after {heard:?}");
        heard.push_str(std::str::from_utf8(&part).unwrap());
    }
    heard
}

fn origin_heard(stage: &Stage, words: &[u8]) -> bool {
    stage.origin.wait_until(Duration::from_secs(3), |connections| {
        connections.iter().any(|connection| connection.wire().ends_with(words))
    })
}

fn websocket(stage: &Stage) {
    let scene = stage.play(POLICY);
    speaking_websocket(stage);
    let mut channel = scene.client.connect().unwrap();
    let reply = open_websocket(&mut channel, "http://api.example.com/chat");
    assert!(reply.starts_with("HTTP/1.1 101 "), "{reply}");
    let fields = reply.to_lowercase();
    assert!(fields.contains("\r\nupgrade: websocket\r\n"), "{reply}");
    assert!(fields.contains("\r\nconnection: upgrade\r\n"), "{reply}");
    assert!(
        fields.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
        "{reply}"
    );
    let asked = &stage.origin.requests()[0];
    assert_eq!(asked.value("upgrade"), "websocket");
    assert_eq!(asked.value("connection"), "upgrade");
    channel.send(b"from the worker");
    assert!(origin_heard(stage, b"from the worker"));
    drop(channel);
    let (decision, completion) = scene.both_records("egress.allowed");
    assert_eq!(decision["rule"], "allowed");
    assert_eq!(completion["status"], 101);
    assert_eq!(completion["bytes_up"], 15);
    assert_eq!(completion["bytes_down"], 15);
    assert_eq!(completion["closed_by"], "client");
    scene.wait_until_empty();
}

fn websocket_in_tunnel(stage: &Stage) {
    let scene = stage.play(POLICY);
    speaking_websocket(stage);
    let tunnel = scene.client.tunnel("api.example.com:80").unwrap();
    assert_eq!(tunnel.status(), 200);
    let mut channel = tunnel.channel;
    assert!(open_websocket(&mut channel, "/chat").starts_with("HTTP/1.1 101 "));
    channel.send(b"from the worker");
    assert!(origin_heard(stage, b"from the worker"));
    drop(channel);
    scene.record("the exchange inside", |record| {
        record["event"] == "completion" && record["status"] == 101 && record["bytes_up"] == 15
    });
    scene.wait_until_empty();
}

fn websocket_seat(stage: &Stage) {
    let scene = stage.play(&format!("{POLICY}limits = {{ tunnels = 1 }}\n"));
    speaking_websocket(stage);
    let mut channel = scene.client.tunnel("api.example.com:80").unwrap().channel;
    let reply = open_websocket(&mut channel, "/chat").to_lowercase();
    assert!(reply.contains("\r\nconnection: upgrade\r\n"), "{reply}");
    assert_eq!(scene.client.tunnel("api.example.com:80").unwrap().status(), 429);
    channel.send(b"from the worker");
    assert!(origin_heard(stage, b"from the worker"));
    drop(channel);
    scene.wait_until_empty();
    assert_eq!(scene.client.tunnel("api.example.com:80").unwrap().status(), 200);
}

fn websocket_cut(stage: &Stage) {
    let scene = stage.play(POLICY);
    speaking_websocket(stage);
    let mut channel = scene.client.connect().unwrap();
    open_websocket(&mut channel, "http://api.example.com/chat");
    assert!(scene.handle.cut(&Selector::All, ClosedBy::Revoked) > 0);
    let end = channel.receive(Duration::from_secs(3)).unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(stage.origin.wait_until(Duration::from_secs(3), |connections| {
        connections.iter().all(|connection| connection.has_ended())
    }));
    let (_, completion) = scene.both_records("egress.allowed");
    assert_eq!(completion["closed_by"], "revoked");
    scene.wait_until_empty();
}

fn websocket_declined(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut channel = scene.client.connect().unwrap();
    let asks =
        format!("GET http://api.example.com/chat HTTP/1.1\r\nHost: api.example.com\r\n{HANDSHAKE}");
    // What follows is a request, and judged as one.
    let bytes = asks + &get("http://evil.test/");
    let played = channel.exchange_for(&[Segment::now(bytes.as_bytes())], 2, Patience::Brief);
    let statuses: Vec<_> = played.replies.iter().map(Message::status).collect();
    assert_eq!(statuses, [200, 403]);
    assert_eq!(stage.origin.requests().len(), 1);
}

fn other_upgrades(stage: &Stage) {
    let scene = stage.play(POLICY);
    answering(stage, |_| {
        let head =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        vec![Step::Send(head.to_vec())]
    });
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    for fields in ["", h2c, websocket] {
        let head = format!(
            "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n{fields}\r\n"
        );
        let reply = scene.client.request(head.as_bytes()).unwrap();
        assert_eq!(reply.status(), 502, "{fields}");
        assert!(reply.reason().starts_with("egress.upstream_protocol_error "));
    }
    let requests = stage.origin.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[..2].iter().all(|request| request.values("upgrade").is_empty()));
}

fn trailers(stage: &Stage) {
    let scene = stage.play(POLICY);
    answering(stage, |_| {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                       Trailer: x-sum, proxy-status\r\n\r\n2\r\nok\r\n0\r\n\
                       x-sum: 42\r\nproxy-status: forged\r\nx-unannounced: 1\r\n\r\n";
        vec![Step::Send(answer.to_vec())]
    });
    let heard = |te: &str| {
        let mut channel = scene.client.connect().unwrap();
        let head = format!(
            "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n{te}\
             Connection: close\r\n\r\n"
        );
        channel.send(head.as_bytes());
        let heard = channel.receive_exactly(usize::MAX, Duration::from_secs(3));
        String::from_utf8(heard).unwrap().to_lowercase()
    };
    let taken = heard("TE: trailers\r\n");
    assert!(taken.ends_with("\r\n0\r\nx-sum: 42\r\n\r\n"), "{taken:?}");
    let untaken = heard("");
    assert!(untaken.ends_with("\r\n0\r\n\r\n"), "{untaken:?}");
}

const EXPECTING: &[u8] = b"POST http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\
                           Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";

fn expectation_refused(stage: &Stage) {
    let scene = stage.play(POLICY);
    let refusal = b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n";
    let mut plan = Plan::good(&stage.pki)
        .unwrap()
        .answering(Answer::with(move |_| vec![Step::Send(refusal.to_vec())]));
    plan.early = true;
    stage.origin.reset(plan);
    let mut channel = scene.client.connect().unwrap();
    channel.send(EXPECTING);
    let heard = channel.receive(Duration::from_secs(3)).unwrap();
    assert!(heard.starts_with(b"HTTP/1.1 417 "), "{:?}", String::from_utf8_lossy(&heard));
    assert_eq!(stage.origin.requests()[0].value("expect"), "100-continue");
}

fn expectation_met(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut channel = scene.client.connect().unwrap();
    channel.send(EXPECTING);
    let heard = channel.receive_exactly(25, Duration::from_secs(3));
    assert!(heard.starts_with(b"HTTP/1.1 100 Continue\r\n"), "{heard:?}");
    channel.send(b"hello");
    let heard = channel.receive(Duration::from_secs(3)).unwrap();
    assert!(heard.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&heard));
    assert_eq!(stage.origin.requests()[0].body, b"hello");
}

fn max_forwards(stage: &Stage) {
    let scene = stage.play(POLICY);
    let options = |host: &str, fields: &str| {
        let head = format!("OPTIONS http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        scene.client.request(head.as_bytes()).unwrap().status()
    };
    assert_eq!(options("api.example.com", "Max-Forwards: 0\r\n"), 200);
    assert_eq!(options("evil.test", "Max-Forwards: 0\r\n"), 403);
    assert_eq!(options("api.example.com", "Max-Forwards: -1\r\n"), 400);
    assert_eq!(options("api.example.com", "Max-Forwards: 0\r\nMax-Forwards: 9\r\n"), 400);
    assert!(stage.origin.connections().is_empty());
    assert_eq!(options("api.example.com", "Max-Forwards: 3\r\n"), 200);
    assert_eq!(stage.origin.requests()[0].value("max-forwards"), "2");
}

fn interim_flood(stage: &Stage) {
    let scene = stage.play(POLICY);
    let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec();
    let few = Arc::new(interim.repeat(8));
    let some = few.clone();
    answering(stage, move |_| vec![Step::Send(some.to_vec()), Step::Send(OK.into())]);
    assert_eq!(status(&scene, "http://api.example.com/"), 200);

    answering(stage, move |_| vec![Step::Repeat(interim.clone(), 100_000)]);
    let reply = scene.client.get("http://api.example.com/").unwrap();
    assert_eq!(reply.status(), 502);
    assert!(reply.reason().starts_with("egress.upstream_protocol_error "));
}
