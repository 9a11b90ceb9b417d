//! The facts that travel beside the bytes, from the gate to the service and back.
//!
//! The gate queues one fact per head that it hands to hyper; the service takes one per call, so
//! both stay in order however far hyper reads ahead. Back goes how a CONNECT or an upgrade ends.
//! One gate and one service share this; the lock is never held across anything that waits.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::Version;

use super::{fault::Fault, framing::After};

/// The service's end of a gate.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    shared: Shared,
}

/// What the gate says about one head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeadFact {
    /// The head is well formed, and hyper has been given it.
    Passed(PassedHead),
    /// The head is not; hyper has been given a harmless one in its place.
    Refused(Fault),
}

impl HeadFact {
    /// Whether this is a CONNECT, whose refusal ends the connection.
    pub(crate) fn asks_for_tunnel(&self) -> bool {
        match self {
            Self::Passed(head) => head.method == "CONNECT",
            Self::Refused(_) => false,
        }
    }
}

/// The facts of a head that was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PassedHead {
    /// The target as it stood on the wire: visible ASCII, its meaning unjudged.
    pub(crate) target: String,
    /// The method, a token of at most 32 bytes.
    pub(crate) method: String,
    /// HTTP/1.0 or HTTP/1.1.
    pub(crate) version: Version,
    /// The value of Host as it stood on the wire: visible ASCII, and always there in HTTP/1.1.
    pub(crate) host: Option<String>,
}

impl Facts {
    /// Takes the fact on the head that hyper has just delivered. To be called once per call of
    /// the service; a call without a head is refused.
    pub(crate) fn next(&self) -> HeadFact {
        let mut state = self.shared.lock();
        match state.queue.pop_front() {
            Some((fact, After::Request)) => fact,
            Some((fact, After::Tunnel | After::Upgrade | After::Nothing)) => {
                state.ending = Ending::Awaited;
                fact
            }
            None => HeadFact::Refused(Fault::Unannounced),
        }
    }

    /// Says that CONNECT is about to be answered with 2xx, or an upgrade with 101: raw bytes from
    /// here. To be called before the answer is returned; where nothing is held it does nothing.
    pub(crate) fn opened(&self) {
        self.end(Ending::Opened);
    }

    /// Says that CONNECT or an upgrade is about to be answered otherwise, as it is when nothing has
    /// been said by the time the answer is out. After an upgrade the next request is read; after
    /// CONNECT what was held is dropped and the connection ends with the answer, whose body must be
    /// ready when its head is.
    pub(crate) fn refused(&self) {
        self.end(Ending::Refused);
    }

    /// Has the connection end where it would wait for another head. The gate looks when it is read
    /// from next.
    pub(crate) fn end_idle(&self) {
        self.shared.lock().ends_idle = true;
    }

    /// What was wrong with the body that hyper is reading, once its stream has failed.
    pub(crate) fn body_fault(&self) -> Option<Fault> {
        self.shared.lock().body_fault
    }

    fn end(&self, ending: Ending) {
        let mut state = self.shared.lock();
        if state.ending == Ending::Awaited {
            state.ending = ending;
        }
    }
}

/// The gate's end, and the state behind both.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(HeadFact, After)>,
    ending: Ending,
    body_fault: Option<Fault>,
    ends_idle: bool,
}

/// How the exchange ends at which the gate has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Ending {
    /// The service has not taken the fact yet.
    #[default]
    Unknown,
    /// The service has it, and has not said how it ends.
    Awaited,
    /// Raw bytes follow the answer.
    Opened,
    /// They do not.
    Refused,
}

impl Shared {
    pub(super) fn facts(&self) -> Facts {
        Facts { shared: self.clone() }
    }

    /// Queues a fact. One that stops the gate forgets how the last such exchange ended.
    pub(super) fn push(&self, fact: HeadFact, after: After) {
        let mut state = self.lock();
        if after != After::Request {
            state.ending = Ending::Unknown;
        }
        state.queue.push_back((fact, after));
    }

    pub(super) fn fail_body(&self, fault: Fault) {
        self.lock().body_fault = Some(fault);
    }

    pub(super) fn ends_idle(&self) -> bool {
        self.lock().ends_idle
    }

    pub(super) fn ending(&self) -> Ending {
        self.lock().ending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and no value is ever half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
