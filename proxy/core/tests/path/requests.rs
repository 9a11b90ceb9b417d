//! Requests in absolute form.

use std::time::Duration;

use egret_testkit::client::{Patience, Segment};
use serde_json::Value;

use crate::{Claim, POLICY, scene::Stage};

pub(crate) const TRIALS: &[Claim] = &[
    ("an_allowed_request_is_served_and_recorded_twice", allowed),
    ("a_denied_host_is_not_looked_up_and_told_why", denied),
    ("a_malformed_request_gets_a_body_a_record_and_the_end", malformed),
    ("hop_by_hop_fields_end_here", hop_by_hop),
    ("a_host_field_that_names_another_authority_is_misdirected", host_mismatch),
    ("https_in_cleartext_is_refused", https_in_cleartext),
    ("a_request_that_came_through_egret_before_is_a_loop", looped),
    ("a_proxy_challenge_from_an_origin_is_not_passed_on", origin_407),
    ("an_origins_reason_phrase_is_not_relayed", reason_phrase),
    ("a_chunked_body_is_kept_whatever_the_method", chunked_get),
    ("a_keep_alive_connection_decides_each_request_anew", keep_alive),
];

fn allowed(stage: &Stage) {
    let scene = stage.play(POLICY);
    let reply = scene.client.get("http://api.example.com/a?secret=1").unwrap();
    assert_eq!((reply.status(), reply.text().as_str()), (200, "ok"));
    assert_eq!(reply.value("via"), "1.1 egret");

    let requests = stage.origin.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].target(), b"/a?secret=1");
    assert_eq!(requests[0].value("host"), "api.example.com");
    assert_eq!(requests[0].value("via"), "1.1 egret");

    let (decision, completion) = scene.both_records("egress.allowed");
    assert_eq!(decision["verdict"], "allow");
    assert_eq!(decision["rule"], "allowed");
    assert_eq!(decision["worker"], "anonymous");
    assert_eq!(decision["path"], "/a", "the query string is never recorded");
    assert_eq!(decision["addresses"], serde_json::json!(["93.184.216.34"]));
    assert_eq!(decision["policy"].as_str().unwrap().len(), 64);
    assert!(decision.get("status").is_none());
    assert_eq!(completion["status"], 200);
    assert_eq!(completion["pinned"], "93.184.216.34:80");
    assert_eq!(completion["bytes_down"], 2);
    assert_eq!(completion["closed_by"], "upstream");
    assert!(decision["seq"].as_u64() < completion["seq"].as_u64());
    scene.wait_until_empty();
}

fn denied(stage: &Stage) {
    let scene = stage.play(POLICY);
    let reply = scene.client.get("http://evil.test/").unwrap();
    assert_eq!(reply.status(), 403);
    let body: Value = serde_json::from_str(&reply.text()).unwrap();
    let id = body["id"].as_str().unwrap();
    assert_eq!(body["code"], "egress.host_not_allowed");
    assert_eq!(body["type"], "urn:egret:egress.host_not_allowed");
    assert_eq!(reply.value("content-type"), "application/problem+json");
    assert_eq!(reply.reason(), format!("egress.host_not_allowed {id}"));
    assert_eq!(
        reply.value("proxy-status"),
        format!("egret; error=http_request_denied; details=\"egress.host_not_allowed; {id}\"")
    );
    assert!(stage.dns.log().is_empty(), "a denied name is never looked up");
    assert!(stage.origin.connections().is_empty());
    let (decision, completion) = scene.both_records("egress.host_not_allowed");
    assert_eq!(decision["id"], *id);
    assert_eq!(decision["verdict"], "deny");
    assert_eq!(completion["status"], 403);
    assert_eq!(completion["closed_by"], "policy");
}

fn malformed(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut channel = scene.client.connect().unwrap();
    let head = b"GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n: x\r\n\r\n";
    let played = channel.exchange(&[Segment::now(head)], Patience::Brief);
    assert_eq!(played.replies[0].status(), 400);
    let body: Value = serde_json::from_str(&played.replies[0].text()).unwrap();
    assert_eq!(body["code"], "egress.request_malformed");
    assert!(channel.is_closed_within(Duration::from_secs(3)));
    let (decision, completion) = scene.both_records("egress.request_malformed");
    assert_eq!(decision["verdict"], "deny");
    assert_eq!(completion["status"], 400);
    assert!(stage.origin.connections().is_empty());
    scene.wait_until_empty();
}

fn hop_by_hop(stage: &Stage) {
    let scene = stage.play(POLICY);
    let head = b"GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\
        Connection: close, X-Nominated\r\nX-Nominated: 1\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\n\
        Proxy-Authorization: Basic eDp5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\n\
        Baggage: a=b\r\nTracestate: a=b\r\nX-Kept: yes\r\n\r\n";
    assert_eq!(scene.client.request(head).unwrap().status(), 200);
    let request = &stage.origin.requests()[0];
    for name in [
        "x-nominated",
        "keep-alive",
        "te",
        "proxy-authorization",
        "proxy-connection",
        "upgrade",
        "baggage",
        "tracestate",
    ] {
        assert!(request.values(name).is_empty(), "{name} was forwarded");
    }
    assert_eq!(request.value("x-kept"), "yes");
}

fn host_mismatch(stage: &Stage) {
    let scene = stage.play(POLICY);
    let head = b"GET http://api.example.com/ HTTP/1.1\r\nHost: www.example.org\r\n\r\n";
    let reply = scene.client.request(head).unwrap();
    assert_eq!(reply.status(), 421);
    assert!(reply.reason().starts_with("egress.host_mismatch "));
    let (decision, _) = scene.both_records("egress.host_mismatch");
    assert_eq!(decision["host"], "api.example.com", "the record says what was asked for");
    let same = b"GET http://api.example.com/ HTTP/1.1\r\nHost: API.example.com:80\r\n\r\n";
    assert_eq!(scene.client.request(same).unwrap().status(), 200);
    assert_eq!(stage.origin.requests().len(), 1);
}

fn https_in_cleartext(stage: &Stage) {
    let scene = stage.play(POLICY);
    let reply = scene.client.get("https://api.example.com/").unwrap();
    assert_eq!(reply.status(), 403);
    assert!(reply.reason().starts_with("egress.scheme_not_allowed "));
    assert!(stage.origin.connections().is_empty());
}

fn looped(stage: &Stage) {
    let scene = stage.play(POLICY);
    let through = |via: &str| {
        let head = format!(
            "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nVia: {via}\r\n\r\n"
        );
        scene.client.request(head.as_bytes()).unwrap()
    };
    let reply = through("1.1 front, 1.1 egret");
    assert_eq!(reply.status(), 502);
    assert!(reply.reason().starts_with("egress.loop_detected "));
    assert_eq!(through("1.1 front").status(), 200);
}

fn origin_407(stage: &Stage) {
    use egret_testkit::origin::{Answer, Plan};
    let scene = stage.play(POLICY);
    let answer = "HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(Answer::bytes(answer)));
    let reply = scene.client.get("http://api.example.com/").unwrap();
    assert_eq!(reply.status(), 502);
    assert!(reply.reason().starts_with("egress.upstream_protocol_error "));
    assert!(reply.values("proxy-authenticate").is_empty());
}

fn reason_phrase(stage: &Stage) {
    use egret_testkit::origin::{Answer, Plan};
    let scene = stage.play(POLICY);
    let answer = "HTTP/1.1 403 egress.host_not_allowed 01FAKE\r\nContent-Length: 0\r\n\r\n";
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(Answer::bytes(answer)));
    let reply = scene.client.get("http://api.example.com/").unwrap();
    assert_eq!((reply.status(), reply.reason().as_str()), (403, "Forbidden"));
}

fn chunked_get(stage: &Stage) {
    let scene = stage.play(POLICY);
    for method in ["GET", "DELETE"] {
        let bytes = format!(
            "{method} http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        assert_eq!(scene.client.request(bytes.as_bytes()).unwrap().status(), 200);
    }
    assert!(stage.origin.requests().iter().all(|request| request.body == b"hello"));
    assert_eq!(stage.origin.requests().len(), 2);
}

fn keep_alive(stage: &Stage) {
    let scene = stage.play(POLICY);
    let mut channel = scene.client.connect().unwrap();
    let statuses: Vec<_> =
        ["http://api.example.com/1", "http://evil.test/", "http://api.example.com/2"]
            .iter()
            .map(|url| {
                let head = egret_testkit::client::get(url);
                let played = channel.exchange(&[Segment::now(head.as_bytes())], Patience::Brief);
                played.replies[0].status()
            })
            .collect();
    assert_eq!(statuses, [200, 403, 200]);
    assert_eq!(stage.origin.requests().len(), 2);
}
