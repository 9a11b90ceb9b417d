//! Everything that was seen while a case was played, from all sides, as plain values.

use std::{net::SocketAddr, time::Duration};

use egret_testkit::{client::Exchange, dns::Query, hello::Hello, http1::Message, origin};

use crate::{
    audit::Record,
    case::{Case, Input, Policy},
};

/// What was seen.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// The case.
    pub case: &'a Case,
    /// The policy it ran under.
    pub policy: Policy,
    /// The final replies, in order.
    pub replies: Vec<Message>,
    /// Everything that the client received.
    pub raw: Vec<u8>,
    /// Everything that the client sent.
    pub sent: Vec<u8>,
    /// What the client sent into its tunnel in place of a handshake.
    pub payload: Vec<u8>,
    /// The proxy closed the client's connection.
    pub closed: bool,
    /// Nothing came within the limit, not even after a half-close.
    pub silent: bool,
    /// What became of the tunnel.
    pub tunnel: TunnelEnd,
    /// For several requests, the status of each; 0 is a refusal without a reply.
    pub results: Vec<u16>,
    /// What the origins saw.
    pub connections: Vec<Seen>,
    /// Whom the proxy dialled, in order.
    pub dials: Vec<SocketAddr>,
    /// How many of the dials belong to requests before the last one.
    pub earlier: usize,
    /// To whom it sent datagrams, the scripted name server aside.
    pub datagrams: Vec<SocketAddr>,
    /// What it asked the name server.
    pub queries: Vec<Query>,
    /// What it recorded; `None` where it keeps no records or they are not judged.
    pub records: Option<Vec<Record>>,
    /// The same process still runs.
    pub alive: bool,
    /// After a fault was ended: whether a request is served again.
    pub recovered: Option<bool>,
    /// The proxy would not start with what the case sets up, and what it said.
    pub not_started: Option<String>,
    /// Why a part of the case could not be played after all.
    pub unplayed: Option<String>,
    /// After its files had changed, whether it refused what it had to refuse before.
    pub still_denies: Option<bool>,
    /// The descriptors of the exchange were given back while the client still held its end, within
    /// the time for which the proxy keeps what is idle; `None` where nobody looked.
    pub released: Option<bool>,
    /// The proxy accepted on an address that is not loopback; `None` where nobody looked.
    pub reached_elsewhere: Option<bool>,
    /// What it printed since it was started.
    pub printed: String,
    /// Lines that the origin sent to pass for the proxy's own verdict.
    pub forgeries: Vec<String>,
    /// By how much its memory grew.
    pub growth: u64,
    /// The processor time it took.
    pub cpu: Duration,
    /// How long the last request took.
    pub elapsed: Duration,
}

/// What became of a tunnel after its 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// There was none, or nothing was tried in it.
    None,
    /// Something answered in it.
    Served,
    /// It was closed without an answer.
    Cut,
    /// It stayed open without an answer.
    Idle,
}

/// One connection at an origin, read and parsed.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The address that was dialled.
    pub to: SocketAddr,
    /// Below TLS.
    pub wire: Vec<u8>,
    /// Above it.
    pub plain: Vec<u8>,
    /// A TLS handshake was completed.
    pub tls: bool,
    /// The ClientHello.
    pub hello: Option<Hello>,
    /// The requests.
    pub requests: Vec<Message>,
}

impl From<&origin::Connection> for Seen {
    fn from(connection: &origin::Connection) -> Self {
        Self {
            to: connection.to,
            wire: connection.wire(),
            plain: connection.plain(),
            tls: connection.is_tls(),
            hello: connection.hello(),
            requests: connection.requests(),
        }
    }
}

impl Seen {
    /// Returns the server name as text.
    pub fn sni(&self) -> Option<String> {
        let name = self.hello.as_ref()?.names.first()?;
        Some(String::from_utf8_lossy(name).into_owned())
    }

    /// Returns what an origin would read as protocol: everything but the bodies whose framing
    /// leaves no doubt.
    pub fn outside_bodies(&self) -> Vec<u8> {
        let mut data = self.plain.clone();
        for request in &self.requests {
            let doubtful = request.odd_framing || request.odd_chunks;
            if doubtful || request.body.is_empty() {
                continue;
            }
            if let Some(at) = find(&data, &request.body) {
                data.drain(at..at + request.body.len());
            }
        }
        data
    }
}

impl<'a> Observed<'a> {
    /// Returns an observation of nothing yet.
    pub fn new(case: &'a Case, policy: Policy) -> Self {
        Self {
            case,
            policy,
            replies: Vec::new(),
            raw: Vec::new(),
            sent: Vec::new(),
            payload: Vec::new(),
            closed: false,
            silent: false,
            tunnel: TunnelEnd::None,
            results: Vec::new(),
            connections: Vec::new(),
            dials: Vec::new(),
            earlier: 0,
            datagrams: Vec::new(),
            queries: Vec::new(),
            records: None,
            alive: true,
            recovered: None,
            not_started: None,
            unplayed: None,
            still_denies: None,
            released: None,
            reached_elsewhere: None,
            printed: String::new(),
            forgeries: Vec::new(),
            growth: 0,
            cpu: Duration::ZERO,
            elapsed: Duration::ZERO,
        }
    }

    /// Takes over what a conversation brought.
    pub fn hear(&mut self, exchange: Exchange) {
        let Exchange { sent, raw, replies, closed, silent } = exchange;
        self.sent.extend(sent);
        self.raw = raw;
        self.replies = replies;
        self.closed = closed;
        self.silent = silent;
    }

    /// Returns every request that an origin saw.
    pub fn requests(&self) -> impl Iterator<Item = &Message> {
        self.connections.iter().flat_map(|connection| &connection.requests)
    }

    /// Returns what it amounts to.
    pub fn outcome(&self) -> Outcome {
        if self.not_started.is_some() {
            return Outcome::NotStarted;
        }
        if self.silent {
            return Outcome::Silent;
        }
        if self.tunnel == TunnelEnd::Cut {
            return Outcome::Deny(0);
        }
        let statuses = self.statuses();
        let judged = if self.judges_the_last() { statuses.last() } else { statuses.first() };
        let Some(&status) = judged else { return Outcome::Deny(0) };
        let redirected = status / 100 == 3 && self.requests().next().is_some();
        if status / 100 == 2 || status == 101 || redirected {
            return Outcome::Allow(status);
        }
        if let Input::Response(response) = &self.case.input {
            let line = String::from_utf8_lossy(&response.first_line).into_owned();
            let scripted = line.contains(&status.to_string());
            if scripted && self.requests().next().is_some() {
                return Outcome::Allow(status);
            }
        }
        if status == 400 { Outcome::Refused400 } else { Outcome::Deny(status) }
    }

    /// Returns the status of every request, in order.
    pub fn statuses(&self) -> Vec<u16> {
        if self.results.is_empty() {
            self.replies.iter().map(Message::status).collect()
        } else {
            self.results.clone()
        }
    }

    /// Whether the case accepts that the policy from before the change stays in force, and it does:
    /// then what that allows is dialled.
    pub(crate) fn keeps_previous_policy(&self) -> bool {
        self.still_denies == Some(true)
            && self.case.also_ok.iter().any(|word| word == PREVIOUS_POLICY)
    }

    fn judges_the_last(&self) -> bool {
        match &self.case.input {
            Input::Dns { .. } | Input::Config(_) => true,
            Input::Raw { several, .. } => *several || self.pipelined_denial(),
            Input::Connect { .. }
            | Input::Absolute { .. }
            | Input::Tls(_)
            | Input::Response(_)
            | Input::Load(_)
            | Input::Undriven(_) => self.pipelined_denial(),
        }
    }

    fn pipelined_denial(&self) -> bool {
        self.case.expected == crate::case::Expected::Deny
            && egret_testkit::client::methods(&self.sent).len() > 1
    }
}

/// The outcome that a policy which cannot be used leaves the one before it in force.
pub(crate) const PREVIOUS_POLICY: &str = "previous_policy_active";

/// What a case amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Let through, with this status.
    Allow(u16),
    /// Refused as malformed.
    Refused400,
    /// Refused with a status, or with 0: closed without one.
    Deny(u16),
    /// No answer at all.
    Silent,
    /// The proxy would not start.
    NotStarted,
}

impl Outcome {
    /// Returns the status, 0 for none.
    pub fn status(self) -> u16 {
        match self {
            Self::Allow(status) | Self::Deny(status) => status,
            Self::Refused400 => 400,
            Self::Silent | Self::NotStarted => 0,
        }
    }

    /// Whether it was let through.
    pub fn is_allow(self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Allow(status) => write!(f, "allow {status}"),
            Self::Refused400 => f.write_str("reject-400"),
            Self::Deny(0) => f.write_str("deny without a reply"),
            Self::Deny(status) => write!(f, "deny {status}"),
            Self::Silent => f.write_str("silent"),
            Self::NotStarted => f.write_str("refused to start"),
        }
    }
}

/// Where a part first occurs in some bytes.
pub(crate) fn find(data: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    let mut from = 0;
    while let Some(at) = data[from..].iter().position(|byte| *byte == part[0]) {
        if data[from + at..].starts_with(part) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Whether a part occurs in some bytes.
pub(crate) fn contains(data: &[u8], part: &[u8]) -> bool {
    find(data, part).is_some()
}
