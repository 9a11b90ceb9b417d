//! What stands in a cell for load cases, and a proxy on it that is the case's own.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    client::Client,
    dns::Dns,
    http1::Message,
    meter::{Connections, Latencies, Meter, Pattern},
    namespace::Entered,
    origin::{Answer, Origin, Plan, Service, Step},
    packets::PacketLog,
    pki::Files,
    proxy::{Proxy, Ready, Usage},
};

use super::{
    measured::{Healthy, Measured, Memory},
    tuning::{Tuning, Worker},
};
use crate::{
    audit::{self, Record},
    case::{
        Policy,
        config::{Change, Settings},
    },
    cell::Fault,
    target::{Setup, Target},
};

/// The parts of a cell that a load case uses.
pub(crate) struct Ground<'c> {
    pub(crate) entered: &'c Entered,
    pub(crate) packets: &'c PacketLog,
    pub(crate) dns: &'c Dns,
    pub(crate) origin: &'c Origin,
    pub(crate) plan: &'c Plan,
    pub(crate) certificates: &'c Files,
    pub(crate) target: &'c dyn Target,
}

/// A running proxy and the origins behind it.
pub(crate) struct Stage<'g> {
    pub(crate) ground: &'g Ground<'g>,
    pub(crate) proxy: Proxy,
    pub(crate) tuning: Tuning,
    directory: PathBuf,
    /// The same proxy once more, which nobody attacks.
    control: OnceLock<Proxy>,
}

impl<'g> Ground<'g> {
    /// Starts a proxy under limits; `None` where the target cannot be given any.
    pub(crate) fn stage(&'g self, tuning: &Tuning) -> Result<Option<Stage<'g>>, Fault> {
        let names = [("silent.example.org", SILENT), ("toxic.example.org", TOXIC)];
        let names = names.map(|(name, address)| (name, address.to_string()));
        let hole = HOLE.to_string();
        let mut zone: Vec<(&str, &str)> =
            names.iter().map(|(name, address)| (*name, address.as_str())).collect();
        zone.push(("hole.example.org", &hole));
        self.dns.serve(&zone);
        self.origin.reset(self.plan());
        self.packets.reset();
        let directory = self.folder("load")?;
        let Some(proxy) = self.start(&directory, tuning)? else { return Ok(None) };
        let (tuning, control) = (tuning.clone(), OnceLock::new());
        Ok(Some(Stage { ground: self, proxy, tuning, directory, control }))
    }

    fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let directory = self.entered.directory().join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory)?;
        Ok(directory)
    }

    fn start(&self, directory: &Path, tuning: &Tuning) -> Result<Option<Proxy>, Fault> {
        let settings = Settings::default();
        let setup = Setup {
            directory,
            policy: Policy::Default,
            settings: &settings,
            certificates: self.certificates,
        };
        let Some(mut command) = self.target.tuned(&setup, tuning)? else { return Ok(None) };
        if let Some(limit) = tuning.descriptors {
            command = with_descriptors(&command, limit);
        }
        let started = Proxy::start(command, self.target.ready(), PATIENCE);
        started.map(Some).map_err(Fault::Proxy)
    }

    /// Returns the origins' plan: answers by path, one address that never answers, and nothing
    /// kept, since a flood would fill the test's own memory.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = self.plan.clone().answering(Answer::with(answer));
        plan.hang.push(IpAddr::V4(SILENT));
        plan.services.insert(443, Service::Echo);
        plan.forgets = true;
        plan
    }
}

impl Stage<'_> {
    /// Returns a client of the proxy.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.proxy.address(), self.ground.packets.own())
    }

    /// Returns where the proxy listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Returns what the proxy uses now.
    pub(crate) fn usage(&self) -> Usage {
        self.proxy.usage()
    }

    /// Starts the proxy once more, on the same state; for a process that has ended.
    pub(crate) fn restart(&mut self) -> Result<(), Fault> {
        if let Some(proxy) = self.ground.start(&self.directory, &self.tuning)? {
            self.proxy = proxy;
        }
        Ok(())
    }

    /// Changes the files of the proxy and tells it so; false where it does not read them again.
    pub(crate) fn change(&self, change: &Change) -> io::Result<bool> {
        let settings = Settings::default();
        let setup = Setup {
            directory: &self.directory,
            policy: Policy::Default,
            settings: &settings,
            certificates: self.ground.certificates,
        };
        let Some(signal) = self.ground.target.change(&setup, change)? else { return Ok(false) };
        self.proxy.signal(signal)?;
        Ok(true)
    }

    /// Returns the names and labels of the proxy's metrics, where it has any.
    pub(crate) fn series(&self) -> io::Result<Option<BTreeSet<String>>> {
        let Some(address) = self.ground.target.metrics(&self.directory) else { return Ok(None) };
        let client = Client::new(address, self.ground.packets.own());
        let page = client.request(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n")?.text();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        Ok(Some(lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()))
    }

    /// Returns where the proxy writes its records, where it writes any.
    pub(crate) fn records_folder(&self) -> Option<PathBuf> {
        self.ground.target.records().map(|path| self.directory.join(path))
    }

    /// Returns the records written until now.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.records_folder().map(|folder| audit::read(&folder)).unwrap_or_default()
    }

    /// Judges the records, again until nothing is wrong or the time is up: what is still open is
    /// completed after its end.
    pub(crate) fn settled_records(
        &self,
        fault: impl Fn(&[Record]) -> Option<String>,
    ) -> Option<String> {
        let deadline = Instant::now() + SETTLES;
        loop {
            let found = fault(&self.records());
            if found.is_none() || Instant::now() > deadline {
                return found;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Starts healthy clients.
    pub(crate) fn healthy(&self, connections: Connections) -> Meter {
        self.healthy_of(&self.client(), connections)
    }

    fn healthy_of(&self, client: &Client, connections: Connections) -> Meter {
        let request = get(HEALTHY, self.tuning.workers.first());
        let pattern = Pattern { request, statuses: &[200], clients: 4, rate: 25, connections };
        Meter::start(client, &pattern)
    }

    /// Plays an attack beside healthy clients, whose times are compared with those of the same
    /// clients just before and just after.
    ///
    /// What else runs on the machine makes things slower, never faster, so a round that looks bad
    /// is played again, and the best of three counts. In such a round, and where the quiet clients
    /// are slow already, clients of a second proxy, which is not attacked, are timed during the
    /// attack, and the slower of the two is what the attacked ones are compared with.
    pub(crate) fn beside<T>(
        &self,
        connections: Connections,
        seen: &mut Measured,
        mut attack: impl FnMut(&Self, &mut Measured) -> io::Result<T>,
    ) -> io::Result<T> {
        for round in 1.. {
            let mut quiet = self.quiet(connections);
            let alone = round == 1 && Healthy::is_calm(&quiet);
            let control = if alone { None } else { self.control()? };
            let control = control.map(|client| self.healthy_of(&client, connections));
            let (begin, meter) = (Instant::now(), self.healthy(connections));
            let result = attack(self, seen)?;
            thread::sleep(QUIET.saturating_sub(begin.elapsed()));
            let attacked = meter.finish();
            let control = control.map(Meter::finish);
            quiet.add(self.quiet(connections));
            seen.look_around();
            let healthy = Healthy { quiet, control, attacked };
            let failed = !healthy.attacked.failures.is_empty();
            let better = seen.healthy.as_ref().is_none_or(|best| healthy.ratio() < best.ratio());
            // A failure is no noise: it is kept whatever the times say.
            if better || failed {
                seen.healthy = Some(healthy);
            }
            let limit = seen.ratio * seen.busy;
            let good = seen.healthy.as_ref().is_some_and(|best| best.ratio() <= limit);
            if good || failed || round == ROUNDS {
                return Ok(result);
            }
        }
        Err(io::Error::other("no round was played"))
    }

    fn quiet(&self, connections: Connections) -> Latencies {
        let meter = self.healthy(connections);
        thread::sleep(QUIET);
        meter.finish()
    }

    /// Returns a client of the proxy that nobody attacks; `None` where a second one cannot listen.
    fn control(&self) -> io::Result<Option<Client>> {
        if self.control.get().is_none() && self.ground.target.ready() == Ready::Line {
            let directory = self.ground.folder("control")?;
            let proxy = self.ground.start(&directory, &self.tuning).map_err(io::Error::other)?;
            if let Some(proxy) = proxy {
                let _ = self.control.set(proxy);
            }
        }
        let client = |proxy: &Proxy| Client::new(proxy.address(), self.ground.packets.own());
        Ok(self.control.get().map(client))
    }

    /// Watches the memory of the proxy from here on.
    pub(crate) fn watch(&self, connections: usize, each: usize) -> Watch {
        let before = self.usage();
        Watch {
            memory: Memory {
                before: before.resident,
                peak: before.resident,
                after: before.resident,
                connections: connections as u64,
                each: each as u64,
            },
            descriptors: before.descriptors,
        }
    }
}

/// What one connection may hold: its buffers and its task.
pub(super) const EACH: usize = 32 << 10;

/// What the proxy used before an attack, and at most.
#[derive(Debug)]
pub(crate) struct Watch {
    memory: Memory,
    descriptors: usize,
}

impl Watch {
    /// Returns the growth until the last look.
    pub(crate) fn growth(&self) -> u64 {
        self.memory.growth()
    }

    /// Looks at the memory now.
    pub(crate) fn look(&mut self, stage: &Stage<'_>) {
        let now = stage.usage().resident;
        self.memory.peak = self.memory.peak.max(now);
        self.memory.after = now;
    }

    /// Waits for the descriptors to be where they were, and notes both.
    pub(crate) fn settle(mut self, stage: &Stage<'_>, seen: &mut Measured) {
        let near = self.descriptors + 4;
        super::holds_within(SETTLES, || stage.usage().descriptors <= near);
        self.look(stage);
        seen.descriptors = Some((self.descriptors, stage.usage().descriptors));
        seen.memory = Some(self.memory);
    }
}

/// The same command in a shell that has lowered the hard limit: the proxy raises the soft one.
fn with_descriptors(command: &Command, limit: u64) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -n {limit} && exec \"$@\"")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        shell.current_dir(directory);
    }
    shell
}

/// A `GET` in absolute form, with a worker's proof.
pub(crate) fn get(url: &str, worker: Option<&Worker>) -> Vec<u8> {
    head("GET", url, worker, "")
}

/// A head in absolute form, with a worker's proof and more lines, each ended by CRLF.
pub(crate) fn head(method: &str, url: &str, worker: Option<&Worker>, lines: &str) -> Vec<u8> {
    let host = url.split('/').nth(2).unwrap_or(url);
    let proof = worker.map(|worker| format!("Proxy-Authorization: Basic {}\r\n", worker.basic));
    let proof = proof.unwrap_or_default();
    format!("{method} {url} HTTP/1.1\r\nHost: {host}\r\n{proof}{lines}\r\n").into_bytes()
}

/// Origins answer by path: `/bytes/N`, `/slow/MS`, `/cut/AFTER/OF/FRAMING`, and `ok` to all else.
fn answer(request: &Message) -> Vec<Step> {
    let target = String::from_utf8_lossy(request.target()).into_owned();
    let mut parts = target.split('/').skip(1);
    let kind = parts.next().unwrap_or_default();
    let words: Vec<&str> = parts.collect();
    let number = |at: usize| words.get(at).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let ok = || Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let length = |bytes: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
    match kind {
        "bytes" => {
            let bytes = number(0);
            let piece = vec![b'x'; PIECE.min(bytes)];
            let rest = vec![b'x'; bytes % PIECE.min(bytes).max(1)];
            vec![
                Step::Send(length(bytes).into_bytes()),
                Step::Repeat(piece, bytes / PIECE.min(bytes).max(1)),
                Step::Send(rest),
            ]
        }
        "slow" => vec![Step::Wait(Duration::from_millis(number(0) as u64)), ok()],
        "cut" => {
            let (after, of) = (number(0), number(1));
            let body = vec![b'x'; after];
            let (head, body) = match words.get(2).copied() {
                Some("chunked") => {
                    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                    let chunk = [format!("{after:x}\r\n").as_bytes(), &body, b"\r\n"].concat();
                    (head.to_owned(), chunk)
                }
                Some("close") => ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), body),
                Some(_) | None => (length(of), body),
            };
            vec![
                Step::Send([head.into_bytes(), body].concat()),
                Step::Wait(Duration::from_millis(200)),
                Step::Reset,
            ]
        }
        _ => vec![ok()],
    }
}

/// What healthy clients ask for.
pub(crate) const HEALTHY: &str = "http://api.example.com/";
/// Accepts and never says a word.
const SILENT: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 41);
/// Where the network is bad.
pub(crate) const TOXIC: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 42);
/// Where every SYN is dropped.
pub(crate) const HOLE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 43);
/// How long healthy clients are measured alone each time, and at least with the attack.
const QUIET: Duration = Duration::from_millis(1500);
const ROUNDS: usize = 3;
/// How long the proxy may take to start.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long what an attack has left behind may take to go.
const SETTLES: Duration = Duration::from_secs(6);
const PIECE: usize = 65_536;
