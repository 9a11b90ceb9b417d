//! The signals that egret is sent while it runs a command, from before there is a proxy until there
//! is none.
//!
//! Waiting is done here alone, so that nothing that takes long goes on unheard: before the command
//! a signal ends all that was begun, after it, it cuts short what is left. One that is ignored when
//! egret starts, as under `nohup`, stays ignored, and the command has it ignored, too.

use std::{fs, future, io, thread, time::Duration};

use rustix::process::Signal;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{self, SignalKind},
    sync::oneshot,
    time::timeout,
};

use super::ExecError;

/// How long to wait until something is looked at again.
const PAUSE: Duration = Duration::from_millis(20);

/// What is heard, and the runtime that hears it.
pub(super) struct Signals {
    pub(super) runtime: Runtime,
    pub(super) calls: Calls,
}

/// The signals that are not ignored.
pub(super) struct Calls {
    terminate: Option<unix::Signal>,
    user1: Option<unix::Signal>,
    user2: Option<unix::Signal>,
    interrupt: Option<unix::Signal>,
    quit: Option<unix::Signal>,
    hangup: Option<unix::Signal>,
}

impl Signals {
    /// From here on they no longer end the process by themselves.
    pub(super) fn listen() -> Result<Self, ExecError> {
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(ExecError::Wait)?;
        let entered = runtime.enter();
        let calls = Calls::listen().map_err(ExecError::Wait)?;
        drop(entered);
        Ok(Self { runtime, calls })
    }

    /// Waits for a moment; returns the signal that asks for the end meanwhile.
    pub(super) fn pause(&mut self) -> Option<Signal> {
        let Self { runtime, calls } = self;
        runtime.block_on(async { timeout(PAUSE, calls.next_end()).await.ok() })
    }

    /// Passes over what has come so far.
    pub(super) fn forget(&mut self) {
        while self.pause().is_some() {}
    }

    /// Does something that may take as long as it likes, until a signal asks for the end.
    pub(super) fn until_one(&mut self, work: impl FnOnce() + Send + 'static) {
        let Self { runtime, calls } = self;
        let (done, ends) = oneshot::channel::<()>();
        thread::spawn(move || {
            work();
            drop(done);
        });
        runtime.block_on(async {
            tokio::select! {
                _ = ends => {}
                _ = calls.next_end() => {}
            }
        });
    }
}

impl Calls {
    fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let listen = |kind: SignalKind| {
            let bit = 1_u64 << (kind.as_raw_value() - 1);
            (ignored & bit == 0).then(|| unix::signal(kind)).transpose()
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal, and tells whether it is one that terminals send.
    pub(super) async fn next(&mut self) -> (Signal, bool) {
        tokio::select! {
            () = received(&mut self.terminate) => (Signal::TERM, false),
            () = received(&mut self.user1) => (Signal::USR1, false),
            () = received(&mut self.user2) => (Signal::USR2, false),
            () = received(&mut self.interrupt) => (Signal::INT, true),
            () = received(&mut self.quit) => (Signal::QUIT, true),
            () = received(&mut self.hangup) => (Signal::HUP, true),
        }
    }

    /// Waits for a signal that asks for the end.
    async fn next_end(&mut self) -> Signal {
        loop {
            let (signal, _) = self.next().await;
            if signal != Signal::USR1 && signal != Signal::USR2 {
                return signal;
            }
        }
    }
}

async fn received(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => future::pending().await,
    }
}

/// The signals that are ignored, a bit each; none where the system does not say.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}
