//! What a service manager is told (sd_notify(3)): ready, reloading, stopping, how it goes, and that
//! egret is alive.
//!
//! Without a manager nobody is told, and a manager that does not listen stops nothing. Alive means
//! that the runtime runs its tasks, the index of what is live can be asked and the recorder has not
//! ended: if that is not said within `WatchdogSec`, the manager starts egret anew. A disk that is
//! full is no reason for that, since a start would not make room. A drain asks for time, but not for
//! more than what is open is given and what comes after that can take.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use egret_proxy::{Handle, Recorder};
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::ready::{Readiness, Ready};

/// How often it is said how it goes.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// How much longer than it was going to the manager is to wait while what is open ends: until this
/// is said again, and for the last records.
const EXTENSION: Duration = Duration::from_secs(30);
/// What may come after `limits.drain_timeout`: what was cut has its last words, what was used is
/// saved, and the disk has all records.
const AFTERWARDS: Duration = Duration::from_secs(30);
/// Digits of a revision that tell it from others.
const REVISION: usize = 12;

/// The service manager; cheap to clone.
#[derive(Clone)]
pub(crate) struct Supervisor {
    handle: Handle,
    ready: Ready,
    recorder: Recorder,
    drain_timeout: Duration,
    /// Since when what is open may end.
    stopping: Arc<OnceLock<Instant>>,
    /// What the operator has to mend.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Supervisor {
    pub(crate) fn new(
        handle: Handle,
        ready: Ready,
        recorder: Recorder,
        drain_timeout: Duration,
    ) -> Self {
        let (stopping, trouble) = (Arc::default(), Arc::default());
        Self { handle, ready, recorder, drain_timeout, stopping, trouble }
    }

    /// Every socket is bound.
    pub(crate) fn ready(&self) {
        tell(&[NotifyState::Ready, NotifyState::Status(&self.status())]);
    }

    /// Other files are being judged.
    pub(crate) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "the service manager is not told of a reload"),
        }
    }

    /// They have been judged; `trouble` is why they are not in force.
    pub(crate) fn reloaded(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        match self.ready.now() {
            Readiness::Starting | Readiness::Serving => self.ready(),
            Readiness::Draining => self.stopping(),
        }
    }

    /// What is open may end, and then so does the process.
    pub(crate) fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status(&self.status())]);
        self.extend();
    }

    /// Says again and again how it goes, and that egret is alive.
    pub(crate) async fn keep_informed(self) {
        let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        let mut ticks = interval(watchdog.unwrap_or(STATUS_EVERY).min(STATUS_EVERY));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // First, since it asks the index: what cannot be asked is not alive.
            tell(&[NotifyState::Status(&self.status())]);
            if self.ready.now() == Readiness::Draining {
                self.extend();
            }
            if watchdog.is_some() && self.recorder.is_alive() {
                tell(&[NotifyState::Watchdog]);
            }
        }
    }

    fn extend(&self) {
        let passed = self.stopping.get_or_init(Instant::now).elapsed();
        if is_in_time(passed, self.drain_timeout) {
            tell(&[NotifyState::ExtendTimeoutUsec(EXTENSION.as_micros() as u32)]);
        }
    }

    fn status(&self) -> String {
        let state = self.ready.now().word();
        let (open, revision) = (self.handle.live(), self.handle.revision().to_string());
        let mut status = format!("{state}, {open} open, policy {}", &revision[..REVISION]);
        if !self.recorder.is_writing() {
            status += "; records cannot be written";
        }
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(trouble) => format!("{status}; {trouble}"),
            None => status,
        }
    }
}

/// Whether a drain that has begun so long ago may still ask for time.
fn is_in_time(passed: Duration, drain_timeout: Duration) -> bool {
    passed < drain_timeout.saturating_add(AFTERWARDS)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_asks_for_time_until_it_should_have_ended() {
        let check = |passed, drain_timeout, expected| {
            let of = Duration::from_secs;
            assert_eq!(is_in_time(of(passed), of(drain_timeout)), expected, "{passed}");
        };
        check(0, 0, true);
        check(59, 30, true);
        check(60, 30, false);
        check(3600, 3600, true);
    }
}
