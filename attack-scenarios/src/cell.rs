//! One namespace with one proxy in it, in which cases are played one after another.
//!
//! The fixtures stand as long as the process; the proxy is started again whenever something that it
//! may remember changes: the policy, a name, the resolver's files. Between two cases every origin
//! connection is ended, so that nothing pooled carries over from one case to the next.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use egret_testkit::{
    client::Client,
    dns::{self, Dns, Zone},
    namespace::Entered,
    origin::{Answer, Origin, Plan, Step},
    packets::{PacketLog, Transport},
    pki::{Files, Pki},
    proxy::{NotStarted, Proxy},
};

use crate::{
    audit::{self, Record},
    case::{Case, ChannelName, Input, Policy},
    load::{self, Ground},
    observed::{Observed, Seen},
    play,
    target::Target,
    verdict::{self, Strictness, Verdict},
};

use self::running::{Running, Started};

mod running;

/// How cases are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Judges the proxy's own records too, where it keeps any.
    pub check_records: bool,
    /// How strictly a refusal is judged.
    pub strictness: Strictness,
}

impl Default for Options {
    fn default() -> Self {
        Self { check_records: true, strictness: Strictness::Usual }
    }
}

/// A namespace, its fixtures and the proxy under test.
pub struct Cell<'t> {
    entered: Entered,
    pub(crate) packets: PacketLog,
    pub(crate) dns: Dns,
    pub(crate) origin: Origin,
    plan: Plan,
    certificates: Files,
    target: &'t dyn Target,
    running: Option<Running>,
    note: String,
}

/// A fault of the test's own surroundings, which must never read as a verdict.
#[derive(Debug)]
pub enum Fault {
    /// A fixture failed.
    Fixture(io::Error),
    /// No certificates could be made.
    Certificates(rcgen::Error),
    /// The proxy did not start.
    Proxy(NotStarted),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixture(error) => write!(f, "a fixture failed: {error}"),
            Self::Certificates(error) => write!(f, "no certificates: {error}"),
            Self::Proxy(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Fixture(error)
    }
}

impl<'t> Cell<'t> {
    /// Furnishes the namespace that was entered.
    pub fn furnish(entered: Entered, target: &'t dyn Target) -> Result<Self, Fault> {
        let pki = Pki::new().map_err(Fault::Certificates)?;
        let plan = Plan::good(&pki).map_err(Fault::Certificates)?;
        Ok(Self {
            packets: PacketLog::start()?,
            dns: Dns::start()?,
            origin: Origin::start(plan.clone())?,
            certificates: pki.write(entered.directory())?,
            plan,
            entered,
            target,
            running: None,
            note: String::new(),
        })
    }

    /// Plays one case under one policy on one channel.
    pub fn run(
        &mut self,
        case: &Case,
        policy: Policy,
        channel: ChannelName,
        options: Options,
    ) -> Result<Verdict, Fault> {
        if let Some(verdict) = self.left_out(case, channel) {
            return Ok(verdict);
        }
        if let Input::Load(steps) = &case.input {
            // A load case has a proxy of its own.
            self.running = None;
            let (verdict, note) = load::run(&self.ground(), case, steps)?;
            self.note = note;
            return Ok(verdict);
        }
        if let Started::Refused(said) = self.ready_for(case, policy)? {
            let mut seen = Observed::new(case, policy);
            seen.not_started = Some(said);
            return Ok(verdict::judge(&seen, options.strictness));
        }
        self.origin.reset(self.plan_for(case));
        for port in ports(case) {
            self.origin.open(port)?;
        }
        self.packets.reset();
        let before = self.usage();
        let records_before = self.records().len();

        let mut seen = Observed::new(case, policy);
        let begin = Instant::now();
        play::play(self, case, channel, &mut seen)?;
        if seen.elapsed.is_zero() {
            seen.elapsed = begin.elapsed();
        }
        // A dial that was begun before the refusal, as some proxies do, shows a moment later.
        thread::sleep(Duration::from_millis(30));
        seen.connections = self.origin.connections().iter().map(Seen::from).collect();
        seen.queries = self.dns.log();
        seen.queries.retain(|query| !OWN_NAMES.contains(&query.name.as_str()));
        self.note_packets(&mut seen);
        if has_event(case) {
            self.dns.reset(Zone::default(), Vec::new());
            let tunnel = self.client()?.tunnel("api.example.com:443");
            seen.recovered = Some(tunnel.is_ok_and(|tunnel| tunnel.status() == 200));
        }
        let running = self.running.as_mut().ok_or_else(gone)?;
        seen.alive = running.proxy.is_alive();
        seen.printed = running.proxy.stdout() + &running.proxy.stderr();
        if seen.alive {
            let after = running.proxy.usage();
            seen.growth = after.resident.saturating_sub(before.resident);
            seen.cpu = after.cpu.saturating_sub(before.cpu);
        }
        let recorded = self.target.records().is_some() && seen.reached_elsewhere.is_none();
        if options.check_records && recorded {
            return Ok(self.judge_with_records(&mut seen, records_before, options.strictness));
        }
        Ok(verdict::judge(&seen, options.strictness))
    }

    /// Records are batched, and a tunnel is completed after its end: judged again until they are
    /// as they should be, or the time is up.
    fn judge_with_records(
        &self,
        seen: &mut Observed<'_>,
        before: usize,
        strictness: Strictness,
    ) -> Verdict {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let records = self.records().split_off(before);
            let faults = verdict::record_faults(seen, &records);
            seen.records = Some(records);
            if faults.is_empty() || Instant::now() > deadline {
                return verdict::judge(seen, strictness);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Why a case is not played at all.
    fn left_out(&self, case: &Case, channel: ChannelName) -> Option<Verdict> {
        let has = |feature: &str| self.target.has(feature);
        let mut missing: Vec<&str> =
            case.requires.iter().map(String::as_str).filter(|word| !has(word)).collect();
        if channel == ChannelName::Mitm && !has("tls-intercept") && missing.is_empty() {
            missing.push("tls-intercept");
        }
        if names_via(case) && self.target.via().is_none() {
            missing.push("a name in Via");
        }
        match &case.input {
            Input::Undriven(why) if missing.is_empty() => {
                return Some(Verdict::Unchecked(why.clone()));
            }
            Input::Config(configured)
                if missing.is_empty() && !self.target.expresses(&configured.settings) =>
            {
                let why = "no driver that sets this proxy up in this way".to_owned();
                return Some(Verdict::Unchecked(why));
            }
            Input::Connect { .. }
            | Input::Absolute { .. }
            | Input::Raw { .. }
            | Input::Tls(_)
            | Input::Dns { .. }
            | Input::Response(_)
            | Input::Load(_)
            | Input::Config(_)
            | Input::Undriven(_) => {}
        }
        (!missing.is_empty())
            .then(|| Verdict::NotApplicable(format!("requires {}", missing.join(", "))))
    }

    fn plan_for(&self, case: &Case) -> Plan {
        let mut plan = self.plan.clone();
        if let Input::Response(response) = &case.input {
            plan.answer = Answer::Script(self.forged(case, &response.steps));
        }
        let refused = case.input.script().iter().filter_map(|entry| entry.upstream.as_deref());
        plan.refuse = refused.filter_map(|text| text.split_once(':')?.1.parse().ok()).collect();
        plan.early = case
            .must
            .iter()
            .any(|word| word.starts_with("upstream_conn_not_reused_with_unread_body"));
        plan
    }

    /// The answer of the origin; where the case is about forged verdicts, with lines that would
    /// pass for one of this very proxy.
    fn forged(&self, case: &Case, steps: &Arc<[Step]>) -> Arc<[Step]> {
        let asked = case.must.iter().any(|word| word == FORGEABLE);
        let mut steps = steps.to_vec();
        if let Some(Step::Send(bytes)) = steps.first_mut().filter(|_| asked) {
            let lines: String =
                self.target.forgeries().iter().map(|line| format!("{line}\r\n")).collect();
            let end = bytes.windows(2).position(|pair| pair == b"\r\n").map_or(0, |at| at + 2);
            bytes.splice(end..end, lines.into_bytes());
        }
        steps.into()
    }

    /// Adds whom the proxy dialled since the last call.
    pub(crate) fn note_packets(&self, seen: &mut Observed<'_>) {
        let name_servers = [dns::ADDRESS.ip(), dns::ELSEWHERE.ip()];
        for packet in self.packets.take() {
            match packet.transport {
                Transport::Syn if packet.to != dns::ADDRESS => seen.dials.push(packet.to),
                Transport::Udp
                    if !name_servers.contains(&packet.to.ip())
                        && !name_servers.contains(&packet.from.ip()) =>
                {
                    seen.datagrams.push(packet.to);
                }
                Transport::Syn | Transport::Udp => {}
            }
        }
    }

    /// Returns a client of the running proxy.
    pub(crate) fn client(&self) -> io::Result<Client> {
        let running = self.running.as_ref().ok_or_else(gone)?;
        Ok(Client::new(running.proxy.address(), self.packets.own()))
    }

    /// Returns the name that the proxy writes in `Via`.
    pub(crate) fn via(&self) -> &str {
        self.target.via().unwrap_or_default()
    }

    /// Takes what there is to say about the last case beside its verdict, such as its scale.
    pub fn take_note(&mut self) -> String {
        std::mem::take(&mut self.note)
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            entered: &self.entered,
            packets: &self.packets,
            dns: &self.dns,
            origin: &self.origin,
            plan: &self.plan,
            certificates: &self.certificates,
            target: self.target,
        }
    }

    /// Returns the running proxy as it is seen from outside.
    pub(crate) fn proxy(&self) -> io::Result<&Proxy> {
        self.running.as_ref().map(|running| &running.proxy).ok_or_else(gone)
    }

    /// Returns for how long the proxy keeps a tunnel in which nothing moves.
    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.target.idle_timeout()
    }

    /// Returns the lines with which an origin would forge a verdict of this proxy.
    pub(crate) fn forgeries(&self) -> Vec<String> {
        self.target.forgeries().into_iter().map(str::to_owned).collect()
    }

    fn usage(&self) -> egret_testkit::proxy::Usage {
        self.running.as_ref().map(|running| running.proxy.usage()).unwrap_or_default()
    }

    fn records(&self) -> Vec<Record> {
        match (&self.running, self.target.records()) {
            (Some(running), Some(path)) => audit::read(&running.directory.join(path)),
            (None, _) | (_, None) => Vec::new(),
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no proxy runs")
}

/// Whether something happens to the name server in the middle of the case.
pub(crate) fn has_event(case: &Case) -> bool {
    case.input.script().iter().any(|entry| entry.event.is_some())
}

fn names_via(case: &Case) -> bool {
    match &case.input {
        Input::Raw { segments, .. } => segments
            .iter()
            .any(|segment| crate::observed::contains(&segment.bytes, play::VIA_PLACEHOLDER)),
        Input::Connect { .. }
        | Input::Absolute { .. }
        | Input::Tls(_)
        | Input::Dns { .. }
        | Input::Response(_)
        | Input::Load(_)
        | Input::Config(_)
        | Input::Undriven(_) => false,
    }
}

/// Ports that a case names, so that a wrong dial meets a listener.
fn ports(case: &Case) -> Vec<u16> {
    let text = match &case.input {
        Input::Connect { authority } => authority,
        Input::Absolute { url, .. } => url,
        Input::Raw { .. }
        | Input::Tls(_)
        | Input::Dns { .. }
        | Input::Response(_)
        | Input::Load(_)
        | Input::Config(_)
        | Input::Undriven(_) => return Vec::new(),
    };
    let after_colons = text.split(':').skip(1);
    after_colons
        .filter_map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        })
        .collect()
}

/// The condition that an origin cannot forge a verdict of the proxy.
const FORGEABLE: &str = "proxy_verdict_header_not_forgeable";

/// Names that some proxies look up about themselves when they start.
const OWN_NAMES: [&str; 2] = ["1.0.0.127.in-addr.arpa", "localhost"];
