//! `[metrics]`: what is answered there, to whom, and for how long.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use rustix::process::Signal;
use serde_json::Value;

use super::place::{CONFIG, Place, Serving};

const METRICS: &str = "[metrics]\naddress = \"127.0.0.1:0\"\n";

/// A proxy that answers for its metrics, and where.
pub(crate) struct Watched {
    place: Place,
    serving: Serving,
    metrics: SocketAddr,
}

impl Watched {
    fn start(place: Place, more: &str) -> Self {
        place.write("egret.toml", &format!("{CONFIG}{METRICS}{more}"));
        let serving = place.serve(&["serve"]);
        let listening: Value = serde_json::from_str(&place.read("state/listening.json")).unwrap();
        let metrics = listening["metrics"].as_str().unwrap().parse().unwrap();
        Self { place, serving, metrics }
    }

    pub(crate) fn ready() -> Self {
        Self::start(Place::ready(), "")
    }

    /// All figures, in the format of those who ask for none.
    pub(crate) fn figures(&self) -> String {
        self.get("/metrics").body
    }

    fn ask(&self, method: &str, path: &str, more: &str) -> Answer {
        Answer::to(self.metrics, &format!("{method} {path} HTTP/1.1\r\nHost: m\r\n{more}\r\n"))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// The figure of one series.
    fn figure(&self, series: &str) -> f64 {
        let body = self.figures();
        let line = body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not in\n{body}")).parse().unwrap()
    }

    /// Asks the proxy for a page and returns the first line of the answer.
    fn through(&self, url: &str, host: &str) -> String {
        let request = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        Answer::to(self.serving.address, &request).head.lines().next().unwrap().to_owned()
    }
}

#[derive(Debug)]
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn to(address: SocketAddr, request: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Self { head: head.to_lowercase(), body: body.to_owned() }
    }

    #[track_caller]
    fn is(&self, status: u16, kind: &str) {
        assert!(self.head.starts_with(&format!("http/1.1 {status} ")), "{self:?}");
        assert!(self.head.contains(&format!("content-type: {kind}")), "{self:?}");
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[test]
fn each_path_answers_what_it_is_for_and_nothing_else_is_answered() {
    let watched = Watched::ready();
    let text = watched.get("/metrics");
    text.is(200, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.body.contains("# TYPE egret_requests_total counter\n"), "{}", text.body);
    assert!(!text.body.contains("# EOF"), "that is not of this format");
    let asked = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.3\r\n";
    let open = watched.ask("GET", "/metrics?now", asked);
    open.is(200, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.body.contains("# TYPE egret_requests counter\n"), "{}", open.body);
    assert!(open.body.ends_with("\n# EOF\n"), "{}", open.body);

    watched.get("/healthz").is(200, "application/json");
    let ready = watched.get("/readyz");
    ready.is(200, "application/json");
    let revision = watched.place.run(&["explain", "GET", "https://example.com/", "--json"]).json();
    assert_eq!(ready.json()["status"], "serving");
    assert_eq!(ready.json()["policy"], revision["policy"], "{revision}");
    let line = format!("egret_policy_info{{revision={}}} 1\n", revision["policy"]);
    assert!(text.body.contains(&line), "{line:?} is not in\n{}", text.body);

    let head = watched.ask("HEAD", "/metrics", "");
    head.is(200, "text/plain");
    assert_eq!(head.body, "");
    for path in ["/", "/metrics/", "/debug", "//metrics", "http://example.com/"] {
        watched.get(path).is(404, "application/json");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT"] {
        let path = if method == "CONNECT" { "example.com:443" } else { "/metrics" };
        let refused = watched.ask(method, path, "Content-Length: 0\r\n");
        let status = if method == "CONNECT" { 404 } else { 405 };
        refused.is(status, "application/json");
        assert_eq!(refused.head.contains("allow: get, head"), status == 405, "{refused:?}");
    }
}

#[test]
fn a_denial_is_counted_by_its_reason_and_its_neighbour_is_not() {
    let watched = Watched::ready();
    let requests = |verdict: &str, reason: &str| {
        let labels = format!("{{verdict=\"{verdict}\",reason=\"egress.{reason}\"}}");
        watched.figure(&format!("egret_requests_total{labels}"))
    };
    let denied = watched.through("http://elsewhere.example/", "elsewhere.example");
    assert!(denied.contains("egress.host_not_allowed"), "{denied}");
    assert_eq!(requests("deny", "host_not_allowed"), 1.0);
    assert_eq!((requests("allow", "allowed"), requests("deny", "port_not_allowed")), (0.0, 0.0));
    assert_eq!(watched.figure("egret_closed_total{closed_by=\"policy\"}"), 1.0);
    assert_eq!(watched.figure("egret_decide_seconds_count"), 1.0);
    assert_eq!(watched.figure("egret_accepted_total{result=\"served\"}"), 1.0);
    let written = watched.place.read("state/audit/00000001.jsonl");
    assert!(written.contains("egress.host_not_allowed"), "what is counted is recorded");
}

/// What allows two addresses of loopback, as far as they are not egret's own.
const LOCAL: &str = r#"version = 1
[[rule]]
id = "local"
effect = "allow"
hosts = ["127.77.0.1", "127.77.0.2"]
schemes = ["http"]
ports = [9181]
[[network.allow]]
cidr = "127.0.0.0/8"
rules = ["local"]
"#;

/// Takes one request and returns the socket, with nothing answered.
fn taken(origin: &TcpListener) -> TcpStream {
    let (mut stream, _) = origin.accept().unwrap();
    stream.read_exact(&mut [0; 3]).unwrap();
    stream
}

#[test]
fn the_address_of_the_metrics_is_never_a_target() {
    let origin = TcpListener::bind("127.77.0.2:9181").unwrap();
    let place = Place::ready();
    place.write("policy.toml", LOCAL);
    place.write(
        "egret.toml",
        &(CONFIG.to_owned() + &METRICS.replace("127.0.0.1:0", "127.77.0.1:9181")),
    );
    let serving = place.serve(&["serve"]);
    let watched = Watched { place, serving, metrics: "127.77.0.1:9181".parse().unwrap() };
    watched.get("/healthz").is(200, "application/json");
    let own = watched.through("http://127.77.0.1:9181/metrics", "127.77.0.1:9181");
    assert!(own.starts_with("http/1.1 403 egress.address_forbidden "), "{own}");
    let other = thread::spawn(move || {
        taken(&origin).write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    });
    let allowed = watched.through("http://127.77.0.2:9181/metrics", "127.77.0.2:9181");
    assert!(allowed.starts_with("http/1.1 204 "), "{allowed}");
    other.join().unwrap();
}

#[test]
fn a_drain_can_be_watched_to_its_end() {
    let origin = TcpListener::bind("127.77.0.3:9181").unwrap();
    let place = Place::ready();
    place.write("policy.toml", &LOCAL.replace("127.77.0.2", "127.77.0.3"));
    let watched = Watched::start(place, "[limits]\ndrain_timeout = \"1h\"\n");
    assert_eq!(watched.figure("egret_state{state=\"serving\"}"), 1.0);
    let mut client = TcpStream::connect(watched.serving.address).unwrap();
    client
        .write_all(b"GET http://127.77.0.3:9181/ HTTP/1.1\r\nHost: 127.77.0.3:9181\r\n\r\n")
        .unwrap();
    let silent = taken(&origin);

    watched.serving.signal(Signal::TERM);
    // It has been seen when the proxy takes nobody in any more.
    while TcpStream::connect(watched.serving.address).is_ok() {}
    let ready = watched.get("/readyz");
    ready.is(503, "application/json");
    assert_eq!(ready.json()["status"], "draining");
    watched.get("/healthz").is(200, "application/json");
    assert_eq!(watched.figure("egret_state{state=\"draining\"}"), 1.0);
    assert_eq!(watched.figure("egret_exchanges"), 1.0);

    let Watched { serving, metrics, .. } = watched;
    serving.signal(Signal::TERM);
    serving.end().ends_with(0);
    assert!(TcpStream::connect(metrics).is_err(), "it ends with the process");
    drop((client, silent));
}

#[test]
fn who_holds_connections_open_keeps_nobody_out() {
    let watched = Watched::ready();
    let hold = || {
        let mut stream = TcpStream::connect(watched.metrics).unwrap();
        stream.write_all(b"GET /he").unwrap();
        stream
    };
    let mut oldest = hold();
    let rest: Vec<_> = (0..100).map(|_| hold()).collect();
    // The oldest one has made room, long before its time is up.
    let mut end = Vec::new();
    let _ = oldest.read_to_end(&mut end);
    watched.get("/healthz").is(200, "application/json");
    drop(rest);
}

#[test]
fn without_the_section_nobody_listens_and_a_port_that_is_taken_is_69() {
    let place = Place::ready();
    let serving = place.serve(&["serve"]);
    let listening: Value = serde_json::from_str(&place.read("state/listening.json")).unwrap();
    assert!(listening.get("metrics").is_none(), "{listening}");
    drop(serving);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    place.write("egret.toml", &format!("{CONFIG}[metrics]\naddress = \"{address}\"\n"));
    place.run(&["serve"]).ends_with(69).says("`[metrics] address` another port than");
}
