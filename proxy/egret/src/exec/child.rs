//! The command itself: started in our own process group, so that the terminal treats the two as
//! one, and waited for.
//!
//! Signals that are sent to egret go on to it. Those that a terminal sends (interrupt, quit,
//! hangup) it sends to the whole foreground group, of which the command is one, and a second
//! interrupt is an order to die to many; so they go on only while the group is not in the
//! foreground. Whoever signals egret alone from elsewhere then uses SIGTERM. Stop, continue and a
//! new window size need nobody in between.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
};

use rustix::{
    process::{Pid, Signal, getpgrp, kill_process},
    termios::tcgetpgrp,
};
use tokio::signal::unix::{self, SignalKind};

use super::ExecError;
use crate::{env::variables::Variable, failure::Exit};

/// Runs a command to its end, and returns what it ended with.
pub(super) fn run(line: &[OsString], variables: &[Variable]) -> Result<Exit, ExecError> {
    let (program, arguments) = line.split_first().expect("the command line asks for a command");
    let mut command = Command::new(program);
    command.args(arguments);
    for name in ["EGRET_TOKEN", "EGRET_TOKEN_FILE"] {
        command.env_remove(name);
    }
    for Variable { name, value } in variables {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ExecError::Wait)?;
    runtime.block_on(carry_out(command)).map(exit_of)
}

async fn carry_out(mut command: Command) -> Result<ExitStatus, ExecError> {
    // Before there is a command, so that none is lost on it.
    let mut signals = Signals::listen().map_err(ExecError::Wait)?;
    let mut child = command.spawn().map_err(|source| {
        let program = command.get_program().to_string_lossy().into_owned();
        if source.kind() == io::ErrorKind::NotFound {
            ExecError::NotFound { program }
        } else {
            ExecError::NotRun { program, source }
        }
    })?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut end = tokio::task::spawn_blocking(move || child.wait());
    loop {
        tokio::select! {
            status = &mut end => {
                return status.map_err(io::Error::from).flatten().map_err(ExecError::Wait);
            }
            signal = signals.next() => {
                if let Some(pid) = pid {
                    // It may have ended just now.
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }
}

/// As a shell has it: the code, or 128 and the number of the signal.
fn exit_of(status: ExitStatus) -> Exit {
    let signalled = || status.signal().map(|signal| 128 + signal);
    let code = status.code().or_else(signalled).and_then(|code| u8::try_from(code).ok());
    code.map_or(Exit::Failure, Exit::Of)
}

/// The signals that go on to the command.
struct Signals {
    terminate: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate())?,
            user1: unix::signal(SignalKind::user_defined1())?,
            user2: unix::signal(SignalKind::user_defined2())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            quit: unix::signal(SignalKind::quit())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal that the command would not have without us.
    async fn next(&mut self) -> Signal {
        loop {
            let (signal, from_terminals) = tokio::select! {
                _ = self.terminate.recv() => (Signal::TERM, false),
                _ = self.user1.recv() => (Signal::USR1, false),
                _ = self.user2.recv() => (Signal::USR2, false),
                _ = self.interrupt.recv() => (Signal::INT, true),
                _ = self.quit.recv() => (Signal::QUIT, true),
                _ = self.hangup.recv() => (Signal::HUP, true),
            };
            if !(from_terminals && is_foreground()) {
                return signal;
            }
        }
    }
}

/// Whether the terminal that controls us sends its signals to our group.
fn is_foreground() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}
