//! What the data path counts, for whoever watches it from outside.
//!
//! Every label is a closed set of ours, so no traffic can add a series: no host, worker, path or
//! address is ever a label. Counting takes no lock and allocates nothing. What is counted here is
//! for graphs and alarms; what happened to one exchange is in the records alone.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder},
    metrics::MetricType,
    registry::Unit,
};

use self::{
    label::{Accepted, Carries, Dialled, Judged, Label, Limit, LookedUp, Way},
    series::{By, Counter, Gauge, Histogram},
};
use crate::{
    dial::DialError,
    record::ClosedBy,
    refusal::{Code, Refusal},
    relay::Meter,
    resolve::ResolveError,
};

pub(crate) mod label;
pub(crate) mod series;

/// What one proxy counts. Begins at nothing; give it to a registry as a collector.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) requests: By<Judged, By<Code, Counter>>,
    pub(crate) failed: By<Code, Counter>,
    pub(crate) exchanges: Gauge,
    pub(crate) closed: By<ClosedBy, Counter>,
    pub(crate) request: Histogram,
    pub(crate) decide: Histogram,
    pub(crate) lookup: By<LookedUp, Histogram>,
    pub(crate) cached: Counter,
    pub(crate) connect: By<Dialled, Histogram>,
    pub(crate) accepted: By<Accepted, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) tunnels: By<Carries, Gauge>,
    pub(crate) tunnel: By<Carries, Histogram>,
    pub(crate) bytes: By<Way, Counter>,
    pub(crate) cut: By<ClosedBy, Counter>,
    pub(crate) cutting: Histogram,
    pub(crate) limited: By<Limit, Counter>,
    pub(crate) kept: Gauge,
    pub(crate) reused: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: By::default(),
            failed: By::default(),
            exchanges: Gauge::default(),
            closed: By::default(),
            request: Histogram::new(REQUEST),
            decide: Histogram::new(COMPUTING),
            lookup: By::new(|| Histogram::new(WAITING)),
            cached: Counter::default(),
            connect: By::new(|| Histogram::new(WAITING)),
            accepted: By::default(),
            connections: Gauge::default(),
            tunnels: By::default(),
            tunnel: By::new(|| Histogram::new(TUNNEL)),
            bytes: By::default(),
            cut: By::default(),
            cutting: Histogram::new(COMPUTING),
            limited: By::default(),
            kept: Gauge::default(),
            reused: Counter::default(),
        }
    }
}

impl Metrics {
    /// Counts which limit refused, if one did.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        if let Some(limit) = refusal.limit() {
            self.limited.of(limit).add(1);
        }
    }

    /// Counts a connection as open until what is returned is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> OpenConnection {
        self.connections.add(1);
        OpenConnection(self.clone())
    }

    /// Counts a tunnel as open until what is returned is dropped.
    pub(crate) fn tunnel(self: &Arc<Self>, carries: Carries) -> TunnelTimer {
        self.tunnels.of(carries).add(1);
        TunnelTimer { metrics: self.clone(), carries, began: Instant::now() }
    }
}

/// Counts all that is counted of one request over a kept connection, for `benches/metrics`.
#[doc(hidden)]
pub fn count_request(metrics: &Arc<Metrics>, took: Duration) {
    let meter = Meter::new(metrics.clone());
    metrics.exchanges.add(1);
    metrics.decide.observe(took);
    metrics.cached.add(1);
    metrics.reused.add(1);
    metrics.requests.of(Judged::Allow).of(Code::Allowed).add(1);
    meter.metrics().bytes.of(Way::Up).add(1);
    meter.metrics().bytes.of(Way::Down).add(1);
    metrics.closed.of(ClosedBy::Upstream).add(1);
    metrics.request.observe(took);
    metrics.exchanges.add(-1);
}

/// One open connection of a worker.
pub(crate) struct OpenConnection(Arc<Metrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.add(-1);
    }
}

/// One open tunnel.
pub(crate) struct TunnelTimer {
    metrics: Arc<Metrics>,
    carries: Carries,
    began: Instant,
}

impl Drop for TunnelTimer {
    fn drop(&mut self) {
        let Self { metrics, carries, began } = self;
        metrics.tunnels.of(*carries).add(-1);
        metrics.tunnel.of(*carries).observe(began.elapsed());
    }
}

impl From<&ResolveError> for LookedUp {
    fn from(error: &ResolveError) -> Self {
        match error {
            ResolveError::NoSuchName => Self::NoSuchName,
            ResolveError::NoAddress => Self::NoAddress,
            ResolveError::Failed(_) => Self::Failed,
            ResolveError::Timeout => Self::Timeout,
            ResolveError::Answer(_) => Self::Unusable,
            ResolveError::Crowded | ResolveError::CrowdedBy(_) => Self::Crowded,
        }
    }
}

impl From<&DialError> for Dialled {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::Refused(_) => Self::Refused,
            DialError::Timeout => Self::Timeout,
            DialError::Exhausted(_) => Self::Exhausted,
            DialError::Peer(_) => Self::Forbidden,
        }
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Exposition(encoder);
        out.counter("requests", "Exchanges that were decided, by verdict and reason", |each| {
            self.encode_requests(each)
        })?;
        out.counter("failed", "Exchanges that were let through and failed later", |each| {
            self.encode_failed(each)
        })?;
        out.gauge("exchanges", "Exchanges that have not ended", |one| self.exchanges.encode(one))?;
        out.counter("closed", "Exchanges that have ended, by who or what ended them", |each| {
            self.closed.encode(each, Counter::encode)
        })?;
        out.seconds(
            "request_duration",
            "From a request's head to the end of its answer; tunnels are not among them",
            |one| self.request.encode(one),
        )?;
        out.seconds("decide", "How long decisions of the policy took", |one| {
            self.decide.encode(one)
        })?;
        out.seconds("dns_lookup", "How long exchanges waited for names to be looked up", |each| {
            self.lookup.encode(each, Histogram::encode)
        })?;
        out.counter("dns_cached", "Names that were known from an earlier look-up", |one| {
            self.cached.encode(one)
        })?;
        out.seconds("connect", "How long it took to connect to an origin, or to fail", |each| {
            self.connect.encode(each, Histogram::encode)
        })?;
        out.counter("accepted", "Connections that asked to be accepted", |each| {
            self.accepted.encode(each, Counter::encode)
        })?;
        out.gauge("connections", "Connections of workers that are open", |one| {
            self.connections.encode(one)
        })?;
        out.gauge("tunnels", "Tunnels that are open, by what they carry", |each| {
            self.tunnels.encode(each, Gauge::encode)
        })?;
        out.seconds("tunnel_duration", "How long tunnels were open", |each| {
            self.tunnel.encode(each, Histogram::encode)
        })?;
        out.counter("bytes", "Bytes of bodies and tunnels; up is from the worker", |each| {
            self.bytes.encode(each, Counter::encode)
        })?;
        out.counter("cut", "Connections and exchanges that were cut, by cause", |each| {
            self.cut.encode(each, Counter::encode)
        })?;
        out.seconds("cut", "How long it took to cut all that one cause ended", |one| {
            self.cutting.encode(one)
        })?;
        out.counter("rate_limited", "Exchanges that a limit refused", |each| {
            self.limited.encode(each, Counter::encode)
        })?;
        out.gauge("pool_connections", "Connections to origins that wait for a request", |one| {
            self.kept.encode(one)
        })?;
        out.counter("pool_reused", "Requests that took a connection which waited", |one| {
            self.reused.encode(one)
        })
    }
}

impl Metrics {
    fn encode_failed(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let reasons = Code::ALL.iter().filter(|code| **code != Code::Allowed);
        for code in reasons {
            let labels = [(Code::NAME, code.word())];
            self.failed.of(*code).encode(&mut encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Only what can be: it keeps the number of series small.
    fn encode_requests(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        for judged in Judged::ALL {
            let reasons = Code::ALL.iter().filter(|code| judged.may_be_for(**code));
            for code in reasons {
                let labels = [(Judged::NAME, judged.word()), (Code::NAME, code.word())];
                let counter = self.requests.of(*judged).of(*code);
                counter.encode(&mut encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Names what is printed, in one line each.
pub(crate) struct Exposition<'a>(pub(crate) DescriptorEncoder<'a>);

impl Exposition<'_> {
    pub(crate) fn counter(
        &mut self,
        name: &str,
        help: &str,
        each: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        each(&mut self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    pub(crate) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        each: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        each(&mut self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    pub(crate) fn seconds(
        &mut self,
        name: &str,
        help: &str,
        each: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        each(&mut self.0.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?)
    }
}

/// What only computes.
const COMPUTING: &[f64] = &[1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
/// What waits for another machine, within some seconds.
pub(crate) const WAITING: &[f64] =
    &[5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// A request and its answer.
const REQUEST: &[f64] = &[
    1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
/// Up to the longest that rules allow by default.
const TUNNEL: &[f64] = &[0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0];

#[cfg(test)]
mod tests;
