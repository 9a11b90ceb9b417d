//! The heads of CONNECT that clients were seen to send, byte for byte: each opens a tunnel that
//! works to a host that is allowed, and is refused readably for one that is not.

use std::time::Duration;

use egret_testkit::{
    client::{Channel, Patience, Segment},
    http1,
};

use crate::{
    Claim,
    program::Client,
    scene::{ALLOWED, BODY, CODE, DENIED, POLICY, Scene, Stage},
};

pub(crate) const CLAIMS: &[Claim] = &[
    (Client::Bytes, "every_head_of_connect_opens_a_tunnel_for_tls", for_tls),
    (Client::Bytes, "every_head_of_connect_opens_a_tunnel_for_plain_http", for_plain_http),
    (Client::Bytes, "every_head_of_connect_is_refused_readably", refused),
    (Client::Bytes, "a_challenged_connect_succeeds_with_credentials", challenged),
    (Client::Bytes, "a_tunnel_outlives_the_close_that_its_head_announced", outlives),
];

/// Who sends it, and the head with `{host}` and `{port}` to fill in.
const HEADS: &[(&str, &str)] = &[
    ("Python 3.11: urllib, requests, pip, aws-cli", "CONNECT {host}:{port} HTTP/1.0\r\n\r\n"),
    (
        "curl",
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: curl/7.88.1\r\n\
         Proxy-Connection: Keep-Alive\r\n\r\n",
    ),
    (
        "curl --proxy1.0",
        "CONNECT {host}:{port} HTTP/1.0\r\nHost: {host}:{port}\r\nUser-Agent: curl/7.88.1\r\n\
         Proxy-Connection: Keep-Alive\r\n\r\n",
    ),
    (
        "wget",
        "CONNECT {host}:{port} HTTP/1.1\r\nUser-Agent: Wget/1.21.3\r\nHost: {host}:{port}\r\n\r\n",
    ),
    ("aiohttp", "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
    ("undici 6", "CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"),
    (
        "undici 7",
        "CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         proxy-connection: keep-alive\r\n\r\n",
    ),
    (
        "https-proxy-agent",
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nProxy-Connection: close\r\n\r\n",
    ),
    ("axios", "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"),
    (
        "npm",
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\
         Proxy-Connection: Keep-Alive\r\n\r\n",
    ),
    (
        "Go",
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\
         User-Agent: Go-http-client/1.1\r\n\r\n",
    ),
    (
        "Chromium",
        "CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nProxy-Connection: keep-alive\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
         HeadlessChrome/156.0.0.0 Safari/537.36\r\n\r\n",
    ),
];

fn head(shape: &str, host: &str, port: u16) -> String {
    shape.replace("{host}", host).replace("{port}", &port.to_string())
}

/// Sends a head and returns the reply, up to its end and no further.
fn ask(scene: &Scene, head: &str) -> (Channel, http1::Message) {
    let mut channel = scene.raw().connect().unwrap();
    channel.send(head.as_bytes());
    let mut raw = Vec::new();
    loop {
        let part = channel.receive_exactly(1, Duration::from_secs(10));
        assert!(!part.is_empty(), "no whole reply to {head:?}: {raw:?}");
        raw.extend(part);
        let replies = http1::responses(&raw, &[b"CONNECT".to_vec()], false);
        if let Some(reply) = replies.into_iter().find(|reply| reply.complete) {
            return (channel, reply);
        }
    }
}

/// Asks for the origin's body inside a tunnel.
#[track_caller]
fn works(channel: &mut Channel, who: &str) {
    let get = format!("GET / HTTP/1.1\r\nHost: {ALLOWED}\r\n\r\n");
    let played = channel.exchange(&[Segment::now(get.as_bytes())], Patience::None);
    let reply = played.replies.first().unwrap_or_else(|| panic!("{who}: no reply in the tunnel"));
    assert_eq!((reply.status(), reply.text().as_str()), (200, BODY), "{who}");
}

fn for_tls(stage: &Stage) {
    let scene = stage.serve(POLICY);
    for (who, shape) in HEADS {
        let (channel, reply) = ask(&scene, &head(shape, ALLOWED, 443));
        assert_eq!(reply.status(), 200, "{who}");
        // RFC 9110, section 9.3.6: clients wait for a body that is announced here.
        for field in ["content-length", "transfer-encoding"] {
            assert!(reply.values(field).is_empty(), "{who}: {reply:?}");
        }
        works(&mut channel.tls(Some(ALLOWED), &["http/1.1"]).unwrap(), who);
    }
}

fn for_plain_http(stage: &Stage) {
    let scene = stage.serve(POLICY);
    for (who, shape) in HEADS {
        let (mut channel, reply) = ask(&scene, &head(shape, ALLOWED, 80));
        assert_eq!(reply.status(), 200, "{who}");
        works(&mut channel, who);
        works(&mut channel, who);
    }
}

fn refused(stage: &Stage) {
    let scene = stage.serve(POLICY);
    for (who, shape) in HEADS {
        for port in [80, 443] {
            let (mut channel, reply) = ask(&scene, &head(shape, DENIED, port));
            assert_eq!(reply.status(), 403, "{who}");
            let id = reply.reason().strip_prefix(CODE).unwrap_or_default().trim().to_owned();
            let decision = scene.record(who, |record| record.is_decision() && record.id() == id);
            assert_eq!(decision.reason(), CODE, "{who}");
            assert!(reply.text().contains(&id), "{who}: the body says it too");
            assert_eq!(reply.value("connection"), "close", "{who}");
            assert!(channel.is_closed_within(Duration::from_secs(10)), "{who}");
        }
    }
    assert!(stage.dns.names().is_empty(), "a denied name was looked up");
    assert!(stage.origin.connections().is_empty());
}

fn challenged(stage: &Stage) {
    let scene = stage.serve_to_worker(POLICY);
    // `printf %s ci-1:correct-horse | base64`, and the same with another token.
    let right = "Proxy-Authorization: Basic Y2ktMTpjb3JyZWN0LWhvcnNl\r\n\r\n";
    let wrong = "Proxy-Authorization: Basic Y2ktMTp3cm9uZy1ob3JzZQ==\r\n\r\n";
    for (who, shape) in HEADS {
        let bare = head(shape, ALLOWED, 443);
        let with = |proof: &str| format!("{}{proof}", bare.strip_suffix("\r\n").unwrap());
        for (asked, code) in
            [(bare.clone(), "egress.identity_required"), (with(wrong), "egress.identity_invalid")]
        {
            let (_, reply) = ask(&scene, &asked);
            assert_eq!(reply.status(), 407, "{who}");
            assert!(reply.reason().starts_with(code), "{who}: {reply:?}");
            assert!(reply.value("proxy-authenticate").starts_with("Basic "), "{who}: {reply:?}");
        }
        let (channel, reply) = ask(&scene, &with(right));
        assert_eq!(reply.status(), 200, "{who}");
        works(&mut channel.tls(Some(ALLOWED), &["http/1.1"]).unwrap(), who);
    }
}

fn outlives(stage: &Stage) {
    let scene = stage.serve(POLICY);
    let closing =
        HEADS.iter().filter(|(_, shape)| shape.to_lowercase().contains("connection: close"));
    let mut count = 0;
    for (who, shape) in closing {
        let (channel, _) = ask(&scene, &head(shape, ALLOWED, 443));
        let mut channel = channel.tls(Some(ALLOWED), &["http/1.1"]).unwrap();
        for _ in 0..3 {
            works(&mut channel, who);
        }
        count += 1;
    }
    assert_eq!(count, 4);
}
