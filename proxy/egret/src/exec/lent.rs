//! A proxy for as long as commands use it.
//!
//! Whoever runs a command holds `exec.lock` in the state directory with others who do. When none
//! runs there, one starts a proxy and adds its number to that file at once, so that it is known
//! also when its starter is killed. Who is the last to leave ends the proxy if its number is there,
//! whoever started it. A proxy that nobody started this way is used and left as it was.
//!
//! The configuration may have come with a checkout, and what lies in its state directory with it:
//! nothing there is written through a link, and who starts a proxy is told by which file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf, absolute},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use egret_policy::source::shown;
use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};

use super::ExecError;
use crate::{
    cli::ConfigFile,
    config::{Config, Origin},
    failure::Failure,
    running::{self, Running},
    state::{self, StateError},
};

/// How long a proxy may take until it listens.
const START: Duration = Duration::from_secs(20);
/// How long what is still open may take when the last command has ended, before it is cut.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the proxy may then take to write its last records.
const CUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// The use of a proxy; ended when dropped.
pub(super) struct Lent {
    state: PathBuf,
    /// `None` while nobody else knows of it, and when the directory is somebody else's, as then the
    /// proxy is, too.
    lock: Option<File>,
    /// What we have started ourselves.
    child: Option<Child>,
}

impl Lent {
    /// Finds the proxy of the configuration, or starts one and waits until it listens.
    pub(super) fn take(config: &Config, file: &ConfigFile) -> Result<Self, Failure> {
        let state = config.state.clone();
        let running = running::find(&state)?;
        if let Running::Nowhere = running {
            state::create(&state)?;
        }
        let nobodys = |state| Ok(Self { state, lock: None, child: None });
        match (state::guard(&state), &running) {
            (Ok(()), _) => {}
            (Err(error), Running::Here { .. } | Running::Unknown) if is_others(&error) => {
                return nobodys(state);
            }
            (Err(error), _) => return Err(error.into()),
        }
        let path = state.join(LOCK);
        let cannot = |source| ExecError::Lock { path: path.clone(), source };
        let mut lock = match (state::open_private(&path), running) {
            (Ok(lock), _) => lock,
            // It is somebody else's, who ends it, too.
            (Err(error), Running::Here { .. } | Running::Unknown)
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                return nobodys(state);
            }
            (Err(error), _) => return Err(cannot(error).into()),
        };
        // Waits for who is the last and ends the proxy just now.
        flock(&lock, FlockOperation::LockShared).map_err(|error| cannot(error.into()))?;
        let mut lent = Self { state, lock: None, child: None };
        if let Running::Nowhere = running::find(&lent.state)? {
            tell_origin(&config.origin);
            lent.start(file, &mut lock)?;
        }
        lent.lock = Some(lock);
        Ok(lent)
    }

    /// Ends the proxy if it was there for commands alone and this was the last one.
    pub(super) fn give_back(self) {
        drop(self);
    }

    /// Starts a proxy; somebody else may be quicker, and then it is theirs.
    fn start(&mut self, file: &ConfigFile, lock: &mut File) -> Result<(), Failure> {
        let until = Instant::now() + START;
        let log = self.state.join(LOG);
        let cannot = |source| ExecError::Lock { path: log.clone(), source };
        let mut said = anew(&log).map_err(cannot)?;
        let program = std::env::current_exe().map_err(ExecError::Start)?;
        let mut command = Command::new(program);
        command.arg("serve");
        if let Some(path) = &file.path {
            command.arg("-c").arg(path);
        }
        for name in ["EGRET_TOKEN", "EGRET_TOKEN_FILE", "NOTIFY_SOCKET", "WATCHDOG_USEC"] {
            command.env_remove(name);
        }
        // A group of its own: an interrupt from the terminal is for the command. A file takes what
        // it says, as it may outlive us.
        let said_to = said.try_clone().map_err(cannot)?;
        let spawned = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said_to)
            .process_group(0)
            .spawn();
        let mut child = spawned.map_err(ExecError::Start)?;
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let child = self.child.insert(child);
        let noted = writeln!(lock, "{}", child.id());
        noted.map_err(|source| ExecError::Lock { path: self.state.join(LOCK), source })?;
        let (listens, first) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            // Nobody waits any more when it is too late.
            let _ = listens.send(read.is_ok() && line.starts_with("listening "));
        });
        match first.recv_timeout(START) {
            Ok(true) => return Ok(()),
            Err(_) => return Err(ExecError::Late { after: START }.into()),
            Ok(false) => {}
        }
        let status = child.wait().map_err(ExecError::Start)?;
        self.child = None;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        while code == UNAVAILABLE && Instant::now() < until {
            if let Running::Here { .. } = running::find(&self.state)? {
                return Ok(());
            }
            // It was not the directory that somebody else had, but the port.
            if !running::is_locked(&self.state) {
                break;
            }
            thread::sleep(PAUSE);
        }
        let mut text = String::new();
        // What cannot be read cannot be shown; the code says enough.
        let _ = said.rewind().and_then(|()| said.read_to_string(&mut text));
        let _ = io::stderr().write_all(text.as_bytes());
        Err(ExecError::NotStarted { code }.into())
    }

    /// Asks the proxy to end, more firmly the longer it takes.
    fn end(&mut self, pid: Pid) {
        for patience in [DRAIN, CUT] {
            // One that has ended by itself is fine.
            let _ = kill_process(pid, Signal::TERM);
            let until = Instant::now() + patience;
            while Instant::now() < until {
                if self.has_ended() {
                    return;
                }
                thread::sleep(PAUSE);
            }
        }
        let _ = kill_process(pid, Signal::KILL);
        let _ = self.child.as_mut().map(Child::wait);
    }

    fn has_ended(&mut self) -> bool {
        match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => matches!(running::find(&self.state), Ok(Running::Nowhere)),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut lock) = self.lock.take() else {
            // It was not ready in time, and nobody else knows of it.
            if let Some(pid) = self.child.as_ref().and_then(|child| number(child.id())) {
                self.end(pid);
            }
            return;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        let mut started = String::new();
        let read = lock.rewind().and_then(|()| lock.read_to_string(&mut started));
        let is_noted =
            |pid: Pid| started.lines().any(|line| line.parse() == Ok(pid.as_raw_nonzero().get()));
        // Numbers may have been left behind; the proxy says itself which one it has.
        if let (Ok(_), Ok(Running::Here { pid, .. })) = (read, running::find(&self.state))
            && is_noted(pid)
        {
            self.end(pid);
        }
        let _ = lock.set_len(0);
    }
}

fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Whether it is somebody else's proxy that is there to be used.
fn is_others(error: &StateError) -> bool {
    match error {
        StateError::OwnedByOther { .. } => true,
        StateError::Use { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        StateError::Locked { .. } | StateError::WritableByOthers { .. } => false,
    }
}

/// Says whose configuration it is when that is because of where one stands.
fn tell_origin(origin: &Origin) {
    if let Origin::File(source) = origin
        && source.path.is_relative()
    {
        let path = absolute(&source.path).unwrap_or_else(|_| source.path.clone());
        let told = format!("starting a proxy by `{}`\n", shown(&path.display().to_string()));
        // There is nowhere left to say that stderr is closed.
        let _ = anstream::stderr().write_all(told.as_bytes());
    }
}

/// Makes a file that only its owner may read, in place of one of that name.
fn anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(path)
}

/// Held by whoever uses the proxy of a state directory.
const LOCK: &str = "exec.lock";
/// What a proxy that was started for commands says on stderr.
const LOG: &str = "exec.log";
/// The exit code of who finds the directory in use, or a port.
const UNAVAILABLE: u8 = 69;
