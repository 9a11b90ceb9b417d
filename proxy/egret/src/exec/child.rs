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

use super::{
    ExecError,
    signals::{Calls, Signals},
};
use crate::{env::variables::Variable, failure::Exit};

/// Runs a command to its end, and returns what it ended with.
pub(super) fn run(
    line: &[OsString],
    variables: &[Variable],
    signals: &mut Signals,
) -> Result<Exit, ExecError> {
    let (program, arguments) = line.split_first().expect("the command line asks for a command");
    let mut command = Command::new(program);
    command.args(arguments);
    for name in ["EGRET_TOKEN", "EGRET_TOKEN_FILE"] {
        command.env_remove(name);
    }
    for Variable { name, value } in variables {
        match value {
            Some(value) => command.env(&**name, value),
            None => command.env_remove(&**name),
        };
    }
    let Signals { runtime, calls } = signals;
    runtime.block_on(carry_out(command, calls)).map(exit_of)
}

async fn carry_out(mut command: Command, calls: &mut Calls) -> Result<ExitStatus, ExecError> {
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
            signal = next_for_command(calls) => {
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

/// Waits for the next signal that the command would not have without us.
async fn next_for_command(calls: &mut Calls) -> Signal {
    loop {
        let (signal, from_terminals) = calls.next().await;
        if !(from_terminals && is_foreground()) {
            return signal;
        }
    }
}

/// Whether the terminal that controls us sends its signals to our group.
fn is_foreground() -> bool {
    let terminal = File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}
