//! What a driver saw, as plain values.

use std::{collections::BTreeMap, time::Duration};

use egret_testkit::meter::Latencies;

/// What was seen while a case was played.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// What was scaled down, and other remarks.
    pub(crate) notes: Vec<String>,
    /// What became of the work that the case is about.
    pub(crate) outcome: Option<Work>,
    /// Healthy clients without and with the attack.
    pub(crate) healthy: Option<Healthy>,
    /// The proxy's resident bytes.
    pub(crate) memory: Option<Memory>,
    /// Its open descriptors before and after.
    pub(crate) descriptors: Option<(usize, usize)>,
    /// Its part of one processor.
    pub(crate) cpu: Option<f64>,
    /// How long the connections of the attack stood; the inner `None`: some were never ended.
    pub(crate) closed: Option<Option<Duration>>,
    /// The longest time to an answer.
    pub(crate) answered: Option<Duration>,
    /// From the signal to the end of the process.
    pub(crate) exited: Option<Duration>,
    /// From the start of the process to its first listener.
    pub(crate) ready: Option<Duration>,
    /// The longest time in which nobody got an answer.
    pub(crate) stall: Option<Duration>,
    /// Which part of its requests a worker got through.
    pub(crate) success: Option<f64>,
    /// How many exchanges under way failed.
    pub(crate) failures: Option<usize>,
    /// How many queries the name server saw for names that are denied.
    pub(crate) queries: Option<usize>,
    /// Conditions that the driver itself has judged, with the evidence. All must hold, whether the
    /// case names them or not.
    pub(crate) claims: BTreeMap<&'static str, (bool, String)>,
    /// Conditions that could not be observed, and why.
    pub(crate) unseen: BTreeMap<&'static str, &'static str>,
    /// The process was ended by the case.
    pub(crate) ended: bool,
    /// By how much a healthy client may be slowed down, as the case says.
    pub(crate) ratio: f64,
    /// How much more the machine has had to do than it can, at the worst; 1 when it kept up.
    pub(crate) busy: f64,
}

/// What became of the work that a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// It was done.
    Served,
    /// It was shed, or kept within bounds.
    Bounded,
}

/// Resident bytes before, at most, and what the limits grant.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) before: u64,
    pub(crate) peak: u64,
    pub(crate) after: u64,
    pub(crate) connections: u64,
    /// What the limits allow every connection to hold.
    pub(crate) each: u64,
}

/// Healthy clients without and with the attack.
#[derive(Debug, Clone)]
pub(crate) struct Healthy {
    pub(crate) quiet: Latencies,
    /// Those of another proxy meanwhile, where the machine was busy.
    pub(crate) control: Option<Latencies>,
    pub(crate) attacked: Latencies,
}

impl Measured {
    /// Returns an observation of nothing yet, for these conditions.
    pub(crate) fn of(must: &[String]) -> Self {
        let ratios = must.iter().filter_map(|word| word.strip_prefix("healthy_p99_ratio<="));
        let ratio = ratios.filter_map(|text| text.parse().ok()).next().unwrap_or(2.0);
        Self { ratio, busy: 1.0, ..Self::default() }
    }

    /// Looks at what else runs: a case alone keeps two threads for each processor waiting at most.
    pub(crate) fn look_around(&mut self) {
        let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = text.split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or(0.0);
        let processors = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
        self.busy = self.busy.max(load / (2.0 * processors));
    }

    /// Notes a condition and why it is taken to hold or not.
    pub(crate) fn claim(&mut self, word: &'static str, held: bool, evidence: String) {
        self.claims.insert(word, (held, evidence));
    }

    /// Claims that an attack has left nothing open behind, where that was looked at.
    pub(super) fn claim_descriptors_return(&mut self) {
        if let Some((before, after)) = self.descriptors {
            let evidence = format!("{before} before, {after} after");
            self.claim("descriptors_return", after <= before + 8, evidence);
        }
    }

    /// Returns how late this machine may be with everything: what else runs on it shows in the
    /// slowest requests of healthy clients without the attack.
    pub(crate) fn lag(&self) -> Duration {
        let slowest = self.healthy.as_ref().map(|healthy| healthy.base(1.0));
        slowest.unwrap_or_default() * 3 + SLACK.mul_f64(self.busy - 1.0)
    }

    /// Takes as much of a figure as the machine can do, and says so when it is less.
    pub(crate) fn scaled(&mut self, asked: usize, most: usize, what: &str) -> usize {
        if asked > most {
            self.notes.push(format!("scaled {asked} -> {most} {what}"));
        }
        asked.min(most)
    }
}

impl Memory {
    /// Returns the growth that the limits explain.
    pub(crate) fn budget(&self) -> u64 {
        SPARE + self.connections * self.each
    }

    /// Returns the growth.
    pub(crate) fn growth(&self) -> u64 {
        self.peak.saturating_sub(self.before)
    }
}

impl Healthy {
    /// Whether the machine has time for a proxy that is not attacked.
    pub(crate) fn is_calm(quiet: &Latencies) -> bool {
        quiet.quantile(P99) <= FLOOR
    }

    /// Returns by how much the slow requests were slower, times below [`FLOOR`] taken as that.
    pub(crate) fn ratio(&self) -> f64 {
        let base = self.base(P99).max(FLOOR);
        self.attacked.quantile(P99).as_secs_f64() / base.as_secs_f64()
    }

    /// The time within which this part of the requests was answered without an attack.
    fn base(&self, part: f64) -> Duration {
        let control = self.control.as_ref().map(|control| control.quantile(part));
        self.quiet.quantile(part).max(control.unwrap_or_default())
    }
}

impl std::fmt::Display for Healthy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (quiet, attacked) = (self.quiet.quantile(P99), self.attacked.quantile(P99));
        let of = (self.quiet.times.len(), self.attacked.times.len());
        write!(f, "p99 {quiet:.1?} of {} -> {attacked:.1?} of {}", of.0, of.1)?;
        match &self.control {
            Some(control) => write!(f, ", {:.1?} elsewhere meanwhile", control.quantile(P99)),
            None => Ok(()),
        }
    }
}

/// A deadline is noticed by a sweep, on a machine that does other things too.
pub(crate) const SLACK: Duration = Duration::from_millis(1500);
const P99: f64 = 0.99;
/// Below, a scheduler that has other things to do is what is measured.
const FLOOR: Duration = Duration::from_millis(50);
/// What a proxy may take for itself.
const SPARE: u64 = 64 << 20;
