//! Many tunnels and requests at once, while policies change and cuts fall at random: what holds of
//! each one alone must hold of all.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use egret_policy::{RuleId, WorkerId};
use egret_proxy::{ClosedBy, IdentityKind, Selector, Settings};
use egret_testkit::{
    EVIL,
    hello::HelloShape,
    origin::{Plan, Service},
};

use super::{
    pairs,
    play::{BYSTANDER, Roster, WORKER, proof},
};
use crate::scene::{Stage, compile};

/// Both policies allow `www.example.org`, one of them `api.example.com`, neither `evil.test`.
const WIDE: &str = r#"
version = 1
[defaults]
schemes = ["http", "https"]
ports = [80, 443]
[[rule]]
id = "api"
effect = "allow"
hosts = ["api.example.com"]
[[rule]]
id = "www"
effect = "allow"
hosts = ["www.example.org"]
"#;
const HOSTS: [&str; 3] = ["api.example.com", "www.example.org", "evil.test"];
const THREADS: usize = 20;
const ROUNDS: usize = 20;
const REQUESTS: usize = 5;
/// Longer than anything here takes; a connection that was reset is noticed at once.
const LONG: Duration = Duration::from_secs(5);

/// What came of it, so that a storm in which nothing happened does not pass.
#[derive(Default)]
struct Seen {
    tunnels: AtomicUsize,
    answers: AtomicUsize,
    denials: AtomicUsize,
    broken: AtomicUsize,
}

pub(super) fn storm(stage: &Stage) {
    let around = stage.around(Arc::new(Roster::of(&[WORKER, BYSTANDER])));
    let tokens =
        |settings: &mut Settings| settings.listeners[0].identity = vec![IdentityKind::Token];
    let scene = stage.play_in(WIDE, tokens, around);
    let mut plan = Plan::good(&stage.pki).unwrap();
    plan.services.insert(443, Service::Echo);
    stage.origin.reset(plan);
    let panics = Panics::count();
    let (seen, address) = (Arc::new(Seen::default()), scene.address);

    let workers: Vec<_> = (0..THREADS)
        .map(|number| {
            let seen = seen.clone();
            thread::spawn(move || {
                (0..ROUNDS).for_each(|round| work(address, number + round, &seen))
            })
        })
        .collect();
    let policies = [compile(WIDE), compile(&WIDE.replace("api.example.com", "gone.example.com"))];
    let mut cuts = 0;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    while workers.iter().any(|worker| !worker.is_finished()) {
        cuts += match dice.below(4) {
            0 => scene.handle.replace_policy(policies[0].clone()),
            1 => scene.handle.replace_policy(policies[1].clone()),
            2 => {
                let worker = WorkerId::parse([WORKER, BYSTANDER][dice.below(2)]).unwrap();
                scene.handle.cut(&Selector::Worker(worker), ClosedBy::Revoked)
            }
            _ => {
                let rule = RuleId::parse(["api", "www"][dice.below(2)]).unwrap();
                scene.handle.cut(&Selector::Rule(rule), ClosedBy::Limit)
            }
        };
        thread::sleep(Duration::from_millis(dice.below(10) as u64));
    }
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    scene.wait_until_empty();
    let records = scene.end();

    assert_eq!(panics.so_far(), 0, "something panicked");
    pairs(&records);
    assert!(stage.origin.dials_to(EVIL.parse().unwrap()).is_empty(), "a denied host was dialled");
    assert!(!stage.dns.names().contains(&"evil.test".to_owned()), "a denied name was looked up");
    let count = |number: &AtomicUsize| number.load(Ordering::Relaxed);
    let happened = [&seen.tunnels, &seen.answers, &seen.denials, &seen.broken].map(count);
    assert!(cuts > 0 && happened.iter().all(|number| *number > 0), "{cuts} cuts, {happened:?}");
}

/// One tunnel, held while requests go over a connection beside it.
fn work(address: SocketAddr, turn: usize, seen: &Seen) {
    let worker = [WORKER, BYSTANDER][turn % 2];
    let host = HOSTS[turn % HOSTS.len()];
    let tunnel = tunnel(address, worker, host, seen);
    let Ok(mut requests) = open(address) else { return };
    for turn in turn..turn + REQUESTS {
        let host = HOSTS[turn % HOSTS.len()];
        let proof = proof(worker);
        let head = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{proof}\r\n");
        let Some(status) = ask(&mut requests, &head, seen) else { break };
        let counted = if status == "200" { &seen.answers } else { &seen.denials };
        counted.fetch_add(1, Ordering::Relaxed);
    }
    // Whatever has become of the tunnel, it still takes a byte or tells that it is gone.
    if let Some(mut tunnel) = tunnel {
        let gone = tunnel.write_all(b"more").and_then(|()| tunnel.read_exact(&mut [0; 4])).is_err();
        seen.broken.fetch_add(usize::from(gone), Ordering::Relaxed);
    }
}

/// A tunnel through which a ClientHello came back.
fn tunnel(address: SocketAddr, worker: &str, host: &str, seen: &Seen) -> Option<TcpStream> {
    let mut stream = open(address).ok()?;
    let proof = proof(worker);
    let head = format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n{proof}\r\n");
    if ask(&mut stream, &head, seen)? != "200" {
        seen.denials.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    let hello = HelloShape::named(host).write();
    let mut echo = vec![0; hello.len()];
    match stream.write_all(&hello).and_then(|()| stream.read_exact(&mut echo)) {
        Ok(()) => seen.tunnels.fetch_add(1, Ordering::Relaxed),
        Err(_) => return None,
    };
    Some(stream)
}

fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LONG))?;
    Ok(stream)
}

/// Sends a head and returns the status of the answer, read to its end.
fn ask(stream: &mut TcpStream, head: &str, seen: &Seen) -> Option<String> {
    let answer = stream.write_all(head.as_bytes()).and_then(|()| answer(stream));
    if answer.is_err() {
        seen.broken.fetch_add(1, Ordering::Relaxed);
    }
    answer.ok()
}

fn answer(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.trim().parse().unwrap());
    stream.read_exact(&mut vec![0; length])?;
    Ok(head.split(' ').nth(1).unwrap_or_default().to_owned())
}

/// Counts the panics of every thread while it lives; the runtime keeps those of its tasks quiet.
struct Panics(Arc<AtomicUsize>);

impl Panics {
    fn count() -> Self {
        let (counted, before) = (Arc::<AtomicUsize>::default(), std::panic::take_hook());
        let counter = counted.clone();
        std::panic::set_hook(Box::new(move |panic| {
            counter.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
        Self(counted)
    }

    fn so_far(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// The same throws in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}
