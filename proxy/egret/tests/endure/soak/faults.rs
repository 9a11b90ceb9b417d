//! Every kind of fault, again and again until the end: those that show in an answer are asked for,
//! the others are clients that behave badly.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt, mem,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use egret_testkit::{
    client::get,
    crowd::Crowd,
    dns::{Entry, Kind, Zone, script::Rcode},
    hello::HelloShape,
    meter::Connections,
    origin::{Answer, BlackHole, Step},
    workers::{Asked, Outcome, Pace, Workers},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    load::{connect, request},
    scene::{Scene, Stage, write},
};

/// Allows all but `evil.test`, and gives up what stands still.
pub(super) const POLICY: &str = r#"
version = 1
[defaults]
idle_timeout = "5s"
[[rule]]
id = "allowed"
effect = "allow"
suffixes = ["example.org"]
schemes = ["http", "https"]
ports = [80, 443]
"#;
/// The same, and something that plays no part.
const OTHER: &str = "[[rule]]\nid = \"other\"\neffect = \"deny\"\nhosts = [\"other.test\"]\n";
const BROKEN: &str = "[[rule]\nid = \"half of a fi";

/// A fault that shows in an answer.
struct Cause {
    name: &'static str,
    host: &'static str,
    /// Requests a second.
    rate: u32,
    /// How it may end.
    fits: fn(&Asked) -> bool,
}

const fn cause(
    name: &'static str,
    host: &'static str,
    rate: u32,
    fits: fn(&Asked) -> bool,
) -> Cause {
    Cause { name, host, rate, fits }
}

const CAUSES: &[Cause] = &[
    cause("origin resets", "reset.example.org", 4, |one| one.status() == 502),
    cause("origin cuts", "cut.example.org", 4, |one| matches!(one.outcome, Outcome::Broken(1..))),
    cause("origin hangs", "hangs.example.org", 2, |one| one.status() == 504),
    cause("origin refuses", "refuses.example.org", 4, |one| one.status() == 502),
    cause("origin is a hole", "hole.example.org", 2, |one| one.status() == 504),
    cause("name fails", "fails.example.org", 4, |one| one.status() == 502),
    cause("name is silent", "silent.example.org", 2, |one| one.status() == 504),
    cause("denied", "evil.test", 100, |one| matches!(one.status(), 403 | 429)),
];

/// A client that behaves badly until it is told to stop; returns how often it did.
type Client = fn(SocketAddr, &AtomicBool) -> usize;

const CLIENTS: &[(&str, Client)] =
    &[("client resets", resets), ("client never reads", never_reads), ("client is slow", slow)];

/// Makes the names and origins that fail.
pub(super) fn prepare(stage: &Stage) {
    let mut zone = Zone::corpus();
    for (name, address) in [("hangs", HANGS), ("refuses", REFUSES), ("hole", HOLE)] {
        zone.add(&format!("{name}.example.org"), &address.to_string());
    }
    let both = [Kind::A, Kind::Aaaa].into_iter();
    let script = both.flat_map(|kind| {
        let name = |name: &str| Entry {
            q: Some(format!("{name}.example.org")),
            qtype: Some(kind),
            ..Entry::default()
        };
        [
            Entry { rcode: Some(Rcode::Servfail), ..name("fails") },
            Entry { drop: true, ..name("silent") },
        ]
    });
    stage.dns.reset(zone, script.collect());
    let mut plan = stage.plan().answering(Answer::with(|request| {
        let send = |text: &str| Step::Send(text.as_bytes().to_vec());
        match request.value("host").as_str() {
            "reset.example.org" => vec![Step::Reset],
            "cut.example.org" => vec![
                send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
                Step::Repeat(vec![b'x'; 1000], 10),
                Step::Wait(Duration::from_millis(50)),
                Step::Reset,
            ],
            "large.example.org" => vec![
                send("HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n"),
                Step::Repeat(vec![b'x'; 8000], 1000),
            ],
            _ => vec![send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")],
        }
    }));
    plan.hang.push(HANGS.into());
    plan.refuse.push(REFUSES.into());
    plan.forgets = true;
    stage.origin.reset(plan);
}

/// Whoever causes faults, until told to stop.
pub(super) struct Saboteurs {
    stop: Arc<AtomicBool>,
    askers: Vec<(&'static Cause, Workers)>,
    clients: Vec<(&'static str, JoinHandle<usize>)>,
    policy: PathBuf,
    pid: Option<Pid>,
    _hole: BlackHole,
}

impl Saboteurs {
    pub(super) fn start(scene: &mut Scene) -> Self {
        let hole = BlackHole::open(SocketAddr::from((HOLE, 80))).unwrap();
        let askers = CAUSES.iter().map(|cause| {
            let workers = (4 * cause.rate).min(16);
            let pace = Pace { workers, rate: cause.rate, connections: Connections::Mixed };
            let ask = |number| request(cause.host, number);
            (cause, Workers::start(&scene.client(), pace, 0, ask))
        });
        let (askers, stop) = (askers.collect(), Arc::<AtomicBool>::default());
        let at = scene.client().address();
        let clients = CLIENTS.iter().map(|(name, run)| {
            let stop = stop.clone();
            (*name, thread::spawn(move || run(at, &stop)))
        });
        let clients = clients.collect();
        let pid = i32::try_from(scene.proxy().pid()).ok().and_then(Pid::from_raw);
        let policy = scene.path("policy.toml");
        Self { stop, askers, clients, policy, pid, _hole: hole }
    }

    /// Writes the policy of a turn, every other time a broken one.
    pub(super) fn reload(&self, turn: usize) {
        match turn % 4 {
            0 => write(&self.policy, &format!("{POLICY}{OTHER}")),
            2 => write(&self.policy, POLICY),
            _ => write(&self.policy, &format!("{POLICY}{BROKEN}")),
        }
        kill_process(self.pid.unwrap(), Signal::HUP).unwrap();
    }

    /// Stops all of them, and returns what they did.
    pub(super) fn stop(self) -> Caused {
        self.stop.store(true, Ordering::Relaxed);
        self.askers.iter().for_each(|(_, workers)| workers.stop());
        let mut caused = Caused { counts: BTreeMap::new(), odd: Vec::new() };
        for (cause, workers) in self.askers {
            let asked = workers.finish();
            let odd = asked.iter().find(|one| !(cause.fits)(one));
            caused.odd.extend(odd.map(|one| format!("{}: {one:?}", cause.name)));
            caused.counts.insert(cause.name, asked.len());
        }
        for (name, client) in self.clients {
            match client.join() {
                Ok(count) => drop(caused.counts.insert(name, count)),
                // What it did not find so has been printed.
                Err(_) => caused.odd.push(name.to_owned()),
            }
        }
        caused
    }
}

/// How often each fault was caused.
pub(super) struct Caused {
    counts: BTreeMap<&'static str, usize>,
    /// What ended otherwise than it should.
    odd: Vec<String>,
}

impl Caused {
    pub(super) fn assert_each_ended_as_it_should(&self) {
        assert!(self.odd.is_empty(), "{}", self.odd.join("\n"));
        let none: Vec<_> = self.counts.iter().filter(|(_, count)| **count == 0).collect();
        assert!(none.is_empty(), "{none:?}");
    }
}

impl fmt::Display for Caused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> =
            self.counts.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        write!(f, "faults: {}", all.join(", "))
    }
}

/// Clients that are gone with a reset: in a head, in an answer, in a tunnel.
fn resets(proxy: SocketAddr, stop: &AtomicBool) -> usize {
    let head = get("http://www.example.org/half");
    let large = get("http://large.example.org/");
    let half = head.len() / 2;
    each_second(stop, || {
        let whole = large.len();
        let mut crowds = vec![
            Crowd::open(proxy, 3, head.clone().into(), half).unwrap(),
            Crowd::open(proxy, 3, large.clone().into(), whole).unwrap(),
        ];
        let (script, upto) = tunnel(0);
        crowds.push(Crowd::open(proxy, 3, script.clone(), upto).unwrap());
        for crowd in &mut crowds[1..] {
            crowd.wait_until(SOON, |all| all.iter().all(|one| one.received > 0));
        }
        crowds[2].advance(script.len());
        crowds.into_iter().for_each(Crowd::reset);
        9
    })
}

/// Clients that ask for much and take none of it: of an answer, of a tunnel, of refusals.
fn never_reads(proxy: SocketAddr, stop: &AtomicBool) -> usize {
    let large = get("http://large.example.org/");
    let denied = get("http://evil.test/").repeat(300);
    let mut kept = VecDeque::<(Instant, Crowd)>::new();
    let caused = each_second(stop, || {
        let (script, upto) = tunnel(2 << 20);
        let mut tunnels = Crowd::open(proxy, 1, script.clone(), upto).unwrap();
        tunnels.wait_until(SOON, |all| all[0].received > 0);
        tunnels.advance(script.len());
        let downloads = Crowd::open(proxy, 2, large.clone().into(), large.len()).unwrap();
        // Whoever is refused has no rule whose limits would end it.
        let refused = Crowd::open(proxy, 1, denied.clone().into(), denied.len()).unwrap();
        let now = Instant::now();
        kept.extend([(now, tunnels), (now, downloads)]);
        while kept.front().is_some_and(|(since, _)| since.elapsed() > GIVEN_UP) {
            assert_given_up(kept.pop_front());
        }
        refused.reset();
        4
    });
    thread::sleep(GIVEN_UP);
    kept.into_iter().for_each(|crowd| assert_given_up(Some(crowd)));
    caused
}

/// Who has stood still for long enough has been ended; reading finds it out.
fn assert_given_up(crowd: Option<(Instant, Crowd)>) {
    let Some((since, mut crowd)) = crowd else { return };
    if !crowd.wait_for_the_end(SOON) {
        let came = crowd.members().iter().map(|one| one.received).collect::<Vec<_>>();
        panic!(
            "not given up after {:?} without reading; then {came:?} bytes came",
            since.elapsed()
        );
    }
}

/// Clients that send a byte a second of a head or a body, or stop.
fn slow(proxy: SocketAddr, stop: &AtomicBool) -> usize {
    let head = get("http://www.example.org/slow");
    let body = "POST http://www.example.org/slow HTTP/1.1\r\nHost: www.example.org\r\n\
                Content-Length: 1000\r\n\r\nx";
    let mut kept = VecDeque::<Crowd>::new();
    let caused = each_second(stop, || {
        for crowd in &mut kept {
            crowd.sweep();
            crowd.advance(10);
        }
        kept.push_back(Crowd::open(proxy, 2, head.clone().into(), 9).unwrap());
        kept.push_back(Crowd::open(proxy, 2, body.into(), body.len()).unwrap());
        while kept.len() > 12 {
            let mut crowd = kept.pop_front().unwrap();
            assert!(crowd.wait_for_the_end(SOON), "{} are slow and stand", crowd.open_count());
            assert_eq!(crowd.answered(408), crowd.members().len());
        }
        4
    });
    mem::take(&mut kept).into_iter().for_each(Crowd::reset);
    caused
}

/// A CONNECT and a hello, followed by so many bytes; and where the CONNECT ends.
fn tunnel(bytes: usize) -> (Vec<u8>, usize) {
    let (connect, hello) = (connect(HOST), HelloShape::named(HOST).write());
    let script = [&connect[..], &hello, &vec![b'x'; bytes]].concat();
    (script, connect.len())
}

/// Does something again every second; returns how many faults those were.
fn each_second(stop: &AtomicBool, mut fault: impl FnMut() -> usize) -> usize {
    let mut caused = 0;
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        caused += fault();
        thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
    }
    caused
}

const HOST: &str = "tunnel.example.org";
const HANGS: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 51);
const REFUSES: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 52);
const HOLE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 53);
/// Three times the `idle_timeout` of the policy: the kernel makes a little room in a queue that is
/// not read, now and then, which counts as movement.
const GIVEN_UP: Duration = Duration::from_secs(15);
const SOON: Duration = Duration::from_secs(10);
