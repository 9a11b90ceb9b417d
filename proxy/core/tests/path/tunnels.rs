//! CONNECT, and what the first bytes of a tunnel make of it.

use std::time::Duration;

use egret_testkit::{
    client::{Channel, Patience, Segment},
    hello::HelloShape,
    origin::{Plan, Service},
};

use crate::{Claim, POLICY, scene::Stage};

pub(crate) const TRIALS: &[Claim] = &[
    ("tls_with_the_hosts_name_passes_and_is_recorded", tls),
    ("another_server_name_is_cut_before_a_byte_goes_up", sni_mismatch),
    ("no_server_name_is_cut_unless_the_rule_says_optional", sni_absent),
    ("a_hidden_server_name_is_cut_unless_the_rule_allows_it", ech),
    ("a_hello_in_pieces_is_judged_whole", fragmented),
    ("plain_http_in_a_tunnel_is_decided_request_by_request", plain_http),
    ("cleartext_in_a_tunnel_for_tls_is_refused_as_that_and_closed", https_in_cleartext),
    ("cleartext_that_a_rule_denies_is_told_by_that_rule", denied_cleartext),
    ("cleartext_that_is_only_reported_passes", reported_cleartext),
    ("another_host_inside_a_tunnel_is_misdirected", plain_http_other_host),
    ("anything_else_needs_scheme_tcp", opaque),
    ("a_server_that_speaks_first_is_heard_under_scheme_tcp", server_first),
    ("a_denied_connect_is_not_looked_up", denied),
    ("a_refused_connect_drops_what_came_with_it", early_bytes),
    ("connect_takes_http_1_0_without_host_and_host_without_port", client_shapes),
    ("silence_after_connect_ends_the_tunnel", silent),
    ("what_an_origin_says_before_it_resets_reaches_the_worker", last_words),
    ("an_urgent_byte_is_carried_like_any_other", urgent),
];

fn tls(stage: &Stage) {
    let scene = stage.play(POLICY);
    let tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    assert_eq!(tunnel.status(), 200);
    let mut channel = tunnel.tls(Some("api.example.com")).unwrap();
    let get = b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let played = channel.exchange(&[Segment::now(get)], Patience::Brief);
    assert_eq!(played.replies[0].text(), "ok");
    drop(channel);
    let (decision, completion) = scene.both_records("egress.allowed");
    assert_eq!(decision["method"], "CONNECT");
    assert_eq!(decision["scheme"], "https");
    assert_eq!(decision["sni"], "api.example.com");
    assert_eq!(decision["rule"], "allowed");
    assert!(decision.get("path").is_none());
    assert!(completion["bytes_up"].as_u64() > Some(100));
    assert!(completion["bytes_down"].as_u64() > Some(100));
    assert_eq!(completion["closed_by"], "client");
    scene.wait_until_empty();
}

fn sni_mismatch(stage: &Stage) {
    let scene = stage.play(POLICY);
    let names = ["evil.test", "WWW.example.org", "api.example.com.", "0x7f.1", "evil\n.test"];
    for name in names {
        let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
        tunnel.channel.send(&HelloShape::named(name).write());
        assert!(tunnel.channel.is_closed_within(Duration::from_secs(3)), "{name}");
    }
    assert!(stage.origin.connections().iter().all(|connection| connection.wire().is_empty()));
    let (decision, completion) = scene.both_records("egress.sni_mismatch");
    assert_eq!(decision["verdict"], "deny");
    assert_eq!(completion["closed_by"], "policy");
    scene.wait_until_empty();
    let decisions = scene.end().into_iter().filter(|record| record["event"] == "decision");
    let recorded: Vec<_> = decisions.map(|record| record["sni"].clone()).collect();
    let (evil, www) = ("evil.test".into(), "www.example.org".into());
    let none = serde_json::Value::Null;
    assert_eq!(recorded, [evil, www, none.clone(), none.clone(), none], "names alone are recorded");
}

fn sni_absent(stage: &Stage) {
    let optional = format!("{POLICY}sni = \"optional\"\n");
    for (policy, passes) in [(POLICY, false), (&*optional, true)] {
        let scene = stage.play(policy);
        let tunnel = scene.client.tunnel("api.example.com:443").unwrap();
        assert_eq!(tunnel.tls(None).is_ok(), passes);
    }
}

fn ech(stage: &Stage) {
    let hello = HelloShape { ech: true, ..HelloShape::named("api.example.com") }.write();
    let allowed = format!("{POLICY}ech = \"allow\"\n");
    for (policy, reaches) in [(POLICY, false), (&*allowed, true)] {
        let scene = stage.play(policy);
        let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
        tunnel.channel.send(&hello);
        let arrived = stage.origin.wait_until(Duration::from_millis(700), |connections| {
            connections.iter().any(|connection| !connection.wire().is_empty())
        });
        assert_eq!(arrived, reaches);
        let reason = if reaches { "egress.allowed" } else { "egress.ech_refused" };
        scene.record(reason, |record| record["reason"] == reason);
    }
}

fn fragmented(stage: &Stage) {
    let scene = stage.play(POLICY);
    for (name, reaches) in [("evil.test", false), ("api.example.com", true)] {
        let hello = HelloShape { record_split: vec![1, 5, 60], ..HelloShape::named(name) }.write();
        let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
        for piece in egret_testkit::hello::pieces(&hello, &[1, 3, 7, 50]) {
            tunnel.channel.send(piece);
            std::thread::sleep(Duration::from_millis(10));
        }
        let arrived = stage.origin.wait_until(Duration::from_millis(700), |connections| {
            connections.iter().any(|connection| connection.wire() == hello)
        });
        assert_eq!(arrived, reaches, "{name}");
    }
}

fn inside(channel: &mut Channel, head: &str) -> u16 {
    let played = channel.exchange(&[Segment::now(head.as_bytes())], Patience::Brief);
    played.replies.first().map_or(0, |reply| reply.status())
}

fn plain_http(stage: &Stage) {
    let policy = format!("{POLICY}methods = [\"GET\"]\npaths = [\"/open/**\"]\n")
        .replace("\"http\", \"https\"", "\"http\"");
    let scene = stage.play(&policy);
    let mut tunnel = scene.client.tunnel("api.example.com:80").unwrap();
    assert_eq!(tunnel.status(), 200);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
    assert_eq!(inside(&mut tunnel.channel, &get("/open/a")), 200);
    assert_eq!(inside(&mut tunnel.channel, &get("/closed")), 403);
    assert_eq!(inside(&mut tunnel.channel, &get("/open/b")), 200);
    let targets: Vec<_> =
        stage.origin.requests().iter().map(|request| request.target().to_vec()).collect();
    assert_eq!(targets, [b"/open/a", b"/open/b"]);
    assert_eq!(stage.origin.connections().len(), 1, "one pinned connection serves the tunnel");
    let (decision, _) = scene.both_records("egress.path_not_allowed");
    assert_eq!(decision["worker"], "anonymous");
    assert_eq!(decision["scheme"], "http");
    drop(tunnel);
    scene.wait_until_empty();
}

fn https_in_cleartext(stage: &Stage) {
    let policy = POLICY.replace("\"http\", \"https\"", "\"https\"");
    let scene = stage.play(&policy);
    let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    let head = "GET https://api.example.com/secret HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    assert_eq!(inside(&mut tunnel.channel, head), 421);
    let others = "GET /secret HTTP/1.1\r\nHost: www.example.org\r\n\r\n";
    let head = "GET /secret HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n";
    for head in [others, head] {
        let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
        let twice = [head, head].concat();
        let played = tunnel.channel.exchange(&[Segment::now(twice.as_bytes())], Patience::Brief);
        let [reply] = &played.replies[..] else { panic!("{}", played.replies.len()) };
        assert_eq!(reply.status(), 421);
        assert!(reply.reason().starts_with("egress.protocol_not_allowed "));
        assert!(tunnel.channel.is_closed_within(Duration::from_secs(3)));
    }
    let inner = scene.record("the request's own decision", |record| {
        record["path"] == "/secret" && record["event"] == "completion"
    });
    assert_eq!(inner["reason"], "egress.protocol_not_allowed");
    assert_eq!((&inner["worker"], &inner["closed_by"]), (&"anonymous".into(), &"policy".into()));
    assert!(stage.origin.connections().iter().all(|connection| connection.wire().is_empty()));
    let decision = scene.record("the tunnel's own decision", |record| {
        record["method"] == "CONNECT" && record["event"] == "decision"
    });
    assert_eq!(decision["verdict"], "deny");
    assert_eq!(decision["reason"], "egress.protocol_not_allowed");
    let completion = scene.record("the tunnel's own completion", |record| {
        record["method"] == "CONNECT" && record["event"] == "completion"
    });
    assert_eq!(completion["closed_by"], "policy");
}

fn denied_cleartext(stage: &Stage) {
    let policy = POLICY.replace("\"http\", \"https\"", "\"https\"");
    let deny = "[[rule]]\nid = \"no\"\neffect = \"deny\"\nschemes = [\"http\"]\n";
    let scene = stage.play(&format!("{policy}{deny}"));
    let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    let head = "GET /secret HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n";
    let played = tunnel.channel.exchange(&[Segment::now(head.as_bytes())], Patience::Brief);
    assert_eq!(played.replies[0].status(), 403);
    assert!(played.replies[0].reason().starts_with("egress.rule_denied "));
}

fn reported_cleartext(stage: &Stage) {
    let policy = POLICY.replace("\"http\", \"https\"", "\"https\"");
    let report = policy.replace("[[rule]]", "[defaults]\nmode = \"report\"\n[[rule]]");
    let scene = stage.play(&report);
    let mut tunnel = scene.client.tunnel("api.example.com:80").unwrap();
    let head = "GET /secret HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    assert_eq!(inside(&mut tunnel.channel, head), 200);
    let decision = scene.record("what it lacks", |record| {
        record["reason"] == "egress.scheme_not_allowed" && record["path"] == "/secret"
    });
    assert_eq!(decision["verdict"], "would_deny");
}

fn plain_http_other_host(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut tunnel = scene.client.tunnel("api.example.com:80").unwrap();
    let head = "GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n";
    assert_eq!(inside(&mut tunnel.channel, head), 421);
    let mut tunnel = scene.client.tunnel("api.example.com:80").unwrap();
    let head = "GET http://www.example.org/ HTTP/1.1\r\nHost: www.example.org\r\n\r\n";
    assert_eq!(inside(&mut tunnel.channel, head), 421);
    assert!(stage.origin.requests().is_empty());
}

const TCP: &str = r#"
version = 1
[[rule]]
id = "raw"
effect = "allow"
hosts = ["api.example.com"]
schemes = ["tcp"]
ports = [443, 2222]
"#;

fn opaque(stage: &Stage) {
    for (policy, passes) in [(POLICY, false), (TCP, true)] {
        let scene = stage.play(policy);
        let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
        tunnel.channel.send(b"\x00\x01not a protocol of ours");
        let arrived = stage.origin.wait_until(Duration::from_millis(700), |connections| {
            connections.iter().any(|connection| !connection.wire().is_empty())
        });
        assert_eq!(arrived, passes);
        if !passes {
            assert!(tunnel.channel.is_closed_within(Duration::from_secs(3)));
            scene.both_records("egress.protocol_not_allowed");
        }
    }
}

fn server_first(stage: &Stage) {
    let scene = stage.play(TCP);
    stage.origin.open(2222).unwrap();
    let mut plan = Plan::good(&stage.pki).unwrap();
    plan.services.insert(2222, Service::Banner(b"SSH-2.0-test\r\n".to_vec()));
    stage.origin.reset(plan);
    let mut tunnel = scene.client.tunnel("api.example.com:2222").unwrap();
    let banner = tunnel.channel.receive_exactly(14, Duration::from_secs(3));
    assert_eq!(banner, b"SSH-2.0-test\r\n");
    tunnel.channel.send(b"hello");
    assert_eq!(tunnel.channel.receive_exactly(5, Duration::from_secs(3)), b"hello");
    let (decision, _) = {
        drop(tunnel);
        scene.both_records("egress.allowed")
    };
    assert_eq!(decision["scheme"], "tcp");
}

fn denied(stage: &Stage) {
    let scene = stage.play(POLICY);
    let tunnel = scene.client.tunnel("evil.test:443").unwrap();
    assert_eq!(tunnel.status(), 403);
    let reply = tunnel.reply.unwrap();
    assert!(reply.reason().starts_with("egress.host_not_allowed "));
    // Nothing that follows a CONNECT is read, and the client is told so.
    assert_eq!(reply.value("connection"), "close");
    let tunnel = scene.client.tunnel("api.example.com:22").unwrap();
    assert!(tunnel.reply.unwrap().reason().starts_with("egress.port_not_allowed "));
    assert!(stage.dns.log().is_empty());
}

fn early_bytes(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut channel = scene.client.connect().unwrap();
    let bytes = b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n\
        GET http://api.example.com/smuggled HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let played = channel.exchange(&[Segment::now(bytes)], Patience::Brief);
    assert_eq!(played.replies.len(), 1);
    assert_eq!(played.replies[0].status(), 403);
    assert!(channel.is_closed_within(Duration::from_secs(4)));
    assert!(stage.origin.connections().is_empty());
}

fn client_shapes(stage: &Stage) {
    let scene = stage.play(POLICY);
    for head in [
        "CONNECT api.example.com:443 HTTP/1.0\r\n\r\n",
        "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\nConnection: close\r\n\r\n",
        "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\
         Connection: close\r\nProxy-Connection: keep-alive\r\n\r\n",
    ] {
        let mut channel = scene.client.connect().unwrap();
        channel.send(head.as_bytes());
        let reply = channel.receive(Duration::from_secs(3)).unwrap();
        assert!(reply.starts_with(b"HTTP/1.") && reply[8..].starts_with(b" 200"), "{head}");
        let mut channel = channel.tls(Some("api.example.com"), &["http/1.1"]).unwrap();
        assert_eq!(inside(&mut channel, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"), 200);
    }
    let other = "CONNECT api.example.com:443 HTTP/1.1\r\nHost: www.example.org\r\n\r\n";
    assert_eq!(scene.client.request(other.as_bytes()).unwrap().status(), 421);
}

fn silent(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    assert!(tunnel.channel.is_closed_within(Duration::from_secs(3)));
    let (decision, _) = scene.both_records("egress.request_timeout");
    assert_eq!(decision["verdict"], "deny");
    scene.wait_until_empty();
}

fn last_words(stage: &Stage) {
    let scene = stage.play(POLICY);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nlast words";
    let steps = move |_: &egret_testkit::http1::Message| {
        vec![egret_testkit::origin::Step::Send(answer.to_vec()), egret_testkit::origin::Step::Reset]
    };
    let answer = egret_testkit::origin::Answer::with(steps);
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(answer));
    let tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    let mut channel = tunnel.tls(Some("api.example.com")).unwrap();
    channel.send(b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
    let heard = channel.receive_exactly(48, Duration::from_secs(3));
    let (_, completion) = scene.both_records("egress.allowed");
    assert!(heard.ends_with(b"last words"), "{:?} {completion}", String::from_utf8_lossy(&heard));
    assert_eq!(completion["closed_by"], "upstream");
    scene.wait_until_empty();
}

fn urgent(stage: &Stage) {
    let policy = "version = 1\n[[rule]]\nid = \"raw\"\neffect = \"allow\"\n\
                  hosts = [\"api.example.com\"]\nschemes = [\"tcp\"]\nports = [2222]\n";
    let scene = stage.play(policy);
    stage.origin.open(2222).unwrap();
    let mut plan = Plan::good(&stage.pki).unwrap();
    plan.services.insert(2222, Service::Echo);
    stage.origin.reset(plan);
    let mut channel = scene.client.tunnel("api.example.com:2222").unwrap().channel;
    channel.send(b"abc");
    assert_eq!(channel.receive_exactly(3, Duration::from_secs(3)), b"abc");
    socket2::SockRef::from(channel.socket()).send_out_of_band(b"!").unwrap();
    channel.send(b"def");
    assert_eq!(channel.receive_exactly(4, Duration::from_secs(3)), b"!def");
    channel.send(b"ghi");
    assert_eq!(channel.receive_exactly(3, Duration::from_secs(3)), b"ghi");
}
