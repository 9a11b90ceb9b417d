//! One exchange of one worker with one origin, with a clock, a roster of workers and a policy that
//! the test changes under it.

use std::{
    net::{IpAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use egret_policy::{Timestamp, Worker, WorkerId};
use egret_proxy::{
    Clock, IdentityKind, KnownWorker, Named, Proofs, Settings, StaticWorkers, Workers,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    door::Door,
    kernel,
    ledger::Ledger,
    side::{PATIENCE, Side},
};
use crate::scene::{Around, Scene, Stage, compile};

/// The worker that the injections are about, and one that they are not about.
pub(crate) const WORKER: &str = "ci-1";
pub(crate) const BYSTANDER: &str = "ci-2";
/// The rule that allows what is played, and one that has no part in it.
pub(crate) const RULE: &str = "played";
pub(crate) const OTHER_RULE: &str = "other";

const BEGIN: &str = "2030-01-01T00:00:00Z";
const OTHER_EXPIRES: &str = "2030-01-01T01:00:00Z";
const EXPIRES: &str = "2030-01-01T02:00:00Z";

/// What the rule that is played allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
    Tcp,
}

pub(crate) struct Play<'s> {
    pub(crate) stage: &'s Stage,
    pub(crate) scene: Scene,
    pub(crate) door: Door,
    pub(crate) worker: Side,
    /// Once the proxy has connected and the test has taken the connection.
    pub(crate) origin: Option<Side>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) clock: Arc<StageClock>,
    pub(crate) ledger: Option<Ledger>,
    /// How many bytes filled the way to an end that does not read.
    pub(crate) stuffed: usize,
    scheme: Scheme,
}

impl<'s> Play<'s> {
    pub(crate) fn begin(stage: &'s Stage, scheme: Scheme) -> Self {
        Self::set(stage, scheme, Door::open(), None)
    }

    /// The origin does not answer a SYN until its door is cleared.
    pub(crate) fn before_a_full_door(stage: &'s Stage, scheme: Scheme) -> Self {
        Self::set(stage, scheme, Door::full(), None)
    }

    /// No record is taken until the ledger is told to.
    pub(crate) fn with_a_stalled_ledger(stage: &'s Stage, scheme: Scheme) -> Self {
        Self::set(stage, scheme, Door::open(), Some(Ledger::stalled()))
    }

    fn set(stage: &'s Stage, scheme: Scheme, door: Door, ledger: Option<Ledger>) -> Self {
        let roster = Arc::new(Roster::of(&[WORKER, BYSTANDER]));
        let clock = Arc::new(StageClock(Mutex::new(BEGIN.parse().unwrap())));
        let told: Arc<dyn Clock> = match &ledger {
            Some(ledger) => ledger.clock(clock.clone()),
            None => clock.clone(),
        };
        let around = Around { clock: told, ..stage.around(roster.clone()) };
        // Nothing here waits for a time limit; what does not come to its end otherwise fails.
        let patient = |settings: &mut Settings| {
            settings.listeners[0].identity = vec![IdentityKind::Token];
            settings.dns.timeout = PATIENCE;
            settings.limits.first_byte_timeout = 3 * PATIENCE;
            settings.limits.connect_timeout = 3 * PATIENCE;
        };
        let port = door.address().port();
        let scene = stage.play_in(&policy(scheme, port, RULE, OTHER_RULE), patient, around);
        let stream = TcpStream::connect(scene.address).unwrap();
        stage.packets.reset();
        stage.packets.own().add(stream.local_addr().unwrap());
        let worker = Side::new(stream);
        Self { stage, scene, door, worker, origin: None, roster, clock, ledger, stuffed: 0, scheme }
    }

    /// The head of a request, in absolute form, with the worker's proof of identity.
    pub(crate) fn request(&self, method: &str, fields: &str) -> String {
        let host = self.host();
        let proof = proof(WORKER);
        format!("{method} http://{host}/ HTTP/1.1\r\nHost: {host}\r\n{proof}{fields}\r\n")
    }

    /// The head of a CONNECT.
    pub(crate) fn connect(&self) -> String {
        let host = self.host();
        format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n{}\r\n", proof(WORKER))
    }

    /// The head of a request inside the tunnel.
    pub(crate) fn inner_request(&self) -> String {
        format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.host())
    }

    fn host(&self) -> String {
        format!("api.example.com:{}", self.door.address().port())
    }

    pub(crate) fn origin(&mut self) -> &mut Side {
        self.origin.as_mut().expect("the origin has been reached")
    }

    /// Takes the connection that the proxy has made.
    pub(crate) fn accept(&mut self) -> &mut Side {
        self.origin.insert(self.door.accept())
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        self.ledger.as_ref().expect("the ledger was stalled")
    }

    /// Puts a policy in force that says the same, but has one of its rules no more.
    pub(crate) fn replace_policy_without(&self, rule: &str) -> usize {
        let keep = |id| if id == rule { "gone" } else { id };
        let port = self.door.address().port();
        let text = policy(self.scheme, port, keep(RULE), keep(OTHER_RULE));
        self.scene.handle.replace_policy(compile(&text))
    }

    /// Returns how many attempts to reach the origin there have been since this was last asked.
    pub(crate) fn dials(&self) -> usize {
        let door = self.door.address();
        self.stage.packets.take().iter().filter(|packet| packet.to == door).count()
    }

    /// Waits until a name was asked for.
    pub(crate) fn wait_for_the_question(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.stage.dns.log().is_empty() {
            assert!(Instant::now() < deadline, "no name was asked for");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the proxy has read all that the worker has sent.
    pub(crate) fn wait_until_taken(&self) {
        kernel::wait_until_taken(self.worker.stream());
    }

    /// Waits until nothing of the proxy is connected, or connecting, to the origin.
    pub(crate) fn wait_until_the_origin_is_left_alone(&self) {
        kernel::wait_until_left_alone(self.door.address(), &self.door.known());
    }

    /// Waits until the proxy's attempt to reach the origin is under way.
    pub(crate) fn wait_until_dialled(&self) {
        kernel::wait_until_dialled(self.door.address(), &self.door.known());
    }

    /// Whether the tunnel's 200 has gone out, and nobody answers in it but the origin.
    pub(crate) fn is_relayed(&self) -> bool {
        self.scheme != Scheme::Http && self.origin.is_some()
    }

    /// Waits until only the worker's connection itself is left.
    pub(crate) fn wait_until_nothing_is_under_way(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.scene.handle.live() > 1 {
            assert!(Instant::now() < deadline, "an exchange is still under way");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the play, and returns everything that was recorded.
    pub(crate) fn end(self) -> Vec<Value> {
        let Self { mut scene, ledger, worker, origin, .. } = self;
        drop((worker, origin));
        scene.wait_until_empty();
        if let Some(ledger) = ledger {
            ledger.take();
        }
        scene.stop();
        scene.records()
    }
}

/// The field by which a worker proves who it is.
pub(crate) fn proof(worker: &str) -> String {
    let pair = STANDARD.encode(format!("{worker}:{worker}"));
    format!("Proxy-Authorization: Basic {pair}\r\n")
}

/// Both rules, each under the id it is given; one that is not played by its usual name allows
/// another host.
fn policy(scheme: Scheme, port: u16, played: &str, other: &str) -> String {
    let scheme = match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::Tcp => "tcp",
    };
    let host = if played == RULE { "api.example.com" } else { "gone.example.com" };
    format!(
        r#"
version = 1
[[rule]]
id = "{played}"
effect = "allow"
hosts = ["{host}"]
schemes = ["{scheme}"]
ports = [{port}]
expires = {EXPIRES}
[[rule]]
id = "{other}"
effect = "allow"
hosts = ["www.example.org"]
expires = {OTHER_EXPIRES}
"#
    )
}

/// The workers of a play; each has its id as token.
pub(crate) struct Roster {
    workers: StaticWorkers,
    removed: Mutex<Vec<String>>,
}

impl Roster {
    pub(crate) fn of(ids: &[&str]) -> Self {
        let worker = |id: &&str| KnownWorker {
            worker: Arc::new(Worker {
                id: WorkerId::parse(id).unwrap(),
                labels: Default::default(),
            }),
            proofs: Proofs { token_sha256: Some(Sha256::digest(id).into()), ..Proofs::default() },
        };
        let workers = StaticWorkers::new(ids.iter().map(worker).collect());
        Self { workers, removed: Mutex::default() }
    }

    pub(crate) fn remove(&self, id: &str) {
        self.removed.lock().unwrap().push(id.to_owned());
    }

    fn has(&self, id: &str) -> bool {
        !self.removed.lock().unwrap().iter().any(|removed| removed == id)
    }
}

impl Workers for Roster {
    fn with_id(&self, id: &str) -> Option<Arc<KnownWorker>> {
        self.workers.with_id(id).filter(|_| self.has(id))
    }

    fn with_token(&self, token_sha256: &[u8; 32]) -> Option<Arc<KnownWorker>> {
        let known = self.workers.with_token(token_sha256)?;
        self.has(known.worker.id.as_str()).then_some(known)
    }

    fn at_source(&self, address: IpAddr) -> Named {
        self.workers.at_source(address)
    }

    fn of_uid(&self, uid: u32) -> Named {
        self.workers.of_uid(uid)
    }

    fn is_admitted(&self, worker: &Arc<Worker>) -> bool {
        self.workers.is_admitted(worker) && self.has(worker.id.as_str())
    }
}

/// A clock that stands still until the test moves it.
pub(crate) struct StageClock(Mutex<Timestamp>);

impl StageClock {
    /// Passes the end of the rule that is played.
    pub(crate) fn pass_the_rules_end(&self) {
        *self.0.lock().unwrap() = EXPIRES.parse().unwrap();
    }

    /// Passes the end of the other rule.
    pub(crate) fn pass_the_other_rules_end(&self) {
        *self.0.lock().unwrap() = OTHER_EXPIRES.parse().unwrap();
    }
}

impl Clock for StageClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}
