//! A proxy for as long as commands use it.
//!
//! Whoever runs a command holds `exec.lock` in the state directory with others who do. When none
//! runs there, one starts a proxy and adds its number to that file at once, so that it is known
//! also when its starter is killed. Who is the last to leave ends the proxy: its own without asking
//! any file, as the command could write them all, and one whose number is there if that is a proxy
//! on this directory. A proxy that nobody started this way is used and left as it was.
//!
//! The configuration may have come with a checkout, and what lies in its state directory with it:
//! nothing there is written through a link, and who starts a proxy is told by which file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    process::Pid,
};

use super::{ExecError, proxy::Proxy, signals::Signals};
use crate::{
    cli::ConfigFile,
    config::{Config, Origin},
    failure::Failure,
    running::{self, Running},
    state::{self, StateError},
};

/// How long a proxy may take until it listens.
const START: Duration = Duration::from_secs(20);
/// How long who ends a proxy just now may take: longer than [`Proxy::end`] does.
const LEAVE: Duration = Duration::from_secs(20);

/// The use of a proxy, to be given back.
pub(super) struct Lent {
    state: PathBuf,
    /// `None` when the directory is somebody else's, as then the proxy is, too.
    lock: Option<File>,
    /// What we have started ourselves.
    child: Option<Child>,
}

impl Lent {
    /// Finds the proxy of the configuration, or starts one and waits until it listens.
    pub(super) fn take(
        config: &Config,
        file: &ConfigFile,
        signals: &mut Signals,
    ) -> Result<Self, Failure> {
        let state = config.state.clone();
        let running = running::find(&state)?;
        if let Running::Nowhere = running {
            state::create(&state)?;
        }
        match (state::guard(&state), &running) {
            (Ok(()), _) => {}
            (Err(error), Running::Here { .. } | Running::Unknown) if is_others(&error) => {
                return Ok(Self { state, lock: None, child: None });
            }
            (Err(error), _) => return Err(error.into()),
        }
        let path = state.join(LOCK);
        let cannot = |source| ExecError::Lock { path: path.clone(), source };
        let mut lock = match (state::open_private(&path), running) {
            (Ok(lock), _) => lock,
            // It is somebody else's, who ends it, too; so it is where it can only be looked at.
            (Err(error), Running::Here { .. } | Running::Unknown)
                if CLOSED.contains(&error.kind()) =>
            {
                return Ok(Self { state, lock: None, child: None });
            }
            (Err(error), _) => return Err(cannot(error).into()),
        };
        // Waits for who is the last and ends the proxy just now.
        let until = Instant::now() + LEAVE;
        while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockShared) {
            if error != Errno::WOULDBLOCK || Instant::now() > until {
                return Err(cannot(error.into()).into());
            }
            pause(signals)?;
        }
        let child = match running::find(&state)? {
            Running::Nowhere => {
                tell_origin(&config.origin);
                start(&state, file, &mut lock, signals)?
            }
            Running::Here { .. } | Running::Unknown => None,
        };
        Ok(Self { state, lock: Some(lock), child })
    }

    /// Ends the proxy if it was there for commands alone and this was the last one.
    pub(super) fn give_back(self, signals: &mut Signals) {
        // It is somebody else's, and nothing of it is ours to end.
        let Some(mut lock) = self.lock else { return };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return;
        }
        // An interrupt that has ended the command is not for what follows.
        signals.forget();
        let ours = self.child.map(Proxy::Ours).and_then(Proxy::unless_ended);
        let proxy = ours
            .or_else(|| noted(&mut lock).into_iter().find_map(|pid| Proxy::of(pid, &self.state)));
        if let Some(mut proxy) = proxy {
            proxy.end(signals);
        }
        let _ = lock.set_len(0);
    }
}

/// Starts a proxy and waits until it listens; `None` if somebody else was quicker.
fn start(
    state: &Path,
    file: &ConfigFile,
    lock: &mut File,
    signals: &mut Signals,
) -> Result<Option<Child>, Failure> {
    let log = state.join(LOG);
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
    let begun = writeln!(lock, "{}", child.id())
        .map_err(|source| ExecError::Lock { path: state.join(LOCK), source })
        .and_then(|()| is_listening(&mut child, signals));
    let code = match begun {
        Ok(Begun::Listens) => return Ok(Some(child)),
        Ok(Begun::Ended { code }) => code,
        Err(error) => {
            Proxy::Ours(child).end(signals);
            return Err(error.into());
        }
    };
    let until = Instant::now() + START;
    while code == UNAVAILABLE && Instant::now() < until {
        if let Running::Here { .. } = running::find(state)? {
            return Ok(None);
        }
        // It was not the directory that somebody else had, but the port.
        if !running::is_locked(state) {
            break;
        }
        pause(signals)?;
    }
    let mut text = String::new();
    // What cannot be read cannot be shown; the code says enough.
    let _ = said.rewind().and_then(|()| said.read_to_string(&mut text));
    let _ = io::stderr().write_all(text.as_bytes());
    Err(ExecError::NotStarted { code }.into())
}

/// What became of a proxy that was started.
enum Begun {
    Listens,
    Ended { code: u8 },
}

/// Waits until a proxy listens, or has ended instead.
fn is_listening(child: &mut Child, signals: &mut Signals) -> Result<Begun, ExecError> {
    let until = Instant::now() + START;
    let first = first_line(child.stdout.take().expect("stdout is a pipe"));
    loop {
        match first.try_recv() {
            Ok(line) if line.starts_with("listening ") => return Ok(Begun::Listens),
            Ok(_) | Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
        if let Some(status) = child.try_wait().map_err(ExecError::Start)? {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Ok(Begun::Ended { code });
        }
        if Instant::now() > until {
            return Err(ExecError::Late { after: START });
        }
        pause(signals)?;
    }
}

/// Reads a line, for whoever still waits for it.
fn first_line(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (sender, first) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        // What cannot be read is no line that is waited for.
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    first
}

/// Waits for a moment, or for a signal, which ends all that was begun.
fn pause(signals: &mut Signals) -> Result<(), ExecError> {
    signals.pause().map_or(Ok(()), |signal| Err(ExecError::Interrupted { signal }))
}

/// The processes that have been started here, as far as that can be known.
fn noted(lock: &mut File) -> Vec<Pid> {
    let mut text = Vec::new();
    // What cannot be read names nobody.
    let _ = lock.rewind().and_then(|()| lock.take(NOTED_MAX).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
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
    if origin.is_of_here() {
        let told = format!("starting a proxy by `{}`\n", origin.absolute().escape_debug());
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

/// Who uses the directory's proxy and may not write there is no owner of either.
pub(super) const CLOSED: [io::ErrorKind; 2] =
    [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
/// Held by whoever uses the proxy of a state directory.
const LOCK: &str = "exec.lock";
/// What is read of it.
const NOTED_MAX: u64 = 1 << 16;
/// What a proxy that was started for commands says on stderr.
const LOG: &str = "exec.log";
/// The exit code of who finds the directory in use, or a port.
const UNAVAILABLE: u8 = 69;
