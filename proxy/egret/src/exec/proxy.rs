//! The process of a proxy that was started for commands, and its end.
//!
//! A command can write what lies in the state directory, so no number that stands there is believed
//! by itself: the process must run the program that we are and hold the lock of the directory, and
//! is signalled through a descriptor, which cannot come to mean another one.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal},
};

use super::signals::Signals;
use crate::running;

/// How long what is still open may take when the last command has ended, before it is cut.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the proxy may then take to write its last records.
const CUT: Duration = Duration::from_secs(5);

pub(super) enum Proxy {
    /// Started by us.
    Ours(Child),
    /// Started by another command that is gone.
    Others(OwnedFd),
}

impl Proxy {
    /// The process of a number, if it is a proxy on this directory.
    pub(super) fn of(pid: Pid, directory: &Path) -> Option<Self> {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let is_ours = runs_our_program(pid).unwrap_or(false);
        let is_there = is_ours && running::owns(pid, directory).unwrap_or(false);
        is_there.then_some(Self::Others(process))
    }

    pub(super) fn unless_ended(mut self) -> Option<Self> {
        (!self.has_ended()).then_some(self)
    }

    fn has_ended(&mut self) -> bool {
        match self {
            Self::Ours(child) => !matches!(child.try_wait(), Ok(None)),
            Self::Others(process) => {
                let mut asked = [PollFd::new(process, PollFlags::IN)];
                poll(&mut asked, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
            }
        }
    }

    /// Asks it to end, more firmly the longer it takes and the more often we are asked to end.
    pub(super) fn end(&mut self, signals: &mut Signals) {
        for (signal, patience) in [(Signal::TERM, DRAIN), (Signal::TERM, CUT), (Signal::KILL, CUT)]
        {
            self.signal(signal);
            let until = Instant::now() + patience;
            while Instant::now() < until {
                if self.has_ended() {
                    return;
                }
                if signals.pause().is_some() {
                    break;
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // One that has ended by itself is fine.
        let _ = match self {
            // It is not waited for yet, so the number is its own.
            Self::Ours(child) => match i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                Some(pid) => kill_process(pid, signal),
                None => Ok(()),
            },
            Self::Others(process) => pidfd_send_signal(process, signal),
        };
    }
}

fn runs_our_program(pid: Pid) -> io::Result<bool> {
    let ours = fs::metadata("/proc/self/exe")?;
    let other = fs::metadata(format!("/proc/{}/exe", pid.as_raw_nonzero()))?;
    Ok((ours.dev(), ours.ino()) == (other.dev(), other.ino()))
}
