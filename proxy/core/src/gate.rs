//! The only place that judges HTTP/1 framing: a stream between the socket and hyper's server.
//!
//! It releases heads that it has validated, bodies that it has counted and chunks that it has
//! encoded anew, and queues one fact per head for the service. In place of a bad head hyper is given
//! a harmless one, so that the refusal takes the ordinary way, and nothing after it is read. After
//! CONNECT or an upgrade it holds everything back until the service has said how that ended.
//!
//! It relies on `half_close(true)`: hyper then asks for a head only when all earlier answers are
//! out, and neither silence nor the end of the stream costs a client the answer it waits for.
//!
//! It knows no policy: a target is judged here by its bytes and length only. It never answers, and
//! request bodies have no deadline here. What it holds is bounded by `GateLimits` and one read.

mod chunks;
mod clock;
mod facts;
mod fault;
mod fields;
mod framing;
mod head;
mod read;
mod write;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::Instant;

use chunks::Chunks;
use clock::Clock;
use facts::{Ending, Shared};
use framing::{After, Content};
use head::{HeadScan, Scanned};

pub(crate) use facts::{Facts, HeadFact, PassedHead};
pub(crate) use fault::{Fault, FaultKind};

/// Bounds of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GateLimits {
    /// Bytes of a whole head.
    pub(crate) head_bytes: usize,
    /// Bytes of a request target.
    pub(crate) target_bytes: usize,
    /// Fields of a head, and again of a trailer section; hyper takes no more than 100 by default.
    pub(crate) fields: usize,
    /// From the first byte of a head to its end; for the first head from the start.
    pub(crate) header_timeout: Duration,
    /// From the end of an exchange to the first byte of the next head.
    pub(crate) idle_timeout: Duration,
}

/// Puts a gate before `io`. The gate is what hyper serves, the facts are what its service asks.
pub(crate) fn gate<S>(io: S, limits: GateLimits) -> (Gate<S>, Facts) {
    let shared = Shared::default();
    let facts = shared.facts();
    let now = Instant::now();
    let gate = Gate {
        io,
        shared,
        state: State::Head(HeadScan::new(&limits)),
        inbox: BytesMut::new(),
        outbox: Bytes::new(),
        answer: Answer::Due,
        head_began: Some(now),
        last_write: now,
        clock: Clock::default(),
        stalled: None,
        stall: Clock::default(),
        limits,
    };
    (gate, facts)
}

/// A stream whose reading side is well-formed HTTP/1 and whose writing side is untouched.
#[derive(Debug)]
pub(crate) struct Gate<S> {
    io: S,
    shared: Shared,
    limits: GateLimits,
    state: State,
    /// Read, and not judged yet or held back.
    inbox: BytesMut,
    /// Judged, and not released yet.
    outbox: Bytes,
    answer: Answer,
    /// When the head that is being read began; the first one begins before its first byte.
    head_began: Option<Instant>,
    last_write: Instant,
    clock: Clock,
    /// Since when the client has taken nothing of what it is owed.
    stalled: Option<Instant>,
    stall: Clock,
}

#[derive(Debug)]
enum State {
    Head(HeadScan),
    Length(u64),
    Chunked(Chunks),
    /// A CONNECT or an upgrade has been released; nothing follows until its end is known.
    Held(After),
    /// The other protocol.
    Raw,
    /// The body was malformed or cut short; hyper has seen it fail.
    BodyFailed,
    /// A stand-in has been released; nothing follows.
    Refused,
    /// The answer is out and our side is closed, or about to be; see `poll_linger`.
    Lingering {
        swallowed: usize,
        until: Option<Instant>,
    },
    /// Hyper may see the end of the stream.
    Ended,
}

/// How far the answer is at which the gate has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Due,
    Written,
    Sent,
}

impl<S> Gate<S> {
    /// Takes the stream out, with what was read of it and not released. Unless the exchange was
    /// opened, that is dropped: it was held back because nobody had allowed it.
    pub(crate) fn into_parts(self) -> (S, Bytes) {
        let held = match self.state {
            State::Raw => self.inbox.freeze(),
            State::Held(_) if self.shared.ending() == Ending::Opened => self.inbox.freeze(),
            State::Held(_)
            | State::Head(_)
            | State::Length(_)
            | State::Chunked(_)
            | State::BodyFailed
            | State::Refused
            | State::Lingering { .. }
            | State::Ended => Bytes::new(),
        };
        (self.io, held)
    }

    fn pass(&mut self, head: Scanned) {
        let Scanned { skip, length, facts, content, after } = head;
        self.inbox.advance(skip);
        self.outbox = self.inbox.split_to(length).freeze();
        self.shrink();
        self.head_began = None;
        self.answer = Answer::Due;
        self.state = match (after, content) {
            (After::Tunnel | After::Upgrade | After::Nothing, _) => State::Held(after),
            (After::Request, Content::Length(length)) => State::Length(length),
            (After::Request, Content::Chunked) => State::Chunked(Chunks::new()),
            (After::Request, Content::None) => self.next_head(),
        };
        self.shared.push(HeadFact::Passed(facts), after);
    }

    fn refuse(&mut self, fault: Fault) {
        let (method, version) = match &self.state {
            State::Head(scan) => scan.answerable(&self.inbox),
            State::Length(_)
            | State::Chunked(_)
            | State::Held(_)
            | State::Raw
            | State::BodyFailed
            | State::Refused
            | State::Lingering { .. }
            | State::Ended => return,
        };
        self.outbox = Bytes::from(format!(
            "{method} http://refused.invalid/ {version:?}\r\n\
             host: refused.invalid\r\nconnection: close\r\n\r\n"
        ));
        self.inbox = BytesMut::new();
        self.answer = Answer::Due;
        self.state = State::Refused;
        self.shared.push(HeadFact::Refused(fault), After::Nothing);
    }

    /// Ends a body that cannot be continued. `release` is what hyper is still to be given.
    fn fail_body(&mut self, fault: Fault, release: &'static [u8]) {
        self.outbox = Bytes::from_static(release);
        self.inbox = BytesMut::new();
        self.state = State::BodyFailed;
        self.shared.fail_body(fault);
    }

    fn next_head(&self) -> State {
        State::Head(HeadScan::new(&self.limits))
    }

    /// Gives memory back that holds nothing; an idle connection keeps none.
    fn shrink(&mut self) {
        if self.inbox.is_empty() {
            self.inbox = BytesMut::new();
        }
    }
}
