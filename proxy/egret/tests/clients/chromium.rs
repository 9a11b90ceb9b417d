//! Chromium, headless: pages through the proxy, and what its imitation of ECH means for a rule.
//!
//! Each run has a profile of its own. Certificates are not judged: Chromium takes a root from the
//! system's NSS store alone, and what is shown here lies below TLS.

use std::process::Command;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use egret_testkit::{
    http1::Message,
    origin::{Answer, Plan, Step},
};

use crate::{
    Claim,
    program::{Client, PATIENCE, Program},
    scene::{ALLOWED, CODE, DENIED, POLICY, Scene, Stage},
};

pub(crate) const CLAIMS: &[Claim] = &[
    (Client::Chromium, "chromium_hides_a_name_and_is_refused_unless_the_rule_allows_it", ech),
    (Client::Chromium, "chromium_is_denied_a_host_that_is_never_looked_up", denied),
    (Client::Chromium, "chromium_speaks_websocket_through_the_proxy", websocket),
];

/// What a page that was loaded shows.
const SHOWN: &str = "served by the origin";

fn chromium(scene: &Scene, options: &[&str], url: &str) -> Command {
    let profile = tempfile::tempdir_in(scene.folder()).unwrap().keep();
    let mut command = scene.command(
        "chromium",
        &[
            "--headless",
            "--no-sandbox",
            "--no-zygote",
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-breakpad",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-default-apps",
            "--disable-extensions",
            "--disable-sync",
            "--ignore-certificate-errors",
        ],
    );
    command
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--proxy-server={}", scene.url()))
        .args(options)
        .arg(url);
    command
}

/// Begins to load a page; what becomes of it is printed as HTML.
fn load(scene: &Scene, url: &str) -> Program {
    scene.start(chromium(scene, &["--dump-dom"], url))
}

fn answering(stage: &Stage, answer: impl Fn(&Message) -> Vec<Step> + Send + Sync + 'static) {
    stage.origin.reset(Plan::good(&stage.pki).unwrap().answering(Answer::with(answer)));
}

fn page(html: &str) -> Vec<Step> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length";
    vec![Step::Send(format!("{head}: {}\r\n\r\n{html}", html.len()).into_bytes())]
}

fn ech(stage: &Stage) {
    let url = format!("https://{ALLOWED}/");
    let scene = stage.serve(POLICY);
    answering(stage, |_| page(&format!("<p>{SHOWN}</p>")));
    let outcome = load(&scene, &url).end();
    assert!(!outcome.out.contains(SHOWN), "{outcome:#?}");
    // Not `sni_mismatch`: the visible name was the tunnel's.
    let decision = scene.decision(ALLOWED, "egress.ech_refused");
    assert_eq!(decision.text("verdict"), "deny");
    assert!(stage.origin.connections().iter().all(|connection| connection.wire().is_empty()));

    let scene = stage.serve(&format!("{POLICY}ech = \"allow\"\n"));
    answering(stage, |_| page(&format!("<p>{SHOWN}</p>")));
    let outcome = load(&scene, &url).end();
    assert!(outcome.ok && outcome.out.contains(SHOWN), "{outcome:#?}");
    let decision = scene.decision(ALLOWED, "egress.allowed");
    assert_eq!(decision.text("sni"), ALLOWED);
    assert_eq!(decision.text("method"), "CONNECT");
    assert!(
        stage.origin.connections().iter().any(|connection| {
            connection.sni().as_deref() == Some(ALLOWED) && connection.is_tls()
        })
    );
}

fn denied(stage: &Stage) {
    let scene = stage.serve(POLICY);
    let started = [("https", "CONNECT"), ("http", "GET")]
        .map(|(scheme, method)| (scheme, method, load(&scene, &format!("{scheme}://{DENIED}/"))));
    for (scheme, method, program) in started {
        let outcome = program.end();
        // The body of a denial is shown where there is no tunnel in between.
        assert_eq!(outcome.out.contains(CODE), scheme == "http", "{outcome:#?}");
        let decision = scene.record(method, |record| {
            let fields = ["host", "method", "verdict"].map(|field| record.text(field));
            record.is_decision() && fields == [DENIED, method, "deny"]
        });
        assert_eq!(decision.reason(), CODE);
    }
    assert!(!stage.dns.names().contains(&DENIED.to_owned()), "it was looked up");
    assert!(stage.origin.connections().is_empty());
}

fn websocket(stage: &Stage) {
    let scene = stage.serve(POLICY);
    answering(stage, |request| match request.value("sec-websocket-key").as_str() {
        "" => page(&format!(
            "<script>let socket = new WebSocket('ws://{ALLOWED}/chat');
             socket.onmessage = message => socket.send('heard: ' + message.data)</script>"
        )),
        key => greet(key),
    });
    let url = format!("http://{ALLOWED}/");
    let program = scene.start(chromium(&scene, &["--remote-debugging-port=0"], &url));
    let heard = stage.origin.wait_until(PATIENCE, |connections| {
        connections.iter().any(|connection| spoken(&connection.wire()) == b"heard: hello")
    });
    drop(program);
    assert!(heard, "{:#?}", stage.origin.requests());
    // Chromium opens a tunnel for it, so what was decided is the request inside.
    let went_on = scene.record("the exchange that went on as WebSocket", |record| {
        record.is_completion() && record.number("status") == Some(101)
    });
    assert_eq!(went_on.text("path"), "/chat");
    assert_eq!(went_on.text("rule"), "allowed");
}

/// Goes on as WebSocket (RFC 6455, section 4.2.2) and says hello in one frame.
fn greet(key: &str) -> Vec<Step> {
    let key = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes()));
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    vec![Step::Send([head.as_bytes(), b"\x81\x05hello"].concat())]
}

/// Returns what the first frame after a head says; a client's frames are masked.
fn spoken(wire: &[u8]) -> Vec<u8> {
    let Some(end) = wire.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return vec![] };
    match &wire[end + 4..] {
        [0x81, length, m0, m1, m2, m3, rest @ ..] if *length & 0x80 != 0 => {
            let mask = [m0, m1, m2, m3].into_iter().cycle();
            let length = usize::from(*length & 0x7f);
            rest.iter().take(length).zip(mask).map(|(byte, mask)| byte ^ mask).collect()
        }
        _ => vec![],
    }
}
