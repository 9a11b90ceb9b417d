//! A record that takes nothing until it is told to.
//!
//! The recorder asks for the time before it takes its first line, to find what is too old; it does
//! not get it until then, and stands still as it would before a disk that has stopped answering.

use std::{
    sync::{Arc, Condvar, Mutex},
    thread,
};

use egret_policy::Timestamp;
use egret_proxy::Clock;

pub(crate) struct Ledger(Arc<Gate>);

#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Ledger {
    pub(crate) fn stalled() -> Self {
        Self(Arc::default())
    }

    /// Returns a clock for the proxy, with which the recorder stalls.
    pub(crate) fn clock(&self, clock: Arc<dyn Clock>) -> Arc<dyn Clock> {
        Arc::new(Stalling { clock, gate: self.0.clone() })
    }

    /// Takes everything from here on.
    pub(crate) fn take(&self) {
        *self.0.is_open.lock().unwrap() = true;
        self.0.opened.notify_all();
    }
}

struct Stalling {
    clock: Arc<dyn Clock>,
    gate: Arc<Gate>,
}

impl Clock for Stalling {
    fn now(&self) -> Timestamp {
        if thread::current().name() == Some("recorder") {
            let Gate { is_open, opened } = &*self.gate;
            drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
        }
        self.clock.now()
    }
}
