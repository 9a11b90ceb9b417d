//! What is written about every exchange: a decision when the verdict is known, and a completion
//! at its end, also when it was cancelled.
//!
//! A [`Draft`] opens with the exchange and reserves the room for both, so that ending never waits
//! and never fails for want of space. Dropping it writes the completion: there is no path on which
//! one is missing. An exchange that is abandoned after it was permitted gets its decision as well;
//! one that nothing was decided about has none. Query strings, bodies and header values never get in here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use egret_policy::{Authority, Host, HostName, Revision, RuleId, Target, Verdict, Worker};
use serde::Serialize;
use ulid::Ulid;

pub use self::{
    chain::LineHash,
    end::{NEWEST_HEAD, OpenError},
    head::{HeadKey, HeadKeyError, PublicKey},
    ledger::{OnFailure, RecordSettings},
    segments::{segment_name, segment_number, segments},
    standing::RecordMetrics,
    verify::{Extent, Fault, KeptHead, LONGEST as LONGEST_LINE, Verified, Verifier},
    writer::{Flush, FlushError, PolicyChange, RecordError, Recorder},
};
use self::{
    event::Event,
    line::Line,
    writer::{Otherwise, Room},
};
use crate::{
    caused::caused,
    clock::Clock,
    limit::DenialSum,
    live::Cut,
    metrics::{
        Metrics,
        label::{Judged, Label, Limit, label},
    },
    refusal::Code,
    relay::Meter,
    seldom::Seldom,
};

mod chain;
mod end;
mod event;
mod folder;
mod head;
mod hex;
mod ledger;
mod line;
mod segments;
mod standing;
mod strict;
mod verify;
mod writer;

label! {
    /// Who or what ended an exchange.
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    pub enum ClosedBy as "closed_by" {
        /// The worker's side ended first.
        Client = "client",
        /// The origin's side ended first.
        Upstream = "upstream",
        /// Nothing moved for the rule's `idle_timeout`.
        Idle = "idle",
        /// The rule's `max_duration` was up.
        Duration = "duration",
        /// A size limit was passed.
        Limit = "limit",
        /// The policy in force does not allow it, or no longer; what a reload cuts, those of removed
        /// workers included.
        Policy = "policy",
        /// Somebody took the worker's rights away while it ran.
        Revoked = "revoked",
        /// The worker was quarantined.
        Quarantine = "quarantine",
        /// The proxy shut down.
        Drain = "drain",
        /// A fault on either side, or in the proxy.
        Error = "error",
    }
}

/// Writes the one record of many denials (`audit.denials`), and returns when the kernel has it.
pub(crate) async fn summed(
    recorder: &Recorder,
    clock: &dyn Clock,
    sum: &DenialSum,
) -> Result<(), RecordError> {
    let DenialSum { worker, listener, code, id, count } = sum;
    let line = Line {
        id: Some(id.clone()),
        time: time(clock),
        event: Event::Denials,
        worker: worker.as_deref().map(str::to_owned),
        listener: listener.as_deref().map(str::to_owned),
        reason: Some(code.as_str()),
        count: Some(*count),
        ..Line::default()
    };
    recorder.reserve().await?.write(Box::new(line)).await
}

/// The record of one exchange while it runs.
pub(crate) struct Draft {
    /// Boxed, since every future that has a draft would be as large as a line otherwise.
    line: Box<Line>,
    clock: Arc<dyn Clock>,
    cut: Cut,
    /// Room for each record, taken before the exchange began; gone once it is written.
    decision: Option<Room>,
    completion: Option<Room>,
    /// Whether the decision is in the record.
    acknowledged: bool,
    /// The policy that was asked last; at first the one in force as the exchange began.
    policy: Revision,
    /// What the policy said, while the decision is not written.
    permitted: Option<Verdict>,
    opened: Instant,
    meter: Arc<Meter>,
}

impl Draft {
    /// Opens the record of an exchange; refuses when the recorder has no room within its bound, or
    /// cannot write.
    pub(crate) async fn open(
        recorder: &Recorder,
        metrics: &Arc<Metrics>,
        clock: &Arc<dyn Clock>,
        cut: &Cut,
        listener: &str,
        client: Option<SocketAddr>,
        policy: Revision,
    ) -> Result<Self, RecordError> {
        let reserve = async || recorder.reserve().await.inspect_err(|_| recorder.lose());
        let (decision, completion) = (reserve().await?, reserve().await?);
        let line = Box::new(Line {
            id: Some(Ulid::generate().to_string()),
            listener: Some(listener.to_owned()),
            client: client.map(|address| address.to_string()),
            ..Line::default()
        });
        metrics.exchanges.add(1);
        Ok(Self {
            line,
            clock: clock.clone(),
            cut: cut.clone(),
            decision: Some(decision),
            completion: Some(completion),
            acknowledged: false,
            policy,
            permitted: None,
            opened: Instant::now(),
            meter: Arc::new(Meter::new(metrics.clone())),
        })
    }

    /// Returns the id that the worker is told and both records carry.
    pub(crate) fn id(&self) -> &str {
        self.line.id.as_deref().unwrap_or_default()
    }

    /// Returns the worker, once it is known.
    pub(crate) fn worker_id(&self) -> Option<&str> {
        self.line.worker.as_deref()
    }

    /// Whether the decision is written: then the completion has to follow.
    pub(crate) fn is_decided(&self) -> bool {
        self.decision.is_none()
    }

    /// Writes nothing of an exchange that was not decided: another record counts it.
    pub(crate) fn discard(mut self, told: Code) {
        self.metrics().requests.of(Judged::Deny).of(told).add(1);
        self.metrics().limited.of(Limit::Denials).add(1);
        (self.decision, self.completion) = (None, None);
    }

    /// Returns the counter of what this exchange moves.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    fn metrics(&self) -> &Metrics {
        self.meter.metrics()
    }

    pub(crate) fn worker(&mut self, worker: &Worker) {
        self.line.worker = Some(worker.id.to_string());
        let labels = worker.labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        self.line.labels = Some(labels.collect::<BTreeMap<_, _>>()).filter(|all| !all.is_empty());
    }

    pub(crate) fn method(&mut self, method: &str) {
        self.line.method = Some(method.to_owned());
    }

    pub(crate) fn target(&mut self, target: &Target) {
        self.line.scheme = Some(target.scheme().as_str());
        self.authority(target.authority());
        // Without the query string: that is where secrets and personal data travel.
        self.line.path = Some(target.path().to_owned());
    }

    pub(crate) fn authority(&mut self, authority: &Authority) {
        self.host(authority.host());
        self.line.port = Some(authority.port());
    }

    pub(crate) fn host(&mut self, host: &Host) {
        self.line.host = Some(host.to_string());
    }

    pub(crate) fn selected(&mut self, scheme: &'static str, sni: Option<&HostName>) {
        self.line.scheme = Some(scheme);
        self.line.sni = sni.map(ToString::to_string);
    }

    pub(crate) fn policy(&mut self, revision: Revision, began: Instant) {
        self.judged_by(revision);
        let took = began.elapsed();
        self.metrics().decide.observe(took);
        self.line.decide_us = Some(micros(took));
    }

    /// Notes another policy than the one that was asked first.
    pub(crate) fn judged_by(&mut self, revision: Revision) {
        if self.policy != revision {
            self.policy = revision;
            self.line.policy = None;
        }
    }

    /// Writes out the policy, unless that has been done: most exchanges end under the first.
    fn write_policy(&mut self) {
        let policy = self.policy;
        self.line.policy.get_or_insert_with(|| policy.to_string());
    }

    /// Notes what the policy said, for an exchange that ends before it can be written.
    pub(crate) fn permitted(&mut self, verdict: Verdict, rule: Option<&RuleId>) {
        self.permitted = Some(verdict);
        self.line.rule = rule.map(ToString::to_string);
    }

    pub(crate) fn resolved(&mut self, addresses: &[IpAddr], began: Instant) {
        self.line.addresses = Some(addresses.to_vec());
        self.line.dns_us = Some(micros(began.elapsed()));
    }

    /// Notes the connection that a request goes over.
    pub(crate) fn pinned(&mut self, peer: SocketAddr) {
        self.line.pinned = Some(peer.to_string());
    }

    /// Notes a connection that was made for this exchange, and how long that took.
    pub(crate) fn connected(&mut self, peer: SocketAddr, took: Duration) {
        self.pinned(peer);
        self.line.connect_us = Some(micros(took));
    }

    /// Writes the decision that lets the exchange go on, and returns when the kernel has it.
    pub(crate) async fn allow(
        &mut self,
        verdict: Verdict,
        rule: Option<&RuleId>,
    ) -> Result<(), RecordError> {
        self.line.rule = rule.map(ToString::to_string);
        let (judged, reason) = told(verdict);
        self.decide(judged, reason).await
    }

    /// Writes why the exchange ends here: the decision, unless an earlier one allowed it.
    pub(crate) async fn deny(&mut self, code: Code, rule: Option<&RuleId>) {
        if self.is_decided() {
            return self.reason(code);
        }
        if let Some(rule) = rule {
            self.line.rule = Some(rule.to_string());
        }
        // Nobody is answerable for it and no limit counts it, so what can be long is left out.
        if code == Code::RequestMalformed && self.line.worker.is_none() {
            self.line.path = None;
        }
        // The refusal stands whether or not it could be written: nothing is let through by it.
        if let Err(error) = self.decide(Judged::Deny, code).await {
            static UNRECORDED: Seldom = Seldom::new();
            if let Some(unsaid) = UNRECORDED.due() {
                let code = code.as_str();
                tracing::error!(
                    error = %caused(&error),
                    code,
                    unsaid,
                    "a refusal could not be recorded"
                );
            }
        }
    }

    async fn decide(&mut self, judged: Judged, reason: Code) -> Result<(), RecordError> {
        let Some(room) = self.decision.take() else { return Ok(()) };
        let written = room.write(self.decision(judged, reason)).await;
        self.acknowledged = written.is_ok();
        if written.is_err() {
            // What could not be decided on record was refused; its end is not kept for later.
            self.completion = None;
        }
        written
    }

    fn decision(&mut self, judged: Judged, reason: Code) -> Box<Line> {
        self.metrics().requests.of(judged).of(reason).add(1);
        self.write_policy();
        self.line.verdict = Some(judged.word());
        self.line.reason = Some(reason.as_str());
        self.line.event = Event::Decision;
        self.line.time = time(&*self.clock);
        self.line.clone()
    }

    /// Notes the status that the worker was given.
    pub(crate) fn status(&mut self, status: u16) {
        self.line.status = Some(status);
    }

    /// Notes a reason that came up after the decision.
    pub(crate) fn reason(&mut self, code: Code) {
        self.metrics().failed.of(code).add(1);
        self.line.reason = Some(code.as_str());
    }

    /// Ends the exchange and the connection that it came over, with a reset.
    pub(crate) fn cut(self, by: ClosedBy) {
        self.cut.now(by);
        self.complete(by);
    }

    /// Ends the exchange.
    pub(crate) fn complete(mut self, by: ClosedBy) {
        self.finish(by);
    }

    fn finish(&mut self, by: ClosedBy) {
        let Some(room) = self.completion.take() else { return };
        if let (Some(verdict), Some(room)) = (self.permitted, self.decision.take()) {
            let (judged, reason) = told(verdict);
            // Nothing has gone upstream by it.
            room.tell(self.decision(judged, reason), Otherwise::Counted);
        }
        self.write_policy();
        let mut line = std::mem::take(&mut self.line);
        line.event = Event::Completion;
        line.time = time(&*self.clock);
        line.bytes_up = Some(self.meter.up());
        line.bytes_down = Some(self.meter.down());
        let took = self.opened.elapsed();
        line.total_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        // A cut explains whatever error it caused on the way.
        let by = self.cut.by().unwrap_or(by);
        line.closed_by = Some(by);
        self.metrics().closed.of(by).add(1);
        let connect = line.method.as_deref() == Some("CONNECT");
        match line.status {
            // Tunnels, which are timed by themselves.
            Some(101) => {}
            Some(200) if connect => {}
            Some(_) | None => self.metrics().request.observe(took),
        }
        room.tell(line, if self.acknowledged { Otherwise::Kept } else { Otherwise::Counted });
    }
}

impl Drop for Draft {
    /// Reached only when the exchange was abandoned: the client left, or the connection was cut.
    fn drop(&mut self) {
        self.finish(ClosedBy::Client);
        self.metrics().exchanges.add(-1);
    }
}

fn told(verdict: Verdict) -> (Judged, Code) {
    match verdict {
        Verdict::Allow => (Judged::Allow, Code::Allowed),
        Verdict::WouldDeny(reason) => (Judged::WouldDeny, reason.into()),
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// RFC 3339 with microseconds, in UTC.
fn time(clock: &dyn Clock) -> String {
    format!("{:.6}", clock.now())
}
