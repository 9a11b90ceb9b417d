//! Who is asking: every kind of listener and of proof, over real sockets.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use egret_policy::{Worker, WorkerId};
use egret_proxy::{
    ClosedBy, IdentityKind, KnownWorker, ListenAddress, ListenerSettings, Named, Proofs, Selector,
    Settings, StaticWorkers, Workers,
};
use egret_testkit::{
    client::{Channel, Patience, Segment, get},
    http1::Message,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use socket2::{Domain, Socket, Type};

use crate::{
    Claim, POLICY,
    scene::{Scene, Stage},
};

pub(crate) const TRIALS: &[Claim] = &[
    ("a_token_names_its_worker_and_a_wrong_one_is_challenged", token),
    ("credentials_that_follow_a_challenge_are_taken", after_a_challenge),
    ("curl_and_git_find_their_way_through_a_challenge", real_clients),
    ("a_source_names_its_worker_and_its_neighbour_nobody", source),
    ("an_ipv4_source_is_the_same_on_an_ipv6_listener", mapped_source),
    ("a_stolen_token_is_worth_nothing_elsewhere", stolen),
    ("a_unix_peer_is_its_user_and_has_no_address", unix_peer),
    ("the_identity_of_a_connect_governs_what_is_inside", inside),
    ("a_cut_reaches_a_unix_peer", cut_unix),
    ("a_socket_file_that_is_left_over_is_replaced", left_over),
    ("a_socket_file_in_use_or_of_another_kind_is_not_touched", in_use),
    ("a_socket_file_goes_with_its_listener_and_no_other", removed),
    ("rights_that_end_after_identification_let_nothing_out", revoked_between),
];

fn worker(id: &str, proofs: Proofs) -> KnownWorker {
    let id = WorkerId::parse(id).unwrap();
    KnownWorker { worker: Arc::new(Worker { id, labels: Default::default() }), proofs }
}

fn with_token(token: &str) -> Proofs {
    Proofs { token_sha256: Some(Sha256::digest(token).into()), ..Proofs::default() }
}

fn from_source(network: &str) -> Proofs {
    Proofs { source: vec![network.parse().unwrap()], ..Proofs::default() }
}

fn taking(kinds: &'static [IdentityKind]) -> impl FnOnce(&mut Settings) {
    move |settings| settings.listeners[0].identity = kinds.to_vec()
}

fn basic(pair: &str) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair))
}

fn bearer(token: &str) -> String {
    format!("Proxy-Authorization: Bearer {token}\r\n")
}

fn head(lines: &str) -> String {
    format!("GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n{lines}\r\n")
}

fn ask(channel: &mut Channel, lines: &str) -> Message {
    let played = channel.exchange(&[Segment::now(head(lines).as_bytes())], Patience::Brief);
    played.replies.into_iter().next().expect("every request is answered")
}

/// Connects from an address, each of which is this machine's in the namespace.
fn connect_from(source: &str, to: SocketAddr) -> Channel {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    let source = SocketAddr::new(source.parse().unwrap(), 0);
    socket.bind(&source.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    Channel::Plain(socket.into())
}

/// The raw client reads and writes whatever stream it is given.
fn connect_unix(path: &Path) -> io::Result<Channel> {
    Ok(Channel::Plain(TcpStream::from(OwnedFd::from(UnixStream::connect(path)?))))
}

#[track_caller]
fn refused(reply: &Message, status: u16, code: &str) {
    assert_eq!(reply.status(), status);
    assert!(reply.reason().starts_with(&format!("egress.{code} ")), "{}", reply.reason());
}

fn token(stage: &Stage) {
    let workers = vec![worker("ci-1", with_token("open-sesame"))];
    let scene = stage.play_with(POLICY, taking(&[IdentityKind::Token]), workers);
    let with = |lines: &str| scene.client.request(head(lines).as_bytes()).unwrap();

    let reply = with("");
    refused(&reply, 407, "identity_required");
    let challenges: Vec<_> =
        reply.values("proxy-authenticate").into_iter().map(String::from_utf8_lossy).collect();
    assert_eq!(challenges, ["Basic realm=\"egret\", charset=\"UTF-8\"", "Bearer realm=\"egret\""]);
    for wrong in [basic("ci-1:wrong"), basic("ci-2:open-sesame"), bearer("wrong")] {
        refused(&with(&wrong), 407, "identity_invalid");
    }
    assert!(stage.origin.connections().is_empty());

    for right in [basic("ci-1:open-sesame"), bearer("open-sesame")] {
        assert_eq!(with(&right).status(), 200);
    }
    for request in stage.origin.requests() {
        assert!(request.values("proxy-authorization").is_empty());
    }
    let (decision, _) = scene.both_records("egress.allowed");
    assert_eq!(decision["worker"], "ci-1");
}

fn after_a_challenge(stage: &Stage) {
    let workers = vec![worker("ci-1", with_token("open-sesame"))];
    let scene = stage.play_with(POLICY, taking(&[IdentityKind::Token]), workers);
    let mut channel = scene.client.connect().unwrap();
    refused(&ask(&mut channel, ""), 407, "identity_required");
    // The same connection, asked again.
    assert_eq!(ask(&mut channel, &basic("ci-1:open-sesame")).status(), 200);

    let refused_tunnel = scene.client.tunnel("api.example.com:443").unwrap();
    let reply = refused_tunnel.reply.as_ref().unwrap();
    refused(reply, 407, "identity_required");
    // Nothing follows a CONNECT that was refused, and the client is told so.
    assert_eq!(reply.value("connection"), "close");
    let proof = basic("ci-1:open-sesame");
    let tunnel =
        scene.client.tunnel_with("api.example.com:443", &proof, Duration::from_secs(3)).unwrap();
    assert_eq!(tunnel.status(), 200);
    tunnel.tls(Some("api.example.com")).unwrap();
}

fn real_clients(stage: &Stage) {
    let workers = vec![worker("ci-1", with_token("open-sesame"))];
    let scene = stage.play_with(POLICY, taking(&[IdentityKind::Token]), workers);
    let proxy = format!("http://ci-1:open-sesame@{}", scene.address);
    let wrong = format!("http://ci-1:wrong@{}", scene.address);
    let curl = |proxy: &str, url: &str| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-k", "-m", "20", "--proxy-anyauth", "-x", proxy, url]);
        run(command)
    };
    for (asked, url) in ["http://api.example.com/a", "https://api.example.com/a"].iter().enumerate()
    {
        let Some(told) = curl(&proxy, url) else { return };
        assert_eq!(told, (true, "ok".to_owned()), "{url}");
        assert_eq!(stage.origin.requests().len(), asked + 1);
        let Some((_, told)) = curl(&wrong, url) else { return };
        assert_ne!(told, "ok", "{url}");
        assert_eq!(stage.origin.requests().len(), asked + 1, "{url}");
    }

    // What the origin answers is no repository; that git asked it is all that counts.
    let mut git = Command::new("git");
    git.args(["-c", &format!("http.proxy={proxy}"), "ls-remote", "http://api.example.com/repo"]);
    git.env("GIT_TERMINAL_PROMPT", "0").env("HOME", stage.entered.directory());
    if run(git).is_some() {
        let requests = stage.origin.requests();
        let by_git = |request: &Message| request.target().starts_with(b"/repo/info/refs");
        assert!(requests.iter().any(by_git), "git's request did not arrive");
        assert!(requests.iter().all(|request| request.values("proxy-authorization").is_empty()));
    }
}

/// Returns whether a program succeeded and what it printed; `None` where it is not installed,
/// which is said loudly.
fn run(mut command: Command) -> Option<(bool, String)> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            Some((output.status.success(), said))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("NOT RUN: {:?} is not installed", command.get_program());
            None
        }
        Err(error) => panic!("{command:?}: {error}"),
    }
}

fn source(stage: &Stage) {
    let workers = vec![
        worker("room", from_source("10.1.0.0/16")),
        worker(
            "guarded",
            Proofs { token_sha256: with_token("t").token_sha256, ..from_source("10.2.0.0/16") },
        ),
    ];
    let kinds = &[IdentityKind::Source, IdentityKind::Token];
    let scene = stage.play_with(POLICY, taking(kinds), workers);
    let from = |source: &str, lines: &str| ask(&mut connect_from(source, scene.address), lines);

    assert_eq!(from("10.1.255.255", "").status(), 200);
    refused(&from("10.0.255.255", ""), 407, "identity_required");
    refused(&from("10.3.0.0", ""), 407, "identity_required");
    refused(&from("10.2.0.1", ""), 407, "identity_required");
    assert_eq!(from("10.2.0.1", &bearer("t")).status(), 200);
    refused(&from("10.1.0.1", &bearer("t")), 407, "identity_invalid");
    assert_eq!(stage.origin.requests().len(), 2);
    let allowed: Vec<_> = scene
        .end()
        .into_iter()
        .filter(|record| record["event"] == "decision" && record["verdict"] == "allow")
        .map(|record| record["worker"].clone())
        .collect();
    assert_eq!(allowed, ["room", "guarded"]);
}

/// A wildcard of IPv6 takes IPv4 clients too, whose addresses it shows in IPv6 form.
fn mapped_source(stage: &Stage) {
    let both_families = |settings: &mut Settings| {
        settings.listeners[0] = ListenerSettings {
            address: ListenAddress::Tcp("[::]:0".parse().unwrap()),
            identity: vec![IdentityKind::Source],
        };
    };
    let workers =
        vec![worker("four", from_source("10.1.0.0/16")), worker("six", from_source("::1/128"))];
    let scene = stage.play_with(POLICY, both_families, workers);
    let port = scene.address.port();
    for (source, to, worker) in [("10.1.0.1", "127.0.0.1", "four"), ("::1", "::1", "six")] {
        let to = SocketAddr::new(to.parse().unwrap(), port);
        assert_eq!(ask(&mut connect_from(source, to), "").status(), 200);
        let record = scene.record(worker, |record| record["worker"] == worker);
        let client: SocketAddr = record["client"].as_str().unwrap().parse().unwrap();
        assert_eq!(client.ip().to_string(), source);
        assert_eq!(record["listener"], format!("[::]:{port}"));
    }
    let to = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
    refused(&ask(&mut connect_from("10.2.0.1", to), ""), 403, "identity_required");
}

fn stolen(stage: &Stage) {
    let token = with_token("open-sesame").token_sha256;
    let workers =
        vec![worker("ci-1", Proofs { token_sha256: token, ..from_source("10.1.0.0/16") })];
    let kinds = &[IdentityKind::Source, IdentityKind::Token, IdentityKind::Anonymous];
    let scene = stage.play_with(POLICY, taking(kinds), workers);
    let from = |source: &str, lines: &str| ask(&mut connect_from(source, scene.address), lines);
    let proof = basic("ci-1:open-sesame");
    assert_eq!(from("10.1.0.1", &proof).status(), 200);
    let stolen = from("10.2.0.1", &proof);
    refused(&stolen, 407, "identity_invalid");
    // Whoever tries it is told the same as for a token that is none.
    let guessed = from("10.2.0.1", &basic("ci-1:guessed"));
    let without_id = |reply: &Message| {
        let mut body: Value = serde_json::from_str(&reply.text()).unwrap();
        body.as_object_mut().unwrap().remove("id");
        body
    };
    assert_eq!(without_id(&stolen), without_id(&guessed));
    assert_eq!(from("10.2.0.1", "").status(), 200, "anonymous, who gives no proof");
    refused(&from("10.1.0.1", ""), 407, "identity_required");
}

/// A scene with a second listener on a Unix socket.
fn on_unix(stage: &Stage, kinds: &[IdentityKind], workers: Vec<KnownWorker>) -> (Scene, PathBuf) {
    let path = fresh_path(stage);
    let scene = stage.play_with(POLICY, also_on(&path, kinds), workers);
    (scene, path)
}

/// A path of one's own: scenes that were dropped may still be ending.
fn fresh_path(stage: &Stage) -> PathBuf {
    tempfile::tempdir_in(stage.entered.directory()).unwrap().keep().join("proxy.sock")
}

fn also_on(path: &Path, kinds: &[IdentityKind]) -> impl FnOnce(&mut Settings) {
    move |settings| {
        settings.listeners.push(ListenerSettings {
            address: ListenAddress::Unix(path.to_owned()),
            identity: kinds.to_vec(),
        });
    }
}

/// Everybody in the namespace is one user: the one who runs this.
fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

fn unix_peer(stage: &Stage) {
    let me = worker("me", Proofs { uid: Some(own_uid()), ..Proofs::default() });
    let (scene, path) = on_unix(stage, &[IdentityKind::Peer], vec![me]);
    let reply = ask(&mut connect_unix(&path).unwrap(), "");
    assert_eq!(reply.status(), 200);
    let (decision, completion) = scene.both_records("egress.allowed");
    assert_eq!(decision["worker"], "me");
    assert_eq!(decision["listener"], format!("unix:{}", path.display()));
    assert_eq!(scene.addresses[1].to_string(), format!("unix:{}", path.display()));
    for record in [decision, completion] {
        assert!(record.get("client").is_none(), "{record}");
    }
    // The other listener does not take what it knows nothing of.
    assert_eq!(scene.client.get("http://api.example.com/").unwrap().status(), 200);
    scene.record("anonymous on TCP", |record| {
        record["worker"] == "anonymous" && record["client"].is_string()
    });
    drop(scene);

    let other = worker("other", Proofs { uid: Some(own_uid() + 1), ..Proofs::default() });
    let (_scene, path) = on_unix(stage, &[IdentityKind::Peer], vec![other]);
    refused(&ask(&mut connect_unix(&path).unwrap(), ""), 403, "identity_required");
    assert!(stage.origin.connections().is_empty());
}

fn open_tunnel(path: &Path) -> Channel {
    let mut channel = connect_unix(path).unwrap();
    let connect = b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n";
    let played = channel.exchange(&[Segment::now(connect)], Patience::Brief);
    assert_eq!(played.replies[0].status(), 200);
    channel.tls(Some("api.example.com"), &["http/1.1"]).unwrap()
}

fn inside(stage: &Stage) {
    let me = worker("me", Proofs { uid: Some(own_uid()), ..Proofs::default() });
    let thief = worker("thief", with_token("open-sesame"));
    let kinds = &[IdentityKind::Peer, IdentityKind::Token];
    let (scene, path) = on_unix(stage, kinds, vec![me, thief]);
    let mut tunnel = connect_unix(&path).unwrap();
    let connect = b"CONNECT api.example.com:80 HTTP/1.1\r\nHost: api.example.com:80\r\n\r\n";
    let played = tunnel.exchange(&[Segment::now(connect)], Patience::Brief);
    assert_eq!(played.replies[0].status(), 200);
    // Inside, another proof names nobody: it is stripped, and reaches no origin.
    let inner =
        format!("GET / HTTP/1.1\r\nHost: api.example.com\r\n{}\r\n", basic("thief:open-sesame"));
    let played = tunnel.exchange(&[Segment::now(inner.as_bytes())], Patience::Brief);
    assert_eq!(played.replies.last().map(Message::status), Some(200));
    assert!(stage.origin.requests()[0].values("proxy-authorization").is_empty());
    drop(tunnel);
    scene.wait_until_empty();
    let records = scene.end();
    assert!(records.iter().all(|record| record["worker"] == "me"), "{records:#?}");
}

fn cut_unix(stage: &Stage) {
    let me = worker("me", Proofs { uid: Some(own_uid()), ..Proofs::default() });
    let (scene, path) = on_unix(stage, &[IdentityKind::Peer], vec![me]);
    let mut channel = open_tunnel(&path);
    let worker = WorkerId::parse("me").unwrap();
    assert!(scene.handle.cut(&Selector::Worker(worker), ClosedBy::Quarantine) > 0);
    assert!(channel.is_closed_within(Duration::from_secs(2)));
    let completion = scene.record("the cut", |record| record["event"] == "completion");
    assert_eq!(completion["closed_by"], "quarantine");
    scene.wait_until_empty();
}

fn left_over(stage: &Stage) {
    let path = fresh_path(stage);
    // A listener that ends without removing its file, as one that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(connect_unix(&path).is_err() && path.exists());
    let scene = stage.play_with(POLICY, also_on(&path, &[IdentityKind::Anonymous]), vec![]);
    assert_eq!(ask(&mut connect_unix(&path).unwrap(), "").status(), 200);
    scene.end();
    assert!(!path.exists());
}

fn in_use(stage: &Stage) {
    let path = fresh_path(stage);
    let taken = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = stage.fails(POLICY, also_on(&path, &[IdentityKind::Anonymous]));
    assert_eq!(error.0, format!("listen on unix:{}", path.display()));
    assert_eq!(error.1, io::ErrorKind::AddrInUse);
    assert!(connect_unix(&path).is_ok(), "whoever listens there is still there");
    drop(taken);
    std::fs::remove_file(&path).unwrap();

    std::fs::write(&path, "precious").unwrap();
    let error = stage.fails(POLICY, also_on(&path, &[IdentityKind::Anonymous]));
    assert_eq!(error.1, io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

fn removed(stage: &Stage) {
    let (scene, path) = on_unix(stage, &[IdentityKind::Anonymous], vec![]);
    assert!(path.exists());
    scene.end();
    assert!(!path.exists());

    let (scene, path) = on_unix(stage, &[IdentityKind::Anonymous], vec![]);
    std::fs::remove_file(&path).unwrap();
    let successor = std::os::unix::net::UnixListener::bind(&path).unwrap();
    scene.end();
    assert!(connect_unix(&path).is_ok(), "a successor's file is not ours to remove");
    drop(successor);
    std::fs::remove_file(&path).unwrap();
}

/// Somebody's workers, of which one loses its rights right after it was identified.
struct Fickle {
    workers: StaticWorkers,
    asked: AtomicUsize,
}

impl Workers for Fickle {
    fn with_id(&self, id: &str) -> Option<Arc<KnownWorker>> {
        self.workers.with_id(id)
    }

    fn with_token(&self, token_sha256: &[u8; 32]) -> Option<Arc<KnownWorker>> {
        self.workers.with_token(token_sha256)
    }

    fn at_source(&self, address: std::net::IpAddr) -> Named {
        self.workers.at_source(address)
    }

    fn of_uid(&self, uid: u32) -> Named {
        self.workers.of_uid(uid)
    }

    fn is_admitted(&self, worker: &Arc<Worker>) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        worker.id.as_str() != "fickle" && self.workers.is_admitted(worker)
    }
}

fn revoked_between(stage: &Stage) {
    let workers = vec![worker("fickle", with_token("gone")), worker("steady", with_token("here"))];
    let workers =
        Arc::new(Fickle { workers: StaticWorkers::new(workers), asked: AtomicUsize::default() });
    let scene = stage.play_for(POLICY, taking(&[IdentityKind::Token]), workers.clone());
    let with = |token: &str| scene.client.request(head(&bearer(token)).as_bytes()).unwrap();
    refused(&with("gone"), 403, "worker_revoked");
    assert_eq!(workers.asked.load(Ordering::Relaxed), 1);
    assert!(stage.origin.requests().is_empty(), "not a byte went upstream");
    assert_eq!(with("here").status(), 200);
    let tunnel = |token: &str| {
        let patience = Duration::from_secs(3);
        scene.client.tunnel_with("api.example.com:443", &bearer(token), patience).unwrap().status()
    };
    assert_eq!(tunnel("gone"), 403);
    assert_eq!(tunnel("here"), 200);
    // `get` asks without a proof: the listener takes tokens alone.
    refused(
        &scene.client.request(get("http://api.example.com/").as_bytes()).unwrap(),
        407,
        "identity_required",
    );
}
